//! The lookups of a miss, each made once however many reads miss at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use moka::future::Cache;
use pricing_core::cache::Entry;
use pricing_core::catalogue::{Catalogue, CatalogueError};
use pricing_core::ids::{Location, ProductId};
use pricing_core::price::{Market, Product};
use pricing_core::simulation::Simulation;
use tokio::time::timeout;

use super::breaker::Breaker;
use crate::metrics::database_lookups;

/// Longest the lookups of one read may take; then the database counts as away.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer serves other reads: those that asked the cache before it was filled.
const LINGER: Duration = Duration::from_secs(1);
/// Lookups of one product or market that linger at most.
const LINGERING: u64 = 10_000;
/// Lookups of many products that linger at most.
const LINGERING_BATCHES: u64 = 100;

/// Why a lookup failed.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// Not even the market that all other locations fall back to exists: the catalogue is not complete.
    #[error("the database has no market \"default\"")]
    NoDefaultMarket,
    /// The database is away or holds an invalid row.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The database did not answer in time.
    #[error("the database did not answer in time")]
    TimedOut,
    /// The database was not asked, for it has just failed.
    #[error("the database is away")]
    NotAsked,
}

impl LookupError {
    /// Whether the database is away, rather than wrong in what it says. Its breaker has logged that.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NotAsked | Self::TimedOut | Self::Catalogue(CatalogueError::Database(_)))
    }
}

/// The market that prices a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundMarket {
    /// The market.
    pub market: Market,
    /// Whether it is that of [`Location::fallback`], for want of one of the location's own.
    pub is_fallback: bool,
}

impl FoundMarket {
    /// What the cache should know after this was found for `asked`.
    pub fn entries<'e>(&'e self, asked: &'e Location) -> impl Iterator<Item = Entry<'e>> {
        let whose = if self.is_fallback { Location::fallback() } else { asked };
        let unknown = self.is_fallback.then_some(Entry::UnknownMarket(asked));
        [Entry::Market(whose, &self.market)].into_iter().chain(unknown)
    }
}

/// An input of a price, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<T> {
    /// Fresh from the cache.
    Cached(T),
    /// From the database.
    Loaded(T),
    /// From the database, by the lookup of another read under way, which tells the cache.
    Shared(T),
}

impl<T> Input<T> {
    /// The input.
    pub fn value(&self) -> &T {
        let (Self::Cached(value) | Self::Loaded(value) | Self::Shared(value)) = self;
        value
    }

    /// The input if this read is to tell the cache.
    pub fn loaded(&self) -> Option<&T> {
        match self {
            Self::Cached(_) | Self::Shared(_) => None,
            Self::Loaded(value) => Some(value),
        }
    }

    /// Whether it comes from the cache.
    pub fn is_cached(&self) -> bool {
        matches!(self, Self::Cached(_))
    }
}

/// Lookups of one kind, by what is asked.
///
/// **Single-flight**: of all reads that ask the same at the same time one asks the database, and the others
/// share its answer; if it is dropped or fails, the next one tries. An answer may be one second old.
struct Flights<K, V> {
    answers: Cache<K, V>,
    made: Counter,
}

impl<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> Flights<K, V> {
    fn new(of: &'static str, most: u64) -> Self {
        let answers = Cache::builder().max_capacity(most).time_to_live(LINGER).build();
        Self { answers, made: database_lookups(of) }
    }

    async fn join<Q>(
        &self,
        asked: &Q,
        lookup: impl Future<Output = Result<V, LookupError>>,
    ) -> Result<Input<V>, Arc<LookupError>>
    where
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        K: std::borrow::Borrow<Q>,
    {
        // One that has ended already came too early for the cache to keep it: this read tells the cache again.
        if let Some(value) = self.answers.get(asked).await {
            return Ok(Input::Loaded(value));
        }
        let counted = async {
            self.made.increment(1);
            lookup.await
        };
        let answer = self.answers.entry_by_ref(asked).or_try_insert_with(counted).await?;
        let is_ours = answer.is_fresh();
        let value = answer.into_value();
        Ok(if is_ours { Input::Loaded(value) } else { Input::Shared(value) })
    }
}

