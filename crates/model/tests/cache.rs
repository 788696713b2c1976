//! The properties of the cache and of list prices, and that each protection is needed.

mod explore;

use explore::explore;
use pricing_model::cache::{Budget, OLD_AFTER_EVICTION, Protection, Writers};

const BUDGET: Budget = Budget { changes: 3, fills: 2, evictions: 1 };

#[test]
fn whatever_order_they_come_in_writers_leave_nothing_old_but_across_an_eviction() {
    let found = explore(Writers { budget: BUDGET, without: None });
    assert_eq!(found.violated, [""; 0]);
    assert_eq!(found.reached, [OLD_AFTER_EVICTION], "the documented limit");
}

#[test]
fn without_evictions_the_cache_is_never_old_when_all_has_ended() {
    let budget = Budget { evictions: 0, fills: 3, ..BUDGET };
    let found = explore(Writers { budget, without: None });
    assert_eq!(found.violated, [""; 0]);
    assert_eq!(found.reached, [""; 0]);
}

#[test]
fn each_protection_is_needed() {
    for protection in [Protection::VersionedStore, Protection::UnchangedProduct, Protection::NoOlderMarket] {
        let found = explore(Writers { budget: BUDGET, without: Some(protection) });
        assert!(!found.violated.is_empty(), "nothing goes wrong without {protection:?}");
    }
}
