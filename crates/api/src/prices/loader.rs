//! Loads the inputs of prices from the database, behind its circuit breaker. Concurrent loads of the same key share
//! one lookup.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use metrics::Counter;
use moka::future::Cache;
use pricing_core::cache::{PriceCache, ReadAt};
use pricing_core::catalogue::Catalogue;
use pricing_core::ids::{Location, ProductId};
use pricing_core::simulation::Simulation;
use pricing_core::trace::redis_span;
use tokio::time::timeout;

use super::breaker::{Admission, Breaker, attempt};
use super::loaded::{Flight, LoadError, Loaded, PricingMarket, Products, Read};
use super::slots::{SLOT_TIMEOUT, Slots};
use crate::metrics::{Dependency, database_lookups};

/// Maximum time of a lookup, from when it has its slot. After it the database counts as down.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(1_750);
/// Time after which the database ends a statement: before its reader has given up on it. Two thirds of it are the
/// maximum wait for a connection.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Maximum time of the lookups of one read, waits for slots included.
pub(super) const LOAD_TIMEOUT: Duration = LOOKUP_TIMEOUT.saturating_add(SLOT_TIMEOUT);
/// Maximum time to learn the time of Redis.
const CLOCK_TIMEOUT: Duration = Duration::from_millis(250);
/// Products, and markets, whose lookups linger at most.
const LINGERING: u64 = 50_000;
/// How long a result serves later loads: those that asked the cache before it was filled.
const LINGER: Duration = Duration::from_secs(1);

/// The lookups of a miss.
pub(super) struct Loader {
    catalogue: Catalogue,
    simulation: Simulation,
    breaker: Breaker,
    cache: PriceCache,
    redis: Arc<Breaker>,
    slots: Slots,
    products: SingleFlight<Vec<ProductId>, Read<Products>>,
    markets: SingleFlight<Location, Read<PricingMarket>>,
    product_lookups: Counter,
    market_lookups: Counter,
}

impl Loader {
    /// Loads from this catalogue for this cache, whose breaker is `redis`. The metrics recorder must be installed
    /// already.
    pub(super) fn new(
        catalogue: Catalogue,
        simulation: Simulation,
        cache: PriceCache,
        redis: Arc<Breaker>,
    ) -> Self {
        Self {
            catalogue,
            simulation,
            breaker: Breaker::new(Dependency::Database),
            cache,
            redis,
            slots: Slots::for_lookups(),
            products: SingleFlight::new(LINGERING, Vec::len),
            markets: SingleFlight::new(LINGERING, |_| 1),
            product_lookups: database_lookups("product"),
            market_lookups: database_lookups("market"),
        }
    }

    /// Whether the last lookups found the database down.
    pub(super) fn is_down(&self) -> bool {
        self.breaker.is_open()
    }

    /// Whether a read may ask the database.
    pub(super) fn admission(&self) -> Admission {
        self.breaker.admission()
    }

    /// Loads products, whose ids must be sorted and unique, and the market of a location, at the same time:
    /// together they take as long as the slower one. The breaker learns whether the database is down.
    ///
    /// # Errors
    ///
    /// When either fails.
    pub(super) async fn load(
        &self,
        products: &[ProductId],
        location: Option<&Location>,
    ) -> Result<Loaded, Arc<LoadError>> {
        let read_at = self.read_at().shared(); // asked once, by the first lookup that is made
        let products = async {
            match products {
                [] => Ok(None),
                _ => self.products(products, read_at.clone()).await.map(Some),
            }
        };
        let market = async {
            match location {
                Some(location) => self.market(location, read_at.clone()).await.map(Some),
                None => Ok(None),
            }
        };
        let (products, market) = concurrently(&self.breaker, products, market).await?;
        Ok(Loaded { products, market })
    }

    async fn products(
        &self,
        ids: &[ProductId],
        read_at: impl Future<Output = Option<ReadAt>>,
    ) -> Result<Flight<Read<Products>>, Arc<LoadError>> {
        let lookup = in_slot(&self.slots, async {
            self.product_lookups.increment(1);
            let rows = self.catalogue.products(ids).await?;
            let mut found: HashMap<_, _> = rows.into_iter().map(|row| (row.id, row.product)).collect();
            Ok(ids.iter().map(|id| found.remove(id)).collect())
        });
        let lookup = read(read_at, self.simulation.product_lookup(lookup));
        let flight = self.products.get_or_load(ids, lookup).await?;
        if ids.len() > 1 {
            self.products.forget(ids).await; // who learns of a newer one of them could not find it
        }
        Ok(flight)
    }

