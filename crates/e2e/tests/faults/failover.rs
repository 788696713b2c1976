//! A Redis that fails over to a replica and loses its latest writes.

use std::time::Duration;

use pricing_e2e::rounds::Rounds;
use pricing_harness::load::{Load, Request};
use pricing_harness::replicated::ReplicatedRedis;
use pricing_harness::service::Binary;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::{eventually, pause};
use rand::RngExt as _;
use redis::AsyncCommands as _;

use crate::catalogue::change_prices;
use crate::worker::{DEADLINE, LOCK_TTL, MORE_PRODUCTS};

/// What the clients of the load do.
const REQUESTS: [Request; 3] = [Request::Event, Request::Event, Request::Recalculation];

#[tokio::test]
async fn every_request_after_a_failover_that_lost_others_is_covered() {
    let mut rounds = Rounds::of(
        "the primary Redis dies under load, and a replica is promoted that lacks its latest writes",
        "every request acknowledged after the promotion is covered, and nothing waits for the lock of a lost run",
    );
    let mut servers = ReplicatedRedis::start().await;
    let mut stack = Stack::builder()
        .set_for(Binary::Api, "REDIS_URL", servers.url_of(Binary::Api))
        .set_for(Binary::Listener, "REDIS_URL", servers.url_of(Binary::Listener))
        .set_for(Binary::Worker, "REDIS_URL", servers.url_of(Binary::Worker))
        .workers(2)
        .set_for(Binary::Worker, "VISIBILITY_TIMEOUT_SECONDS", 30)
        .set_for(Binary::Worker, "LOCK_TTL_SECONDS", 60)
        .set_for(Binary::Worker, "RETRY_DELAY_SECONDS", 1)
        .start()
        .await;
    stack.database.add_products(MORE_PRODUCTS).await;
    let catalogue = stack.database.open().await;
    while let Some(mut round) = rounds.next_round() {
        let before = Load::start(&stack, &REQUESTS);
        change_prices(&catalogue, &mut round.random).await;
        pause(Duration::from_millis(round.random.random_range(100..1_500))).await;
        servers.stop_replication();
        pause(Duration::from_millis(round.random.random_range(0..500))).await;
        let requests = last_request(&servers).await;
        servers.fail_over().await;
        rounds.count("requests lost", requests.saturating_sub(last_request(&servers).await));
        let lock = servers.primary.key("recalculate_global_lock");
        let left: bool = servers.primary.connection().await.exists(lock).await.expect("Redis answers");
        rounds.count("locks left behind", usize::from(left));
        drop(before.stop().await); // what was acknowledged before the failover may be lost

        let first = eventually(DEADLINE, "an event to be acknowledged", async || stack.try_publish().await);
        let mut ids = vec![first.await];
        let load = Load::start(&stack, &REQUESTS);
        pause(Duration::from_millis(300)).await;
        change_prices(&catalogue, &mut round.random).await;
        ids.extend(load.stop().await.acknowledged);
        ids.push(
            eventually(DEADLINE, "an event to be acknowledged", async || stack.try_publish().await).await,
        );
        rounds.count("requests acknowledged after it", ids.len());

        // The stack looks at the primary of the moment.
        std::mem::swap(&mut stack.redis, &mut servers.primary);
        let found = stack.findings(&ids, LOCK_TTL.max(Duration::from_secs(25))).await;
        std::mem::swap(&mut stack.redis, &mut servers.primary);
        rounds.record(found);
        servers.restore().await;
    }
}

async fn last_request(servers: &ReplicatedRedis) -> usize {
    let key = servers.primary.key("queue:{recalculate}:last_request");
    let number: Option<usize> = servers.primary.connection().await.get(key).await.expect("Redis answers");
    number.unwrap_or(0)
}
