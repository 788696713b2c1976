//! The near-cache is coherent with Redis, and each protection is needed for it.

mod explore;

use explore::explore;
use pricing_model::near_cache::{
    BACK_BETWEEN_SERVERS, Budget, HIT_GOES_BACK, NearCache, OUTDATED, OWN_WRITE_IS_MISSED, Protection,
    STAYS_OUTDATED,
};

const BUDGET: Budget = Budget {
    misses: 3,
    writes: 1,
    own_writes: 0,
    ends: 0,
    evictions: 0,
    expiries: 0,
    overflows: 0,
    failovers: 0,
};

/// Nothing goes back or stays outdated, in whatever order it comes. Returns the documented limits that were reached.
fn holds(budget: Budget) -> Vec<&'static str> {
    let found = explore(NearCache { budget, without: None });
    assert_eq!(found.violated, [""; 0], "{budget:?}");
    found.reached
}

#[test]
fn replies_that_something_newer_has_overtaken_are_not_kept() {
    for budget in [
        Budget { misses: 4, overflows: 1, ..BUDGET },
        Budget { writes: 2, evictions: 1, expiries: 1, overflows: 1, ..BUDGET },
        Budget { writes: 2, ends: 1, ..BUDGET },
    ] {
        assert_eq!(holds(budget), [OUTDATED], "{budget:?}");
    }
}

#[test]
fn a_process_reads_what_it_wrote() {
    for budget in [
        Budget { misses: 2, own_writes: 1, ends: 1, evictions: 1, expiries: 1, ..BUDGET },
        Budget { writes: 0, own_writes: 2, evictions: 1, ..BUDGET },
    ] {
        assert_eq!(holds(budget), [OUTDATED], "{budget:?}");
    }
}

#[test]
fn on_one_server_nothing_goes_back_whatever_server_is_promoted() {
    for budget in [
        Budget { ends: 1, failovers: 1, ..BUDGET },
        Budget { writes: 0, own_writes: 1, failovers: 1, ..BUDGET },
    ] {
        assert_eq!(holds(budget), [OUTDATED, BACK_BETWEEN_SERVERS], "{budget:?}");
    }
}

#[test]
#[ignore = "takes a minute"]
fn four_reads_two_writes_two_failovers() {
    holds(Budget { misses: 4, writes: 2, ends: 1, overflows: 1, ..BUDGET });
    holds(Budget { misses: 2, own_writes: 1, ends: 1, failovers: 2, ..BUDGET });
}

#[test]
fn each_protection_is_needed() {
    let (overflows, ends) = (Budget { overflows: 1, ..BUDGET }, Budget { ends: 1, ..BUDGET });
    for (protection, budget, violated) in [
        (Protection::InvalidationRefuses, BUDGET, STAYS_OUTDATED),
        (Protection::TicketBeforeRead, BUDGET, STAYS_OUTDATED),
        (Protection::TicketBeforeConnection, ends, STAYS_OUTDATED),
        (Protection::DropAtEnd, ends, STAYS_OUTDATED),
        (Protection::SameServer, Budget { failovers: 1, ..ends }, STAYS_OUTDATED),
        (Protection::NoOlderVersion, BUDGET, HIT_GOES_BACK),
        (Protection::NewerVersionDrops, BUDGET, HIT_GOES_BACK),
        (Protection::NewerVersionRefuses, overflows, HIT_GOES_BACK),
        (Protection::UntrackedVersion, BUDGET, HIT_GOES_BACK),
        (Protection::EvictionRefuses, Budget { evictions: 1, ..BUDGET }, HIT_GOES_BACK),
        (Protection::ExpiryRefuses, Budget { expiries: 1, ..BUDGET }, HIT_GOES_BACK),
        (Protection::OwnWriteDrops, Budget { writes: 0, own_writes: 1, ..BUDGET }, OWN_WRITE_IS_MISSED),
    ] {
        let found = explore(NearCache { budget, without: Some(protection) });
        assert_eq!(found.violated, [violated], "without {protection:?}");
    }
}
