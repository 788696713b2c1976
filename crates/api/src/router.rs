//! The routes, and what every request passes through on its way to them.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum_tracing_opentelemetry::middleware::OtelAxumLayer;
use pricing_service::admin;
use pricing_service::health::Health;
use tokio::sync::Semaphore;
use tower::ServiceBuilder;
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::load::Bounds;
use crate::server::Service;
use crate::state::AppState;
use crate::{body, load, observe, openapi, prices, problem, recalculation};

/// The whole service.
///
/// From the outside in: the span of the request, which continues the caller's trace; the request's id; its
/// duration, so that a refusal, a time-out and a panic are measured like any answer; the problem document
/// that every error without one gets; a panic becomes a 500; a slow request becomes a 503, and so does one too
/// many.
pub fn router(service: &Service, health: Health) -> Router {
    let (calls, document) = api(openapi::document());
    let room = Arc::new(Semaphore::new(service.max_concurrent_requests));
    let bounds = Bounds { time: service.request_timeout, room };
    let layers = ServiceBuilder::new()
        .layer(option_layer(service.traced.then(|| OtelAxumLayer::default().filter(observe::is_traced))))
        .layer(from_fn(observe::identify))
        .layer(from_fn(observe::measure))
        .map_response(problem::complete)
        .layer(CatchPanicLayer::custom(problem::of_panic))
        .layer(from_fn_with_state(bounds, load::bounded))
        .layer(DefaultBodyLimit::max(body::MAX_BODY));
    Router::new()
        .merge(calls.with_state(service.state.clone()))
        .merge(SwaggerUi::new("/docs").url("/openapi.json", openapi::with_problems(document)))
        .merge(admin::router(health, service.metrics.clone()))
        .layer(layers)
}

/// The calls of the API, and `document` with their descriptions added.
pub(crate) fn api(document: OpenApi) -> (Router<Arc<AppState>>, OpenApi) {
    OpenApiRouter::with_openapi(document)
        .routes(routes!(prices::price))
        .routes(routes!(prices::price_by_path))
        .routes(routes!(prices::prices))
        .routes(routes!(recalculation::publish_market_event))
        .routes(routes!(recalculation::recalculate))
        .routes(routes!(recalculation::task))
        .split_for_parts()
}
