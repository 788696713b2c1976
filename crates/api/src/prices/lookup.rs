//! The lookups of a miss.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use pricing_core::cache::Entry;
use pricing_core::catalogue::{Catalogue, CatalogueError};
use pricing_core::ids::{Location, ProductId};
use pricing_core::price::{Market, Product};
use tokio::time::timeout;

use super::breaker::Breaker;

/// Longest the lookups of one read may take; then the database counts as away.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a lookup found nothing.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The product does not exist.
    #[error("the product does not exist")]
    UnknownProduct,
    /// Not even the market that all other locations fall back to exists: the catalogue is not complete.
    #[error("the database has no market \"default\"")]
    NoDefaultMarket,
    /// The database is away or holds an invalid row.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The database did not answer in time.
    #[error("the database did not answer within {} s", LOOKUP_TIMEOUT.as_secs())]
    TimedOut,
}

impl LookupError {
    /// Whether the database is away, rather than wrong in what it says.
    fn is_absence(&self) -> bool {
        matches!(self, Self::TimedOut | Self::Catalogue(CatalogueError::Database(_)))
    }
}

/// The market that prices a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMarket<'a> {
    /// Whose market it is: the location's own, or [`Location::fallback`].
    pub location: Cow<'a, Location>,
    /// The market.
    pub market: Market,
}

impl<'a> FoundMarket<'a> {
    /// The market of this location.
    pub fn of(location: &'a Location, market: Market) -> Self {
        Self { location: Cow::Borrowed(location), market }
    }

    /// What the cache should know after this was found for `asked`.
    pub fn entries<'e>(&'e self, asked: &'e Location) -> impl Iterator<Item = Entry<'e>> {
        let unknown = (*self.location != *asked).then_some(Entry::UnknownMarket(asked));
        [Entry::Market(&self.location, &self.market)].into_iter().chain(unknown)
    }
}

/// An input of a price, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<T> {
    /// Fresh from the cache.
    Cached(T),
    /// From the database.
    Loaded(T),
}

impl<T> Input<T> {
    /// The input.
    pub fn value(&self) -> &T {
        let (Self::Cached(value) | Self::Loaded(value)) = self;
        value
    }

    /// The input if it is news to the cache.
    pub fn loaded(&self) -> Option<&T> {
        match self {
            Self::Cached(_) => None,
            Self::Loaded(value) => Some(value),
        }
    }
}

/// The cached value if there is one; looks it up otherwise.
///
/// # Errors
///
/// When the lookup fails.
pub async fn unless_cached<T>(
    cached: Option<T>,
    lookup: impl Future<Output = Result<T, LookupError>>,
) -> Result<Input<T>, LookupError> {
    match cached {
        Some(value) => Ok(Input::Cached(value)),
        None => lookup.await.map(Input::Loaded),
    }
}

/// Runs two lookups at once: together they take as long as the slower one. `database` learns whether the
/// database is there.
///
/// # Errors
///
/// The first failure, or [`LookupError::TimedOut`].
pub async fn both<P, M>(
    database: &Breaker,
    product: impl Future<Output = Result<Input<P>, LookupError>>,
    market: impl Future<Output = Result<Input<M>, LookupError>>,
) -> Result<(Input<P>, Input<M>), LookupError> {
    let lookups = async { tokio::try_join!(product, market) };
    let found = timeout(LOOKUP_TIMEOUT, lookups).await.unwrap_or(Err(LookupError::TimedOut));
    match &found {
        Err(error) if error.is_absence() => database.open(error),
        Ok((Input::Cached(_), Input::Cached(_))) => {} // it was not asked
        _ => database.close(),
    }
    found
}

/// The product in the database.
///
/// # Errors
///
/// [`LookupError::UnknownProduct`] when it does not exist; others when the database fails.
pub async fn product(catalogue: &Catalogue, id: &ProductId) -> Result<Product, LookupError> {
    catalogue.product(id).await?.ok_or(LookupError::UnknownProduct)
}

