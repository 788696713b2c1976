//! Reads of prices: what the cache held, what was looked up, what failed.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use pricing_core::cache::Cached;
use pricing_core::price::{Market, PriceDetail, Product, Unpriced};

use super::{
    BOUNDS_CONFLICTS, CACHE_RESULTS, DATABASE_LOOKUPS, DEGRADED, DEGRADED_READS, FILL_FAILURES, PRICE_AGE,
    UNPRICED,
};

/// What a read depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dependency {
    Redis,
    Database,
}

impl Dependency {
    /// The label's value.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Database => "database",
        }
    }
}

/// The gauge of a dependency's breaker.
pub(crate) fn degraded(dependency: Dependency) -> Gauge {
    gauge!(DEGRADED, "dependency" => dependency.as_str())
}

/// The counter of lookups of one kind: `product` or `market`.
pub(crate) fn database_lookups(kind: &'static str) -> Counter {
    counter!(DATABASE_LOOKUPS, "kind" => kind)
}

/// The metrics of the read path, resolved once.
pub(crate) struct ReadMetrics {
    product: CacheResults,
    market: CacheResults,
    /// Fills that failed.
    pub(crate) fill_failures: Counter,
    without_redis: Counter,
    /// Reads that were served stale entries because the database failed.
    pub(crate) without_database: Counter,
    /// Age of the cached product that a price was made of.
    pub(crate) age: Histogram,
    without_rate: Counter,
    out_of_range: Counter,
    bounds_conflicts: Counter,
}

impl ReadMetrics {
    /// The metrics of the installed recorder; of none when none is installed.
    pub(crate) fn new() -> Self {
        let unpriced = |reason: Unpriced| counter!(UNPRICED, "reason" => reason.as_str());
        Self {
            product: CacheResults::of("product"),
            market: CacheResults::of("market"),
            fill_failures: counter!(FILL_FAILURES),
            without_redis: counter!(DEGRADED_READS, "dependency" => Dependency::Redis.as_str()),
            without_database: counter!(DEGRADED_READS, "dependency" => Dependency::Database.as_str()),
            age: histogram!(PRICE_AGE),
            without_rate: unpriced(Unpriced::NoExchangeRate),
            out_of_range: unpriced(Unpriced::OutOfRange),
            bounds_conflicts: counter!(BOUNDS_CONFLICTS),
        }
    }

    /// Counts the cache's answer to a read.
    pub(crate) fn count(&self, products: &[Cached<Product>], market: &Cached<Market>) {
        products.iter().for_each(|product| self.product.count(product));
        self.market.count(market);
    }

    /// Counts what needs attention about a price.
    pub(crate) fn count_price(&self, priced: Result<&PriceDetail, &Unpriced>) {
        match priced {
            Ok(detail) if detail.bounds_conflict => self.bounds_conflicts.increment(1),
            Ok(_) => {}
            Err(Unpriced::NoExchangeRate) => self.without_rate.increment(1),
            Err(Unpriced::OutOfRange) => self.out_of_range.increment(1),
        }
    }

    /// Counts a read that Redis did not answer.
    pub(crate) fn count_outage(&self, products: usize) {
        self.product.error.increment(products as u64);
        self.market.error.increment(1);
        self.without_redis.increment(1);
    }
}

/// Entries of one kind, by what the cache held.
struct CacheResults {
    fresh: Counter,
    stale: Counter,
    negative: Counter,
    absent: Counter,
    corrupt: Counter,
    error: Counter,
}

impl CacheResults {
    fn of(entry: &'static str) -> Self {
        let result = |result: &'static str| counter!(CACHE_RESULTS, "entry" => entry, "result" => result);
        Self {
            fresh: result("fresh"),
            stale: result("stale"),
            negative: result("negative"),
            absent: result("absent"),
            corrupt: result("corrupt"),
            error: result("error"),
        }
    }

    fn count<T>(&self, cached: &Cached<T>) {
        let counter = match cached {
            Cached::Fresh { .. } => &self.fresh,
            Cached::Stale { .. } => &self.stale,
            Cached::Negative => &self.negative,
            Cached::Absent => &self.absent,
            Cached::Corrupt => &self.corrupt,
        };
        counter.increment(1);
    }
}
