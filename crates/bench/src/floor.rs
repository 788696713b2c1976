//! The floor: what a price costs that is only parsed for and answered.

use std::hint::black_box;

use axum::http::{HeaderName, HeaderValue, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

const CONTENT_TYPE: [(HeaderName, HeaderValue); 1] =
    [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
const ANSWER: &str = r#"{"product_id":"P-105","final_price":49.63,"base_price":54.99,"discount_rate":0.05,"source":"cache","currency":"USD","version":7,"age_ms":1234}"#;

/// The fields are read by nobody: the parser must make them all the same.
#[derive(Deserialize)]
#[expect(dead_code, reason = "what is measured is the parsing")]
struct PriceRequest {
    product_id: String,
    user_location: String,
    #[serde(default)]
    is_prime_member: bool,
}

async fn price(Json(request): Json<PriceRequest>) -> ([(HeaderName, HeaderValue); 1], &'static str) {
    black_box(request);
    (CONTENT_TYPE, ANSWER)
}

/// A bare axum handler that parses the body of a request for a price and answers a constant of the same shape.
pub fn router() -> Router {
    Router::new().route("/api/v1/price", post(price)).route("/health/ready", get(async || ()))
}
