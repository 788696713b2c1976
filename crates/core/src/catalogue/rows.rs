//! Rows of products and markets, validated.

use super::CatalogueError;
use crate::ids::{Location, ProductId};
use crate::money::{Currency, Money, Ppm};
use crate::price::{Market, Product};

/// A product of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRow {
    /// Its id.
    pub id: ProductId,
    /// What it is priced from.
    pub product: Product,
    /// The list price that the last recalculation recorded, in minor units. It takes no part in prices yet.
    pub list_price: Option<i64>,
    /// Version of the default market that the list price was computed with; 0 if none was.
    pub list_market_version: i64,
}

/// A part of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The valid rows.
    pub rows: Vec<T>,
    /// Number of the invalid rows, which are skipped.
    pub invalid: u64,
    /// The key of the last row, where the next part starts; `None` at the end.
    pub last: Option<String>,
}

#[derive(sqlx::FromRow)]
pub(super) struct ProductColumns {
    pub(super) id: String,
    base_price_minor: i64,
    currency: String,
    version: i64,
    list_price_minor: Option<i64>,
    list_market_version: i64,
}

impl ProductColumns {
    pub(super) fn decode(self) -> Result<ProductRow, CatalogueError> {
        let invalid = |what| CatalogueError::Invalid { what, key: self.id.clone() };
        let base_price = Money::base(self.base_price_minor).ok_or_else(|| invalid("base_price_minor"))?;
        let currency = Currency::parse(&self.currency).map_err(|_| invalid("currency"))?;
        let version = version(self.version).ok_or_else(|| invalid("version"))?;
        let product = Product::new(base_price, currency, version);
        let id = ProductId::parse(self.id.as_str()).map_err(|_| invalid("product id"))?;
        let (list_price, list_market_version) = (self.list_price_minor, self.list_market_version);
        Ok(ProductRow { id, product, list_price, list_market_version })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct MarketColumns {
    pub(super) location: String,
    multiplier_ppm: i64,
    currency: String,
    version: i64,
}

impl MarketColumns {
    pub(super) fn decode(self) -> Result<(Location, Market), CatalogueError> {
        let invalid = |what| CatalogueError::Invalid { what, key: self.location.clone() };
        let multiplier = Ppm::multiplier(self.multiplier_ppm).ok_or_else(|| invalid("multiplier_ppm"))?;
        let currency = Currency::parse(&self.currency).map_err(|_| invalid("currency"))?;
        let version = version(self.version).ok_or_else(|| invalid("version"))?;
        let location = Location::parse(self.location.as_str()).map_err(|_| invalid("location"))?;
        Ok((location, Market::new(multiplier, currency, version)))
    }
}

fn version(stored: i64) -> Option<u64> {
    u64::try_from(stored).ok().filter(|version| *version >= 1)
}
