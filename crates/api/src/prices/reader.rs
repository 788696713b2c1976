//! The read path, for one product and for many.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use pricing_core::cache::{Cached, CachedInputs, PriceCache, READ_TIMEOUT};
use pricing_core::catalogue::Catalogue;
use pricing_core::ids::{Location, ProductId};
use pricing_core::simulation::Simulation;
use pricing_core::trace::redis_span;
use smallvec::smallvec;
use tokio::sync::OwnedSemaphorePermit;

use super::breaker::{Breaker, skipped};
use super::early_refresh::EarlyRefreshes;
use super::loaded::LoadError;
use super::loader::{LOAD_TIMEOUT, Loader};
use super::plan::{CachedRead, Coverage, Inputs, Plan, plan};
use super::quote::{Customer, Explained, Priced, Quote, ReadError, explained, only, priced};
use super::slots::Slots;
use crate::config::MIN_REQUEST_TIMEOUT_SECONDS;
use crate::metrics::{Dependency, ReadMetrics};

/// Cache timeout of a read. The database answers instead after it.
const CACHE_TIMEOUT: Duration = READ_TIMEOUT;
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

/// Prices products for customers: from the cache, on a miss from the database, in an outage of either from the
/// other.
///
/// Redis that is down makes a read slower, not wrong. A database that is down makes it stale, or refused if the
/// cache has no entry: whether a product exists is unknown then, so an answer without it would be wrong.
pub(crate) struct PriceReader {
    cache: PriceCache,
    patient_cache: PriceCache,
    pub(super) redis: Arc<Breaker>,
    pub(super) loader: Arc<Loader>,
    batches: Slots,
    pub(super) early_refreshes: EarlyRefreshes,
    pub(super) metrics: ReadMetrics,
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
        only(priced(&inputs, customer, &self.metrics), &inputs, customer)
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
        only(explained(&inputs, customer, &self.metrics), &inputs, customer)
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
        Ok(priced(&inputs, customer, &self.metrics).collect())
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
        Ok(explained(&inputs, customer, &self.metrics).collect())
    }

    /// The read path: near-cache → cache → plan → (miss: products ‖ market from the database → fill the cache) → inputs.
    async fn inputs(self: &Arc<Self>, ids: &[ProductId], location: &Location) -> Result<Inputs, ReadError> {
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

    /// The cache's entries, from memory or in one round trip; in a second one when the location is known to have no market.
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

    /// Asks the near-cache, and Redis through its breaker for what that has not; `None` while Redis is down. A patient read
    /// asks even if the breaker is open.
    async fn get(&self, ids: &[ProductId], location: &Location, is_patient: bool) -> Option<CachedInputs> {
        let (cache, max) = self.cache_for(ids.len(), is_patient);
        let max = (!cache.bounds_reads()).then_some(max);
        let reading = cache.begin(ids, location);
        if let Some(inputs) = reading.from_memory() {
            return Some(inputs);
        }
        let span = || redis_span("MGET price inputs");
        // Boxed: the future is large, and every layer around it would move it.
        let reading = Box::pin(reading.finish());
        let inputs = match is_patient {
            true => self.redis.call_unconditionally(max, span(), reading).await,
            false => self.redis.call(max, span, reading).await,
        }?;
        let current = ids.iter().zip(&inputs.products).filter(|(_, product)| product.is_current());
        let market = inputs.market.is_current().then_some(location);
        self.loader.drop_lingering(current.map(|(id, _)| id), market).await;
        Some(inputs)
    }

    /// The cache to ask, and for how long. Reads of many products have the connection of patient reads: single reads
    /// do not wait behind them, and Redis may take longer for them than for one product.
    pub(super) fn cache_for(&self, products: usize, is_patient: bool) -> (&PriceCache, Duration) {
        match is_patient || products > FEW_PRODUCTS {
            true => (&self.patient_cache, PATIENT_CACHE_TIMEOUT),
            false => (&self.cache, CACHE_TIMEOUT),
        }
    }
}
