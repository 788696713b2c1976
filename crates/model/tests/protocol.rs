//! What holds of the protocol, and what does not once a protection is taken away.

mod explore;

use explore::explore;
use pricing_model::protocol::{Budget, Protection, Protocol, Sometimes};

/// Explores everything that may happen within a budget. It must come across all that may sometimes happen but
/// what is named.
fn holds(budget: Budget, never: &[Sometimes]) {
    let found = explore(Protocol { budget, without: None });
    assert_eq!(found.violated, [""; 0]);
    let missed: Vec<_> =
        Sometimes::ALL.into_iter().filter(|what| !found.reached.contains(&what.name())).collect();
    assert_eq!(missed, never, "what the exploration does not come across");
}

/// Explores the protocol without a protection until something goes wrong.
fn fails_without(protection: Protection, budget: Budget) {
    let found = explore(Protocol { budget, without: Some(protection) });
    assert!(!found.violated.is_empty(), "nothing goes wrong without {protection:?}");
}

#[test]
fn no_request_is_lost_when_workers_crash_and_pause() {
    holds(Budget { requests: 3, crashes: 1, pauses: 1, failures: 0 }, &[]);
}

#[test]
fn no_request_is_lost_when_workers_crash_and_runs_fail() {
    holds(Budget { requests: 3, crashes: 1, pauses: 0, failures: 1 }, &[Sometimes::Poisoned]);
}

#[test]
fn no_request_is_lost_when_workers_pause_and_runs_fail() {
    holds(Budget { requests: 3, crashes: 0, pauses: 1, failures: 1 }, &[Sometimes::Poisoned]);
}

#[test]
fn no_request_is_lost_when_all_of_it_happens() {
    holds(Budget { requests: 2, crashes: 1, pauses: 1, failures: 1 }, &[]);
}

#[test]
#[ignore = "minutes: cargo test -p pricing-model -- --ignored"]
fn no_request_is_lost_when_all_of_it_happens_among_more_requests() {
    holds(Budget { requests: 3, crashes: 1, pauses: 1, failures: 1 }, &[]);
}

#[test]
fn each_protection_against_crashes_and_pauses_is_needed() {
    let budget = Budget { requests: 2, crashes: 1, pauses: 1, failures: 0 };
    for protection in [
        Protection::VersionedWrites,
        Protection::NumbersNotedFirst,
        Protection::FencedAcquire,
        Protection::SkippedWatermark,
        Protection::OwnLockTakeover,
        Protection::OwnLockBeforeCovered,
        Protection::ReleaseOnlyIfCovered,
        Protection::ForfeitFreesLock,
        Protection::ForfeitReplaces,
        Protection::LeaseAtSettle,
    ] {
        fails_without(protection, budget);
    }
}

#[test]
fn each_protection_against_a_steady_stream_of_requests_is_needed() {
    let budget = Budget { requests: 3, crashes: 0, pauses: 0, failures: 0 };
    for protection in [Protection::FollowUp, Protection::FollowUpTakeover, Protection::OwnToken] {
        fails_without(protection, budget);
    }
}
