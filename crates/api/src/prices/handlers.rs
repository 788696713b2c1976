//! The calls.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::answer::{PriceAnswer, PricesAnswer};
use super::read::read_price;
use super::read_many::read_prices;
use super::request::{CustomerQuery, PriceRequest, PricesRequest, ProductPath};
use crate::body::{JsonBody, json};
use crate::parameters::{PathOf, QueryOf};
use crate::problem::{PROBLEM_JSON, Problem};
use crate::state::AppState;

/// Price a product for a customer
///
/// Prices a product for a customer, from the cache or, when it does not know the inputs, from the database.
#[utoipa::path(
    post, path = "/api/v1/price", tag = "prices", request_body = PriceRequest,
    responses(
        (status = 200, description = "The price", body = PriceAnswer),
        (status = 404, description = "The product does not exist", body = Problem, content_type = PROBLEM_JSON),
    )
)]
pub async fn price(
    State(state): State<Arc<AppState>>,
    JsonBody(request): JsonBody<PriceRequest>,
) -> Result<Response, Problem> {
    let (product, customer) = request.parse()?;
    Ok(json(&read_price(&state, &product, &customer).await?))
}

/// Price a product for a customer
///
/// The same as the POST, for links and caches on the way.
#[utoipa::path(
    get, path = "/api/v1/price/{product_id}", tag = "prices", params(ProductPath, CustomerQuery),
    responses(
        (status = 200, description = "The price", body = PriceAnswer),
        (status = 404, description = "The product does not exist", body = Problem, content_type = PROBLEM_JSON),
    )
)]
pub async fn price_by_path(
    State(state): State<Arc<AppState>>,
    PathOf(path): PathOf<ProductPath>,
    QueryOf(query): QueryOf<CustomerQuery>,
) -> Result<Response, Problem> {
    let (product, customer) = path.parse(query)?;
    Ok(json(&read_price(&state, &product, &customer).await?))
}

/// Price many products for a customer
///
/// At most 500 products, in one round trip to the cache.
#[utoipa::path(
    post, path = "/api/v1/prices", tag = "prices", request_body = PricesRequest,
    responses((status = 200, description = "The prices, in the order of the request", body = PricesAnswer))
)]
pub async fn prices(
    State(state): State<Arc<AppState>>,
    JsonBody(request): JsonBody<PricesRequest>,
) -> Result<Response, Problem> {
    let (products, customer) = request.parse()?;
    Ok(json(&read_prices(&state, &products, &customer).await?))
}
