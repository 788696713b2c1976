//! List prices and their history.

use std::collections::HashMap;

use pricing_queue::Backoff;
use sqlx::{query, query_as, query_scalar};

use super::database::{Connection, Dialects, List, Transaction, rows, statement};
use super::{Catalogue, CatalogueError, ProductRow, signed};
use crate::ids::{ProductId, TaskId};
use crate::money::Money;

/// Attempts to record a batch when other transactions are in the way.
const ATTEMPTS: u32 = 6;
/// Rows of the history that one step removes.
const PRUNE_STEP: i64 = 1_000;

/// A list price and the versions it was computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPrice {
    /// The product as it was read.
    pub row: ProductRow,
    /// Version of the default market that was applied.
    pub market_version: u64,
    /// The price before market and membership.
    pub price: Money,
}

impl ListPrice {
    /// Whether the row lacked this price when it was read.
    fn is_news(&self) -> bool {
        self.row.list_price != Some(self.price.minor())
            || self.row.list_market_version < signed(self.market_version)
    }

    /// Whether the row, as it is now, takes this price.
    fn fits(&self, now: &LockedRow) -> bool {
        now.version == signed(self.row.product.version)
            && now.list_market_version <= signed(self.market_version)
            && (now.list_price_minor != Some(self.price.minor())
                || now.list_market_version < signed(self.market_version))
    }
}

/// What to do about rows that somebody else has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// Wait for them.
    Wait,
    /// Pass them over: for a caller who comes back to them.
    Skip,
}

/// What a batch of list prices came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Number of list prices that changed.
    pub changed: usize,
    /// Products whose row somebody has locked, or deleted.
    pub passed_over: Vec<ProductId>,
}

/// A row that the transaction has locked.
#[derive(sqlx::FromRow)]
struct LockedRow {
    id: String,
    version: i64,
    list_price_minor: Option<i64>,
    list_market_version: i64,
}

/// A SELECT of [`LockedRow`].
macro_rules! locked_rows {
    ($clauses:literal) => {
        concat!("SELECT id, version, list_price_minor, list_market_version FROM products ", $clauses)
    };
}

/// Reads and locks the products of a list, in the order of their ids. SQLite has one writer at a time.
const LOCK_ROWS: Dialects = Dialects {
    sqlite: locked_rows!("WHERE id IN (SELECT value FROM json_each($1)) ORDER BY id"),
    postgres: locked_rows!("WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE"),
};

impl Catalogue {
    /// Records a batch of list prices in one transaction, and adds those that changed to the history, with the price
    /// before the change.
    ///
    /// A row is written only if its product still has the version that was read and no newer market was
    /// applied to it, so a writer that was paused in between changes nothing.
    ///
    /// Rows are locked in the order of their ids, so two batches cannot deadlock. Another client may still lock them
    /// in another order: a transaction that was ended for that is repeated.
    ///
    /// # Errors
    ///
    /// When the database fails; then nothing of the batch is written.
    pub async fn record_list_prices(
        &self,
        batch: &[ListPrice],
        task: &TaskId,
        now_ms: i64,
        locked: Locked,
    ) -> Result<Recorded, CatalogueError> {
        let news: Vec<&ListPrice> = batch.iter().filter(|item| item.is_news()).collect();
        if news.is_empty() {
            return Ok(Recorded::default());
        }
        let lock = self.database.dialect(match locked {
            Locked::Wait => LOCK_ROWS,
            Locked::Skip => Dialects {
                postgres: locked_rows!("WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"),
                ..LOCK_ROWS
            },
        });
        let (mut attempt, mut backoff) = (1, Backoff::default());
        loop {
            let record =
                async |connection: Connection<'_>| record(connection, lock, &news, task, now_ms).await;
            match self.database.run("UPDATE products INSERT price_history", record).await {
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => {
                    attempt += 1;
                    backoff.pause().await; // the other transaction ends meanwhile
                }
                recorded => return recorded,
            }
        }
    }

    /// Counts the list prices in the history of a product.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn history_len(&self, id: &ProductId) -> Result<u64, CatalogueError> {
        let select = "SELECT COUNT(*) FROM price_history WHERE product_id = $1";
        let select = statement!(fetch_one, query_scalar(select).bind(id.as_str()));
        let count: i64 = self.database.run("SELECT price_history", select).await?;
        Ok(u64::try_from(count).expect("invariant: a count is not negative"))
    }

    /// Removes a bounded number of entries of the history that were recorded before `before_ms`. Returns how many; call
    /// it again while there are some.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn prune_history(&self, before_ms: i64) -> Result<u64, CatalogueError> {
        let delete = "DELETE FROM price_history WHERE id IN \
                      (SELECT id FROM price_history WHERE recorded_at_ms < $1 ORDER BY recorded_at_ms LIMIT $2)";
        let delete = statement!(execute, query(delete).bind(before_ms).bind(PRUNE_STEP));
        Ok(self.database.run_untraced(delete).await?)
    }
}

