//! What is asked.

use pricing_core::ids::{Location, ProductId};
use pricing_core::price::Membership;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use validator::Validate;

use crate::identifier::{Identifier, invalid_id, valid_id, valid_ids};
use crate::problem::Problem;

/// Most products in one request.
pub const MAX_PRODUCTS: u64 = 500;

/// What a price depends on besides the product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// Where the customer is.
    pub location: Location,
    /// What the customer is to the shop.
    pub membership: Membership,
}

impl Customer {
    fn parse(user_location: String, is_prime_member: bool) -> Result<Self, Problem> {
        let location = Location::parse(user_location).map_err(invalid_id("user_location"))?;
        let membership = if is_prime_member { Membership::Prime } else { Membership::Standard };
        Ok(Self { location, membership })
    }
}

/// One product for one customer.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub struct PriceRequest {
    /// The product.
    #[validate(custom(function = valid_id))]
    #[schema(value_type = Identifier)]
    product_id: String,
    /// Where the customer is. A location without a market of its own is priced like `default`.
    #[validate(custom(function = valid_id))]
    #[schema(value_type = Identifier)]
    user_location: String,
    /// Whether the customer gets the members' discount.
    #[serde(default)]
    #[schema(default = false)]
    is_prime_member: bool,
}

impl PriceRequest {
    /// The product and the customer.
    ///
    /// # Errors
    ///
    /// 422 when one of them is no identifier.
    pub fn parse(self) -> Result<(ProductId, Customer), Problem> {
        let product = ProductId::parse(self.product_id).map_err(invalid_id("product_id"))?;
        Ok((product, Customer::parse(self.user_location, self.is_prime_member)?))
    }
}

/// The product, in the path.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct ProductPath {
    /// The product.
    #[validate(custom(function = valid_id))]
    #[param(value_type = Identifier)]
    product_id: String,
}

/// The customer, in the query.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CustomerQuery {
    /// Where the customer is. A location without a market of its own is priced like `default`.
    #[validate(custom(function = valid_id))]
    #[param(value_type = Identifier)]
    user_location: String,
    /// Whether the customer gets the members' discount.
    #[serde(default)]
    #[param(default = false, required = false)]
    is_prime_member: bool,
}

impl ProductPath {
    /// The product, and the customer of the query.
    ///
    /// # Errors
    ///
    /// 422 when one of them is no identifier.
    pub fn parse(self, query: CustomerQuery) -> Result<(ProductId, Customer), Problem> {
        let product = ProductId::parse(self.product_id).map_err(invalid_id("product_id"))?;
        Ok((product, Customer::parse(query.user_location, query.is_prime_member)?))
    }
}

/// Many products for one customer.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub struct PricesRequest {
    /// The products; one may be there more than once.
    #[validate(
        length(min = 1, max = MAX_PRODUCTS, message = "must hold 1 to 500 items"),
        custom(function = valid_ids)
    )]
    #[schema(value_type = Vec<Identifier>, min_items = 1, max_items = 500)]
    product_ids: Vec<String>,
    /// Where the customer is. A location without a market of its own is priced like `default`.
    #[validate(custom(function = valid_id))]
    #[schema(value_type = Identifier)]
    user_location: String,
    /// Whether the customer gets the members' discount.
    #[serde(default)]
    #[schema(default = false)]
    is_prime_member: bool,
}

impl PricesRequest {
    /// The products, in order, and the customer.
    ///
    /// # Errors
    ///
    /// 422 when one of them is no identifier.
    pub fn parse(self) -> Result<(Vec<ProductId>, Customer), Problem> {
        let products: Result<_, _> = self.product_ids.into_iter().map(ProductId::parse).collect();
        let products = products.map_err(invalid_id("product_ids"))?;
        Ok((products, Customer::parse(self.user_location, self.is_prime_member)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalid(json: &str) -> String {
        let request: PricesRequest = sonic_rs::from_str(json).unwrap();
        sonic_rs::to_string(&Problem::from(request.validate().unwrap_err())).unwrap()
    }

    #[test]
    fn membership_defaults_to_none() {
        let request: PriceRequest =
            sonic_rs::from_str(r#"{"product_id":"P-100","user_location":"NY"}"#).unwrap();
        let (product, customer) = request.parse().unwrap();
        assert_eq!((product.as_str(), customer.location.as_str()), ("P-100", "NY"));
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
}