/// What reads ask the database.
pub struct Lookups {
    catalogue: Catalogue,
    simulation: Simulation,
    products: Flights<ProductId, Option<Product>>,
    batches: Flights<Vec<ProductId>, Arc<HashMap<ProductId, Product>>>,
    markets: Flights<Location, FoundMarket>,
}

impl Lookups {
    /// The lookups in this catalogue. The metrics recorder must be installed already.
    pub fn new(catalogue: Catalogue, simulation: Simulation) -> Self {
        Self {
            catalogue,
            simulation,
            products: Flights::new("product", LINGERING),
            batches: Flights::new("products", LINGERING_BATCHES),
            markets: Flights::new("market", LINGERING),
        }
    }

    /// The product in the database, `None` when it does not exist.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn product(&self, id: &ProductId) -> Result<Input<Option<Product>>, Arc<LookupError>> {
        let lookup = async { Ok(self.catalogue.product(id).await?) };
        self.products.join(id, self.simulation.product_lookup(lookup)).await
    }

    /// Those of these products that are in the database. Sorted ids are shared by all who ask for the same.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn products(
        &self,
        ids: &Vec<ProductId>,
    ) -> Result<Input<Arc<HashMap<ProductId, Product>>>, Arc<LookupError>> {
        let lookup = async { Ok(Arc::new(self.catalogue.products(ids).await?.into_iter().collect())) };
        self.batches.join(ids, self.simulation.product_lookup(lookup)).await
    }

    /// The market in the database that prices a location: its own, or that of all others.
    ///
    /// # Errors
    ///
    /// [`LookupError::NoDefaultMarket`] when there is neither; others when the database fails.
    pub async fn market(&self, location: &Location) -> Result<Input<FoundMarket>, Arc<LookupError>> {
        let lookup = async {
            if let Some(market) = self.catalogue.market(location).await? {
                return Ok(FoundMarket { market, is_fallback: false });
            }
            let market = self.catalogue.market(Location::fallback()).await?;
            market.map(|market| FoundMarket { market, is_fallback: true }).ok_or(LookupError::NoDefaultMarket)
        };
        self.markets.join(location, self.simulation.market_lookup(lookup)).await
    }
}

/// The cached value if there is one; looks it up otherwise.
///
/// # Errors
///
/// When the lookup fails.
pub async fn unless_cached<T>(
    cached: Option<T>,
    lookup: impl Future<Output = Result<Input<T>, Arc<LookupError>>>,
) -> Result<Input<T>, Arc<LookupError>> {
    match cached {
        Some(value) => Ok(Input::Cached(value)),
        None => lookup.await,
    }
}

