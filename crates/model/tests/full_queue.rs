//! No message that is dropped at a full queue is missed, and each protection is needed for it.

mod explore;

use explore::explore;
use pricing_model::full_queue::{BEYOND_CAPACITY, Budget, DROPPED, FullQueue, Protection};

const BUDGET: Budget = Budget { messages: 4, unreadable: 1, crashes: 0, failures: 0 };

/// Nothing is missed, whatever order it comes in.
fn holds(budget: Budget) {
    let found = explore(FullQueue { budget, without: None });
    assert_eq!(found.violated, [""; 0]);
    assert_eq!(found.reached, [DROPPED, BEYOND_CAPACITY]);
}

#[test]
fn every_dropped_message_is_covered() {
    holds(BUDGET);
    holds(Budget { messages: 3, crashes: 1, failures: 1, ..BUDGET });
}

#[test]
#[ignore = "takes a minute"]
fn it_is_covered_in_a_larger_budget() {
    holds(Budget { crashes: 1, failures: 1, ..BUDGET });
}

#[test]
fn each_protection_is_needed() {
    for protection in [
        Protection::WhileOneWaits,
        Protection::TakesNumber,
        Protection::RaisesSkipped,
        Protection::ReplacesUnreadable,
    ] {
        let found = explore(FullQueue { budget: BUDGET, without: Some(protection) });
        assert!(!found.violated.is_empty(), "nothing goes wrong without {protection:?}");
    }
}