/// Those of these products that are in the database.
///
/// # Errors
///
/// When the database fails.
pub async fn products(
    catalogue: &Catalogue,
    ids: &[ProductId],
) -> Result<HashMap<ProductId, Product>, LookupError> {
    Ok(catalogue.products(ids).await?.into_iter().collect())
}

/// The market in the database that prices a location: its own, or that of all others.
///
/// # Errors
///
/// [`LookupError::NoDefaultMarket`] when there is neither; others when the database fails.
pub async fn market<'a>(
    catalogue: &Catalogue,
    location: &'a Location,
) -> Result<FoundMarket<'a>, LookupError> {
    if let Some(market) = catalogue.market(location).await? {
        return Ok(FoundMarket::of(location, market));
    }
    let fallback = Location::fallback();
    let market = catalogue.market(&fallback).await?.ok_or(LookupError::NoDefaultMarket)?;
    Ok(FoundMarket { location: Cow::Owned(fallback), market })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use pricing_core::money::Ppm;
    use pricing_core::simulation::Simulation;
    use tokio::time::{Instant, sleep};

    use super::*;

    const SLOW: Simulation = Simulation { io: true, failure_rate: 0.0 };

    #[tokio::test(start_paused = true)]
    async fn a_miss_takes_as_long_as_the_slower_lookup_not_the_sum() {
        let start = Instant::now();
        let lookup = async |millis| {
            sleep(Duration::from_millis(millis)).await;
            Ok::<_, LookupError>(Input::Loaded(millis))
        };
        assert_eq!(
            both(&Breaker::new("the database"), lookup(50), lookup(40)).await.unwrap(),
            (Input::Loaded(50), Input::Loaded(40))
        );
        assert_eq!(start.elapsed().as_millis(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_miss_takes_20_to_50_ms() {
        for _ in 0..100 {
            let start = Instant::now();
            let product = unless_cached(None, SLOW.product_lookup(ready(Ok(1))));
            let market = unless_cached(None, SLOW.market_lookup(ready(Ok(2))));
            both(&Breaker::new("the database"), product, market).await.unwrap();
            assert!((20..=51).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_cached_is_not_looked_up() {
        let start = Instant::now();
        let market = unless_cached(Some(2), SLOW.market_lookup(ready(Ok(3))));
        let product = unless_cached(None, ready(Ok(1)));
        let inputs = both(&Breaker::new("the database"), product, market).await.unwrap();
        assert_eq!(inputs, (Input::Loaded(1), Input::Cached(2)));
        assert_eq!((inputs.0.loaded(), inputs.1.loaded()), (Some(&1), None));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_database_counts_as_away() {
        let database = Breaker::new("the database");
        let silent = both(&database, pending::<Result<Input<()>, _>>(), ready(Ok(Input::Cached(())))).await;
        assert!(matches!(silent, Err(LookupError::TimedOut)));
        assert!(database.is_open());
        both(&database, ready(Ok(Input::Cached(()))), ready(Ok(Input::Cached(())))).await.unwrap();
        assert!(database.is_open(), "it was not asked");
        let unknown = both(
            &database,
            ready(Err::<Input<()>, _>(LookupError::UnknownProduct)),
            ready(Ok(Input::Cached(()))),
        )
        .await;
        assert!(unknown.is_err() && !database.is_open(), "to know of nothing is an answer");
    }

    #[test]
    fn a_location_without_a_market_is_remembered_as_such() {
        let market = Market { multiplier: Ppm::ONE, version: 1 };
        let (mars, fallback) = (Location::parse("Mars").unwrap(), Location::fallback());
        let own = FoundMarket::of(&mars, market);
        let entries: Vec<_> = own.entries(&mars).collect();
        assert!(matches!(entries[..], [Entry::Market(location, _)] if *location == mars));
        let other = FoundMarket { location: Cow::Owned(fallback.clone()), market };
        let entries: Vec<_> = other.entries(&mars).collect();
        let [Entry::Market(whose, _), Entry::UnknownMarket(unknown)] = entries[..] else {
            panic!("{entries:?}")
        };
        assert_eq!((whose, unknown), (&fallback, &mars));
    }
}