/// Runs two lookups at once: together they take as long as the slower one, and `wait` at most. `database`
/// learns whether the database is there.
///
/// # Errors
///
/// The first failure, or [`LookupError::TimedOut`].
pub async fn both<P, M>(
    database: &Breaker,
    wait: Duration,
    product: impl Future<Output = Result<Input<P>, Arc<LookupError>>>,
    market: impl Future<Output = Result<Input<M>, Arc<LookupError>>>,
) -> Result<(Input<P>, Input<M>), Arc<LookupError>> {
    let lookups = async { tokio::try_join!(product, market) };
    let found = timeout(wait, lookups).await.unwrap_or_else(|_| Err(Arc::new(LookupError::TimedOut)));
    match &found {
        Err(error) if error.is_absence() => database.open(error),
        Ok((product, market)) if product.is_cached() && market.is_cached() => {} // it was not asked
        _ => database.close(),
    }
    found
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;
    use pricing_core::money::Ppm;
    use tokio::time::{Instant, sleep};

    use super::*;

    const SLOW: Simulation = Simulation { io: true, failure_rate: 0.0 };

    fn breaker() -> Breaker {
        Breaker::new("the database", "database")
    }

    async fn loaded<T>(value: T) -> Result<Input<T>, Arc<LookupError>> {
        Ok(Input::Loaded(value))
    }

    #[tokio::test(start_paused = true)]
    async fn a_miss_takes_as_long_as_the_slower_lookup_not_the_sum() {
        let start = Instant::now();
        let lookup = async |millis| {
            sleep(Duration::from_millis(millis)).await;
            loaded(millis).await
        };
        assert_eq!(
            both(&breaker(), LOOKUP_TIMEOUT, lookup(50), lookup(40)).await.unwrap(),
            (Input::Loaded(50), Input::Loaded(40))
        );
        assert_eq!(start.elapsed().as_millis(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_miss_takes_20_to_50_ms() {
        for _ in 0..100 {
            let start = Instant::now();
            let product = unless_cached(None, SLOW.product_lookup(loaded(1)));
            let market = unless_cached(None, SLOW.market_lookup(loaded(2)));
            both(&breaker(), LOOKUP_TIMEOUT, product, market).await.unwrap();
            assert!((20..=51).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_cached_is_not_looked_up() {
        let start = Instant::now();
        let market = unless_cached(Some(2), SLOW.market_lookup(loaded(3)));
        let product = unless_cached(None, loaded(1));
        let inputs = both(&breaker(), LOOKUP_TIMEOUT, product, market).await.unwrap();
        assert_eq!(inputs, (Input::Loaded(1), Input::Cached(2)));
        assert_eq!((inputs.0.loaded(), inputs.1.loaded()), (Some(&1), None));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_database_counts_as_away() {
        let (database, cached) = (breaker(), || ready(Ok(Input::Cached(()))));
        let silent = pending::<Result<Input<()>, _>>();
        let silent = both(&database, LOOKUP_TIMEOUT, silent, cached()).await.unwrap_err();
        assert!(matches!(*silent, LookupError::TimedOut));
        assert!(database.is_open());
        both(&database, LOOKUP_TIMEOUT, cached(), cached()).await.unwrap();
        assert!(database.is_open(), "it was not asked");
        let unknown = both(&database, LOOKUP_TIMEOUT, loaded(None::<()>), cached()).await;
        assert!(unknown.is_ok() && !database.is_open(), "to know of nothing is an answer");
    }

    #[tokio::test]
    async fn many_that_ask_the_same_at_once_make_one_lookup() {
        let (flights, made) = (Flights::<ProductId, u32>::new("product", 10), AtomicU32::new(0));
        let id = ProductId::parse("P-1").unwrap();
        let ask = || {
            flights.join(&id, async {
                tokio::task::yield_now().await;
                Ok(made.fetch_add(1, Ordering::Relaxed))
            })
        };
        let answers = join_all((0..1_000).map(|_| ask())).await;
        assert_eq!(made.load(Ordering::Relaxed), 1);
        let ours = answers.iter().filter(|answer| matches!(answer, Ok(Input::Loaded(0)))).count();
        let shared = answers.iter().filter(|answer| matches!(answer, Ok(Input::Shared(0)))).count();
        assert_eq!((ours, shared), (1, 999));
        assert_eq!(ask().await.unwrap(), Input::Loaded(0), "it lingers for those who come a little late");
    }

    #[tokio::test]
    async fn a_lookup_that_fails_or_is_dropped_is_not_kept() {
        let flights = Flights::<ProductId, u32>::new("product", 10);
        let id = ProductId::parse("P-1").unwrap();
        let failed = flights.join(&id, ready(Err(LookupError::NoDefaultMarket))).await.unwrap_err();
        assert!(matches!(*failed, LookupError::NoDefaultMarket));

        let mut dropped = Box::pin(flights.join(&id, pending()));
        assert!(futures_util::poll!(&mut dropped).is_pending());
        let mut waiting = Box::pin(flights.join(&id, ready(Ok(2))));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(dropped);
        assert_eq!(waiting.await.unwrap(), Input::Loaded(2));
    }

    #[test]
    fn a_location_without_a_market_is_remembered_as_such() {
        let market = Market { multiplier: Ppm::ONE, version: 1 };
        let mars = Location::parse("Mars").unwrap();
        let own = FoundMarket { market, is_fallback: false };
        let entries: Vec<_> = own.entries(&mars).collect();
        assert!(matches!(entries[..], [Entry::Market(location, _)] if *location == mars));
        let other = FoundMarket { market, is_fallback: true };
        let entries: Vec<_> = other.entries(&mars).collect();
        let [Entry::Market(whose, _), Entry::UnknownMarket(unknown)] = entries[..] else {
            panic!("{entries:?}")
        };
        assert_eq!((whose, unknown), (Location::fallback(), &mars));
    }
}
