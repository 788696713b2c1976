//! The figures of the near-cache.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use metrics::{describe_counter, describe_gauge, describe_histogram};

const RESULTS: &str = "pricing_near_cache_results_total";
const INVALIDATIONS: &str = "pricing_near_cache_invalidations_total";
const FLUSHES: &str = "pricing_near_cache_flushes_total";
const OPEN: &str = "pricing_near_cache_open";
const CLOSED: &str = "pricing_near_cache_closed_milliseconds_total";
const BYTES: &str = "pricing_near_cache_bytes";
/// Time since a product that the near-cache served was read from Redis, in seconds.
pub const NEAR_AGE: &str = "pricing_near_cache_age_seconds";

/// Handles, resolved once.
pub(super) struct NearMetrics {
    pub(super) product: Results,
    pub(super) market: Results,
    pub(super) invalidations: Counter,
    pub(super) flushes: Counter,
    pub(super) open: Gauge,
    pub(super) bytes: Gauge,
    /// Age of a product at serving.
    pub(super) age: Histogram,
    closed: Counter,
}

/// Lookups of one kind.
pub(super) struct Results {
    hits: Counter,
    misses: Counter,
}

impl Results {
    fn of(kind: &'static str) -> Self {
        let result = |result| counter!(RESULTS, "kind" => kind, "result" => result);
        Self { hits: result("hit"), misses: result("miss") }
    }

    pub(super) fn count(&self, is_hit: bool) {
        if is_hit { self.hits.increment(1) } else { self.misses.increment(1) }
    }
}

impl NearMetrics {
    /// Those of the installed recorder.
    pub(super) fn new() -> Self {
        describe_counter!(RESULTS, "Entries that reads asked the near-cache for while it was open");
        describe_counter!(INVALIDATIONS, "Keys that Redis has invalidated in the near-cache");
        describe_counter!(
            FLUSHES,
            "Times that the near-cache was emptied: Redis was, or its connection ended"
        );
        describe_gauge!(OPEN, "1 while the near-cache serves; at 0 every read goes to Redis");
        describe_counter!(CLOSED, "Milliseconds that the near-cache was closed");
        describe_gauge!(BYTES, Unit::Bytes, "Memory of the entries in the near-cache");
        describe_histogram!(
            NEAR_AGE,
            Unit::Seconds,
            "Time since a product that was served from memory was read from Redis"
        );
        Self {
            product: Results::of("product"),
            market: Results::of("market"),
            invalidations: counter!(INVALIDATIONS),
            flushes: counter!(FLUSHES),
            open: gauge!(OPEN),
            bytes: gauge!(BYTES),
            age: histogram!(NEAR_AGE),
            closed: counter!(CLOSED),
        }
    }

    /// Adds a time for which the near-cache was closed.
    pub(super) fn was_closed(&self, time: Duration) {
        self.closed.increment(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }
}
