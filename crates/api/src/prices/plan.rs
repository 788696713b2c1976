//! The pure part of the read path: what to do about the cache's answer.

use std::time::Duration;

use pricing_core::cache::Cached;
use pricing_core::ids::{Location, ProductId};
use pricing_core::price::{Market, Product};
use smallvec::SmallVec;

use super::breaker::Admission;

/// How much of a read the cache can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Coverage {
    /// Some entry is missing.
    Incomplete,
    /// Every entry is there, but at least one is stale.
    Stale,
    /// Every entry is fresh.
    Fresh,
}

/// What a read does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Serve the cache's entries.
    Serve,
    /// Load what is missing or stale from the database.
    Load,
    /// Serve stale entries, because the database is down.
    ServeStale {
        /// Whether this read starts a probe of the database, in the background.
        probe: bool,
    },
    /// Answer 503: the database is down, and the cache has nothing in its place.
    Refuse,
}

/// Decides what a read does. `cache_answered` is false when Redis did not answer, so that the coverage says
/// nothing about its entries. `database` is the admission of the database's breaker, asked only where it matters:
/// asking may claim the one probe a second.
pub(super) fn plan(coverage: Coverage, cache_answered: bool, database: impl FnOnce() -> Admission) -> Plan {
    if coverage == Coverage::Fresh {
        return Plan::Serve;
    }
    match (database(), coverage) {
        (Admission::Closed, _) => Plan::Load,
        (Admission::Probe, Coverage::Stale) => Plan::ServeStale { probe: true },
        (Admission::Refused, Coverage::Stale) => Plan::ServeStale { probe: false },
        (Admission::Refused, _) if cache_answered => Plan::Refuse,
        // Nothing is left to ask but the database.
        (Admission::Probe | Admission::Refused, _) => Plan::Load,
    }
}

/// The cache's answer to one read.
pub(super) struct CachedRead<'l> {
    pub(super) products: SmallVec<[Cached<Product>; 1]>,
    pub(super) market: Cached<Market>,
    /// Whose market it is: the location of the customer, or the fallback.
    pub(super) location: &'l Location,
    /// Whether Redis answered.
    pub(super) has_answered: bool,
}

impl<'l> CachedRead<'l> {
    pub(super) fn coverage(&self) -> Coverage {
        let of = |is_current, has_value| match (is_current, has_value) {
            (true, _) => Coverage::Fresh,
            (false, true) => Coverage::Stale,
            (false, false) => Coverage::Incomplete,
        };
        let products = self.products.iter().map(|entry| of(entry.is_current(), entry.value().is_some()));
        let products = products.min().unwrap_or(Coverage::Fresh);
        if !self.needs_market() {
            return products;
        }
        products.min(of(self.market.fresh().is_some(), self.market.value().is_some()))
    }

    /// Whether any product may exist.
    pub(super) fn needs_market(&self) -> bool {
        self.products.iter().any(|entry| *entry != Cached::Negative)
    }

    /// The products to load, sorted and unique.
    pub(super) fn missed(&self, ids: &[ProductId]) -> Vec<ProductId> {
        let entries = ids.iter().zip(&self.products);
        let mut missed: Vec<_> =
            entries.filter(|(_, entry)| !entry.is_current()).map(|(id, _)| id.clone()).collect();
        missed.sort_unstable();
        missed.dedup();
        missed
    }

    /// The location whose market to load, if it is not fresh.
    pub(super) fn missed_location(&self) -> Option<&'l Location> {
        self.market.fresh().is_none().then_some(self.location)
    }
}

/// The inputs of prices.
pub(super) struct Inputs {
    /// In the order of the request; `None` for a product that does not exist.
    pub(super) products: SmallVec<[Option<Input<Product>>; 1]>,
    /// `None` only if no product exists.
    pub(super) market: Option<Input<Market>>,
    /// Whether the market is that of [`Location::fallback`].
    pub(super) is_fallback: bool,
    /// Whether the database was asked.
    pub(super) is_loaded: bool,
}

impl Inputs {
    pub(super) fn cached(read: &CachedRead<'_>) -> Self {
        Self {
            products: read.products.iter().map(Input::cached).collect(),
            market: Input::cached(&read.market),
            is_fallback: read.location == Location::fallback(),
            is_loaded: false,
        }
    }

    /// The worst source among them, for traces.
    pub(super) fn source(&self) -> &'static str {
        let is_stale = self.market.iter().any(|market| market.is_stale)
            || self.products.iter().flatten().any(|product| product.is_stale);
        match (is_stale, self.is_loaded) {
            (true, _) => "stale",
            (false, true) => "database",
            (false, false) => "cache",
        }
    }
}

/// A product or market to price with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<T> {
    pub(super) value: T,
    /// Time since it was written to the cache; `None` if it was loaded from the database.
    pub(super) age: Option<Duration>,
    pub(super) is_stale: bool,
}

impl<T: Copy> Input<T> {
    pub(super) fn cached(entry: &Cached<T>) -> Option<Self> {
        match entry {
            Cached::Fresh { value, age, .. } => {
                Some(Self { value: *value, age: Some(*age), is_stale: false })
            }
            Cached::Stale { value, age } => Some(Self { value: *value, age: Some(*age), is_stale: true }),
            Cached::Negative | Cached::Absent | Cached::Corrupt => None,
        }
    }

    pub(super) fn loaded(value: T) -> Self {
        Self { value, age: None, is_stale: false }
    }
}

#[cfg(test)]
mod tests {
    use Admission::{Closed, Probe, Refused};
    use Coverage::{Fresh, Incomplete, Stale};
    use Plan::{Load, Refuse, Serve, ServeStale};

    use super::*;

    #[test]
    fn every_combination_of_cache_and_breakers_has_its_plan() {
        for (coverage, cache_answered, database, expected) in [
            (Fresh, true, Closed, Serve),
            (Fresh, true, Probe, Serve),
            (Fresh, true, Refused, Serve),
            (Stale, true, Closed, Load),
            (Stale, true, Probe, ServeStale { probe: true }),
            (Stale, true, Refused, ServeStale { probe: false }),
            (Incomplete, true, Closed, Load),
            (Incomplete, true, Probe, Load),
            (Incomplete, true, Refused, Refuse),
            (Incomplete, false, Closed, Load),
            (Incomplete, false, Probe, Load),
            (Incomplete, false, Refused, Load),
        ] {
            let planned = plan(coverage, cache_answered, || database);
            assert_eq!(planned, expected, "{coverage:?}, cache answered: {cache_answered}, {database:?}");
        }
    }

    #[test]
    fn a_hit_does_not_claim_a_probe() {
        assert_eq!(plan(Fresh, true, || panic!("asked the breaker")), Serve);
    }
}
