//! One pass over the catalogue.

use std::time::Duration;

use pricing_core::cache::{Entry, PriceCache};
use pricing_core::catalogue::{Catalogue, CatalogueError, ListPrice, ProductRow};
use pricing_core::ids::{Location, TaskId};
use pricing_core::job::now_ms;
use pricing_core::price::{Market, Membership, Policy, price};
use pricing_core::simulation::Simulation;
use pricing_queue::{Lease, Progress};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use crate::metrics;
use crate::recalculate::Failure;

/// Products or markets read and written at a time: memory does not grow with the catalogue.
const BATCH: u32 = 500;
/// Longest for one step of the database.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(15);

/// Reads the catalogue, records its list prices and fills the cache.
pub struct Scanner {
    /// What is read, and where list prices are recorded.
    pub catalogue: Catalogue,
    /// What is filled.
    pub cache: PriceCache,
    /// Slowness and failure on request.
    pub simulation: Simulation,
    /// The rules that are the same for every product.
    pub policy: Policy,
}

impl Scanner {
    /// Passes over all markets and products in batches: reads a batch, records its list prices in the
    /// database, then writes its cache entries and reports the progress. Returns the number of products.
    ///
    /// Whatever was changed in the catalogue before this is called is in the prices when it returns. It may
    /// run beside another scan and be cut off anywhere: the database takes a list price only for the
    /// versions that were read, and the cache only an equal or higher version. It ends after a batch with
    /// [`Failure::Closing`] once `closing` is cancelled.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn scan(
        &self,
        task: &TaskId,
        lease: &Lease,
        closing: &CancellationToken,
    ) -> Result<u64, Failure> {
        let simulated = self.simulation.full_scan();
        closing.run_until_cancelled(simulated).await.ok_or(Failure::Closing)?;
        let default = self.write_markets().await?;

        let total = in_time(self.catalogue.count_products()).await?;
        let mut done = 0;
        let mut batch = in_time(self.catalogue.products_after(None, BATCH)).await?;
        while let Some(last) = batch.last() {
            let market = default.ok_or(Failure::NoDefaultMarket)?;
            let span = info_span!("write batch", products = batch.len(), changed = tracing::field::Empty);
            self.write_products(&batch, &market, task).instrument(span).await?;
            done += batch.len() as u64;
            metrics::products(batch.len() as u64);
            if !lease.progress(Progress { done, total: total.max(done) }).await? {
                return Err(Failure::LeaseLost);
            }
            batch = in_time(self.catalogue.products_after(Some(&last.id), BATCH)).await?;
            if closing.is_cancelled() && !batch.is_empty() {
                return Err(Failure::Closing);
            }
        }
        tracing::Span::current().record("products", done);
        Ok(done)
    }

    /// Writes all markets to the cache; returns the default one.
    async fn write_markets(&self) -> Result<Option<Market>, Failure> {
        let (fallback, mut default) = (Location::fallback(), None);
        let mut batch = in_time(self.catalogue.markets_after(None, BATCH)).await?;
        while let Some((last, _)) = batch.last() {
            let entries: Vec<_> =
                batch.iter().map(|(location, market)| Entry::Market(location, market)).collect();
            self.cache.store(&entries).await?;
            default = default
                .or(batch.iter().find(|(location, _)| location == fallback).map(|(_, market)| *market));
            batch = in_time(self.catalogue.markets_after(Some(&last.clone()), BATCH)).await?;
        }
        Ok(default)
    }

    async fn write_products(
        &self,
        batch: &[ProductRow],
        market: &Market,
        task: &TaskId,
    ) -> Result<(), Failure> {
        let listed = |row: &ProductRow| ListPrice {
            row: row.clone(),
            market_version: market.version,
            price: price(&row.product, market, Membership::Standard, &self.policy).final_price,
        };
        let prices: Vec<_> = batch.iter().map(listed).collect();
        let changed = in_time(self.catalogue.record_list_prices(&prices, task, now_ms())).await?;
        tracing::Span::current().record("changed", changed);
        let entries: Vec<_> = batch.iter().map(|row| Entry::Product(&row.id, &row.product)).collect();
        self.cache.store(&entries).await?;
        Ok(())
    }
}

/// Gives up on a database that does not answer: its host may be gone, or somebody holds our rows locked. The lock
/// and the lease of a run that waited for ever would be renewed for ever.
async fn in_time<T>(step: impl Future<Output = Result<T, CatalogueError>>) -> Result<T, Failure> {
    Ok(tokio::time::timeout(DATABASE_TIMEOUT, step).await.map_err(|_| Failure::DatabaseSilent)??)
}
