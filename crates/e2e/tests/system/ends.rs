//! How processes begin without what they need, and how they end.

use std::time::Duration;

use pricing_harness::api_key;
use pricing_harness::databases::TestDatabase;
use pricing_harness::proxy::Mode;
use pricing_harness::service::{Binary, Service};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use redis::AsyncCommands as _;
use reqwest::StatusCode;
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn readiness_goes_off_first_while_requests_are_still_answered() {
    let mut stack = Stack::builder().set_for(Binary::Api, "DRAIN_DELAY_SECONDS", 60).start().await;
    stack.api.ask_to_end();
    eventually(DEADLINE, "readiness to go off", async || {
        let (status, health) = stack.get("/health/ready").await;
        (status == StatusCode::SERVICE_UNAVAILABLE && health["status"] == "draining").then_some(())
    })
    .await;
    let answer =
        api_key::client().get(stack.api.url("/api/v1/price/P-100?user_location=NY")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["connection"], "close", "the next request is to go elsewhere");
    assert_eq!(stack.api.exit_status(), None);
}

#[tokio::test]
async fn a_second_signal_ends_a_process_at_once() {
    let mut stack = Stack::builder().set_for(Binary::Api, "DRAIN_DELAY_SECONDS", 60).start().await;
    stack.api.ask_to_end();
    eventually(DEADLINE, "the first signal to be heard", async || {
        (stack.get("/health/ready").await.0 == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    let ended = stack.api.terminate(Duration::from_secs(5)).await;
    assert_eq!(ended.code(), Some(1));
}

#[tokio::test]
async fn a_worker_hands_its_task_back_at_once_and_frees_the_lock() {
    let mut stack = Stack::builder().set_for(Binary::Worker, "SIMULATE_IO", true).start().await;
    let id = stack.recalculate().await;
    let mut redis = stack.redis.connection().await;
    let lock = stack.redis.key("recalculate_global_lock");
    eventually(DEADLINE, "the run to hold the lock", async || {
        redis.exists(&lock).await.ok().filter(|held: &bool| *held)
    })
    .await;
    // A simulated scan takes five seconds, and DRAIN_TIMEOUT_SECONDS is twenty.
    assert!(stack.workers[0].terminate(Duration::from_secs(3)).await.success());
    let task = stack.task(&id).await.unwrap();
    assert_eq!((&task["state"], task["attempts"].as_u64()), (&json!("queued"), Some(1)));
    assert!(!redis.exists::<_, bool>(&lock).await.unwrap(), "the lock is free");

    let _other = stack.start_another(Binary::Worker).await;
    let task = stack.wait_for_task(&id).await;
    assert_eq!((&task["result"]["status"], task["attempts"].as_u64()), (&json!("updated"), Some(2)));
}

#[tokio::test]
async fn an_api_that_starts_without_its_database_serves_what_is_cached_and_the_rest_once_it_is_there() {
    let database = TestDatabase::postgres().await;
    let mut stack = Stack::builder().database(database).database_through_proxy().workers(0).start().await;
    let before = stack.price("P-100", "NY", false).await;
    let proxy = stack.database_proxy.as_ref().unwrap();
    proxy.set(Mode::Cut);
    let mut environment = stack.environment(Binary::Api);
    environment.insert("DATABASE_URL".to_owned(), proxy.in_place_of(stack.database.url()));
    stack.api = Service::start(Binary::Api, &environment).await;

    let (status, health) = stack.get("/health/ready").await;
    assert_eq!((status, &health["database"]), (StatusCode::OK, &json!("down")));
    let cached = stack.price("P-100", "NY", false).await;
    assert_eq!((&cached["final_price"], &cached["source"]), (&before["final_price"], &json!("cache")));
    let (status, _) = stack.get("/api/v1/price/P-200?user_location=NY").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "not 404: nobody knows");

    stack.database_proxy.as_ref().unwrap().set(Mode::Open);
    eventually(DEADLINE, "a price from the database", async || {
        let (status, answer) = stack.get("/api/v1/price/P-200?user_location=NY").await;
        (status == StatusCode::OK).then_some(answer)
    })
    .await;
}

#[tokio::test]
async fn a_full_redis_is_answered_503_with_nothing_half_done_and_reads_go_on() {
    let stack = Stack::builder().listeners(0).workers(0).start().await;
    stack.price("P-100", "NY", false).await;
    let mut redis = stack.redis.connection().await;
    let limit = async |bytes: &str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(bytes);
        set.query_async::<()>(&mut stack.redis.connection().await).await.unwrap();
    };
    let keys: Vec<String> = redis.keys("*").await.unwrap();
    limit("1").await;
    for path in ["/api/v1/publish-market-event", "/api/v1/recalculate"] {
        let answer = api_key::client().post(stack.api.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(answer.headers().contains_key("retry-after"), "{path}");
    }
    assert_eq!(redis.keys::<_, Vec<String>>("*").await.unwrap(), keys, "nothing was begun");
    assert_eq!(stack.price("P-100", "NY", false).await["source"], "cache");
    assert_eq!(stack.price("P-200", "NY", false).await["source"], "database");

    limit("0").await;
    let id = stack.recalculate().await;
    assert_eq!(stack.task(&id).await.unwrap()["state"], "queued");
}
