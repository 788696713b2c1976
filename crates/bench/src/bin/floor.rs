//! The floor: what a price costs that is only parsed for and answered. A bare axum handler on the allocator and the
//! runtime of the api: it parses the same body and answers a constant of the same shape. It serves on `API_ADDR`, says that
//! it is ready, and ends with SIGTERM.

use std::hint::black_box;

use axum::http::{HeaderName, HeaderValue, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::var("API_ADDR")?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let router = Router::new().route("/api/v1/price", post(price)).route("/health/ready", get(async || ()));
    tokio::select! {
        served = axum::serve(listener, router) => Ok(served?),
        _ = terminate.recv() => Ok(()),
    }
}
