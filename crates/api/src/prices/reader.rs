//! The read path, for one product and for many.

use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pricing_core::cache::{Cached, CachedInputs, Entry, PriceCache, ReadAt, Stored};
use pricing_core::catalogue::Catalogue;
use pricing_core::ids::{Location, ProductId};
use pricing_core::price::{Explanation, Market, Membership, PriceDetail, Product, Unpriced, explain, price};
use pricing_core::simulation::Simulation;
use pricing_core::trace::redis_span;
use smallvec::smallvec;
use tokio::sync::OwnedSemaphorePermit;

use super::breaker::{Breaker, attempt, skipped};
use super::early_refresh::EarlyRefreshes;
use super::loaded::LoadError;
use super::loader::{LOAD_TIMEOUT, Loader};
use super::plan::{CachedRead, Coverage, Input, Inputs, Plan, plan};
use super::slots::Slots;
use crate::config::MIN_REQUEST_TIMEOUT_SECONDS;
use crate::metrics::{Dependency, ReadMetrics};
use crate::observe::set_attribute;

/// Cache timeout of a read, connecting included. The database answers instead after it.
const CACHE_TIMEOUT: Duration = Duration::from_millis(250);
/// Cache timeout of a read when the database cannot serve as fallback.
const PATIENT_CACHE_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest for a read of one product: the cache, asked twice if the location has no market; a load that finds the
/// database down; the cache again.
const LONGEST_READ: Duration = CACHE_TIMEOUT
    .saturating_mul(2)
    .saturating_add(LOAD_TIMEOUT)
    .saturating_add(PATIENT_CACHE_TIMEOUT.saturating_mul(2));
const _: () = assert!(LONGEST_READ.as_millis() < MIN_REQUEST_TIMEOUT_SECONDS as u128 * 1_000);

/// Maximum products of a read that asks Redis on the connection for single reads. A [`BatchSlot`] goes by the length of
/// the body instead, before the products are known.
///
/// [`BatchSlot`]: super::batch_slot::BatchSlot
const FEW_PRODUCTS: usize = 16;

/// What a price depends on besides the product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Customer {
    pub(crate) location: Location,
    pub(crate) membership: Membership,
}

/// The price of one product for one customer, with an explanation if it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Priced<E = ()> {
    pub(crate) detail: PriceDetail,
    pub(crate) explanation: E,
    /// Whether product and market both came from the cache.
    pub(crate) is_cached: bool,
    /// Whether one of them was stale.
    pub(crate) is_stale: bool,
    /// Time since the older of the two was written to the cache; zero for what was just loaded.
    pub(crate) age: Duration,
}

/// Why a price is what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explained {
    pub(crate) explanation: Explanation,
    /// Whose market it was priced in.
    pub(crate) location: Location,
}

/// What a read says about one product: its price, or why the market has none for it; `None` if it does not exist.
pub(crate) type Quote<E = ()> = Option<Result<Priced<E>, Unpriced>>;

/// Why there is no price.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The product does not exist.
    #[error("the product does not exist")]
    UnknownProduct,
    /// The market has no price for the product.
    #[error("the market {market} has no price for it")]
    Unpriced {
        /// Whose market it is.
        market: Location,
        /// Why it has none.
        #[source]
        reason: Unpriced,
    },
    /// The database failed, and the cache has nothing in its place.
    #[error("the database failed, and the cache has nothing in its place")]
    Unavailable(#[source] Arc<LoadError>),
}

/// Prices products for customers: from the cache, on a miss from the database, in an outage of either from the
/// other.
///
/// Redis that is down makes a read slower, not wrong. A database that is down makes it stale, or refused if the
/// cache has no entry: whether a product exists is unknown then, so an answer without it would be wrong.
pub(crate) struct PriceReader {
    cache: PriceCache,
    patient_cache: PriceCache,
    redis: Arc<Breaker>,
    loader: Arc<Loader>,
    batches: Slots,
    early_refreshes: EarlyRefreshes,
    metrics: ReadMetrics,
}

impl PriceReader {
    /// A reader of this cache, of the same cache with a longer time-out, and of the catalogue. The metrics recorder
    /// must be installed already.
    pub(crate) fn new(
        cache: PriceCache,
        patient_cache: PriceCache,
        catalogue: Catalogue,
        simulation: Simulation,
    ) -> Self {
        let redis = Arc::new(Breaker::new(Dependency::Redis));
        Self {
            loader: Arc::new(Loader::new(catalogue, simulation, cache.clone(), redis.clone())),
            cache,
            patient_cache,
            redis,
            batches: Slots::for_batches(),
            early_refreshes: EarlyRefreshes::default(),
            metrics: ReadMetrics::new(),
        }
    }

