//! Rows of products and markets, validated.

use serde::Deserialize;

use super::{CatalogueError, CatalogueMarket, MarketTerms};
use crate::ids::{Location, ProductId};
use crate::money::{Currency, ExchangeRate, Money, Ppm};
use crate::price::{Market, Product, Rounding, RoundingMode};

/// A product of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRow {
    /// Its id.
    pub id: ProductId,
    /// What it is priced from.
    pub product: Product,
}

/// A part of a scan.
#[derive(Debug)]
pub struct Page<T> {
    /// The valid rows.
    pub rows: Vec<T>,
    /// What is wrong with the invalid ones, which are skipped.
    pub invalid: Vec<CatalogueError>,
    /// The key of the last row, where the next part starts; `None` at the end.
    pub last: Option<String>,
}

/// A SELECT of [`ProductColumns`].
macro_rules! select_products {
    ($clauses:literal) => {
        concat!(
            "SELECT id, base_price_minor, list_price_minor, floor_minor, ceiling_minor, version FROM products ",
            $clauses
        )
    };
}
pub(super) use select_products;

/// A SELECT of [`MarketColumns`].
macro_rules! select_markets {
    ($clauses:literal) => {
        concat!(
            "SELECT location, multiplier_ppm, member_discount_ppm, currency, exchange_rate_e12, increment_minor, \
             rounding_mode, ending_minor, version, revision FROM markets ",
            $clauses
        )
    };
}
pub(super) use select_markets;

#[derive(sqlx::FromRow)]
pub(super) struct ProductColumns {
    pub(super) id: String,
    base_price_minor: i64,
    list_price_minor: Option<i64>,
    floor_minor: Option<i64>,
    ceiling_minor: Option<i64>,
    version: i64,
}

impl ProductColumns {
    /// The row of a catalogue in `currency`.
    pub(super) fn decode(self, currency: Currency) -> Result<ProductRow, CatalogueError> {
        let invalid = |what| CatalogueError::Invalid { what, key: self.id.clone() };
        let amount = |what, minor: i64| Money::base(minor).ok_or_else(|| invalid(what));
        let optional = |what, minor: Option<i64>| minor.map(|minor| amount(what, minor)).transpose();
        let product = Product {
            base_price: amount("base_price_minor", self.base_price_minor)?,
            list_price: optional("list_price_minor", self.list_price_minor)?,
            floor: optional("floor_minor", self.floor_minor)?,
            ceiling: optional("ceiling_minor", self.ceiling_minor)?,
            currency,
            version: version(self.version).ok_or_else(|| invalid("version"))?,
        };
        let id = ProductId::parse(self.id.as_str()).map_err(|_| invalid("product id"))?;
        Ok(ProductRow { id, product })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct MarketColumns {
    pub(super) location: String,
    #[sqlx(flatten)]
    terms: TermsColumns,
    version: i64,
    revision: i64,
}

/// The columns of a market's terms, which its history holds as a JSON object.
#[derive(sqlx::FromRow, Deserialize)]
pub(super) struct TermsColumns {
    multiplier_ppm: i64,
    member_discount_ppm: i64,
    currency: Option<String>,
    exchange_rate_e12: Option<i64>,
    increment_minor: i64,
    rounding_mode: String,
    ending_minor: Option<i64>,
}

impl TermsColumns {
    /// The terms in a catalogue whose currency is `catalogue`, or the column that holds an invalid value.
    pub(super) fn decode(self, catalogue: Currency) -> Result<MarketTerms, &'static str> {
        let currency = match &self.currency {
            Some(code) => Currency::parse(code).map_err(|_| "currency")?,
            None => catalogue,
        };
        let rate = |e12: i64| u64::try_from(e12).ok().and_then(ExchangeRate::from_e12);
        let rate = self.exchange_rate_e12.map(|e12| rate(e12).ok_or("exchange_rate_e12"));
        let exchange_rate = match rate.transpose()? {
            // An amount is itself in its own currency: another rate is a mistake, and no reason to guess.
            Some(rate) if currency == catalogue && rate != ExchangeRate::ONE => {
                return Err("exchange_rate_e12");
            }
            rate => rate.filter(|_| currency != catalogue),
        };
        let mode = RoundingMode::parse(&self.rounding_mode).ok_or("rounding_mode")?;
        let rounding = Rounding::new(self.increment_minor, mode, self.ending_minor);
        Ok(MarketTerms {
            multiplier: Ppm::multiplier(self.multiplier_ppm).ok_or("multiplier_ppm")?,
            member_discount: Ppm::rate(self.member_discount_ppm).ok_or("member_discount_ppm")?,
            currency,
            exchange_rate,
            rounding: rounding.ok_or("increment_minor or ending_minor")?,
        })
    }
}

impl MarketColumns {
    /// The row in a catalogue whose currency is `catalogue`.
    pub(super) fn decode(self, catalogue: Currency) -> Result<(Location, Market), CatalogueError> {
        let CatalogueMarket { location, market, .. } = self.decode_for_shop(catalogue)?;
        Ok((location, market))
    }

    /// The row as the shop has it.
    pub(super) fn decode_for_shop(self, catalogue: Currency) -> Result<CatalogueMarket, CatalogueError> {
        let Self { location: key, terms, version: stored, revision } = self;
        let invalid = |what| CatalogueError::Invalid { what, key: key.clone() };
        let terms = terms.decode(catalogue).map_err(invalid)?;
        let market = terms.market(version(stored).ok_or_else(|| invalid("version"))?);
        let revision = version(revision).ok_or_else(|| invalid("revision"))?;
        let location = Location::parse(key.as_str()).map_err(|_| invalid("location"))?;
        Ok(CatalogueMarket { location, market, revision })
    }
}

fn version(stored: i64) -> Option<u64> {
    u64::try_from(stored).ok().filter(|version| *version >= 1)
}
