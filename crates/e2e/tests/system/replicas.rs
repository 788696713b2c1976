//! An api that waits for replicas: what it answers with 200 survives the loss of the primary.

use std::time::Duration;

use pricing_harness::redis_server::RedisServer;
use pricing_harness::service::Binary;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(20);
const CALLS: [&str; 2] = ["/api/v1/publish-market-event", "/api/v1/recalculate"];

#[tokio::test]
async fn a_write_that_no_replica_has_is_answered_503_and_may_be_made_again() {
    let (primary, mut replica) = tokio::join!(RedisServer::start(), RedisServer::start());
    replica.replicate(primary.address()).await;
    let builder = Stack::builder().redis(primary).listeners(0).workers(0);
    let stack = builder.set_for(Binary::Api, "WAIT_FOR_REPLICAS", 1).start().await;
    for call in CALLS {
        let (status, body) = stack.post(call, &json!({})).await;
        assert_eq!(status, 200, "{call}: {body}");
    }

    replica.pause();
    for call in CALLS {
        let (status, body) = stack.post(call, &json!({})).await;
        assert_eq!((status.as_u16(), body["status"].as_u64()), (503, Some(503)), "{call}: {body}");
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.contains("unknown") && detail.contains("again"), "{call}: {detail}");
        let (status, _) = stack.get("/api/v1/price/P-100?user_location=NY").await;
        assert_eq!(status, 200, "reads wait for no replica");
    }

    replica.stop();
    replica.restart().await;
    replica.replicate(stack.redis.address()).await;
    for call in CALLS {
        eventually(DEADLINE, "the same call to succeed", async || {
            (stack.post(call, &json!({})).await.0 == 200).then_some(())
        })
        .await;
    }
}
