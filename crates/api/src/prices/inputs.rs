//! The inputs of prices in the cache, as reads use it: a cache that is away is no error, only slower.

use std::time::Duration;

use pricing_core::cache::{Cached, CachedInputs, Entry, PriceCache};
use pricing_core::ids::{Location, ProductId};
use pricing_core::price::{Market, Product};
use redis::RedisResult;
use tokio::time::timeout;
use tracing::{Instrument as _, Span, info_span};

use super::breaker::Breaker;
use crate::metrics::ReadMetrics;

/// Longest a read waits for Redis, connecting included, before the database answers in its place.
const WAIT: Duration = Duration::from_millis(250);
/// Longest it waits while the database is away, and cannot.
const PATIENT_WAIT: Duration = Duration::from_secs(1);

/// The price cache behind its circuit breaker, with its metrics and spans.
pub struct PriceInputs {
    cache: PriceCache,
    patient: PriceCache,
    breaker: Breaker,
    /// What reads count.
    pub metrics: ReadMetrics,
}

impl PriceInputs {
    /// The inputs in this cache, and in the same one with more patience. The metrics recorder must be installed
    /// already.
    pub fn new(cache: PriceCache, patient: PriceCache) -> Self {
        Self { cache, patient, breaker: Breaker::new("Redis", "redis"), metrics: ReadMetrics::new() }
    }

    /// The cache to ask: a patient one if it is the `only` source of prices.
    fn cache(&self, only: bool) -> &PriceCache {
        if only { &self.patient } else { &self.cache }
    }

    /// Asks through the breaker: insists, and waits longer, if there is `only` the cache to ask.
    async fn ask<T>(&self, only: bool, ask: impl Future<Output = RedisResult<T>>) -> Option<T> {
        if only { self.breaker.insist(PATIENT_WAIT, ask).await } else { self.breaker.call(WAIT, ask).await }
    }

    /// What the cache says of a product and of a market, in one round trip; `None` without Redis. `only`: the
    /// database cannot answer in its place.
    pub async fn of_one(&self, product: &ProductId, location: &Location, only: bool) -> Option<CachedInputs> {
        let read = self.cache(only).inputs(product, location);
        let inputs = self.ask(only, read).instrument(redis_span("HMGET price inputs", "HMGET")).await;
        match &inputs {
            Some(inputs) => {
                self.metrics.product.count(&inputs.product);
                self.metrics.market.count(&inputs.market);
            }
            None => self.count_absence(1),
        }
        inputs
    }

    /// What the cache says of many products, in their order, and of a market, in one round trip; `None`
    /// without Redis. `only`: the database cannot answer in its place.
    pub async fn of_many(
        &self,
        products: &[ProductId],
        location: &Location,
        only: bool,
    ) -> Option<(Vec<Cached<Product>>, Cached<Market>)> {
        let read = self.cache(only).inputs_of_many(products, location);
        let inputs = self.ask(only, read).instrument(redis_span("HMGET price inputs", "HMGET")).await;
        match &inputs {
            Some((products, market)) => {
                products.iter().for_each(|product| self.metrics.product.count(product));
                self.metrics.market.count(market);
            }
            None => self.count_absence(products.len()),
        }
        inputs
    }

    /// What the cache says of a market; `None` without Redis. `only`: the database cannot answer in its place.
    pub async fn of_market(&self, location: &Location, only: bool) -> Option<Cached<Market>> {
        let read = self.cache(only).market(location);
        let market = self.ask(only, read).instrument(redis_span("HMGET market", "HMGET")).await;
        market.iter().for_each(|market| self.metrics.market.count(market));
        market
    }

    /// Writes what was loaded to the cache, unless Redis is away. A failure is counted, nothing more: the
    /// next read loads it again.
    pub async fn fill(&self, entries: &[Entry<'_>]) {
        if entries.is_empty() || self.breaker.is_open() {
            return;
        }
        let store = self.cache.store(entries).instrument(redis_span("EVALSHA store", "EVALSHA"));
        if !matches!(timeout(WAIT, store).await, Ok(Ok(_))) {
            self.metrics.fill_failures.increment(1);
        }
    }

    fn count_absence(&self, products: usize) {
        self.metrics.product.count_errors(products);
        self.metrics.market.count_errors(1);
        self.metrics.without_redis.increment(1);
    }
}

fn redis_span(name: &'static str, operation: &'static str) -> Span {
    info_span!(
        "redis",
        otel.name = name,
        otel.kind = "client",
        db.system.name = "redis",
        db.operation.name = operation
    )
}

/// The value of an entry within its time to live.
pub fn fresh<T: Copy>(cached: &Cached<T>) -> Option<T> {
    match cached {
        Cached::Fresh { value, .. } => Some(*value),
        Cached::Stale { .. } | Cached::Unknown | Cached::Absent | Cached::Corrupt => None,
    }
}

/// The value of an entry of any age.
pub fn of_any_age<T: Copy>(cached: &Cached<T>) -> Option<T> {
    match cached {
        Cached::Fresh { value, .. } | Cached::Stale { value, .. } => Some(*value),
        Cached::Unknown | Cached::Absent | Cached::Corrupt => None,
    }
}
