//! What the connections to Redis promise: none of them stays with a node that was demoted.

#![expect(clippy::unwrap_used, reason = "where a test unwraps, the panic is the report")]

use std::time::Duration;

use pricing_harness::replicated::ReplicatedRedis;
use pricing_harness::waiting::eventually;
use redis::aio::ConnectionLike;

const DEADLINE: Duration = Duration::from_secs(5);

/// Whether the node that a connection leads to is a primary.
async fn leads_to_a_primary(connection: &mut impl ConnectionLike) -> bool {
    let (role,): (String,) =
        redis::pipe().cmd("INFO").arg("replication").query_async(connection).await.unwrap();
    role.contains("role:master")
}

#[tokio::test]
async fn every_connection_leaves_a_demoted_node_also_one_that_only_reads() {
    let mut servers = ReplicatedRedis::start().await;
    let redis = servers.connect();
    let watch = tokio::spawn(redis.clone().follow_primary());
    assert!(leads_to_a_primary(&mut redis.cache.clone()).await);
    assert!(leads_to_a_primary(&mut redis.commands.clone()).await);
    assert!(leads_to_a_primary(&mut redis.pool.get().await.unwrap()).await);
    let mut subscription = redis.subscribe("news", |_| Ok::<_, ()>(())).await.unwrap();
    redis.primary.check(&mut subscription).await.unwrap();

    servers.demote().await;
    let refused = redis.primary.check(&mut subscription).await.unwrap_err();
    assert_eq!(refused.code(), Some("READONLY"));
    assert!(
        leads_to_a_primary(&mut redis.pool.get().await.unwrap()).await,
        "an idle connection is not used again"
    );
    eventually(DEADLINE, "the shared connections to lead to the new primary", async || {
        let (cache, commands) = (&mut redis.cache.clone(), &mut redis.commands.clone());
        let found = redis.primary.check(cache).await.is_ok() && redis.primary.check(commands).await.is_ok();
        found.then_some(())
    })
    .await;
    drop(subscription);
    eventually(DEADLINE, "no connection to be left", async || {
        servers.replica.clients().await.is_empty().then_some(())
    })
    .await;
    watch.abort();
}
