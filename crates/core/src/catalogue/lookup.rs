//! The lookups of the read path.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Catalogue, CatalogueError};
use crate::ids::{Location, ProductId};
use crate::money::{Currency, Money, Ppm};
use crate::price::{Market, Product};

impl Catalogue {
    /// The product of this id, `None` when there is none.
    ///
    /// # Errors
    ///
    /// When the database fails or the row holds an invalid value.
    pub async fn product(&self, id: &ProductId) -> Result<Option<Product>, CatalogueError> {
        let select = "SELECT id, base_price_minor, currency, version FROM products WHERE id = $1";
        let row = sqlx::query(select).bind(id.as_str().to_owned()).fetch_optional(&self.pool).await?;
        row.as_ref().map(|row| product(row).map(|(_, product)| product)).transpose()
    }

    /// Those of these products that exist, in any order, in one statement.
    ///
    /// # Errors
    ///
    /// When the database fails or a row holds an invalid value.
    pub async fn products(&self, ids: &[ProductId]) -> Result<Vec<(ProductId, Product)>, CatalogueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let select = format!(
            "SELECT id, base_price_minor, currency, version FROM products WHERE id IN {}",
            super::recalculation::placeholders(1, ids.len())
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(select));
        let query = ids.iter().fold(query, |query, id| query.bind(id.as_str().to_owned()));
        query.fetch_all(&self.pool).await?.iter().map(product).collect()
    }

    /// The market of this location, `None` when it has none of its own.
    ///
    /// # Errors
    ///
    /// When the database fails or the row holds an invalid value.
    pub async fn market(&self, location: &Location) -> Result<Option<Market>, CatalogueError> {
        let select = "SELECT location, multiplier_ppm, version FROM markets WHERE location = $1";
        let query = sqlx::query(select).bind(location.as_str().to_owned());
        let row = query.fetch_optional(&self.pool).await?;
        row.as_ref().map(|row| market(row).map(|(_, market)| market)).transpose()
    }
}

/// Reads a product from a row of `id, base_price_minor, currency, version, …`.
pub(super) fn product(row: &AnyRow) -> Result<(ProductId, Product), CatalogueError> {
    let key: String = row.try_get(0)?;
    let invalid = |what| CatalogueError::Invalid { what, key: key.clone() };
    let product = Product {
        base_price: Money::base(row.try_get(1)?).ok_or_else(|| invalid("base_price_minor"))?,
        currency: Currency::parse(row.try_get(2)?).ok_or_else(|| invalid("currency"))?,
        version: version(row.try_get(3)?).ok_or_else(|| invalid("version"))?,
    };
    Ok((ProductId::parse(key.as_str()).map_err(|_| invalid("product id"))?, product))
}

/// Reads a market from a row of `location, multiplier_ppm, version`.
pub(super) fn market(row: &AnyRow) -> Result<(Location, Market), CatalogueError> {
    let key: String = row.try_get(0)?;
    let invalid = |what| CatalogueError::Invalid { what, key: key.clone() };
    let market = Market {
        multiplier: Ppm::multiplier(row.try_get(1)?).ok_or_else(|| invalid("multiplier_ppm"))?,
        version: version(row.try_get(2)?).ok_or_else(|| invalid("version"))?,
    };
    Ok((Location::parse(key.as_str()).map_err(|_| invalid("location"))?, market))
}

fn version(stored: i64) -> Option<u64> {
    u64::try_from(stored).ok().filter(|version| *version >= 1)
}
