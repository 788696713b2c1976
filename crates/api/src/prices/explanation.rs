//! The explanation of a price, as clients see it.

use pricing_core::money::{Amount, Currency, ExchangeRate, Ppm};
use pricing_core::price::{Bound, Market, Product};
use serde::Serialize;
use utoipa::ToSchema;

use super::quote::Explained;
use crate::catalogue::shape::RoundingAnswer;
use crate::identifier::Identifier;

/// Why a price is what it is: the product and the market that it was made of, and what each step has made.
///
/// The amounts of steps are exact decimal numbers, in major units of the market's currency, and are text: they may have
/// more digits than a JSON number holds.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = PriceExplanation)]
pub(crate) struct ExplanationAnswer {
    product: ExplainedProduct,
    market: ExplainedMarket,
    /// The share that membership saves: the market's `member_discount` for a member, and 0 for others.
    #[schema(value_type = f64, minimum = 0, maximum = 1, example = 0.05)]
    discount_rate: Ppm,
    /// `list_price × multiplier × exchange_rate × (1 − discount_rate)`, before rounding.
    #[schema(example = "49.628475")]
    exact_price: String,
    /// The price that the market allows in its place.
    #[schema(example = "49.63")]
    rounded_price: String,
    /// What the ceiling did then; null if the product has none.
    #[schema(required = true)]
    ceiling: Option<ExplainedBound>,
    /// What the floor did last; null if the product has none.
    #[schema(required = true)]
    floor: Option<ExplainedBound>,
    /// The price that the customer pays.
    #[schema(value_type = f64, minimum = 0, example = 49.63)]
    final_price: Amount,
    /// Whether the market allows no price between floor and ceiling, so the price is above the ceiling.
    bounds_conflict: bool,
}

/// The product that was priced. Amounts are in the catalogue's currency.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct ExplainedProduct {
    /// Version of the product.
    #[schema(minimum = 1)]
    version: u64,
    /// The catalogue's currency, ISO 4217.
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "USD")]
    currency: Currency,
    /// The price that the shop has set.
    #[schema(value_type = f64, minimum = 0, example = 54.99)]
    base_price: Amount,
    /// The price before market and membership.
    #[schema(value_type = f64, minimum = 0, example = 54.99)]
    list_price: Amount,
    /// Where the list price comes from.
    list_price_from: ListPriceSource,
    /// The most that the product may cost.
    #[schema(value_type = Option<f64>, minimum = 0, required = true)]
    ceiling: Option<Amount>,
    /// The least that the product may cost.
    #[schema(value_type = Option<f64>, minimum = 0, required = true)]
    floor: Option<Amount>,
}

/// Where a list price comes from: a recalculation, or the base price where none has made another one of it.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ListPriceSource {
    Recalculation,
    BasePrice,
}

/// The market that priced the product.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct ExplainedMarket {
    /// Its location: the customer's, or `default` if that has no market.
    #[schema(value_type = Identifier)]
    location: String,
    /// Version of the market.
    #[schema(minimum = 1)]
    version: u64,
    /// Currency of its prices, ISO 4217.
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "EUR")]
    currency: Currency,
    /// Factor on every list price.
    #[schema(value_type = f64, minimum = 0, maximum = 100, example = 0.95)]
    multiplier: Ppm,
    /// Units of its currency for one unit of the catalogue's; 1 if they are the same.
    #[schema(value_type = f64, exclusive_minimum = 0, maximum = 1_000_000, example = 0.92)]
    exchange_rate: ExchangeRate,
    /// Share of the price that members save.
    #[schema(value_type = f64, minimum = 0, maximum = 1, example = 0.05)]
    member_discount: Ppm,
    rounding: RoundingAnswer,
}

/// What a ceiling or floor did to the price.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct ExplainedBound {
    /// The bound in the market's currency.
    #[schema(example = "55.2")]
    amount: String,
    /// Whether it moved the price.
    moved: bool,
    /// The price after it.
    #[schema(example = "54.99")]
    price: String,
}

impl ExplanationAnswer {
    pub(super) fn new(explained: &Explained) -> Self {
        let Explained { explanation, location } = explained;
        let detail = &explanation.detail;
        let bound = |bound: Bound| ExplainedBound {
            amount: bound.amount.to_string(),
            moved: bound.moved,
            price: bound.price.to_string(),
        };
        Self {
            product: ExplainedProduct::new(&explanation.product),
            market: ExplainedMarket::new(&explanation.market, location.as_str(), explanation.exchange_rate),
            discount_rate: detail.discount_rate,
            exact_price: explanation.exact_price.to_string(),
            rounded_price: explanation.rounded_price.to_string(),
            ceiling: explanation.ceiling.map(bound),
            floor: explanation.floor.map(bound),
            final_price: Amount { money: detail.final_price, currency: detail.currency },
            bounds_conflict: detail.bounds_conflict,
        }
    }
}

impl ExplainedProduct {
    fn new(product: &Product) -> Self {
        let amount = |money| Amount { money, currency: product.currency };
        Self {
            version: product.version,
            currency: product.currency,
            base_price: amount(product.base_price),
            list_price: amount(product.list_price()),
            list_price_from: match product.list_price {
                Some(_) => ListPriceSource::Recalculation,
                None => ListPriceSource::BasePrice,
            },
            ceiling: product.ceiling.map(amount),
            floor: product.floor.map(amount),
        }
    }
}

impl ExplainedMarket {
    fn new(market: &Market, location: &str, exchange_rate: ExchangeRate) -> Self {
        Self {
            location: location.to_owned(),
            version: market.version,
            currency: market.currency,
            multiplier: market.multiplier,
            exchange_rate,
            member_discount: market.member_discount,
            rounding: RoundingAnswer::new(market.rounding, market.currency),
        }
    }
}
