//! List prices and their history.

use std::collections::HashMap;

use pricing_queue::Backoff;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, query, query_as, query_scalar};

use super::{Catalogue, CatalogueError, ProductRow, placeholders, signed};
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
    /// The price in the default market, without membership.
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
        let (mut attempt, mut backoff) = (1, Backoff::default());
        loop {
            let lock = match (self.system, locked) {
                ("sqlite", _) => "", // one writer at a time
                (_, Locked::Wait) => "FOR NO KEY UPDATE",
                (_, Locked::Skip) => "FOR NO KEY UPDATE SKIP LOCKED",
            };
            let record =
                async |database: &mut AnyConnection| record(database, lock, &news, task, now_ms).await;
            match self.run("UPDATE products INSERT price_history", record).await {
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
        let query = query_scalar(select).bind(id.as_str().to_owned());
        let count: i64 =
            self.run("SELECT price_history", async |database| query.fetch_one(database).await).await?;
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
        let query = query(delete).bind(before_ms).bind(PRUNE_STEP);
        Ok(query.execute(&self.pool).await?.rows_affected())
    }
}

/// Locks the rows of a batch, writes those that take their price, and adds the changed ones to the history.
async fn record(
    database: &mut AnyConnection,
    lock: &str,
    batch: &[&ListPrice],
    task: &TaskId,
    now_ms: i64,
) -> sqlx::Result<Recorded> {
    let begin = if lock.is_empty() { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let mut transaction = database.begin_with(begin).await?;
    let locked = lock_rows(&mut transaction, lock, batch).await?;
    let missing = batch.iter().filter(|item| !locked.contains_key(item.row.id.as_str()));
    let passed_over = missing.map(|item| item.row.id.clone()).collect();
    let writes = batch.iter().filter_map(|item| {
        let now = locked.get(item.row.id.as_str()).filter(|now| item.fits(now))?;
        Some((*item, now.list_price_minor))
    });
    let writes: Vec<(&ListPrice, Option<i64>)> = writes.collect();
    if writes.is_empty() {
        return Ok(Recorded { changed: 0, passed_over });
    }
    update(&mut transaction, &writes).await?;
    let is_changed = |(item, old): &(&ListPrice, Option<i64>)| *old != Some(item.price.minor());
    let changed: Vec<_> = writes.into_iter().filter(is_changed).collect();
    if !changed.is_empty() {
        append_history(&mut transaction, &changed, task, now_ms).await?;
    }
    transaction.commit().await?;
    Ok(Recorded { changed: changed.len(), passed_over })
}

async fn lock_rows(
    database: &mut AnyConnection,
    lock: &str,
    batch: &[&ListPrice],
) -> sqlx::Result<HashMap<String, LockedRow>> {
    let select = format!(
        "SELECT id, version, list_price_minor, list_market_version FROM products \
         WHERE id IN {} ORDER BY id {lock}",
        placeholders(1, batch.len())
    );
    let query = query_as::<_, LockedRow>(AssertSqlSafe(select));
    let query = batch.iter().fold(query, |query, item| query.bind(item.row.id.as_str().to_owned()));
    let rows = query.fetch_all(database).await?;
    Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
}

async fn update(database: &mut AnyConnection, writes: &[(&ListPrice, Option<i64>)]) -> sqlx::Result<()> {
    let update = format!(
        "WITH computed (id, price, market_version) AS (VALUES {}) \
         UPDATE products SET list_price_minor = computed.price, list_market_version = computed.market_version \
         FROM computed WHERE products.id = computed.id",
        placeholders(writes.len(), 3)
    );
    let mut query = query(AssertSqlSafe(update));
    for (ListPrice { row, market_version, price }, _) in writes {
        query = query.bind(row.id.as_str().to_owned()).bind(price.minor()).bind(signed(*market_version));
    }
    query.execute(database).await?;
    Ok(())
}

async fn append_history(
    database: &mut AnyConnection,
    changed: &[(&ListPrice, Option<i64>)],
    task: &TaskId,
    now_ms: i64,
) -> sqlx::Result<()> {
    let insert = format!(
        "INSERT INTO price_history (product_id, product_version, market_version, \
         old_list_price_minor, list_price_minor, task_id, recorded_at_ms) VALUES {}",
        placeholders(changed.len(), 7)
    );
    let mut query = query(AssertSqlSafe(insert));
    for (ListPrice { row, market_version, price }, old) in changed {
        query = query.bind(row.id.as_str().to_owned()).bind(signed(row.product.version));
        query = query.bind(signed(*market_version)).bind(*old).bind(price.minor());
        query = query.bind(task.as_str().to_owned()).bind(now_ms);
    }
    query.execute(database).await?;
    Ok(())
}
