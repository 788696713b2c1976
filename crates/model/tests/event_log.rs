//! An event of the log becomes a task, and each protection is needed for it.

mod explore;

use explore::explore;
use pricing_model::event_log::{Budget, EventLog, LOST, Protection};

const BUDGET: Budget = Budget { events: 3, failovers: 2 };

#[test]
fn every_event_that_the_promoted_redis_has_becomes_a_task() {
    let found = explore(EventLog { budget: BUDGET, without: None });
    assert_eq!(found.violated, [""; 0]);
    assert_eq!(found.reached, [LOST], "the documented limit");
}

#[test]
fn each_protection_is_needed() {
    for protection in [Protection::OneScript, Protection::UniqueEntries] {
        let found = explore(EventLog { budget: BUDGET, without: Some(protection) });
        assert!(!found.violated.is_empty(), "nothing goes wrong without {protection:?}");
    }
}
