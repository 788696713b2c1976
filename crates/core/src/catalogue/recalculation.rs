//! What a full recalculation reads and writes, one batch at a time.

use std::collections::HashSet;

use sqlx::Row as _;

use super::{Catalogue, CatalogueError, lookup};
use crate::ids::{Location, ProductId, TaskId};
use crate::money::Money;
use crate::price::{Market, Product};

/// A product as a scan sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRow {
    /// Which product.
    pub id: ProductId,
    /// What it is priced from.
    pub product: Product,
    /// The list price that the last recalculation recorded, if any did.
    pub list_price: Option<i64>,
}

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
    /// Number of products.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_products(&self) -> Result<u64, CatalogueError> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM products").fetch_one(&self.pool).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The next products in the order of their ids: at most `limit`, starting behind `after`.
    ///
    /// Each call is one statement over the primary key (keyset pagination), so a scan costs the same
    /// wherever it stands and holds no transaction open.
    ///
    /// # Errors
    ///
    /// When the database fails or a row holds an invalid value.
    pub async fn products_after(
        &self,
        after: Option<&ProductId>,
        limit: u32,
    ) -> Result<Vec<ProductRow>, CatalogueError> {
        let select = "SELECT id, base_price_minor, currency, version, list_price_minor \
                      FROM products WHERE id > $1 ORDER BY id LIMIT $2";
        let after = after.map_or("", ProductId::as_str).to_owned();
        let rows = sqlx::query(select).bind(after).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let (id, product) = lookup::product(row)?;
                Ok(ProductRow { id, product, list_price: row.try_get(4)? })
            })
            .collect()
    }

    /// The next markets in the order of their locations, like [`Catalogue::products_after`].
    ///
    /// # Errors
    ///
    /// When the database fails or a row holds an invalid value.
    pub async fn markets_after(
        &self,
        after: Option<&Location>,
        limit: u32,
    ) -> Result<Vec<(Location, Market)>, CatalogueError> {
        let select = "SELECT location, multiplier_ppm, version \
                      FROM markets WHERE location > $1 ORDER BY location LIMIT $2";
        let after = after.map_or("", Location::as_str).to_owned();
        let rows = sqlx::query(select).bind(after).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        rows.iter().map(lookup::market).collect()
    }

    /// Records a batch of list prices in one transaction, and in the history those that changed.
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
        let mut transaction = self.pool.begin().await?;

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
        let mut query = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(update));
        for ListPrice { row, market_version, price } in batch {
            query = query.bind(row.id.as_str().to_owned()).bind(signed(row.product.version));
            query = query.bind(price.minor()).bind(signed(*market_version));
        }
        let written: HashSet<String> = query.fetch_all(&mut *transaction).await?.into_iter().collect();

        let changed: Vec<&ListPrice> = batch
            .iter()
            .filter(|item| {
                item.row.list_price != Some(item.price.minor()) && written.contains(item.row.id.as_str())
            })
            .collect();
        if !changed.is_empty() {
            let insert = format!(
                "INSERT INTO price_history \
                 (product_id, product_version, market_version, list_price_minor, task_id, recorded_at_ms) VALUES {}",
                placeholders(changed.len(), 6)
            );
            let mut query = sqlx::query(sqlx::AssertSqlSafe(insert));
            for ListPrice { row, market_version, price } in &changed {
                query = query.bind(row.id.as_str().to_owned()).bind(signed(row.product.version));
                query = query.bind(signed(*market_version)).bind(price.minor());
                query = query.bind(task.as_str().to_owned()).bind(now_ms);
            }
            query.execute(&mut *transaction).await?;
        }

        transaction.commit().await?;
        Ok(changed.len())
    }

    /// How many list prices the history holds for a product.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn history_len(&self, id: &ProductId) -> Result<u64, CatalogueError> {
        let select = "SELECT COUNT(*) FROM price_history WHERE product_id = $1";
        let count: i64 =
            sqlx::query_scalar(select).bind(id.as_str().to_owned()).fetch_one(&self.pool).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

/// `($1, $2), ($3, $4)` for two rows of two columns.
pub(super) fn placeholders(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let cells: Vec<_> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", cells.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_count_on_from_row_to_row() {
        assert_eq!(placeholders(2, 2), "($1, $2), ($3, $4)");
        assert_eq!(placeholders(1, 3), "($1, $2, $3)");
    }
}
