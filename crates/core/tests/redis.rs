//! What the connections to Redis promise: none of them stays with a node that was demoted.

#![expect(clippy::unwrap_used, reason = "where a test unwraps, the panic is the report")]

use std::time::Duration;

use pricing_core::cache::{CacheSettings, PriceCache};
use pricing_core::ids::{Location, ProductId};
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
    let mut subscription = redis.subscribe("market_events", |_| Ok::<_, ()>(())).await.unwrap();
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

#[tokio::test]
async fn a_refused_read_names_the_code_of_its_refusal() {
    let mut servers = ReplicatedRedis::start().await;
    let mut config = redis::cmd("CONFIG");
    config.arg("SET").arg("replica-serve-stale-data").arg("no");
    let () = config.query_async(&mut servers.replica.connection().await).await.unwrap();
    servers.primary.stop();
    let settings = CacheSettings { cache_ttl_seconds: 60, stale_ttl_seconds: 60 };
    let cache = PriceCache::new(&servers.replica.connect(), settings);
    let product = ProductId::parse("P-100".to_owned()).unwrap();
    eventually(DEADLINE, "the replica to miss its primary", async || {
        let refused = cache.get(std::slice::from_ref(&product), Location::fallback()).await.err()?;
        (refused.code() == Some("MASTERDOWN")).then_some(())
    })
    .await;
}