    /// Prices a product for a customer.
    ///
    /// # Errors
    ///
    /// When the product does not exist or has no price in the market, or neither the database nor the cache has it now.
    pub(crate) async fn price(
        self: &Arc<Self>,
        id: &ProductId,
        customer: &Customer,
    ) -> Result<Priced, ReadError> {
        let inputs = self.inputs(slice::from_ref(id), &customer.location).await?;
        only(self.priced(&inputs, customer), &inputs, customer)
    }

    /// Prices a product for a customer, and explains the price.
    ///
    /// # Errors
    ///
    /// When [`price`](Self::price) fails.
    pub(crate) async fn explain(
        self: &Arc<Self>,
        id: &ProductId,
        customer: &Customer,
    ) -> Result<Priced<Explained>, ReadError> {
        let inputs = self.inputs(slice::from_ref(id), &customer.location).await?;
        only(self.explained(&inputs, customer), &inputs, customer)
    }

    /// Waits for the right to serve a large batch, to be held until it is answered.
    ///
    /// # Errors
    ///
    /// When too many are under way.
    pub(crate) async fn batch_slot(&self) -> Result<OwnedSemaphorePermit, ReadError> {
        self.batches.acquire().await.map_err(|busy| ReadError::Unavailable(Arc::new(busy)))
    }

    /// Prices products for a customer, in order.
    ///
    /// # Errors
    ///
    /// When neither the database nor the cache has one of them now.
    pub(crate) async fn prices(
        self: &Arc<Self>,
        ids: &[ProductId],
        customer: &Customer,
    ) -> Result<Vec<Quote>, ReadError> {
        let inputs = self.inputs(ids, &customer.location).await?;
        Ok(self.priced(&inputs, customer).collect())
    }

    /// Prices products for a customer, in order, and explains the prices.
    ///
    /// # Errors
    ///
    /// When [`prices`](Self::prices) fails.
    pub(crate) async fn explain_all(
        self: &Arc<Self>,
        ids: &[ProductId],
        customer: &Customer,
    ) -> Result<Vec<Quote<Explained>>, ReadError> {
        let inputs = self.inputs(ids, &customer.location).await?;
        Ok(self.explained(&inputs, customer).collect())
    }

    /// The read path: near-cache → cache → plan → (miss: products ‖ market from the database → fill the cache) → inputs.
    async fn inputs(self: &Arc<Self>, ids: &[ProductId], location: &Location) -> Result<Inputs, ReadError> {
        if let Some(near) = self.near(ids, location) {
            self.refresh_early(ids, &near);
            return Ok(Inputs::cached(&near));
        }
        let mut is_patient = self.loader.is_down();
        loop {
            let cached = self.cached(ids, location, is_patient).await;
            let coverage = cached.coverage();
            let error = match plan(coverage, cached.has_answered, || self.loader.admission()) {
                Plan::Serve => {
                    self.refresh_early(ids, &cached);
                    return Ok(Inputs::cached(&cached));
                }
                Plan::Load => match Box::pin(self.load(ids, &cached)).await {
                    Ok(inputs) => return Ok(inputs),
                    Err(error) => error,
                },
                Plan::ServeStale { probe } => {
                    if probe {
                        self.probe(ids, &cached);
                    }
                    skipped(Dependency::Database);
                    Arc::new(LoadError::Skipped)
                }
                Plan::Refuse => {
                    skipped(Dependency::Database);
                    Arc::new(LoadError::Skipped)
                }
            };
            if coverage == Coverage::Stale {
                if !error.is_unavailable() && !error.is_overload() {
                    tracing::warn!(%error, "cannot load prices: stale entries are served");
                }
                self.metrics.without_database.increment(1);
                return Ok(Inputs::cached(&cached));
            }
            if is_patient || !self.loader.is_down() {
                return Err(ReadError::Unavailable(error));
            }
            // This read found the database down. Redis may only have been slow, so ask it with a longer time-out.
            is_patient = true;
        }
    }

