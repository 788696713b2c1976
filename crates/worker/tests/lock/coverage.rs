//! Which requests a scan covers, and who must see to the others.

use pricing_worker::lock::{Acquire, Forfeit, Release};

use crate::{Bench, LONG};

#[tokio::test]
async fn a_scan_covers_the_requests_made_before_it_began_and_no_others() {
    let bench = Bench::start(LONG).await;
    for _ in 0..3 {
        bench.request().await;
    }
    let held = bench.hold("scanner", 1, 1).await;
    assert_eq!(bench.last_request().await, 3);
    assert_eq!(held.release_if_covered(3).await.unwrap(), Release::Released);
    for number in 1..=3 {
        assert!(matches!(bench.acquire("other", 1, number).await, Acquire::Covered), "{number}");
    }
    let number = bench.request().await;
    let _held = bench.hold("other", 1, number).await;
}

#[tokio::test]
async fn a_request_made_during_a_scan_keeps_the_lock_until_it_is_covered_too() {
    let bench = Bench::start(LONG).await;
    let held = bench.hold("scanner", 1, bench.request().await).await;
    let covers = bench.last_request().await;
    let during = bench.request().await;
    assert!(matches!(bench.acquire("skipped", 1, during).await, Acquire::HeldByAnother));

    assert_eq!(held.release_if_covered(covers).await.unwrap(), Release::NewerRequests);
    assert!(matches!(bench.acquire("skipped", 2, during).await, Acquire::HeldByAnother), "still held");
    let covers = bench.last_request().await;
    assert_eq!(held.release_if_covered(covers).await.unwrap(), Release::Released);
    assert!(matches!(bench.acquire("skipped", 3, during).await, Acquire::Covered));
}

#[tokio::test]
async fn what_a_scan_covered_is_covered_while_the_next_one_runs() {
    let bench = Bench::start(LONG).await;
    let first = bench.request().await;
    let held = bench.hold("scanner", 1, first).await;
    bench.request().await;
    assert_eq!(held.release_if_covered(first).await.unwrap(), Release::NewerRequests);
    assert!(matches!(bench.acquire("other", 1, first).await, Acquire::Covered));
}

#[tokio::test]
async fn a_holder_may_leave_newer_requests_to_a_follow_up() {
    let bench = Bench::start(LONG).await;
    let held = bench.hold("scanner", 1, bench.request().await).await;
    let newer = bench.request().await;
    assert_eq!(held.release_anyway(1).await.unwrap(), Release::Released);
    assert!(matches!(bench.acquire("first", 1, 1).await, Acquire::Covered));
    let _held = bench.hold("follow-up", 1, newer).await;
}

#[tokio::test]
async fn an_abandoned_scan_covers_nothing() {
    let bench = Bench::start(LONG).await;
    let number = bench.request().await;
    bench.hold("scanner", 1, number).await.abandon().await.unwrap();
    assert_eq!(bench.lock_value().await, None);
    bench.hold("scanner", 2, number).await.release_if_covered(number).await.unwrap();
    assert!(matches!(bench.acquire("other", 1, number).await, Acquire::Covered));
}

#[tokio::test]
async fn what_is_covered_never_shrinks() {
    let bench = Bench::start(LONG).await;
    for _ in 0..5 {
        bench.request().await;
    }
    bench.hold("fast", 1, 5).await.release_if_covered(5).await.unwrap();
    let number = bench.request().await;
    let held = bench.hold("slow", 1, number).await;
    held.release_anyway(2).await.unwrap();
    assert!(matches!(bench.acquire("other", 1, 5).await, Acquire::Covered));
}

#[tokio::test]
async fn a_task_that_forfeits_frees_its_own_lock_only() {
    let bench = Bench::start(LONG).await;
    let number = bench.request().await;
    let held = bench.hold("scanner", 1, number).await;
    for other in ["other", "scan"] {
        bench.begin(other, 1).await;
        assert_eq!(bench.forfeit(other, 1, number).await, Forfeit::Covered);
    }
    assert!(bench.lock_value().await.is_some(), "it belongs to neither");
    assert_eq!(bench.forfeit("scanner", 1, number).await, Forfeit::Covered);
    assert_eq!(bench.lock_value().await, None);
    assert_eq!(held.release_if_covered(number).await.unwrap(), Release::Lost);
    let _held = bench.hold("next", 1, number).await;
}

#[tokio::test]
async fn a_run_that_was_taken_over_forfeits_nothing_of_its_successor() {
    let bench = Bench::start(LONG).await;
    let number = bench.request().await;
    let held = bench.hold("scanner", 2, number).await;
    assert_eq!(bench.forfeit("scanner", 1, number).await, Forfeit::Superseded);
    assert_eq!(held.release_if_covered(number).await.unwrap(), Release::Released);
}

