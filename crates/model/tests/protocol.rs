//! The properties of the protocol, and that each protection is needed.

mod explore;

use explore::explore;
use pricing_model::protocol::{Budget, Protection, Protocol, Sometimes};

/// The protocol of the scripts.
fn protocol(requests: u8, crashes: u8, pauses: u8, failures: u8) -> Protocol {
    let budget = Budget { requests, crashes, pauses, failures };
    Protocol { budget, max_scans: 2, without: None }
}

/// Explores all states. It must reach everything that may sometimes happen, except `never`.
fn holds(protocol: Protocol, never: &[Sometimes]) {
    let found = explore(protocol);
    assert_eq!(found.violated, [""; 0]);
    let is_missed = |what: &Sometimes| !found.reached.contains(&what.name());
    let missed: Vec<_> = Sometimes::ALL.into_iter().filter(is_missed).collect();
    assert_eq!(missed, never, "what the exploration does not come across");
}

/// Explores the protocol without each of these protections until something goes wrong.
fn fails_without(protections: &[Protection], protocol: Protocol) {
    for protection in protections {
        let found = explore(Protocol { without: Some(*protection), ..protocol });
        assert!(!found.violated.is_empty(), "nothing goes wrong without {protection:?}");
    }
}

#[test]
fn no_request_is_lost_when_workers_crash_and_pause() {
    holds(protocol(3, 1, 1, 0), &[]);
}

#[test]
fn no_request_is_lost_when_workers_crash_and_runs_fail() {
    holds(protocol(3, 1, 0, 1), &[Sometimes::Poisoned, Sometimes::LateForfeit]);
}

#[test]
fn no_request_is_lost_when_workers_pause_and_runs_fail() {
    holds(protocol(2, 0, 2, 1), &[Sometimes::FollowUp, Sometimes::FollowUpEarly]);
}

#[test]
fn no_request_is_lost_when_all_of_it_happens() {
    holds(protocol(2, 1, 1, 1), &[Sometimes::FollowUp, Sometimes::FollowUpEarly]);
}

/// A holder that has scanned for the last time still has others skipped until it releases, and trusts its
/// follow-up to cover them. That one may have died in between. With one scan a run, three requests are enough to
/// see it; with the worker's three, five.
#[test]
fn a_follow_up_that_dies_must_free_the_lock_of_its_holder() {
    fails_without(&[Protection::FollowUpForfeit], Protocol { max_scans: 1, ..protocol(3, 0, 0, 1) });
}

#[test]
#[ignore = "minutes: cargo test -p pricing-model -- --ignored"]
fn no_request_is_lost_although_follow_ups_die() {
    for protocol in [Protocol { max_scans: 1, ..protocol(3, 0, 0, 1) }, protocol(4, 0, 0, 1)] {
        assert_eq!(explore(protocol).violated, [""; 0]);
    }
}

#[test]
#[ignore = "minutes: cargo test -p pricing-model -- --ignored"]
fn no_request_is_lost_when_more_of_it_happens() {
    for protocol in [protocol(3, 0, 1, 1), protocol(2, 2, 1, 1)] {
        assert_eq!(explore(protocol).violated, [""; 0]);
    }
}

#[test]
fn each_protection_against_crashes_and_pauses_is_needed() {
    let protections = [
        Protection::VersionedWrites,
        Protection::LastRequestNotedFirst,
        Protection::FencedAcquire,
        Protection::SkippedWatermark,
        Protection::OwnLockTakeover,
        Protection::OwnLockBeforeCovered,
        Protection::ReleaseOnlyIfCovered,
        Protection::ForfeitFreesLock,
        Protection::ForfeitReplaces,
        Protection::LeaseAtAck,
    ];
    fails_without(&protections, protocol(2, 1, 1, 0));
}

#[test]
fn each_protection_against_a_steady_stream_of_requests_is_needed() {
    let protections = [Protection::FollowUp, Protection::FollowUpTakeover, Protection::OwnToken];
    fails_without(&protections, protocol(3, 0, 0, 0));
}

#[test]
fn a_run_that_was_taken_over_must_not_give_up_for_its_successor() {
    fails_without(&[Protection::FencedForfeit], protocol(2, 0, 2, 1));
}