    /// The entries, if the near-cache has all of them.
    fn near<'l>(&self, ids: &[ProductId], location: &'l Location) -> Option<CachedRead<'l>> {
        let CachedInputs { products, market } = self.cache.near(ids, location)?;
        self.metrics.count(&products, &market);
        let read = CachedRead { products, market, location, has_answered: true };
        if read.market != Cached::Negative || !read.needs_market() {
            return Some(read);
        }
        let fallback = Location::fallback();
        let market = self.cache.near(&[], fallback)?.market;
        Some(CachedRead { market, location: fallback, ..read })
    }

    /// The cache's entries, in one round trip; in a second one when the location is known to have no market.
    async fn cached<'l>(
        &self,
        ids: &[ProductId],
        location: &'l Location,
        is_patient: bool,
    ) -> CachedRead<'l> {
        let Some(CachedInputs { products, market }) = self.get(ids, location, is_patient).await else {
            self.metrics.count_outage(ids.len());
            let products = smallvec![Cached::Absent; ids.len()];
            return CachedRead { products, market: Cached::Absent, location, has_answered: false };
        };
        self.metrics.count(&products, &market);
        let current = ids.iter().zip(&products).filter(|(_, product)| product.is_current()).map(|(id, _)| id);
        self.loader.learnt(current, market.is_current().then_some(location)).await;
        let mut cached = CachedRead { products, market, location, has_answered: true };
        if cached.market == Cached::Negative && cached.needs_market() {
            let fallback = Location::fallback();
            let inputs = Box::pin(self.get(&[], fallback, is_patient)).await;
            inputs.iter().for_each(|inputs| self.metrics.count(&[], &inputs.market));
            cached.market = inputs.map_or(Cached::Absent, |inputs| inputs.market);
            cached.location = fallback;
        }
        cached
    }

    /// Asks Redis through its breaker; `None` while it is down. A patient read asks even if the breaker is open.
    async fn get(&self, ids: &[ProductId], location: &Location, is_patient: bool) -> Option<CachedInputs> {
        let span = || redis_span("HMGET price inputs");
        let (cache, max) = self.cache_for(ids.len(), is_patient);
        // Boxed: the future is large, and every layer around it would move it.
        let get = Box::pin(cache.get(ids, location));
        match is_patient {
            true => self.redis.call_unconditionally(max, span(), get).await,
            false => self.redis.call(max, span, get).await,
        }
    }

    /// The cache to ask, and for how long. Reads of many products have the connection of patient reads: single reads
    /// do not wait behind them, and Redis may take longer for them than for one product.
    fn cache_for(&self, products: usize, is_patient: bool) -> (&PriceCache, Duration) {
        match is_patient || products > FEW_PRODUCTS {
            true => (&self.patient_cache, PATIENT_CACHE_TIMEOUT),
            false => (&self.cache, CACHE_TIMEOUT),
        }
    }

    /// Loads what the cache has not fresh, and fills the cache with it.
    async fn load(&self, ids: &[ProductId], cached: &CachedRead<'_>) -> Result<Inputs, Arc<LoadError>> {
        let (missed, began) = (cached.missed(ids), Instant::now());
        let loaded = self.loader.load(&missed, cached.missed_location()).await?;
        if loaded.is_new() {
            self.early_refreshes.loaded_within(began.elapsed());
        }

        let products = loaded.products.as_ref().and_then(|flight| flight.to_fill());
        let market = loaded.market.as_ref().and_then(|flight| flight.to_fill());
        let mut fills = Vec::new();
        if let Some(products) = products {
            fills.extend(missed.iter().zip(products.rows.iter()).map(|(id, product)| match product {
                Some(product) => Entry::Product(id, product),
                None => Entry::NegativeProduct(id),
            }));
        }
        if let Some(market) = market {
            fills.extend(market.rows.entries(cached.location));
        }
        let times = products.map(|read| read.read_at).into_iter().chain(market.map(|read| read.read_at));
        // The earlier of both; `None` if one is unknown.
        self.fill(&fills, times.min().flatten()).await;

        let product = |id: &ProductId| {
            let products = &loaded.products.as_ref()?.value().rows;
            products[missed.binary_search(id).ok()?]
        };
        let products = ids.iter().zip(&cached.products).map(|(id, entry)| match entry.is_current() {
            true => Input::cached(entry),
            false => product(id).map(Input::loaded),
        });
        let is_fallback = cached.location == Location::fallback();
        let (market, is_fallback) = match &loaded.market {
            Some(flight) => {
                let found = flight.value().rows;
                (Some(Input::loaded(found.market)), is_fallback || found.is_fallback)
            }
            None => (Input::cached(&cached.market), is_fallback),
        };
        Ok(Inputs { products: products.collect(), market, is_fallback, is_loaded: true })
    }

    /// Loads entries again, in the background, that are about to expire and are read often.
    fn refresh_early(self: &Arc<Self>, ids: &[ProductId], cached: &CachedRead<'_>) {
        for (id, product) in ids.iter().zip(&cached.products) {
            if let Cached::Fresh { left, .. } = product
                && self.early_refreshes.is_due(*left)
            {
                self.refresh(Some(id), cached.market, cached.location);
            }
        }
        if let Cached::Fresh { left, .. } = cached.market
            && self.early_refreshes.is_due(left)
        {
            self.refresh(None, Cached::Absent, cached.location);
        }
    }

    /// Loads a product in the background, and the market if it is absent, and fills the cache with them.
    fn refresh(self: &Arc<Self>, id: Option<&ProductId>, market: Cached<Market>, location: &Location) {
        if self.loader.is_down() {
            return;
        }
        let key = id.map_or_else(|| format!("market {location}"), ProductId::to_string);
        let Some(refresh) = self.early_refreshes.begin(&key) else { return };
        let (reader, ids, location) = (self.clone(), Vec::from_iter(id.cloned()), location.clone());
        tokio::spawn(async move {
            let products = smallvec![Cached::Absent; ids.len()];
            let missed = CachedRead { products, market, location: &location, has_answered: true };
            // What fails is loaded when it has expired.
            let _ = reader.load(&ids, &missed).await;
            drop(refresh);
        });
    }

    /// Writes entries to the cache, unless Redis is down. A failure is counted: the next read loads again.
    async fn fill(&self, entries: &[Entry<'_>], read_at: Option<ReadAt>) {
        let Some(read_at) = read_at.filter(|_| !entries.is_empty() && !self.redis.is_open()) else { return };
        let span = redis_span("EVALSHA store");
        let (cache, max) = self.cache_for(entries.len(), false);
        match attempt(max, span, cache.store(entries, read_at)).await {
            Ok(Stored::Except(_)) => {}
            Ok(Stored::Late) | Err(_) => self.metrics.fill_failures.increment(1),
        }
    }

    /// Asks the database in the background, for its breaker to learn whether it works again. The probe outlives
    /// the read: a new connection may take longer than a read can wait, and one given up half-way is never made.
    fn probe(&self, ids: &[ProductId], cached: &CachedRead<'_>) {
        let (loader, missed) = (self.loader.clone(), cached.missed(ids));
        let location = cached.missed_location().cloned();
        tokio::spawn(async move {
            // The breaker has recorded the result; nobody else waits for it.
            let _ = loader.load(&missed, location.as_ref()).await;
        });
    }

    /// Prices each product that exists.
    fn priced<'i>(&'i self, inputs: &'i Inputs, customer: &'i Customer) -> impl Iterator<Item = Quote> {
        self.quotes(inputs, |product, market| Ok((price(product, market, customer.membership)?, ())))
    }

    /// Prices each product that exists, and explains the price.
    fn explained<'i>(
        &'i self,
        inputs: &'i Inputs,
        customer: &'i Customer,
    ) -> impl Iterator<Item = Quote<Explained>> {
        self.quotes(inputs, |product, market| {
            let explanation = explain(product, market, customer.membership)?;
            let location = pricing_location(inputs, customer).clone();
            Ok((explanation.detail, Explained { explanation, location }))
        })
    }

    fn quotes<'i, E>(
        &'i self,
        inputs: &'i Inputs,
        price: impl Fn(&Product, &Market) -> Result<(PriceDetail, E), Unpriced> + 'i,
    ) -> impl Iterator<Item = Quote<E>> {
        set_attribute("pricing.source", inputs.source());
        inputs.products.iter().map(move |product| {
            let (product, market) = (product.as_ref()?, inputs.market.as_ref()?);
            if let Some(age) = product.age {
                self.metrics.age.record(age);
            }
            let priced = price(&product.value, &market.value);
            self.metrics.count_price(priced.as_ref().map(|(detail, _)| detail));
            Some(priced.map(|(detail, explanation)| Priced {
                detail,
                explanation,
                is_cached: product.age.is_some() && market.age.is_some(),
                is_stale: product.is_stale || market.is_stale,
                age: product.age.max(market.age).unwrap_or_default(),
            }))
        })
    }
}

/// The price of the only product of a read.
fn only<E>(
    mut quotes: impl Iterator<Item = Quote<E>>,
    inputs: &Inputs,
    customer: &Customer,
) -> Result<Priced<E>, ReadError> {
    let quote = quotes.next().flatten().ok_or(ReadError::UnknownProduct)?;
    quote.map_err(|reason| ReadError::Unpriced { market: pricing_location(inputs, customer).clone(), reason })
}

/// The location whose market prices a customer.
fn pricing_location<'c>(inputs: &Inputs, customer: &'c Customer) -> &'c Location {
    if inputs.is_fallback { Location::fallback() } else { &customer.location }
}
