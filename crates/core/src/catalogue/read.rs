//! Reading products and markets.

use sqlx::{AssertSqlSafe, query_as, query_scalar};

use super::statement::placeholders;
use super::{Catalogue, CatalogueError};
use crate::ids::{Location, ProductId};
use crate::money::{Currency, Money, Ppm};
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

/// A product of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRow {
    /// Its id.
    pub id: ProductId,
    /// What it is priced from.
    pub product: Product,
    /// The list price that the last recalculation recorded, in minor units.
    pub list_price: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct ProductColumns {
    id: String,
    base_price_minor: i64,
    currency: String,
    version: i64,
    list_price_minor: Option<i64>,
}

impl ProductColumns {
    fn decode(self) -> Result<ProductRow, CatalogueError> {
        let invalid = |what| CatalogueError::Invalid { what, key: self.id.clone() };
        let product = Product {
            base_price: Money::base(self.base_price_minor).ok_or_else(|| invalid("base_price_minor"))?,
            currency: Currency::parse(&self.currency).ok_or_else(|| invalid("currency"))?,
            version: version(self.version).ok_or_else(|| invalid("version"))?,
        };
        let id = ProductId::parse(self.id.as_str()).map_err(|_| invalid("product id"))?;
        Ok(ProductRow { id, product, list_price: self.list_price_minor })
    }
}

#[derive(sqlx::FromRow)]
struct MarketColumns {
    location: String,
    multiplier_ppm: i64,
    version: i64,
}

impl MarketColumns {
    fn decode(self) -> Result<(Location, Market), CatalogueError> {
        let invalid = |what| CatalogueError::Invalid { what, key: self.location.clone() };
        let market = Market {
            multiplier: Ppm::multiplier(self.multiplier_ppm).ok_or_else(|| invalid("multiplier_ppm"))?,
            version: version(self.version).ok_or_else(|| invalid("version"))?,
        };
        Ok((Location::parse(self.location.as_str()).map_err(|_| invalid("location"))?, market))
    }
}

fn version(stored: i64) -> Option<u64> {
    u64::try_from(stored).ok().filter(|version| *version >= 1)
}
