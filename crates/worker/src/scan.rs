//! One pass over the catalogue.

use std::slice;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _, try_unfold};
use pricing_core::cache::{Entry, PriceCache, ReadAt, Server, Stored};
use pricing_core::catalogue::{
    Catalogue, CatalogueError, ChangeOrigin, ListPrice, Locked, Page, ProductRow, Recorded,
};
use pricing_core::ids::{Location, ProductId, TaskId};
use pricing_core::money::Money;
use pricing_core::price::{Product, recalculated_list_price};
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
/// Batches that are written at the same time, while the next one is read.
const BATCHES_UNDER_WAY: usize = 4;
/// Maximum time of one step of the database.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(15);
/// Time after which the database ends a statement: before the worker has given up on it.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(14);

/// Why a scan ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
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

impl Scanned {
    fn add(&mut self, other: &Self) {
        self.updated_count += other.updated_count;
        self.changed_count += other.changed_count;
        self.invalid_count += other.invalid_count;
        self.refused_count += other.refused_count;
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Scanner {
    /// Passes over all markets and products in batches: reads a batch, records the list prices that have changed in the
    /// database, writes its cache entries and reports the progress. While one batch is written the next ones are read.
    ///
    /// Every change of the catalogue before the call is in the prices when it returns. A scan may run beside
    /// another and be dropped anywhere: the database takes a list price only for the versions that were read,
    /// and the cache only an equal or higher version. A row that no price can be made of is skipped and counted. Once
    /// `closing` is cancelled it ends after the batches under way with [`ScanError::Interrupted`].
    pub(crate) async fn scan(
        &self,
        task: &TaskId,
        lease: &Lease,
        closing: &CancellationToken,
    ) -> Result<Scanned, ScanError> {
        let simulated = self.simulation.full_scan();
        closing.run_until_cancelled(simulated).await.ok_or(ScanError::Interrupted)?;
        let mut scanned = self.scan_markets().await?;

        let total = in_time(self.catalogue.count_products()).await?;
        let origin = ChangeOrigin::task(task);
        let write = |batch: Batch| {
            let products = integer(batch.page.rows.len() as u64);
            let span = info_span!("write batch", pricing.products = products, pricing.changed = Empty);
            self.write(batch, &origin).instrument(span).boxed()
        };
        let mut batches = self.batches(closing).map_ok(write).try_buffered(BATCHES_UNDER_WAY);
        let (mut done, mut next) = (0, batches.try_next().await?);
        while let Some(written) = next {
            scanned.add(&written);
            done += written.updated_count + written.invalid_count;
            metrics::products(written.updated_count);
            let progress = Progress { done, total: total.max(done) };
            let (progress, batch) = tokio::join!(lease.progress(progress), batches.try_next());
            if !progress? {
                return Err(ScanError::LeaseLost);
            }
            next = batch?;
        }
        Span::current().record("pricing.products", integer(done));
        metrics::rows_skipped("invalid", scanned.invalid_count);
        metrics::rows_skipped("refused", scanned.refused_count);
        Ok(scanned)
    }

    /// Reads all products, batch by batch.
    fn batches<'a>(&'a self, closing: &'a CancellationToken) -> BoxStream<'a, Result<Batch, ScanError>> {
        let read = move |last: Option<String>| async move {
            if last.is_some() && closing.is_cancelled() {
                return Err(ScanError::Interrupted);
            }
            let server = self.server().await?;
            let page = in_time(self.catalogue.products_after(last.as_deref(), BATCH)).await?;
            let last = page.last.clone();
            Ok(last.map(|last| (Batch { page, server }, Some(last))))
        };
        try_unfold(None, read).boxed()
    }

    /// Writes all markets to the cache.
    async fn scan_markets(&self) -> Result<Scanned, ScanError> {
        let (mut scanned, mut last) = (Scanned::default(), None);
        loop {
            let server = self.server().await?;
            let page = in_time(self.catalogue.markets_after(last.as_deref(), BATCH)).await?;
            last = page.last;
            if last.is_none() {
                return Ok(scanned);
            }
            scanned.invalid_count += page.invalid.len() as u64;
            let entries: Vec<_> =
                page.rows.iter().map(|(location, market)| Entry::Market(location, market)).collect();
            let refused = self.store(&entries, server.read_at).await?;
            let refused: Vec<Location> = refused.into_iter().map(|at| page.rows[at].0.clone()).collect();
            if !refused.is_empty() {
                // It may hold what was changed since the read.
                let server = self.server().await?;
                let again = in_time(self.catalogue.markets(&refused)).await?;
                let entry = |(location, market)| {
                    Some(Entry::Market(refused.iter().find(|name| name.as_str() == location)?, market))
                };
                let again: Vec<_> = again
                    .iter()
                    .filter_map(|(location, market)| entry((location.as_str(), market.as_ref()?)))
                    .collect();
                scanned.refused_count += self.store(&again, server.read_at).await?.len() as u64;
            }
        }
    }

    /// Records the list prices of a batch that have changed, and writes its entries to the cache. What the cache refuses is
    /// read once more: it may hold a newer version.
    async fn write(&self, batch: Batch, origin: &ChangeOrigin) -> Result<Scanned, ScanError> {
        let Batch { page, server } = batch;
        let mut scanned = Scanned { updated_count: page.rows.len() as u64, ..Scanned::default() };
        scanned.invalid_count = page.invalid.len() as u64;
        let refused = self.write_products(page.rows, &server, origin, &mut scanned).await?;
        if !refused.is_empty() {
            let server = self.server().await?;
            let rows = in_time(self.catalogue.products(&refused)).await?;
            scanned.refused_count =
                self.write_products(rows, &server, origin, &mut scanned).await?.len() as u64;
        }
        Span::current().record("pricing.changed", integer(scanned.changed_count));
        Ok(scanned)
    }

    /// Records list prices and writes entries; returns the products that the cache refused.
    async fn write_products(
        &self,
        mut rows: Vec<ProductRow>,
        server: &Server,
        origin: &ChangeOrigin,
        scanned: &mut Scanned,
    ) -> Result<Vec<ProductId>, ScanError> {
        let recorded = self.record_list_prices(&mut rows, origin, Locked::Wait).await?;
        scanned.changed_count += recorded.versions.len() as u64;
        let entries: Vec<_> = rows.iter().map(|row| Entry::Product(&row.id, &row.product)).collect();
        let refused = self.store(&entries, server.read_at).await?;
        if let Some(pending) = recorded.pending {
            let stored =
                self.catalogue.changes_stored(slice::from_ref(&pending), &server.id, server.now_ms());
            in_time(stored).await?;
        }
        Ok(refused.into_iter().map(|at| rows[at].id.clone()).collect())
    }

    /// Records the list prices that a recalculation changes, and puts them and the new versions into the rows.
    pub(crate) async fn record_list_prices(
        &self,
        rows: &mut [ProductRow],
        origin: &ChangeOrigin,
        locked: Locked,
    ) -> Result<Recorded, ScanError> {
        let changed = rows.iter().filter(|row| list_price(&row.product) != row.product.list_price);
        let changed: Vec<_> = changed
            .map(|ProductRow { id, product }| ListPrice {
                id: id.clone(),
                version: product.version,
                price: list_price(product),
            })
            .collect();
        let recorded = in_time(self.catalogue.record_list_prices(&changed, origin, locked)).await?;
        for row in rows.iter_mut() {
            if let Some(version) = recorded.versions.get(row.id.as_str()) {
                (row.product.list_price, row.product.version) = (list_price(&row.product), *version);
            }
        }
        Ok(recorded)
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

    async fn server(&self) -> Result<Server, ScanError> {
        Ok(redis_call("INFO replication", self.cache.server()).await?)
    }
}

/// Products that were read together.
struct Batch {
    page: Page<ProductRow>,
    /// Redis before they were read.
    server: Server,
}

/// What a recalculation makes the list price of a product; `None` if it is the base price.
fn list_price(product: &Product) -> Option<Money> {
    Some(recalculated_list_price(product)).filter(|price| *price != product.base_price)
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
