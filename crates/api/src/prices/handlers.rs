//! The calls that answer prices.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pricing_core::ids::ProductId;

use super::batch_slot::BatchSlot;
use super::shape::{
    CustomerQuery, PriceAnswer, PriceRequest, PricesAnswer, PricesRequest, ProductPath, customer, product,
};
use super::validator::{IfNoneMatch, tag};
use crate::auth::{Caller, Read};
use crate::identifier::invalid_id;
use crate::json::{ValidatedJson, json};
use crate::parameters::{ValidatedPath, ValidatedQuery};
use crate::problem::{PROBLEM_JSON, Problem};
use crate::state::AppState;

/// Every use of the answer asks again: a change of the catalogue is served within a second. It is for one customer.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Price a product
///
/// Prices a product for a customer: from the cache, or from the database on a cache miss.
#[utoipa::path(
    post, path = "/api/v1/price", tag = "prices", request_body = PriceRequest,
    responses(
        (status = 200, description = "The price", body = PriceAnswer),
        (status = 404, description = "The product does not exist", body = Problem, content_type = PROBLEM_JSON),
        (
            status = 422,
            description = "Fields are missing or wrong, or the market has no price for the product",
            body = Problem, content_type = PROBLEM_JSON
        ),
    )
)]
pub(crate) async fn price(
    _caller: Caller<Read>,
    State(state): State<Arc<AppState>>,
    ValidatedJson(request): ValidatedJson<PriceRequest>,
) -> Result<Response, Problem> {
    let product = product(request.product_id)?;
    let customer = customer(request.user_location, request.is_prime_member)?;
    if request.explain {
        let priced = Box::pin(state.reader.explain(&product, &customer)).await?;
        return Ok(json(&PriceAnswer::explained(&product, &priced)));
    }
    let priced = state.reader.price(&product, &customer).await?;
    Ok(json(&PriceAnswer::new(&product, &priced)))
}

/// Price a product, by GET
///
/// The same answer as the POST, with an `ETag` that changes when the product or its market does. A client that sends it
/// back in `If-None-Match` is answered 304 until then. What is stale has none.
#[utoipa::path(
    get, path = "/api/v1/price/{product_id}", tag = "prices",
    params(
        ProductPath,
        CustomerQuery,
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of the answer that the client has"),
    ),
    responses(
        (
            status = 200, description = "The price", body = PriceAnswer,
            headers(
                ("ETag" = String, description = "Weak, for `If-None-Match`; none on a stale answer"),
                ("Cache-Control" = String, description = "`private, no-cache`"),
            )
        ),
        (
            status = 304, description = "The client has the price",
            headers(
                ("ETag" = String, description = "As in the answer that the client has"),
                ("Cache-Control" = String, description = "`private, no-cache`"),
            )
        ),
        (status = 404, description = "The product does not exist", body = Problem, content_type = PROBLEM_JSON),
        (
            status = 422,
            description = "Fields are missing or wrong, or the market has no price for the product",
            body = Problem, content_type = PROBLEM_JSON
        ),
    )
)]
pub(crate) async fn price_by_path(
    _caller: Caller<Read>,
    State(state): State<Arc<AppState>>,
    ValidatedPath(path): ValidatedPath<ProductPath>,
    ValidatedQuery(query): ValidatedQuery<CustomerQuery>,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    let product = product(path.product_id)?;
    let customer = customer(query.user_location, query.is_prime_member)?;
    if query.explain {
        let priced = Box::pin(state.reader.explain(&product, &customer)).await?;
        let tag = (!priced.is_stale).then(|| tag(&priced.detail, &customer, true));
        return Ok(unless_known(&known, tag, || json(&PriceAnswer::explained(&product, &priced))));
    }
    let priced = state.reader.price(&product, &customer).await?;
    let tag = (!priced.is_stale).then(|| tag(&priced.detail, &customer, false));
    Ok(unless_known(&known, tag, || json(&PriceAnswer::new(&product, &priced))))
}

/// The answer with its tag, or 304 if the client has it.
fn unless_known(
    known: &IfNoneMatch,
    tag: Option<HeaderValue>,
    answer: impl FnOnce() -> Response,
) -> Response {
    let mut response = match &tag {
        Some(tag) if known.has(tag) => StatusCode::NOT_MODIFIED.into_response(),
        _ => answer(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, ASK_AGAIN);
    response.headers_mut().extend(tag.map(|tag| (header::ETAG, tag)));
    response
}

/// Price many products
///
/// Prices up to 500 products for a customer, in one round trip to the cache. Every 50 products count as one more
/// concurrent request.
#[utoipa::path(
    post, path = "/api/v1/prices", tag = "prices", request_body = PricesRequest,
    responses((status = 200, description = "The prices, in the order of the request", body = PricesAnswer))
)]
pub(crate) async fn prices(
    caller: Caller<Read>,
    State(state): State<Arc<AppState>>,
    slot: BatchSlot,
    ValidatedJson(request): ValidatedJson<PricesRequest>,
) -> Result<Response, Problem> {
    let products: Result<Vec<_>, _> = request.product_ids.into_iter().map(ProductId::parse).collect();
    let products = products.map_err(invalid_id("product_ids"))?;
    slot.charge(&caller, products.len())?;
    let customer = customer(request.user_location, request.is_prime_member)?;
    let _permits = state.permits.acquire_for_batch(products.len())?;
    if request.explain {
        let quotes = state.reader.explain_all(&products, &customer).await?;
        return Ok(json(&PricesAnswer::new(&products, &quotes, PriceAnswer::explained)));
    }
    let quotes = state.reader.prices(&products, &customer).await?;
    Ok(json(&PricesAnswer::new(&products, &quotes, PriceAnswer::new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Size of the future that a handler makes, in bytes.
    fn future_size<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_future_of_a_read_is_small() {
        // Each layer moves it once: what is rare or large is in a box.
        assert!(future_size(price) <= 2_432, "{}", future_size(price));
    }
}
