//! A failover that loses requests and keeps the lock: a holder from before it covers nothing after it.

use pricing_harness::replicated::ReplicatedRedis;
use pricing_worker::lock::{Acquire, Release};

use crate::{Bench, LONG};

type Servers = Bench<ReplicatedRedis>;

async fn start() -> Servers {
    let servers = ReplicatedRedis::start().await;
    let (redis, connection) = (servers.connect(), servers.primary.connection().await);
    Bench::over(servers, redis, connection, LONG)
}

/// The same lock and queue for a process that connects after the failover.
async fn reconnect(bench: Servers) -> Servers {
    let Bench { server, .. } = bench;
    let (redis, connection) = (server.connect(), server.primary.connection().await);
    Bench::over(server, redis, connection, LONG)
}

#[tokio::test]
async fn a_scan_that_noted_requests_which_a_failover_lost_covers_none_of_those_made_after_it() {
    let mut bench = start().await;
    let held = bench.hold("scanner", 1, bench.request().await).await;
    bench.server.replicated().await;
    bench.server.stop_replication();
    let lost = [bench.request().await, bench.request().await];
    assert_eq!(bench.last_request().await, 3, "what the scan notes");
    bench.server.fail_over().await;
    let bench = reconnect(bench).await;
    assert_eq!(held.release_if_covered(3).await.unwrap(), Release::Lost);
    assert_eq!(held.release_anyway(3).await.unwrap(), Release::Lost);
    for number in lost {
        assert_eq!(bench.request().await, number, "given out again");
        let id = format!("after-{number}");
        let again = bench.hold(&id, 1, number).await;
        again.abandon().await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_that_a_failover_left_behind_is_free_and_what_was_skipped_because_of_it_is_covered() {
    let mut bench = start().await;
    let covered = bench.request().await;
    bench.hold("earlier", 1, covered).await.release_if_covered(covered).await.unwrap();
    let held = bench.hold("scanner", 1, bench.request().await).await;
    let skipped = bench.request().await;
    assert!(matches!(bench.acquire("skipped", 1, skipped).await, Acquire::HeldByAnother));
    bench.server.replicated().await;
    bench.server.fail_over().await;
    let bench = reconnect(bench).await;
    assert!(bench.lock_value().await.is_some(), "the new primary has the lock of the old one");
    let next = bench.hold("covered itself", 1, covered).await;
    assert_eq!(bench.last_request().await, skipped);
    assert_eq!(next.release_if_covered(skipped).await.unwrap(), Release::Released);
    assert!(matches!(bench.acquire("skipped", 2, skipped).await, Acquire::Covered));
    held.abandon().await.unwrap();
}

/// The holder releases on the old primary, which nobody else reaches any more, while the new one has its lock.
#[tokio::test]
async fn nobody_is_skipped_for_a_holder_on_a_primary_that_was_replaced() {
    let mut bench = start().await;
    let number = bench.request().await;
    let held = bench.hold("scanner", 1, number).await;
    bench.server.replicated().await;
    bench.server.stop_replication();
    bench.server.switch().await;
    assert_eq!(held.release_if_covered(number).await.unwrap(), Release::Released, "on the old primary");
    let bench = reconnect(bench).await;
    let newer = bench.request().await;
    let next = bench.hold("next", 1, newer).await;
    assert_eq!(next.release_if_covered(newer).await.unwrap(), Release::Released);
}
