//! The lock ends by itself unless it is renewed, and whoever lost it is told.

use std::time::{Duration, Instant};

use pricing_harness::waiting::{eventually, poll};
use pricing_worker::lock::{Acquire, LockGuard, Release};

use crate::{Bench, LONG};

const SHORT: Duration = Duration::from_millis(300);
const DEADLINE: Duration = Duration::from_secs(20);

async fn eventually_hold(bench: &Bench, id: &str) -> LockGuard {
    eventually(DEADLINE, "the lock to expire", async || match bench.acquire(id, 1, 1).await {
        Acquire::Acquired(held) => Some(held),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_holder_whose_lock_expired_and_went_to_another_can_neither_cover_nor_release() {
    let bench = Bench::start(SHORT).await;
    let paused = bench.hold("paused", 1, 1).await;
    let _other = eventually_hold(&bench, "other").await;
    let value = bench.lock_value().await;
    bench.request().await;
    assert_eq!(paused.release_if_covered(1).await.unwrap(), Release::Lost);
    assert_eq!(paused.release_anyway(1).await.unwrap(), Release::Lost);
    paused.abandon().await.unwrap();
    assert_eq!(bench.lock_value().await, value, "the other's lock is untouched");
    assert!(!matches!(bench.acquire("third", 1, 1).await, Acquire::Covered));
}

#[tokio::test]
async fn a_holder_whose_lock_expired_covers_nothing_even_if_nobody_took_it() {
    let bench = Bench::start(SHORT).await;
    let number = bench.request().await;
    let paused = bench.hold("paused", 1, number).await;
    eventually(DEADLINE, "the lock to expire", async || bench.lock_value().await.is_none().then_some(()))
        .await;
    assert_eq!(paused.release_if_covered(number).await.unwrap(), Release::Lost);
    let _held = bench.hold("other", 1, number).await;
}

#[tokio::test]
async fn a_lock_that_is_renewed_outlives_its_time() {
    let life = Duration::from_secs(1);
    let bench = Bench::start(life).await;
    let held = bench.hold("holder", 1, 1).await;
    let renewing = tokio::spawn(async move { held.renew_until_lost().await });
    let lost = poll(life * 3, async || match bench.acquire("other", 1, 1).await {
        Acquire::Acquired(held) => Some(held),
        _ => None,
    })
    .await;
    assert!(lost.is_none(), "another acquired it");
    assert!(!renewing.is_finished(), "the holder believes that it lost it");
    renewing.abort();
}

#[tokio::test]
async fn a_holder_that_stopped_renewing_loses_the_lock_in_time() {
    let bench = Bench::start(SHORT).await;
    let held = bench.hold("holder", 1, 1).await;
    let renewing = tokio::spawn(async move { held.renew_until_lost().await });
    renewing.abort();
    let _other = eventually_hold(&bench, "other").await;
}

#[tokio::test]
async fn a_scan_that_must_be_repeated_has_the_lock_for_its_whole_life_again() {
    let bench = Bench::start(LONG).await;
    let held = bench.hold("holder", 1, bench.request().await).await;
    let key = bench.key("recalculate_global_lock");
    let mut connection = bench.connection.clone();
    redis::cmd("PEXPIRE").arg(&key).arg(5_000).query_async::<()>(&mut connection).await.unwrap();
    bench.request().await;
    assert_eq!(held.release_if_covered(1).await.unwrap(), Release::NewerRequests);
    let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
    assert!(left > 50_000, "{left} ms");
}

#[tokio::test]
async fn a_holder_notices_that_its_lock_is_gone() {
    let bench = Bench::start(Duration::from_secs(1)).await;
    let held = bench.hold("holder", 1, 1).await;
    let keys = ["recalculate_global_lock", "recalculate_global_lock_kept"].map(|key| bench.key(key));
    redis::cmd("DEL").arg(&keys).query_async::<()>(&mut bench.connection.clone()).await.unwrap();
    tokio::time::timeout(DEADLINE, held.renew_until_lost()).await.unwrap();
}

/// A Redis that does not answer must not keep a holder at work after its lock has expired.
#[tokio::test]
async fn a_holder_that_cannot_renew_gives_up_when_its_time_is_over() {
    let life = Duration::from_millis(1_500);
    let bench = Bench::start(life).await;
    let held = bench.hold("holder", 1, 1).await;
    let acquired = Instant::now();
    let mut pause = redis::cmd("CLIENT");
    pause.arg(&["PAUSE", "30000", "ALL"]).query_async::<()>(&mut bench.connection.clone()).await.unwrap();
    tokio::time::timeout(DEADLINE, held.renew_until_lost()).await.unwrap();
    let took = acquired.elapsed();
    assert!(took < life + Duration::from_millis(500), "gave up after {took:?}, its life is {life:?}");
}

#[tokio::test]
async fn a_lock_that_a_full_redis_evicted_is_held_all_the_same() {
    let bench = Bench::start(LONG).await;
    let number = bench.request().await;
    let held = bench.hold("holder", 1, number).await;
    let config = async |name: &str, value: &str| {
        let mut config = redis::cmd("CONFIG");
        config.arg(&["SET", name, value]).query_async::<()>(&mut bench.connection.clone()).await.unwrap();
    };
    config("maxmemory-policy", "volatile-lru").await;
    config("maxmemory", "1").await;
    eventually(DEADLINE, "the eviction", async || bench.lock_value().await.is_none().then_some(())).await;
    config("maxmemory", "0").await;
    assert!(matches!(bench.acquire("other", 1, number).await, Acquire::HeldByAnother));
    assert_eq!(held.release_if_covered(number).await.unwrap(), Release::Released);
    assert!(matches!(bench.acquire("other", 2, number).await, Acquire::Covered));
}
