//! A redelivered task goes on in the place of its own dead attempt.

use std::time::Duration;

use pricing_worker::lock::{Acquire, Release};

use crate::{Bench, LONG};

#[tokio::test]
async fn a_later_attempt_takes_the_lock_of_an_earlier_one() {
    let bench = Bench::start(LONG).await;
    let number = bench.request().await;
    let dead = bench.hold("task", 1, number).await;
    let value = bench.lock_value().await.unwrap();
    assert!(value.starts_with("task:1:"), "it names task and attempt: {value}");

    let alive = bench.hold("task", 2, number).await;
    assert_eq!(dead.release_if_covered(number).await.unwrap(), Release::Lost);
    assert_eq!(dead.release_anyway(number).await.unwrap(), Release::Lost);
    dead.abandon().await.unwrap();
    assert!(matches!(bench.acquire("other", 1, number).await, Acquire::HeldByAnother));
    assert_eq!(alive.release_if_covered(number).await.unwrap(), Release::Released);
}

/// As after a pause between begin and lock: it would hold the lock while others are skipped trusting it,
/// and nobody would try it again when it fails.
#[tokio::test]
async fn a_run_that_was_taken_over_never_takes_the_lock() {
    let bench = Bench::start(LONG).await;
    let number = bench.request().await;
    let held = bench.hold("task", 2, number).await;
    assert!(matches!(bench.claim(&bench.lock, "task", 1, number).await, Acquire::Superseded), "held");
    assert_eq!(held.release_if_covered(number).await.unwrap(), Release::Released);
    assert!(matches!(bench.claim(&bench.lock, "task", 1, number).await, Acquire::Superseded), "free");
    assert!(matches!(bench.claim(&bench.lock, "nobody", 1, number).await, Acquire::Superseded), "no task");
}

#[tokio::test]
async fn a_task_with_a_similar_name_is_another_task() {
    let bench = Bench::start(LONG).await;
    let number = bench.request().await;
    let _held = bench.hold("a.b-1", 1, number).await;
    for other in ["a", "a.b", "a.b-", "a.b-1.", "axb-1", ".a.b-1", "A.B-1", "..."] {
        assert!(matches!(bench.acquire(other, 2, number).await, Acquire::HeldByAnother), "{other}");
    }
}

/// Requests newer than its own may have been skipped trusting the dead attempt, so it must scan for them
/// even if its own request has been covered.
#[tokio::test]
async fn a_later_attempt_goes_on_although_its_own_request_is_covered() {
    let bench = Bench::start(LONG).await;
    let number = bench.request().await;
    let dead = bench.hold("task", 1, number).await;
    let newer = bench.request().await;
    assert!(matches!(bench.acquire("skipped", 1, newer).await, Acquire::HeldByAnother));
    assert_eq!(dead.release_if_covered(number).await.unwrap(), Release::NewerRequests);

    let alive = bench.hold("task", 2, number).await;
    assert_eq!(alive.release_if_covered(newer).await.unwrap(), Release::Released);
    assert!(matches!(bench.acquire("skipped", 2, newer).await, Acquire::Covered));
}

#[tokio::test]
async fn the_attempt_that_lost_the_lock_notices_when_it_renews() {
    let bench = Bench::start(Duration::from_secs(1)).await;
    let dead = bench.hold("task", 1, 1).await;
    let _alive = bench.hold("task", 2, 1).await;
    let noticed = tokio::time::timeout(Duration::from_secs(20), dead.renew_until_lost()).await;
    assert!(noticed.is_ok());
}
