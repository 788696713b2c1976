//! Requests and answers of the calls for prices.

use axum::http::StatusCode;
use pricing_core::clock::millis;
use pricing_core::ids::{Location, ProductId};
use pricing_core::money::{Amount, Currency, Ppm};
use pricing_core::price::{Membership, Unpriced};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use validator::Validate;

use super::explanation::ExplanationAnswer;
use super::loaded::LoadError;
use super::quote::{Customer, Explained, Priced, Quote, ReadError};
use crate::identifier::{Identifier, invalid_id, valid_id, valid_ids};
use crate::problem::Problem;

/// Maximum products in one request.
pub(crate) const MAX_PRODUCTS: u64 = 500;

/// One product for one customer.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct PriceRequest {
    /// The product.
    #[validate(custom(function = valid_id))]
    #[schema(value_type = Identifier)]
    pub(super) product_id: String,
    /// The customer's location. One without a market is priced with the market `default`.
    #[validate(custom(function = valid_id))]
    #[schema(value_type = Identifier)]
    pub(super) user_location: String,
    /// Whether the customer gets the members' discount.
    #[serde(default)]
    #[schema(default = false)]
    pub(super) is_prime_member: bool,
    /// Whether the answer explains the price.
    #[serde(default)]
    #[schema(default = false)]
    pub(super) explain: bool,
}

/// The product, in the path.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ProductPath {
    /// The product.
    #[validate(custom(function = valid_id))]
    #[param(value_type = Identifier)]
    pub(super) product_id: String,
}

/// The customer, in the query.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CustomerQuery {
    /// The customer's location. One without a market is priced with the market `default`.
    #[validate(custom(function = valid_id))]
    #[param(value_type = Identifier)]
    pub(super) user_location: String,
    /// Whether the customer gets the members' discount.
    #[serde(default)]
    #[param(default = false, required = false)]
    pub(super) is_prime_member: bool,
    /// Whether the answer explains the price.
    #[serde(default)]
    #[param(default = false, required = false)]
    pub(super) explain: bool,
}

/// Many products for one customer.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct PricesRequest {
    /// The products; one may be listed more than once.
    #[validate(
        length(min = 1, max = MAX_PRODUCTS, message = "must hold 1 to 500 items"),
        custom(function = valid_ids)
    )]
    #[schema(value_type = Vec<Identifier>, min_items = 1, max_items = 500)]
    pub(super) product_ids: Vec<String>,
    /// The customer's location. One without a market is priced with the market `default`.
    #[validate(custom(function = valid_id))]
    #[schema(value_type = Identifier)]
    pub(super) user_location: String,
    /// Whether the customer gets the members' discount.
    #[serde(default)]
    #[schema(default = false)]
    pub(super) is_prime_member: bool,
    /// Whether the answer explains each price.
    #[serde(default)]
    #[schema(default = false)]
    pub(super) explain: bool,
}

pub(super) fn product(id: String) -> Result<ProductId, Problem> {
    ProductId::parse(id).map_err(invalid_id("product_id"))
}

pub(super) fn customer(user_location: String, is_prime_member: bool) -> Result<Customer, Problem> {
    let location = Location::parse(user_location).map_err(invalid_id("user_location"))?;
    let membership = if is_prime_member { Membership::Prime } else { Membership::Standard };
    Ok(Customer { location, membership })
}

/// Where the inputs of a price came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// All of them from the cache.
    Cache,
    /// At least one of them from the database.
    Database,
}

/// The price of a product for one customer.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct PriceAnswer<'a> {
    /// The product.
    #[schema(value_type = Identifier)]
    product_id: &'a str,
    /// The price that the customer pays, in major units; with no more decimals than the currency has.
    #[schema(value_type = f64, minimum = 0, example = 49.63)]
    final_price: Amount,
    /// The price before market and membership, in major units of the same currency.
    #[schema(value_type = f64, minimum = 0, example = 54.99)]
    base_price: Amount,
    /// The share of the market's price that membership saves.
    #[schema(value_type = f64, minimum = 0, maximum = 1, example = 0.05)]
    discount_rate: Ppm,
    /// Where the inputs of the price came from.
    source: Source,
    /// Currency of both prices, ISO 4217: the market's.
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "USD")]
    currency: Currency,
    /// Version of the product that was priced; it only grows.
    #[schema(minimum = 1, example = 1)]
    version: u64,
    /// Milliseconds since the older of the inputs was written to the cache; 0 for what was just read from the database.
    #[schema(minimum = 0, example = 1200)]
    age_ms: u64,
    /// Present, and true, when the database is down and the price was made of stale data.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    stale: bool,
    /// Why the price is what it is; present if the request asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ExplanationAnswer, required = false)]
    explanation: Option<Box<ExplanationAnswer>>,
}