    /// Drops what lingers of these products and this market: Redis has just told what is current, so it may be older.
    pub(super) async fn drop_lingering(
        &self,
        products: impl Iterator<Item = &ProductId>,
        market: Option<&Location>,
    ) {
        for id in products {
            self.products.forget(slice::from_ref(id)).await;
        }
        if let Some(location) = market {
            self.markets.forget(location).await;
        }
    }

    async fn market(
        &self,
        location: &Location,
        read_at: impl Future<Output = Option<ReadAt>>,
    ) -> Result<Flight<Read<PricingMarket>>, Arc<LoadError>> {
        let lookup = in_slot(&self.slots, async {
            self.market_lookups.increment(1);
            if let Some(market) = self.catalogue.market(location).await? {
                return Ok(PricingMarket { market, is_fallback: false });
            }
            let market = self.catalogue.market(Location::fallback()).await?;
            let market = market.ok_or(LoadError::NoDefaultMarket)?;
            Ok(PricingMarket { market, is_fallback: true })
        });
        self.markets.get_or_load(location, read(read_at, self.simulation.market_lookup(lookup))).await
    }

    /// The time of Redis; `None` if it does not tell.
    async fn read_at(&self) -> Option<ReadAt> {
        match self.redis.is_open() {
            true => None,
            false => attempt(Some(CLOCK_TIMEOUT), redis_span("TIME"), self.cache.read_at()).await.ok(),
        }
    }
}

/// Makes a lookup, and asks Redis for its time meanwhile.
async fn read<T>(
    read_at: impl Future<Output = Option<ReadAt>>,
    lookup: impl Future<Output = Result<T, LoadError>>,
) -> Result<Read<T>, LoadError> {
    let (read_at, rows) = tokio::join!(read_at, lookup);
    Ok(Read { rows: rows?, read_at })
}

/// Makes a lookup when it has a slot, for at most [`LOOKUP_TIMEOUT`] from then on: the wait for a slot is our own load,
/// and says nothing about the database.
async fn in_slot<T>(
    slots: &Slots,
    lookup: impl Future<Output = Result<T, LoadError>>,
) -> Result<T, LoadError> {
    let _slot = slots.acquire().await?;
    timeout(LOOKUP_TIMEOUT, lookup).await.unwrap_or(Err(LoadError::TimedOut))
}

/// Waits for two lookups at the same time, for at most [`LOAD_TIMEOUT`]. The breaker learns whether the database
/// is down: from a failure, and from a result that is new.
///
/// A lookup ends by its own time-out before that, unless the read that made it was given up and this one had to begin
/// again: that says nothing about the database.
async fn concurrently<P, M>(
    breaker: &Breaker,
    products: impl Future<Output = Result<Option<Flight<P>>, Arc<LoadError>>>,
    market: impl Future<Output = Result<Option<Flight<M>>, Arc<LoadError>>>,
) -> Result<(Option<Flight<P>>, Option<Flight<M>>), Arc<LoadError>> {
    let lookups = async { tokio::try_join!(products, market) };
    let loaded = timeout(LOAD_TIMEOUT, lookups).await;
    let loaded = loaded.unwrap_or_else(|_| Err(Arc::new(LoadError::Busy)));
    match &loaded {
        Ok((products, market)) => {
            let is_new =
                products.as_ref().is_some_and(Flight::is_new) || market.as_ref().is_some_and(Flight::is_new);
            if is_new {
                breaker.record_success();
            }
        }
        Err(error) if error.is_unavailable() => breaker.record_failure(error),
        Err(error) if error.is_overload() => {}
        Err(_) => breaker.record_success(),
    }
    loaded
}

/// Loads of one kind, by key.
///
/// **Single-flight**: of all concurrent callers with the same key one makes the load, and the others share its
/// result. If it is dropped or fails, the next caller makes the load. Failures are not kept.
struct SingleFlight<K, V> {
    results: Cache<K, V>,
}

