//! One pass over the catalogue.

use std::time::Duration;

use pricing_core::cache::{Entry, PriceCache};
use pricing_core::catalogue::{Catalogue, CatalogueError, ListPrice, ProductRow};
use pricing_core::clock::now_ms;
use pricing_core::ids::{Location, TaskId};
use pricing_core::price::{Market, Membership, Policy, price};
use pricing_core::simulation::Simulation;
use pricing_core::trace::{integer, mark_failed, redis_call};
use pricing_queue::{Lease, Progress, QueueError};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};

use crate::metrics;

/// Products or markets of one batch. The catalogue may be larger than memory.
const BATCH: u32 = 500;
/// Maximum time of one step of the database.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a scan ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    /// There are products but no default market, so no list price can be computed.
    #[error("the catalogue has no market `default`: insert one")]
    NoDefaultMarket,
    #[error("the catalogue failed")]
    Catalogue(#[from] CatalogueError),
    #[error("the database did not answer within {} s", DATABASE_TIMEOUT.as_secs())]
    DatabaseTimeout,
    #[error("the cache failed")]
    Cache(#[from] redis::RedisError),
    #[error("the progress was not recorded")]
    Progress(#[from] QueueError),
    /// The task was taken over, as after a long pause of the process.
    #[error("the task was taken over by another worker")]
    LeaseLost,
    /// The process is to end; another worker runs the task.
    #[error("the worker was asked to end")]
    Interrupted,
}

/// Reads the catalogue, records its list prices and fills the cache.
pub(crate) struct Scanner {
    pub(crate) catalogue: Catalogue,
    pub(crate) cache: PriceCache,
    pub(crate) simulation: Simulation,
    pub(crate) policy: Policy,
}

impl Scanner {
    /// Passes over all markets and products in batches: reads a batch, records its list prices in the
    /// database, writes its cache entries and reports the progress. Returns the number of products.
    ///
    /// Every change of the catalogue before the call is in the prices when it returns. A scan may run beside
    /// another and be dropped anywhere: the database takes a list price only for the versions that were read,
    /// and the cache only an equal or higher version. Once `closing` is cancelled it ends after the current
    /// batch with [`ScanError::Interrupted`].
    pub(crate) async fn scan(
        &self,
        task: &TaskId,
        lease: &Lease,
        closing: &CancellationToken,
    ) -> Result<u64, ScanError> {
        let simulated = self.simulation.full_scan();
        closing.run_until_cancelled(simulated).await.ok_or(ScanError::Interrupted)?;
        let default = self.write_markets().await?;

        let total = in_time(self.catalogue.count_products()).await?;
        let mut done = 0;
        let mut batch = in_time(self.catalogue.products_after(None, BATCH)).await?;
        while let Some(last) = batch.last() {
            let market = default.ok_or(ScanError::NoDefaultMarket)?;
            let products = integer(batch.len() as u64);
            let span = info_span!("write batch", pricing.products = products, pricing.changed = Empty);
            self.write_products(&batch, &market, task).instrument(span).await?;
            done += batch.len() as u64;
            metrics::products(batch.len() as u64);
            if !lease.progress(Progress { done, total: total.max(done) }).await? {
                return Err(ScanError::LeaseLost);
            }
            batch = in_time(self.catalogue.products_after(Some(&last.id), BATCH)).await?;
            if closing.is_cancelled() && !batch.is_empty() {
                return Err(ScanError::Interrupted);
            }
        }
        Span::current().record("pricing.products", integer(done));
        Ok(done)
    }

    /// Writes all markets to the cache; returns the default one.
    async fn write_markets(&self) -> Result<Option<Market>, ScanError> {
        let (fallback, mut default) = (Location::fallback(), None);
        let mut batch = in_time(self.catalogue.markets_after(None, BATCH)).await?;
        while let Some((last, _)) = batch.last() {
            let entries: Vec<_> =
                batch.iter().map(|(location, market)| Entry::Market(location, market)).collect();
            redis_call("EVALSHA store prices", self.cache.store(&entries)).await?;
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
    ) -> Result<(), ScanError> {
        let listed = |row: &ProductRow| ListPrice {
            row: row.clone(),
            market_version: market.version,
            price: price(&row.product, market, Membership::Standard, &self.policy).final_price,
        };
        let prices: Vec<_> = batch.iter().map(listed).collect();
        let changed = in_time(self.catalogue.record_list_prices(&prices, task, now_ms())).await?;
        Span::current().record("pricing.changed", integer(changed as u64));
        let entries: Vec<_> = batch.iter().map(|row| Entry::Product(&row.id, &row.product)).collect();
        redis_call("EVALSHA store prices", self.cache.store(&entries)).await?;
        Ok(())
    }
}

/// Gives up on a database that does not answer: its host may be gone, or another client has locked the rows. A
/// run that waited for ever would renew the lock and its lease for ever.
async fn in_time<T>(step: impl Future<Output = Result<T, CatalogueError>>) -> Result<T, ScanError> {
    match tokio::time::timeout(DATABASE_TIMEOUT, step).await {
        Ok(answer) => Ok(answer?),
        Err(elapsed) => {
            mark_failed(&Span::current(), &elapsed);
            Err(ScanError::DatabaseTimeout)
        }
    }
}
