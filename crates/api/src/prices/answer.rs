//! What is answered.

use pricing_core::ids::ProductId;
use pricing_core::money::{Currency, Money, Ppm};
use pricing_core::price::PriceDetail;
use serde::Serialize;
use utoipa::ToSchema;

use crate::identifier::Identifier;

/// Where the inputs of a price came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// All of them from the cache.
    Cache,
    /// At least one of them from the database.
    Database,
}

/// The price of a product for one customer.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct PriceAnswer<'a> {
    /// The product.
    #[schema(value_type = Identifier)]
    product_id: &'a str,
    /// What the customer pays, in major units; two decimal places at most.
    #[schema(value_type = f64, minimum = 0, example = 49.63)]
    final_price: Money,
    /// The price before market and membership, in major units.
    #[schema(value_type = f64, minimum = 0, example = 54.99)]
    base_price: Money,
    /// The share of the market's price that membership saves.
    #[schema(value_type = f64, minimum = 0, maximum = 1, example = 0.05)]
    discount_rate: Ppm,
    /// Where the inputs of the price came from.
    source: Source,
    /// Currency of both prices, ISO 4217.
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "USD")]
    currency: Currency,
    /// Version of the product that was priced; it only grows.
    #[schema(minimum = 1, example = 1)]
    version: u64,
    /// There, and true, when the database is away and the price was made of older data than usual.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    stale: bool,
}

impl<'a> PriceAnswer<'a> {
    /// The answer for this product.
    pub fn new(id: &'a ProductId, price: &PriceDetail, source: Source, stale: bool) -> Self {
        Self {
            product_id: id.as_str(),
            final_price: price.final_price,
            base_price: price.base_price,
            discount_rate: price.discount_rate,
            source,
            currency: price.currency,
            version: price.version,
            stale,
        }
    }
}

/// The prices of many products for one customer.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct PricesAnswer<'a> {
    /// The prices of the products that exist, in the order of the request.
    pub prices: Vec<PriceAnswer<'a>>,
    /// The products that do not exist, in the order of the request.
    #[schema(value_type = Vec<Identifier>)]
    pub missing: Vec<&'a str>,
}

#[cfg(test)]
mod tests {
    use pricing_core::price::{Market, Membership, Policy, Product, price};

    use super::*;

    #[test]
    fn an_answer_has_the_contracts_fields_and_numbers() {
        let base_price = Money::base(5_499).unwrap();
        let product = Product { base_price, currency: Currency::USD, version: 7 };
        let market = Market { multiplier: Ppm::multiplier(950_000).unwrap(), version: 1 };
        let price = price(&product, &market, Membership::Prime, &Policy::default());
        let id = ProductId::parse("P-105").unwrap();
        let json =
            |source, stale| sonic_rs::to_string(&PriceAnswer::new(&id, &price, source, stale)).unwrap();
        let fields = r#""product_id":"P-105","final_price":49.63,"base_price":54.99,"discount_rate":0.05"#;
        assert_eq!(
            json(Source::Cache, false),
            format!(r#"{{{fields},"source":"cache","currency":"USD","version":7}}"#)
        );
        assert_eq!(
            json(Source::Database, true),
            format!(r#"{{{fields},"source":"database","currency":"USD","version":7,"stale":true}}"#)
        );
    }
}
