//! Reading products and markets.

use sqlx::{AssertSqlSafe, query_as, query_scalar};

use super::rows::{MarketColumns, ProductColumns, ProductRow};
use super::statement::placeholders;
use super::{Catalogue, CatalogueError};
use crate::ids::{Location, ProductId};
use crate::price::{Market, Product};

const PRODUCTS: &str = "SELECT id, base_price_minor, currency, version, list_price_minor FROM products";
const MARKETS: &str = "SELECT location, multiplier_ppm, version FROM markets";

impl Catalogue {
    /// Looks a product up.
    ///
    /// # Errors
    ///
    /// When the database fails or the row holds an invalid value.
    pub async fn product(&self, id: &ProductId) -> Result<Option<Product>, CatalogueError> {
        let select = AssertSqlSafe(format!("{PRODUCTS} WHERE id = $1"));
        let query = query_as::<_, ProductColumns>(select).bind(id.as_str().to_owned());
        let row = self.run("SELECT products", async |database| query.fetch_optional(database).await).await?;
        row.map(|row| Ok(row.decode()?.product)).transpose()
    }

    /// Looks products up in one statement. Those that do not exist are left out; the order is arbitrary.
    ///
    /// # Errors
    ///
    /// When the database fails or a row holds an invalid value.
    pub async fn products(&self, ids: &[ProductId]) -> Result<Vec<(ProductId, Product)>, CatalogueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let select = AssertSqlSafe(format!("{PRODUCTS} WHERE id IN {}", placeholders(1, ids.len())));
        let query = query_as::<_, ProductColumns>(select);
        let query = ids.iter().fold(query, |query, id| query.bind(id.as_str().to_owned()));
        let rows = self.run("SELECT products", async |database| query.fetch_all(database).await).await?;
        rows.into_iter().map(|row| row.decode().map(|row| (row.id, row.product))).collect()
    }

    /// Looks the market of a location up.
    ///
    /// # Errors
    ///
    /// When the database fails or the row holds an invalid value.
    pub async fn market(&self, location: &Location) -> Result<Option<Market>, CatalogueError> {
        let select = AssertSqlSafe(format!("{MARKETS} WHERE location = $1"));
        let query = query_as::<_, MarketColumns>(select).bind(location.as_str().to_owned());
        let row = self.run("SELECT markets", async |database| query.fetch_optional(database).await).await?;
        row.map(|row| Ok(row.decode()?.1)).transpose()
    }

    /// Counts the products.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_products(&self) -> Result<u64, CatalogueError> {
        let query = query_scalar("SELECT COUNT(*) FROM products");
        let count: i64 =
            self.run("SELECT products", async |database| query.fetch_one(database).await).await?;
        Ok(u64::try_from(count).expect("invariant: a count is not negative"))
    }

    /// Reads at most `limit` products in the order of their ids, starting behind `after`.
    ///
    /// Each call is one statement over the primary key (keyset pagination), so a scan costs the same at
    /// any position and holds no transaction open.
    ///
    /// # Errors
    ///
    /// When the database fails or a row holds an invalid value.
    pub async fn products_after(
        &self,
        after: Option<&ProductId>,
        limit: u32,
    ) -> Result<Vec<ProductRow>, CatalogueError> {
        let select = AssertSqlSafe(format!("{PRODUCTS} WHERE id > $1 ORDER BY id LIMIT $2"));
        let after = after.map_or("", ProductId::as_str).to_owned();
        let query = query_as::<_, ProductColumns>(select).bind(after).bind(i64::from(limit));
        let rows = self.run("SELECT products", async |database| query.fetch_all(database).await).await?;
        rows.into_iter().map(ProductColumns::decode).collect()
    }

    /// Reads markets in the order of their locations, like [`Catalogue::products_after`].
    ///
    /// # Errors
    ///
    /// When the database fails or a row holds an invalid value.
    pub async fn markets_after(
        &self,
        after: Option<&Location>,
        limit: u32,
    ) -> Result<Vec<(Location, Market)>, CatalogueError> {
        let select = AssertSqlSafe(format!("{MARKETS} WHERE location > $1 ORDER BY location LIMIT $2"));
        let after = after.map_or("", Location::as_str).to_owned();
        let query = query_as::<_, MarketColumns>(select).bind(after).bind(i64::from(limit));
        let rows = self.run("SELECT markets", async |database| query.fetch_all(database).await).await?;
        rows.into_iter().map(MarketColumns::decode).collect()
    }
}
