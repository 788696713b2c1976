//! What a load of the inputs of prices gives.

use std::sync::Arc;

use pricing_core::cache::{Entry, ReadAt};
use pricing_core::catalogue::CatalogueError;
use pricing_core::ids::Location;
use pricing_core::price::{Market, Product};

/// Why inputs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The fallback for all locations does not exist: the catalogue is incomplete.
    #[error("the database has no market \"default\"")]
    NoDefaultMarket,
    /// The database failed or holds an invalid row.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The database did not answer in time.
    #[error("the database did not answer in time")]
    TimedOut,
    /// The database was not asked, because its breaker is open.
    #[error("the database is down")]
    Skipped,
    /// Nobody was asked, because this process has enough lookups, or large batches, under way.
    #[error("too many lookups or batches are under way")]
    Busy,
}

impl LoadError {
    /// Whether the database is down. Its breaker has logged that.
    pub(crate) fn is_unavailable(&self) -> bool {
        match self {
            Self::Skipped | Self::TimedOut => true,
            Self::Catalogue(error) => error.is_unavailable(),
            Self::NoDefaultMarket | Self::Busy => false,
        }
    }

    /// Whether this process asks too much, which says nothing about the database.
    pub(crate) fn is_overload(&self) -> bool {
        matches!(self, Self::Busy | Self::Catalogue(CatalogueError::PoolFull))
    }
}

/// The market that prices a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PricingMarket {
    pub(super) market: Market,
    /// Whether it is the market of [`Location::fallback`], because the location has none.
    pub(super) is_fallback: bool,
}

impl PricingMarket {
    /// The cache entries that follow from a lookup of `location`.
    pub(super) fn entries<'e>(&'e self, location: &'e Location) -> impl Iterator<Item = Entry<'e>> {
        let owner = if self.is_fallback { Location::fallback() } else { location };
        let negative = self.is_fallback.then_some(Entry::NegativeMarket(location));
        [Entry::Market(owner, &self.market)].into_iter().chain(negative)
    }
}

/// Products in the order of a request; `None` for those that do not exist.
pub(super) type Products = Arc<[Option<Product>]>;

/// Rows of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read<T> {
    pub(super) rows: T,
    /// The time of Redis before they were read; `None` if Redis did not tell, and then the cache is not filled.
    pub(super) read_at: Option<ReadAt>,
}

/// What was loaded; `None` for what was not asked for.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The products.
    pub(super) products: Option<Flight<Read<Products>>>,
    /// The market that prices the location.
    pub(super) market: Option<Flight<Read<PricingMarket>>>,
}

impl Loaded {
    /// Whether the database answered during this call.
    pub(super) fn is_new(&self) -> bool {
        self.products.as_ref().is_some_and(Flight::is_new) || self.market.as_ref().is_some_and(Flight::is_new)
    }
}

/// A loaded value, and how it was obtained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flight<V> {
    /// This caller made the load.
    Led(V),
    /// Another caller's load, under way at the same time. That caller fills the cache.
    Joined(V),
    /// A load that ended less than a second ago: the database was not asked now. This caller fills the cache
    /// again, because the first fill came too early to be seen, or failed.
    Lingering(V),
}

impl<V> Flight<V> {
    pub(super) fn value(&self) -> &V {
        let (Self::Led(value) | Self::Joined(value) | Self::Lingering(value)) = self;
        value
    }

    /// The value, if this caller fills the cache.
    pub(super) fn to_fill(&self) -> Option<&V> {
        match self {
            Self::Led(value) | Self::Lingering(value) => Some(value),
            Self::Joined(_) => None,
        }
    }

    /// Whether the database answered during this call.
    pub(super) fn is_new(&self) -> bool {
        !matches!(self, Self::Lingering(_))
    }
}

#[cfg(test)]
mod tests {
    use pricing_core::money::{Currency, Ppm};

    use super::*;

    #[test]
    fn a_location_without_a_market_gets_a_negative_entry() {
        let market = Market::new(Ppm::ONE, Currency::USD, 1);
        let mars = Location::parse("Mars").unwrap();
        let own = PricingMarket { market, is_fallback: false };
        let entries: Vec<_> = own.entries(&mars).collect();
        assert!(matches!(entries[..], [Entry::Market(location, _)] if *location == mars));
        let fallback = PricingMarket { market, is_fallback: true };
        let entries: Vec<_> = fallback.entries(&mars).collect();
        let [Entry::Market(owner, _), Entry::NegativeMarket(negative)] = entries[..] else {
            panic!("{entries:?}")
        };
        assert_eq!((owner, negative), (Location::fallback(), &mars));
    }
}
