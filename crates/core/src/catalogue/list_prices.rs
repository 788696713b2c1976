//! List prices and their history.

use std::collections::HashSet;

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, query, query_scalar};

use super::{Catalogue, CatalogueError, ProductRow, placeholders};
use crate::ids::{ProductId, TaskId};
use crate::money::Money;

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

impl Catalogue {
    /// Records a batch of list prices in one transaction, and adds those that changed to the history.
    ///
    /// A row is written only if its product still has the version that was read and no newer market was
    /// applied to it, so a writer that was paused in between changes nothing. Returns how many prices
    /// changed.
    ///
    /// # Errors
    ///
    /// When the database fails; then nothing of the batch is written.
    pub async fn record_list_prices(
        &self,
        batch: &[ListPrice],
        task: &TaskId,
        now_ms: i64,
    ) -> Result<usize, CatalogueError> {
        if batch.is_empty() {
            return Ok(0);
        }
        let record = async |database: &mut AnyConnection| {
            let mut transaction = database.begin().await?;
            let written = update(&mut transaction, batch).await?;
            let is_changed = |item: &&ListPrice| {
                item.row.list_price != Some(item.price.minor()) && written.contains(item.row.id.as_str())
            };
            let changed: Vec<&ListPrice> = batch.iter().filter(is_changed).collect();
            if !changed.is_empty() {
                append_history(&mut transaction, &changed, task, now_ms).await?;
            }
            transaction.commit().await?;
            Ok(changed.len())
        };
        self.run("UPDATE products INSERT price_history", record).await
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
}

/// Writes the list prices of a batch. Returns the ids of the rows that were written.
async fn update(database: &mut AnyConnection, batch: &[ListPrice]) -> sqlx::Result<HashSet<String>> {
    let update = format!(
        "WITH computed (id, version, price, market_version) AS (VALUES {}) \
         UPDATE products SET list_price_minor = computed.price, list_market_version = computed.market_version \
         FROM computed WHERE products.id = computed.id AND products.version = computed.version \
         AND products.list_market_version <= computed.market_version \
         AND (products.list_price_minor IS DISTINCT FROM computed.price \
              OR products.list_market_version < computed.market_version) \
         RETURNING products.id",
        placeholders(batch.len(), 4)
    );
    let mut query = query_scalar::<_, String>(AssertSqlSafe(update));
    for ListPrice { row, market_version, price } in batch {
        query = query.bind(row.id.as_str().to_owned()).bind(signed(row.product.version));
        query = query.bind(price.minor()).bind(signed(*market_version));
    }
    Ok(query.fetch_all(database).await?.into_iter().collect())
}

async fn append_history(
    database: &mut AnyConnection,
    changed: &[&ListPrice],
    task: &TaskId,
    now_ms: i64,
) -> sqlx::Result<()> {
    let insert = format!(
        "INSERT INTO price_history \
         (product_id, product_version, market_version, list_price_minor, task_id, recorded_at_ms) VALUES {}",
        placeholders(changed.len(), 6)
    );
    let mut query = query(AssertSqlSafe(insert));
    for ListPrice { row, market_version, price } in changed {
        query = query.bind(row.id.as_str().to_owned()).bind(signed(row.product.version));
        query = query.bind(signed(*market_version)).bind(price.minor());
        query = query.bind(task.as_str().to_owned()).bind(now_ms);
    }
    query.execute(database).await?;
    Ok(())
}

fn signed(version: u64) -> i64 {
    i64::try_from(version).expect("invariant: a version was read from a signed column")
}