/// Locks the rows of a batch, writes those that take their price, and adds the changed ones to the history.
async fn record(
    connection: Connection<'_>,
    lock: &'static str,
    batch: &[&ListPrice],
    task: &TaskId,
    now_ms: i64,
) -> sqlx::Result<Recorded> {
    let mut transaction = connection.begin().await?;
    let locked = lock_rows(&mut transaction, lock, batch).await?;
    let missing = batch.iter().filter(|item| !locked.contains_key(item.row.id.as_str()));
    let passed_over = missing.map(|item| item.row.id.clone()).collect();
    let writes = batch.iter().filter_map(|item| {
        let now = locked.get(item.row.id.as_str()).filter(|now| item.fits(now))?;
        Some((*item, now.list_price_minor))
    });
    let writes: Vec<Write<'_>> = writes.collect();
    if writes.is_empty() {
        return Ok(Recorded { changed: 0, passed_over });
    }
    transaction.run(async |connection| update(connection, &writes).await).await?;
    let changed: Vec<_> = writes.into_iter().filter(|(item, old)| *old != Some(item.price.minor())).collect();
    if !changed.is_empty() {
        let append =
            async |connection: Connection<'_>| append_history(connection, &changed, task, now_ms).await;
        transaction.run(append).await?;
    }
    transaction.commit().await?;
    Ok(Recorded { changed: changed.len(), passed_over })
}

/// A list price that is written, and the one before.
type Write<'b> = (&'b ListPrice, Option<i64>);

async fn lock_rows(
    transaction: &mut Transaction<'_>,
    lock: &'static str,
    batch: &[&ListPrice],
) -> sqlx::Result<HashMap<String, LockedRow>> {
    let ids: List<'_> = batch.iter().map(|item| item.row.id.as_str()).collect();
    let select = statement!(fetch_all, query_as::<_, LockedRow>(lock).bind(ids));
    let rows = transaction.run(select).await?;
    Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
}

async fn update(connection: Connection<'_>, writes: &[Write<'_>]) -> sqlx::Result<()> {
    let writes = writes
        .iter()
        .map(|(item, _)| (item.row.id.as_str(), item.price.minor(), signed(item.market_version)));
    match connection {
        Connection::Sqlite(connection) => {
            let update = "WITH computed (id, price, market_version) AS ( \
                              SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1)) \
                          UPDATE products SET list_price_minor = price, list_market_version = market_version \
                          FROM computed WHERE products.id = computed.id";
            let writes: Vec<_> = writes.collect();
            query(update).bind(rows(&writes)).execute(connection).await.map(drop)
        }
        Connection::Postgres(connection) => {
            let update = "UPDATE products SET list_price_minor = price, list_market_version = market_version \
                          FROM UNNEST($1::text[], $2::bigint[], $3::bigint[]) AS computed (id, price, market_version) \
                          WHERE products.id = computed.id";
            let (ids, prices, markets): (Vec<_>, Vec<_>, Vec<_>) = writes.collect();
            query(update).bind(ids).bind(prices).bind(markets).execute(connection).await.map(drop)
        }
    }
}

async fn append_history(
    connection: Connection<'_>,
    changed: &[Write<'_>],
    task: &TaskId,
    now_ms: i64,
) -> sqlx::Result<()> {
    let changed = changed.iter().map(|(ListPrice { row, market_version, price }, old)| {
        (row.id.as_str(), signed(row.product.version), signed(*market_version), *old, price.minor())
    });
    match connection {
        Connection::Sqlite(connection) => {
            let insert = "INSERT INTO price_history (product_id, product_version, market_version, \
                              old_list_price_minor, list_price_minor, task_id, recorded_at_ms) \
                          SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, $2, $3 \
                          FROM json_each($1)";
            let changed: Vec<_> = changed.collect();
            let query = query(insert).bind(rows(&changed)).bind(task.as_str()).bind(now_ms);
            query.execute(connection).await.map(drop)
        }
        Connection::Postgres(connection) => {
            let insert = "INSERT INTO price_history (product_id, product_version, market_version, \
                              old_list_price_minor, list_price_minor, task_id, recorded_at_ms) \
                          SELECT changed.*, $6, $7 FROM UNNEST( \
                              $1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS changed";
            let (ids, versions, markets, old, new): (Vec<_>, Vec<_>, Vec<_>, Vec<_>, Vec<_>) =
                changed.collect();
            let query = query(insert).bind(ids).bind(versions).bind(markets).bind(old).bind(new);
            query.bind(task.as_str()).bind(now_ms).execute(connection).await.map(drop)
        }
    }
}
