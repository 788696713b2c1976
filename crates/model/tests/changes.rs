//! Every change of the catalogue reaches the cache, and each protection is needed for it.

mod explore;

use explore::explore;
use pricing_model::changes::{Budget, Changes, PENDING_AGAIN, Protection};

/// Writers beside drains and a fill.
const FILL: Budget = Budget { writes: 2, terms: 0, failovers: 0, scans: 0, fills: 1 };
/// The same, on a Redis that loses its latest stores.
const FAILOVER: Budget = Budget { failovers: 1, ..FILL };
/// A scan beside drains.
const SCAN: Budget = Budget { writes: 1, terms: 1, failovers: 0, scans: 1, fills: 0 };

/// Nothing goes wrong, whatever order it comes in.
fn holds(budget: Budget) {
    let found = explore(Changes { budget, without: None });
    assert_eq!(found.violated, [""; 0]);
    assert_eq!(found.reached == [PENDING_AGAIN], budget.failovers > 0);
}

/// Something goes wrong without each of these protections.
fn needs(budget: Budget, protections: &[Protection]) {
    for protection in protections {
        let found = explore(Changes { budget, without: Some(*protection) });
        assert!(!found.violated.is_empty(), "nothing goes wrong without {protection:?}");
    }
}

#[test]
fn every_change_reaches_the_cache_and_nothing_old_comes_back() {
    holds(Budget { writes: 3, ..FILL });
    holds(FAILOVER);
    holds(SCAN);
    holds(Budget { writes: 2, terms: 0, ..SCAN });
    holds(Budget { terms: 0, failovers: 1, ..SCAN });
}

#[test]
#[ignore = "takes minutes"]
fn it_does_so_in_a_larger_budget() {
    holds(Budget { scans: 1, ..FILL });
    holds(Budget { failovers: 1, ..SCAN });
    holds(Budget { writes: 3, ..FAILOVER });
    holds(Budget { terms: 0, scans: 2, ..SCAN });
}

#[test]
fn each_protection_is_needed() {
    needs(
        FILL,
        &[
            Protection::LockBeforeVersion,
            Protection::UpdateResetsListPrice,
            Protection::RecordByVersion,
            Protection::RecordTakesVersion,
            Protection::RecordLeavesPending,
            Protection::SelectBeforeRead,
            Protection::MarkByVersion,
            Protection::MarkOnlyIfStored,
            Protection::NegativeEntry,
            Protection::VersionedStore,
            Protection::AgeLimit,
            Protection::TimeBeforeRead,
        ],
    );
    needs(FAILOVER, &[Protection::RedisBeforeStore, Protection::KeepStored, Protection::KeepUntilExpiry]);
    needs(SCAN, &[Protection::NoOlderTerms, Protection::RecordTakesVersion, Protection::RecordLeavesPending]);
}

#[test]
fn each_assumption_is_needed() {
    needs(FAILOVER, &[Protection::ClockOnlyAdvances, Protection::NoEviction]);
}
