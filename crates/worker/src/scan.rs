//! One pass over the catalogue.

use std::time::Duration;

use pricing_core::cache::{Entry, PriceCache, ReadAt, Stored};
use pricing_core::catalogue::{Catalogue, CatalogueError, ListPrice, Locked, ProductRow, Recorded};
use pricing_core::clock::now_ms;
use pricing_core::ids::{Location, ProductId, TaskId};
use pricing_core::price::{Market, recalculated_list_price};
use pricing_core::simulation::Simulation;
use pricing_core::trace::{integer, mark_failed, redis_call};
use pricing_queue::{Lease, Progress, QueueError};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};

use crate::metrics;

/// Products or markets of one batch. The catalogue may be larger than memory.
const BATCH: u32 = 500;
/// Maximum time of one step of the database.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(15);
/// Time after which the database ends a statement: before the worker has given up on it.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(14);

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
    /// The rows were read from the database so long ago that a deletion since then may not show any more.
    #[error("the rows were read too long ago to be cached")]
    ReadTooLongAgo,
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
}

/// What a scan did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Scanned {
    /// Products whose price was recalculated.
    pub(crate) updated_count: u64,
    /// Products whose list price changed.
    pub(crate) changed_count: u64,
    /// Invalid rows, of products and markets, that were skipped.
    pub(crate) invalid_count: u64,
    /// Products and markets that the cache refused twice, because it holds a newer version.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) refused_count: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Scanner {
    /// Passes over all markets and products in batches: reads a batch, records its list prices in the
    /// database, writes its cache entries and reports the progress.
    ///
    /// Every change of the catalogue before the call is in the prices when it returns. A scan may run beside
    /// another and be dropped anywhere: the database takes a list price only for the versions that were read,
    /// and the cache only an equal or higher version. A row that no price can be made of is skipped and counted. Once
    /// `closing` is cancelled it ends after the current batch with [`ScanError::Interrupted`].
    pub(crate) async fn scan(
        &self,
        task: &TaskId,
        lease: &Lease,
        closing: &CancellationToken,
    ) -> Result<Scanned, ScanError> {
        let simulated = self.simulation.full_scan();
        closing.run_until_cancelled(simulated).await.ok_or(ScanError::Interrupted)?;
        let mut scanned = Scanned::default();
        let default = self.scan_markets(&mut scanned).await?;

        let total = in_time(self.catalogue.count_products()).await?;
        let (mut done, mut last) = (0, None);
        loop {
            let read_at = self.read_at().await?;
            let page = in_time(self.catalogue.products_after(last.as_deref(), BATCH)).await?;
            last = page.last;
            if last.is_none() {
                break;
            }
            if done > 0 && closing.is_cancelled() {
                return Err(ScanError::Interrupted);
            }
            let (rows, market) = (page.rows, default.ok_or(ScanError::NoDefaultMarket)?);
            let products = rows.len() as u64;
            let span =
                info_span!("write batch", pricing.products = integer(products), pricing.changed = Empty);
            let written = self.write_products(rows, &market, task, read_at).instrument(span).await?;
            scanned.updated_count += products;
            scanned.changed_count += written.changed;
            scanned.invalid_count += page.invalid;
            scanned.refused_count += written.refused.len() as u64;
            metrics::products(products);
            done += products + page.invalid;
            if !lease.progress(Progress { done, total: total.max(done) }).await? {
                return Err(ScanError::LeaseLost);
            }
        }
        Span::current().record("pricing.products", integer(done));
        metrics::rows_skipped("invalid", scanned.invalid_count);
        metrics::rows_skipped("refused", scanned.refused_count);
        Ok(scanned)
    }

    /// Writes all markets to the cache; returns the default one.
    async fn scan_markets(&self, scanned: &mut Scanned) -> Result<Option<Market>, ScanError> {
        let (mut default, mut last) = (None, None);
        loop {
            let read_at = self.read_at().await?;
            let page = in_time(self.catalogue.markets_after(last.as_deref(), BATCH)).await?;
            last = page.last;
            if last.is_none() {
                return Ok(default);
            }
            let is_default = |(location, _): &&(Location, Market)| location == Location::fallback();
            default = default.or(page.rows.iter().find(is_default).map(|(_, market)| *market));
            scanned.invalid_count += page.invalid;
            let entries: Vec<_> =
                page.rows.iter().map(|(location, market)| Entry::Market(location, market)).collect();
            let refused = self.store(&entries, read_at).await?;
            let refused: Vec<Location> = refused.into_iter().map(|at| page.rows[at].0.clone()).collect();
            if !refused.is_empty() {
                // It may hold what was changed since the read.
                let read_at = self.read_at().await?;
                let again = in_time(self.catalogue.markets(&refused)).await?;
                let entry = |(location, market)| {
                    Some(Entry::Market(refused.iter().find(|name| name.as_str() == location)?, market))
                };
                let again: Vec<_> = again
                    .iter()
                    .filter_map(|(location, market)| entry((location.as_str(), market.as_ref()?)))
                    .collect();
                scanned.refused_count += self.store(&again, read_at).await?.len() as u64;
            }
        }
    }

    /// Records the list prices of products, and writes their entries to the cache. `read_at` is the time of Redis before
    /// they were read. What the cache refuses is read once more: it may hold a newer version.
    async fn write_products(
        &self,
        mut rows: Vec<ProductRow>,
        market: &Market,
        task: &TaskId,
        mut read_at: ReadAt,
    ) -> Result<Written, ScanError> {
        let mut written = Written::default();
        loop {
            let recorded = self.record_list_prices(&rows, market, task, Locked::Wait).await?;
            written.changed += recorded.changed as u64;
            let entries: Vec<_> = rows.iter().map(|row| Entry::Product(&row.id, &row.product)).collect();
            let refused = self.store(&entries, read_at).await?;
            let refused: Vec<ProductId> = refused.into_iter().map(|at| rows[at].id.clone()).collect();
            let is_second = !written.refused.is_empty();
            written.refused = refused;
            if written.refused.is_empty() || is_second {
                Span::current().record("pricing.changed", integer(written.changed));
                return Ok(written);
            }
            read_at = self.read_at().await?;
            rows = in_time(self.catalogue.products(&written.refused)).await?;
        }
    }

    /// Records the list prices of products in the database.
    pub(crate) async fn record_list_prices(
        &self,
        rows: &[ProductRow],
        market: &Market,
        task: &TaskId,
        locked: Locked,
    ) -> Result<Recorded, ScanError> {
        let listed = |row: &ProductRow| ListPrice {
            row: row.clone(),
            market_version: market.version,
            price: recalculated_list_price(&row.product),
        };
        let prices: Vec<_> = rows.iter().map(listed).collect();
        in_time(self.catalogue.record_list_prices(&prices, task, now_ms(), locked)).await
    }

    /// Writes cache entries; returns the positions of those that the cache refused, because it holds a newer version.
    pub(crate) async fn store(
        &self,
        entries: &[Entry<'_>],
        read_at: ReadAt,
    ) -> Result<Vec<usize>, ScanError> {
        match redis_call("EVALSHA store prices", self.cache.store(entries, read_at)).await? {
            Stored::Except(refused) => Ok(refused),
            Stored::Late => Err(ScanError::ReadTooLongAgo),
        }
    }

    async fn read_at(&self) -> Result<ReadAt, ScanError> {
        Ok(redis_call("TIME", self.cache.read_at()).await?)
    }
}

/// What the writing of a batch did.
#[derive(Debug, Default)]
struct Written {
    /// List prices that changed.
    changed: u64,
    /// Products that the cache refused twice.
    refused: Vec<ProductId>,
}

/// Gives up on a database that does not answer: its host may be gone, or another client has locked the rows. A
/// run that waited for ever would renew the lock and its lease for ever.
pub(crate) async fn in_time<T>(
    step: impl Future<Output = Result<T, CatalogueError>>,
) -> Result<T, ScanError> {
    match tokio::time::timeout(DATABASE_TIMEOUT, step).await {
        Ok(answer) => Ok(answer?),
        Err(elapsed) => {
            mark_failed(&Span::current(), &elapsed);
            Err(ScanError::DatabaseTimeout)
        }
    }
}
