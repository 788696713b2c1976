//! Products and markets in JSON.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pricing_core::catalogue::{CatalogueMarket, CatalogueProduct, MarketFields, MarketTerms, ProductFields};
use pricing_core::money::{Amount, Currency, ExchangeRate, Money, Ppm};
use pricing_core::price::Rounding;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use validator::{Validate, ValidationErrors};

use super::precondition::tag;
use crate::identifier::Identifier;
use crate::json::json;

/// A product of the catalogue. Amounts are in major units of its currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Product)]
pub(crate) struct ProductAnswer<'a> {
    /// Its id.
    #[schema(value_type = Identifier)]
    product_id: &'a str,
    /// The catalogue's currency, ISO 4217.
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "USD")]
    currency: Currency,
    /// Price before market and membership.
    #[schema(value_type = f64, minimum = 0, example = 54.99)]
    base_price: Amount,
    /// What it costs the shop.
    #[schema(value_type = Option<f64>, minimum = 0, required = true)]
    cost: Option<Amount>,
    /// The least that it may cost a customer.
    #[schema(value_type = Option<f64>, minimum = 0, required = true)]
    floor: Option<Amount>,
    /// The most that it may cost a customer, unless that is below the floor.
    #[schema(value_type = Option<f64>, minimum = 0, required = true)]
    ceiling: Option<Amount>,
    /// Its category.
    #[schema(required = true, max_length = 64)]
    category: Option<&'a str>,
    /// Its tags.
    #[schema(max_items = 32)]
    tags: Vec<&'a str>,
    /// Changes with every edit, and is the `ETag`.
    #[schema(minimum = 1)]
    revision: u64,
}

impl<'a> ProductAnswer<'a> {
    pub(super) fn new(product: &'a CatalogueProduct, currency: Currency) -> Self {
        let amount = |money| Amount { money, currency };
        let optional = |money: Option<Money>| money.map(amount);
        let terms = &product.terms;
        Self {
            product_id: product.id.as_str(),
            currency,
            base_price: amount(terms.base_price),
            cost: optional(terms.cost),
            floor: optional(terms.floor),
            ceiling: optional(terms.ceiling),
            category: terms.category.as_ref().map(|label| label.as_str()),
            tags: terms.tags.iter().collect(),
            revision: product.revision,
        }
    }
}

/// A market.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Market)]
pub(crate) struct MarketAnswer<'a> {
    /// Its location.
    #[schema(value_type = Identifier)]
    location: &'a str,
    #[serde(flatten)]
    terms: TermsAnswer,
    /// Changes with every edit, and is the `ETag`.
    #[schema(minimum = 1)]
    revision: u64,
}

/// The terms of a market.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketTerms)]
pub(crate) struct TermsAnswer {
    /// Factor on every list price.
    #[schema(value_type = f64, minimum = 0, maximum = 100, example = 0.95)]
    multiplier: Ppm,
    /// Share of the price that members save.
    #[schema(value_type = f64, minimum = 0, maximum = 1, example = 0.05)]
    member_discount: Ppm,
    /// Currency of its prices, ISO 4217.
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "EUR")]
    currency: Currency,
    /// Units of its currency for one unit of the catalogue's; null if they are the same, or if it has no prices yet.
    #[schema(value_type = Option<f64>, required = true, example = 1.08)]
    exchange_rate: Option<ExchangeRate>,
    /// The prices that it allows.
    rounding: RoundingAnswer,
}

/// The prices that a market allows, in major units of its currency.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Rounding)]
pub(crate) struct RoundingAnswer {
    /// Distance of two neighbouring prices.
    #[schema(value_type = f64, example = 1.0)]
    increment: Amount,
    /// Where a price between two of them goes.
    #[schema(value_type = RoundingMode)]
    mode: &'static str,
    /// The least price, such as 0.99.
    #[schema(value_type = Option<f64>, required = true, example = 0.99)]
    ending: Option<Amount>,
}

/// Where a price between two allowed prices goes.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "describes the values of a string")]
pub(crate) enum RoundingMode {
    HalfEven,
    Up,
    Down,
}

impl<'a> MarketAnswer<'a> {
    pub(super) fn new(stored: &'a CatalogueMarket) -> Self {
        let terms = TermsAnswer::new(&MarketTerms::from(&stored.market));
        Self { location: stored.location.as_str(), terms, revision: stored.revision }
    }
}

impl TermsAnswer {
    pub(super) fn new(terms: &MarketTerms) -> Self {
        let MarketTerms { multiplier, member_discount, currency, exchange_rate, rounding } = *terms;
        let rounding = RoundingAnswer::new(rounding, currency);
        Self { multiplier, member_discount, currency, exchange_rate, rounding }
    }
}