impl<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> SingleFlight<K, V> {
    /// Keeps results of a total weight of at most `max_weight`.
    fn new(max_weight: u64, weigh: impl Fn(&K) -> usize + Send + Sync + 'static) -> Self {
        let weigher = move |key: &K, _: &V| u32::try_from(weigh(key)).unwrap_or(u32::MAX);
        let results = Cache::builder().max_capacity(max_weight).weigher(weigher).time_to_live(LINGER);
        Self { results: results.build() }
    }

    /// The result of `load`, or of another caller's load of the same key.
    ///
    /// # Errors
    ///
    /// When the load fails.
    async fn get_or_load<Q, E: Send + Sync + 'static>(
        &self,
        key: &Q,
        load: impl Future<Output = Result<V, E>>,
    ) -> Result<Flight<V>, Arc<E>>
    where
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        K: Borrow<Q>,
    {
        if let Some(value) = self.results.get(key).await {
            return Ok(Flight::Lingering(value));
        }
        let entry = self.results.entry_by_ref(key).or_try_insert_with(load).await?;
        let is_ours = entry.is_fresh();
        let value = entry.into_value();
        Ok(if is_ours { Flight::Led(value) } else { Flight::Joined(value) })
    }

    /// Drops the result of a load that has ended.
    async fn forget<Q>(&self, key: &Q)
    where
        Q: Hash + Eq + ?Sized,
        K: Borrow<Q>,
    {
        if self.results.contains_key(key) {
            self.results.invalidate(key).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;
    use pricing_core::catalogue::CatalogueError;
    use tokio::time::{Instant, sleep};

    use super::*;

    const SLOW: Simulation = Simulation { io: true, failure_rate: 0.0 };

    type Lookup<T> = Result<Option<Flight<T>>, Arc<LoadError>>;

    fn breaker() -> Breaker {
        Breaker::new(Dependency::Database)
    }

    async fn led<T>(value: T) -> Lookup<T> {
        Ok(Some(Flight::Led(value)))
    }

    /// A lookup in a slot.
    async fn looked_up<T>(slots: &Slots, lookup: impl Future<Output = Result<T, LoadError>>) -> Lookup<T> {
        in_slot(slots, lookup).await.map(|rows| Some(Flight::Led(rows))).map_err(Arc::new)
    }

    /// A lookup that the database never answers.
    async fn silent() -> Lookup<()> {
        looked_up(&Slots::for_lookups(), pending()).await
    }

    #[test]
    fn a_wait_for_a_connection_and_a_statement_end_before_the_lookup() {
        assert!(Catalogue::acquire_timeout(STATEMENT_TIMEOUT) < STATEMENT_TIMEOUT);
        assert!(STATEMENT_TIMEOUT < LOOKUP_TIMEOUT && LOOKUP_TIMEOUT < LOAD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_a_slot_takes_nothing_of_the_databases_time() {
        let (breaker, slots) = (breaker(), Slots::for_lookups());
        let held = slots.all().await;
        let release = async {
            sleep(SLOT_TIMEOUT * 9 / 10).await;
            drop(held);
        };
        let slow = || {
            looked_up(&slots, async {
                sleep(LOOKUP_TIMEOUT * 9 / 10).await;
                Ok(1)
            })
        };
        let start = Instant::now();
        let (loaded, ()) = tokio::join!(concurrently(&breaker, slow(), slow()), release);
        assert_eq!(loaded.unwrap(), (Some(Flight::Led(1)), Some(Flight::Led(1))));
        assert!(start.elapsed() > LOOKUP_TIMEOUT && !breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_without_a_slot_or_begun_again_too_late_opens_no_breaker() {
        let (breaker, slots) = (breaker(), Slots::for_lookups());
        let _held = slots.all().await;
        let no_slot = || looked_up(&slots, ready(Ok(1)));
        let refused = concurrently(&breaker, no_slot(), no_slot()).await.unwrap_err();
        assert!(matches!(*refused, LoadError::Busy) && !breaker.is_open());
        let late = concurrently(&breaker, pending::<Lookup<()>>(), led(1)).await.unwrap_err();
        assert!(matches!(*late, LoadError::Busy) && !breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_miss_takes_as_long_as_the_slower_lookup_not_the_sum() {
        let start = Instant::now();
        let lookup = async |millis| {
            sleep(Duration::from_millis(millis)).await;
            led(millis).await
        };
        let loaded = concurrently(&breaker(), lookup(50), lookup(40)).await.unwrap();
        assert_eq!(loaded, (Some(Flight::Led(50)), Some(Flight::Led(40))));
        assert_eq!(start.elapsed().as_millis(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_miss_takes_20_to_50_ms() {
        for _ in 0..100 {
            let start = Instant::now();
            let (product, market) = (SLOW.product_lookup(led(1)), SLOW.market_lookup(led(2)));
            concurrently(&breaker(), product, market).await.unwrap();
            assert!((20..=51).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_database_opens_its_breaker_and_an_answer_closes_it() {
        let (breaker, none) = (breaker(), || ready(Ok(None::<Flight<()>>)));
        let timed_out = concurrently(&breaker, silent(), none()).await.unwrap_err();
        assert!(matches!(*timed_out, LoadError::TimedOut));
        assert!(breaker.is_open());
        concurrently(&breaker, none(), none()).await.unwrap();
        assert!(breaker.is_open(), "it was not asked");
        let unknown = concurrently(&breaker, led(None::<()>), none()).await;
        assert!(unknown.is_ok() && !breaker.is_open(), "that a product does not exist is an answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lingering_result_does_not_close_the_breaker() {
        let (breaker, none) = (breaker(), || ready(Ok(None::<Flight<()>>)));
        let _ = concurrently(&breaker, silent(), none()).await;
        for (flight, is_open) in [(Flight::Lingering(1), true), (Flight::Joined(1), false)] {
            concurrently(&breaker, ready(Ok(Some(flight.clone()))), none()).await.unwrap();
            assert_eq!(breaker.is_open(), is_open, "{flight:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_of_a_database_that_answers_opens_no_breaker() {
        let breaker = breaker();
        let failed = async || -> Lookup<()> { Err(Arc::new(LoadError::NoDefaultMarket)) };
        assert!(concurrently(&breaker, failed(), failed()).await.is_err());
        assert!(!breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn an_overload_of_our_own_neither_opens_nor_closes_the_breaker() {
        let (breaker, none) = (breaker(), || ready(Ok(None::<Flight<()>>)));
        let full = || LoadError::Catalogue(CatalogueError::PoolFull);
        for overload in [|| LoadError::Busy, full] {
            let overloaded = async || -> Lookup<()> { Err(Arc::new(overload())) };
            assert!(concurrently(&breaker, overloaded(), none()).await.is_err());
            assert!(!breaker.is_open());
        }
        let _ = concurrently(&breaker, silent(), none()).await;
        let busy = async || -> Lookup<()> { Err(Arc::new(LoadError::Busy)) };
        assert!(concurrently(&breaker, busy(), none()).await.is_err());
        assert!(breaker.is_open(), "it was not asked");
    }

    fn single_flight() -> SingleFlight<String, u32> {
        SingleFlight::new(10, |_| 1)
    }

    #[tokio::test]
    async fn concurrent_callers_share_one_load() {
        let (single_flight, loads) = (single_flight(), AtomicU32::new(0));
        let get = || {
            single_flight.get_or_load("P-1", async {
                tokio::task::yield_now().await;
                Ok::<_, ()>(loads.fetch_add(1, Ordering::Relaxed))
            })
        };
        let flights = join_all((0..1_000).map(|_| get())).await;
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        let count =
            |expected: &Flight<u32>| flights.iter().flatten().filter(|flight| *flight == expected).count();
        assert_eq!((count(&Flight::Led(0)), count(&Flight::Joined(0))), (1, 999));
        let late = get().await.unwrap();
        assert_eq!(late, Flight::Lingering(0));
        assert!(!late.is_new() && late.to_fill().is_some());
    }

    #[tokio::test]
    async fn a_load_that_fails_or_is_dropped_is_not_kept() {
        let single_flight = single_flight();
        assert_eq!(*single_flight.get_or_load("P-1", ready(Err("gone"))).await.unwrap_err(), "gone");

        let mut dropped = Box::pin(single_flight.get_or_load("P-1", pending::<Result<_, ()>>()));
        assert!(futures_util::poll!(&mut dropped).is_pending());
        let mut waiting = Box::pin(single_flight.get_or_load("P-1", ready(Ok::<_, ()>(2))));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(dropped);
        assert_eq!(waiting.await.unwrap(), Flight::Led(2));
    }
}
