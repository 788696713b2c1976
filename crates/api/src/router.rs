//! The routes, and the layers around them.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use pricing_service::admin;
use pricing_service::health::Health;
use pricing_service::telemetry::Metrics;
use tower::{Service, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::load_shed::LoadShedLayer;
use crate::observe::ObserveLayer;
use crate::request_bounds::RequestBoundsLayer;
use crate::state::AppState;
use crate::{openapi, prices, problem, recalculation};

/// Routes that the OpenAPI document does not describe.
const UNDESCRIBED: [&str; 4] = ["/docs", "/docs/", "/docs/{*rest}", "/openapi.json"];

/// The whole service.
///
/// From the outside in: the request's span, id and duration, so that a refusal, a time-out and a panic are measured
/// like any answer; the problem document that every error without one gets; a panic becomes a 500; the
/// bounds of URI and body; load shedding and the request time-out. These are plain services around the router, not layers of it, which would cost each
/// request boxed clones of all of them.
pub(crate) fn service(
    state: Arc<AppState>,
    health: Health,
    metrics: Metrics,
    load_shed: LoadShedLayer,
    is_traced: bool,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static {
    let (calls, document) = calls(openapi::document());
    let routes = document.paths.paths.keys().cloned().chain(UNDESCRIBED.map(String::from));
    let layers = ServiceBuilder::new()
        .layer(ObserveLayer::new(routes.collect::<Vec<_>>(), is_traced))
        .map_response(problem::complete)
        .layer(CatchPanicLayer::custom(problem::of_panic))
        .layer(RequestBoundsLayer::new())
        .layer(load_shed);
    let router = Router::new()
        .merge(calls.with_state(state))
        .merge(SwaggerUi::new("/docs").url("/openapi.json", openapi::with_problems(document)))
        .merge(admin::router(health, metrics));
    layers.service(router)
}

/// The calls of the API, and `document` with their descriptions added.
pub(crate) fn calls(document: OpenApi) -> (Router<Arc<AppState>>, OpenApi) {
    OpenApiRouter::with_openapi(document)
        .routes(routes!(prices::handlers::price))
        .routes(routes!(prices::handlers::price_by_path))
        .routes(routes!(prices::handlers::prices))
        .routes(routes!(recalculation::market_event::publish_market_event))
        .routes(routes!(recalculation::request::recalculate))
        .routes(routes!(recalculation::task::task))
        .split_for_parts()
}