impl<'a> PriceAnswer<'a> {
    pub(super) fn new<E>(id: &'a ProductId, priced: &Priced<E>) -> Self {
        let detail = &priced.detail;
        let amount = |money| Amount { money, currency: detail.currency };
        Self {
            product_id: id.as_str(),
            final_price: amount(detail.final_price),
            base_price: amount(detail.base_price),
            discount_rate: detail.discount_rate,
            source: if priced.is_cached { Source::Cache } else { Source::Database },
            currency: detail.currency,
            version: detail.version,
            age_ms: millis(priced.age),
            stale: priced.is_stale,
            explanation: None,
        }
    }

    pub(super) fn explained(id: &'a ProductId, priced: &Priced<Explained>) -> Self {
        let explanation = Some(Box::new(ExplanationAnswer::new(&priced.explanation)));
        Self { explanation, ..Self::new(id, priced) }
    }
}

/// The prices of many products for one customer.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct PricesAnswer<'a> {
    /// The prices of the products that exist, in the order of the request.
    prices: Vec<PriceAnswer<'a>>,
    /// The products that do not exist, in the order of the request.
    #[schema(value_type = Vec<Identifier>)]
    missing: Vec<&'a str>,
    /// The products that exist and have no price in the market, in the order of the request.
    unpriced: Vec<UnpricedAnswer<'a>>,
}

impl<'a> PricesAnswer<'a> {
    pub(super) fn new<E>(
        products: &'a [ProductId],
        quotes: &[Quote<E>],
        priced: impl Fn(&'a ProductId, &Priced<E>) -> PriceAnswer<'a>,
    ) -> Self {
        let mut answer =
            Self { prices: Vec::with_capacity(products.len()), missing: Vec::new(), unpriced: Vec::new() };
        for (id, quote) in products.iter().zip(quotes) {
            match quote {
                Some(Ok(price)) => answer.prices.push(priced(id, price)),
                Some(Err(reason)) => {
                    answer.unpriced.push(UnpricedAnswer { product_id: id.as_str(), reason: reason.as_str() });
                }
                None => answer.missing.push(id.as_str()),
            }
        }
        answer
    }
}

/// A product without a price in the customer's market.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct UnpricedAnswer<'a> {
    /// The product.
    #[schema(value_type = Identifier)]
    product_id: &'a str,
    /// Why it has no price.
    #[schema(value_type = UnpricedReason)]
    reason: &'static str,
}

