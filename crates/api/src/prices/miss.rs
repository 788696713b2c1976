//! A miss: what the cache has not is loaded from the database, and the cache is filled with it.

use std::sync::Arc;
use std::time::Instant;

use pricing_core::cache::{Entry, ReadAt, Stored};
use pricing_core::ids::{Location, ProductId};
use pricing_core::trace::redis_span;

use super::breaker::attempt;
use super::loaded::LoadError;
use super::plan::{CachedRead, Input, Inputs};
use super::reader::PriceReader;

impl PriceReader {
    /// Loads what the cache has not fresh, and fills the cache with it.
    pub(super) async fn load(
        &self,
        ids: &[ProductId],
        cached: &CachedRead<'_>,
    ) -> Result<Inputs, Arc<LoadError>> {
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

    /// Writes entries to the cache, unless Redis is down. A failure is counted: the next read loads again.
    async fn fill(&self, entries: &[Entry<'_>], read_at: Option<ReadAt>) {
        let Some(read_at) = read_at.filter(|_| !entries.is_empty() && !self.redis.is_open()) else { return };
        let span = redis_span("EVALSHA store");
        let (cache, max) = self.cache_for(entries.len(), false);
        match attempt(Some(max), span, cache.store(entries, read_at)).await {
            Ok(Stored::Except(_)) => {}
            Ok(Stored::Late) | Err(_) => self.metrics.fill_failures.increment(1),
        }
    }

    /// Asks the database in the background, for its breaker to learn whether it works again. The probe outlives
    /// the read: a new connection may take longer than a read can wait, and one given up half-way is never made.
    pub(super) fn probe(&self, ids: &[ProductId], cached: &CachedRead<'_>) {
        let (loader, missed) = (self.loader.clone(), cached.missed(ids));
        let location = cached.missed_location().cloned();
        tokio::spawn(async move {
            // The breaker has recorded the result; nobody else waits for it.
            let _ = loader.load(&missed, location.as_ref()).await;
        });
    }
}