/// The holder has scanned for the last time and leaves the rest to its follow-up. If that dies before the
/// holder releases, nobody may be skipped any more.
#[tokio::test]
async fn a_follow_up_that_forfeits_frees_the_lock_of_the_holder_that_it_follows() {
    let bench = Bench::start(LONG).await;
    let number = bench.request().await;
    let earlier = bench.hold("scanner", 1, number).await.follow_up_id();
    let held = bench.hold("scanner", 2, number).await;
    let (follow_up, request) = (held.follow_up_id(), bench.request().await);
    bench.begin(earlier.as_str(), 1).await;
    bench.forfeit(earlier.as_str(), 1, request).await;
    assert!(matches!(bench.acquire("other", 1, request).await, Acquire::HeldByAnother), "another attempt's");
    bench.begin(follow_up.as_str(), 1).await;
    bench.forfeit(follow_up.as_str(), 1, request).await;
    let newest = bench.request().await;
    assert!(matches!(bench.acquire("newest", 1, newest).await, Acquire::Acquired(_)), "nobody to trust");
    assert_eq!(held.release_anyway(number).await.unwrap(), Release::Lost);
}

#[tokio::test]
async fn a_task_that_forfeits_is_told_whether_a_newer_request_was_skipped_and_is_open() {
    let bench = Bench::start(LONG).await;
    let own = bench.request().await;
    let _held = bench.hold("scanner", 1, own).await;
    let newer = bench.request().await;
    assert_eq!(bench.forfeit("scanner", 1, own).await, Forfeit::Covered, "it has a task of its own yet");

    let _held = bench.hold("scanner", 2, own).await;
    assert!(matches!(bench.acquire("skipped", 1, newer).await, Acquire::HeldByAnother));
    for _ in 0..2 {
        assert_eq!(bench.forfeit("scanner", 2, own).await, Forfeit::Open, "it was skipped trusting this one");
    }
    let fresh = bench.request().await;
    bench.begin("fresh", 1).await;
    assert_eq!(bench.forfeit("fresh", 1, fresh).await, Forfeit::Covered, "or it would go on for ever");
    bench.hold("next", 1, fresh).await.release_if_covered(fresh).await.unwrap();
    assert_eq!(bench.forfeit("scanner", 2, own).await, Forfeit::Covered, "it is covered by now");
}

/// The request that was skipped trusted the holder to scan again, and the holder failed.
#[tokio::test]
async fn a_skipped_request_is_covered_although_the_holder_failed_in_its_second_scan() {
    let bench = Bench::start(LONG).await;
    let own = bench.request().await;
    let held = bench.hold("scanner", 1, own).await;
    let skipped = bench.request().await;
    assert!(matches!(bench.acquire("skipped", 1, skipped).await, Acquire::HeldByAnother));
    assert_eq!(held.release_if_covered(own).await.unwrap(), Release::NewerRequests);
    held.abandon().await.unwrap();

    let again = bench.hold("scanner", 2, own).await;
    let covers = bench.last_request().await;
    assert!(covers >= skipped);
    assert_eq!(again.release_if_covered(covers).await.unwrap(), Release::Released);
    assert!(matches!(bench.acquire("scanner", 3, own).await, Acquire::Covered));
}

#[tokio::test]
async fn a_counter_that_was_lost_and_starts_over_covers_nothing() {
    let bench = Bench::start(LONG).await;
    for _ in 0..5 {
        bench.request().await;
    }
    bench.hold("scanner", 1, 5).await.release_if_covered(5).await.unwrap();
    let mut delete = redis::cmd("DEL");
    let _: u64 =
        delete.arg(bench.last_request_key()).query_async(&mut bench.connection.clone()).await.unwrap();
    let number = bench.request().await;
    let held = bench.hold("next", 1, number).await;
    assert_eq!(held.release_if_covered(number).await.unwrap(), Release::Released);
    assert!(matches!(bench.acquire("other", 1, number).await, Acquire::Covered));
}

/// Workers start a job within a millisecond, so the follow-up may ask before its holder has released.
#[tokio::test]
async fn a_follow_up_takes_over_from_its_holder_that_has_not_released_yet() {
    let bench = Bench::start(LONG).await;
    let earlier = bench.hold("scanner", 6, bench.request().await).await.follow_up_id();
    let held = bench.hold("scanner", 7, bench.request().await).await;
    let newer = bench.request().await;
    assert!(matches!(bench.acquire("skipped", 1, newer).await, Acquire::HeldByAnother));
    let (follow_up, number) = (held.follow_up_id(), bench.request().await);
    for other in [earlier.as_str(), "scanner.7", "follow-up.", "follow-up"] {
        assert!(matches!(bench.acquire(other, 1, number).await, Acquire::HeldByAnother), "{other}");
    }
    let other = bench.hold(follow_up.as_str(), 1, number).await;
    assert_eq!(held.release_anyway(1).await.unwrap(), Release::Lost);
    let covers = bench.last_request().await;
    assert_eq!(other.release_if_covered(covers).await.unwrap(), Release::Released);
    assert!(matches!(bench.acquire("skipped", 2, newer).await, Acquire::Covered));
}

/// A steady stream of events makes a follow-up of a follow-up of a follow-up.
#[tokio::test]
async fn no_two_holders_have_the_same_follow_up_however_long_their_line() {
    let bench = Bench::start(LONG).await;
    let (mut id, mut ids) = ("x".repeat(64), std::collections::BTreeSet::new());
    for _ in 0..40 {
        let held = bench.hold(&id, u32::MAX, bench.request().await).await;
        id = held.follow_up_id().to_string();
        assert!(ids.insert(id.clone()), "{id} a second time");
    }
}
