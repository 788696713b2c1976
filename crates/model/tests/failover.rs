//! A failover loses no request but those that the promoted Redis lacks, and each protection is needed for it.

mod explore;

use explore::explore;
use pricing_model::failover::{Budget, Failover, LEFT_BEHIND, LOST, Protection};

const BUDGET: Budget = Budget { requests: 2, crashes: 1, pauses: 1, failovers: 1 };

/// No request is missed, whatever order it comes in.
fn holds(budget: Budget) {
    let found = explore(Failover { budget, without: None });
    assert_eq!(found.violated, [""; 0]);
    assert_eq!(found.reached, [LOST, LEFT_BEHIND]);
}

#[test]
fn every_request_that_the_promoted_redis_has_is_covered() {
    holds(Budget { crashes: 0, pauses: 0, failovers: 2, ..BUDGET });
    holds(Budget { requests: 3, ..BUDGET });
}

#[test]
#[ignore = "takes a minute"]
fn three_requests_a_crash_a_pause_and_two_failovers() {
    holds(Budget { requests: 3, failovers: 2, ..BUDGET });
}

#[test]
fn each_protection_is_needed() {
    for protection in
        [Protection::ReleaseOnSameRedis, Protection::AckOnSameRedis, Protection::OtherLockIsFree]
    {
        let found = explore(Failover { budget: BUDGET, without: Some(protection) });
        assert!(!found.violated.is_empty(), "nothing goes wrong without {protection:?}");
    }
}
