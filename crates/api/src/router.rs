//! The routes, and the layers around them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::get;
use pricing_service::admin;
use pricing_service::health::Health;
use pricing_service::telemetry::{Metrics, Sampling};
use tower::util::MapResponseLayer;
use tower::{Service, ServiceBuilder};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::auth::{AdmitLayer, guarded};
use crate::catch_panic::CatchPanicLayer;
use crate::late_answer::LateAnswerLayer;
use crate::load_shed::LoadShedLayer;
use crate::observe::ObserveLayer;
use crate::request_bounds::RequestBoundsLayer;
use crate::state::AppState;
use crate::{catalogue, openapi, prices, problem, recalculation};

/// Routes that the OpenAPI document does not describe.
const UNDESCRIBED: [&str; 4] = ["/docs", "/docs/", "/docs/{*rest}", "/openapi.json"];

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// What the pages of the documentation may load: their own scripts and styles, and images inside these.
const DOCS_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The whole service, of requests with the addresses of their peers.
///
/// From the outside in: who makes the request; its span, id and duration, so that a refusal, a time-out and a panic are
/// measured like any answer; the problem document that every error without one gets; a panic becomes a 500; the door,
/// which refuses callers without a key and those beyond their limits; refusals that wait; the bounds of URI and body; load
/// shedding and the request time-out. These are plain services around the router, not layers of it, which would cost each
/// request boxed clones of all of them.
pub(crate) fn service(
    state: Arc<AppState>,
    health: Health,
    metrics: Metrics,
    load_shed: LoadShedLayer,
    sampling: Option<Sampling>,
) -> impl Service<(SocketAddr, Request), Response = Response, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let door = state.door.clone();
    let (calls, document) = calls(openapi::document());
    let routes = document.paths.paths.keys().cloned().chain(UNDESCRIBED.map(String::from));
    let layers = ServiceBuilder::new()
        .map_request({
            let door = door.clone();
            move |(peer, request): (SocketAddr, Request)| door.identify(peer.ip(), request)
        })
        .layer(ObserveLayer::new(routes.collect::<Vec<_>>(), sampling))
        .map_response(not_sniffed)
        .map_response(problem::complete)
        .layer(CatchPanicLayer)
        .layer(AdmitLayer(door.clone()))
        .layer(LateAnswerLayer)
        .layer(RequestBoundsLayer::new())
        .layer(load_shed);
    let document = openapi::complete(document, door.is_locked());
    let router = Router::new()
        .merge(calls.with_state(state))
        .merge(docs(document))
        .merge(admin::router(health, metrics));
    layers.service(router)
}

/// The calls of the API, and `document` with their descriptions added.
pub(crate) fn calls(document: OpenApi) -> (Router<Arc<AppState>>, OpenApi) {
    let calls = [
        guarded!(prices::handlers::price),
        guarded!(prices::handlers::price_by_path),
        guarded!(prices::handlers::prices),
        guarded!(catalogue::products::products),
        guarded!(catalogue::products::product),
        guarded!(catalogue::products::put_product),
        guarded!(catalogue::products::patch_product),
        guarded!(catalogue::products::delete_product),
        guarded!(catalogue::batch::edit_products),
        guarded!(catalogue::history::product_history),
        guarded!(catalogue::markets::markets),
        guarded!(catalogue::markets::market),
        guarded!(catalogue::markets::put_market),
        guarded!(catalogue::markets::patch_market),
        guarded!(catalogue::markets::delete_market),
        guarded!(catalogue::history::market_history),
        guarded!(recalculation::market_event::publish_market_event),
        guarded!(recalculation::request::recalculate),
        guarded!(recalculation::task::task),
        guarded!(recalculation::tasks::tasks),
        guarded!(recalculation::tasks::replay),
    ];
    let router = OpenApiRouter::with_openapi(document);
    calls.into_iter().fold(router, |router, call| call.mount(router)).split_for_parts()
}

/// The documentation, which loads nothing from elsewhere and is shown in no frame.
fn docs(document: OpenApi) -> Router {
    let document = sonic_rs::to_vec(&document).expect("invariant: a document serializes");
    let (document, json) = (Bytes::from(document), [(header::CONTENT_TYPE, "application/json")]);
    let page = SwaggerUi::new("/docs").config(utoipa_swagger_ui::Config::from("/openapi.json"));
    let router =
        Router::new().route("/openapi.json", get(move || std::future::ready((json, document.clone()))));
    router.merge(page).layer(MapResponseLayer::new(|mut response: Response| {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, DOCS_POLICY);
        response
    }))
}

/// Keeps browsers from taking an answer for anything but what it is declared as.
fn not_sniffed(mut response: Response) -> Response {
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}