/// Why a product has no price in a market: the market has another currency than the catalogue and no exchange rate, or
/// an amount is too large.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the values of a string")]
pub(crate) enum UnpricedReason {
    NoExchangeRate,
    OutOfRange,
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        const UNAVAILABLE: &str = "Prices are not available just now.";
        match &error {
            ReadError::UnknownProduct => Self::not_found("The product does not exist."),
            ReadError::Unpriced { market, reason: Unpriced::NoExchangeRate } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!(
                    "The market {market} has no exchange rate for its currency, so nothing has a price in it."
                ),
            ),
            ReadError::Unpriced { market, reason: Unpriced::OutOfRange } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("The price in the market {market} is larger than any price may be."),
            ),
            // The breaker has logged the outage; a line for each read would drown everything else.
            ReadError::Unavailable(cause) if cause.is_unavailable() => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE)
            }
            ReadError::Unavailable(cause) if cause.is_overload() => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "Too many prices are being read.")
            }
            ReadError::Unavailable(cause) => {
                let detail = match **cause {
                    LoadError::NoDefaultMarket => {
                        "The catalogue has no market \"default\" and none for this location."
                    }
                    _ => UNAVAILABLE,
                };
                Self::unavailable(detail, &error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pricing_core::money::{ExchangeRate, Money};
    use pricing_core::price::{Market, Product, Rounding, RoundingMode, explain, price};

    use super::*;

    fn invalid(json: &str) -> String {
        let request: PricesRequest = serde_json::from_str(json).unwrap();
        sonic_rs::to_string(&Problem::from(request.validate().unwrap_err())).unwrap()
    }

    #[test]
    fn membership_defaults_to_none() {
        let request: PriceRequest =
            serde_json::from_str(r#"{"product_id":"P-100","user_location":"NY"}"#).unwrap();
        assert_eq!((request.product_id.as_str(), request.user_location.as_str()), ("P-100", "NY"));
        let customer = customer(request.user_location, request.is_prime_member).unwrap();
        assert_eq!(customer.membership, Membership::Standard);
    }

    #[test]
    fn a_batch_holds_1_to_500_products() {
        let empty = invalid(r#"{"product_ids":[],"user_location":"NY"}"#);
        assert!(
            empty.contains(r#"[{"field":"product_ids","message":"must hold 1 to 500 items"}]"#),
            "{empty}"
        );
        let many = vec![r#""P-1""#; 501].join(",");
        let many = invalid(&format!(r#"{{"product_ids":[{many}],"user_location":"NY"}}"#));
        assert!(many.contains("must hold 1 to 500 items"), "{many}");
    }

    #[test]
    fn every_wrong_field_is_listed_by_its_name() {
        let both = invalid(r#"{"product_ids":["P-1","P:2"],"user_location":""}"#);
        assert!(both.contains(r#"{"field":"product_ids","message":"item 1 may only hold"#), "{both}");
        assert!(both.contains(r#"{"field":"user_location","message":"must not be empty"}"#), "{both}");
    }
    #[test]
    fn an_answer_has_the_contracts_fields_and_numbers() {
        let base_price = Money::base(5_499).unwrap();
        let product = Product::new(base_price, Currency::USD, 7);
        let market = Market::new(Ppm::multiplier(950_000).unwrap(), Currency::USD, 1);
        let detail = price(&product, &market, Membership::Prime).unwrap();
        let id = ProductId::parse("P-105").unwrap();
        let json = |is_cached, is_stale| {
            let priced = Priced {
                detail,
                explanation: (),
                is_cached,
                is_stale,
                age: Duration::from_micros(1_234_567),
            };
            sonic_rs::to_string(&PriceAnswer::new(&id, &priced)).unwrap()
        };
        let fields = r#""product_id":"P-105","final_price":49.63,"base_price":54.99,"discount_rate":0.05"#;
        assert_eq!(
            json(true, false),
            format!(r#"{{{fields},"source":"cache","currency":"USD","version":7,"age_ms":1234}}"#)
        );
        assert_eq!(
            json(false, true),
            format!(
                r#"{{{fields},"source":"database","currency":"USD","version":7,"age_ms":1234,"stale":true}}"#
            )
        );
    }

    /// The example of docs/pricing.md.
    #[test]
    fn an_explanation_is_what_the_page_says() {
        const PAGE: &str = include_str!("../../../../docs/pricing.md");
        let example = PAGE.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let example: serde_json::Value = serde_json::from_str(example).unwrap();

        let money = |minor| Money::base(minor).unwrap();
        let product = Product {
            ceiling: Some(money(6_000)),
            floor: Some(money(4_500)),
            ..Product::new(money(5_499), Currency::USD, 907)
        };
        let market = Market {
            exchange_rate: ExchangeRate::from_e12(920_000_000_000),
            rounding: Rounding::new(100, RoundingMode::Up, Some(99)).unwrap(),
            ..Market::new(Ppm::multiplier(950_000).unwrap(), Currency::parse("EUR").unwrap(), 909)
        };
        let explanation = explain(&product, &market, Membership::Prime).unwrap();
        let priced = Priced {
            detail: explanation.detail,
            explanation: Explained { explanation, location: Location::parse("Paris").unwrap() },
            is_cached: true,
            is_stale: false,
            age: Duration::from_millis(412),
        };
        let tea = ProductId::parse("tea").unwrap();
        let answer = sonic_rs::to_string(&PriceAnswer::explained(&tea, &priced)).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&answer).unwrap(), example, "{answer}");
    }
}