impl RoundingAnswer {
    /// The prices that a market of this currency allows.
    pub(crate) fn new(rounding: Rounding, currency: Currency) -> Self {
        let amount = |minor: u32| Amount {
            money: Money::base(minor.into()).expect("invariant: an increment is an amount"),
            currency,
        };
        Self {
            increment: amount(rounding.increment()),
            mode: rounding.mode().as_str(),
            ending: rounding.ending().map(amount),
        }
    }
}

/// An entry of the catalogue that was asked for, or 304 if the caller has it under its revision already.
pub(super) fn unless_known(headers: &HeaderMap, revision: u64, answer: &impl Serialize) -> Response {
    let current = tag(revision);
    if headers.get(header::IF_NONE_MATCH) == Some(&current) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, current)]).into_response();
    }
    with_tag(StatusCode::OK, revision, answer)
}

/// An entry of the catalogue, with its revision as `ETag`.
pub(super) fn with_tag(status: StatusCode, revision: u64, answer: &impl Serialize) -> Response {
    (status, [(header::ETAG, tag(revision))], json(answer)).into_response()
}

macro_rules! body {
    ($(#[$doc:meta])* $name:ident($fields:ident)) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize)]
        #[serde(transparent)]
        pub(crate) struct $name(pub(super) $fields);

        /// The fields are validated against what is stored.
        impl Validate for $name {
            fn validate(&self) -> Result<(), ValidationErrors> {
                Ok(())
            }
        }
    };
}

body! {
    /// The body of a change of a product.
    ProductBody(ProductFields)
}
body! {
    /// The body of a change of a market.
    MarketBody(MarketFields)
}

/// The fields of a product. In a PUT, what is absent or null is removed; in a PATCH (RFC 7396), what is absent stays.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes `ProductFields`")]
pub(crate) struct ProductEditBody {
    /// Price before market and membership, in major units of the catalogue's currency; at most 9,999,999,999.99.
    #[schema(minimum = 0, example = 54.99)]
    base_price: Option<f64>,
    /// What it costs the shop.
    #[schema(minimum = 0)]
    cost: Option<f64>,
    /// The least that it may cost a customer: wins over discounts, rounding and the ceiling.
    #[schema(minimum = 0)]
    floor: Option<f64>,
    /// The most that it may cost a customer. Not below the floor.
    #[schema(minimum = 0)]
    ceiling: Option<f64>,
    /// Its category: 1 to 64 characters.
    #[schema(min_length = 1, max_length = 64)]
    category: Option<String>,
    /// Its tags: 32 of 64 characters at most.
    #[schema(max_items = 32)]
    tags: Option<Vec<String>>,
    /// The catalogue's currency, to have it checked.
    currency: Option<String>,
    /// Its id, to have it checked.
    product_id: Option<String>,
    /// The revision that the edit is based on, in place of `If-Match`.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_992_u64)]
    revision: Option<u64>,
}

/// The fields of a market. In a PUT, what is absent or null takes its default; in a PATCH (RFC 7396), what is absent stays.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes `MarketFields`")]
pub(crate) struct MarketEditBody {
    /// Factor on every list price.
    #[schema(minimum = 0, maximum = 100, example = 0.95)]
    multiplier: Option<f64>,
    /// Share of the price that members save; 0.05 by default.
    #[schema(minimum = 0, maximum = 1, example = 0.05)]
    member_discount: Option<f64>,
    /// Currency of its prices, ISO 4217; the catalogue's by default.
    #[schema(pattern = "^[A-Z]{3}$", example = "EUR")]
    currency: Option<String>,
    /// Units of its currency for one unit of the catalogue's: up to 1,000,000, with 3 decimals from 1,000, 6 from 1, 9 from
    /// 0.001 and 12 below.
    #[schema(exclusive_minimum = 0, maximum = 1_000_000, example = 1.08)]
    exchange_rate: Option<f64>,
    /// The prices that it allows.
    rounding: Option<RoundingEditBody>,
    /// Its location, to have it checked.
    location: Option<String>,
    /// The revision that the edit is based on, in place of `If-Match`.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_992_u64)]
    revision: Option<u64>,
}

/// The prices that a market allows, in major units of its currency.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes `RoundingFields`")]
pub(crate) struct RoundingEditBody {
    /// Distance of two neighbouring prices, such as 0.05; the minor unit by default.
    #[schema(exclusive_minimum = 0, example = 1.0)]
    increment: Option<f64>,
    /// Where a price between two of them goes; half-even by default.
    mode: Option<RoundingMode>,
    /// The least price, such as 0.99; below the increment.
    #[schema(minimum = 0, example = 0.99)]
    ending: Option<f64>,
}
