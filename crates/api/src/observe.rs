//! The id, trace and duration of every request.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};
use axum::response::Response;
use opentelemetry::trace::{SpanContext, SpanKind};
use pin_project_lite::pin_project;
use pricing_core::trace::{parse_traceparent, set_remote_parent, unrecorded_trace};
use pricing_service::telemetry::{Sampling, with_decision};
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::instrument::Instrumented;
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_opentelemetry_instrumentation_sdk::http::{
    http_flavor, http_host_port, http_server, url_scheme, user_agent,
};
use tracing_opentelemetry_instrumentation_sdk::otel_trace_span;
use ulid::Ulid;

use crate::auth::Visitor;
use crate::metrics::RequestMetrics;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum length of a request id that is taken over from the client, in bytes.
const MAX_REQUEST_ID: usize = 64;

/// Maximum length of a span attribute that is taken from a request, in bytes.
const MAX_ATTRIBUTE: usize = 256;

/// Gives each request an id, the client's own if it is sane, and returns it; measures its duration by matched
/// route; and draws its server span, which continues the caller's trace.
///
/// Which traces are recorded is decided here. A read whose trace is not recorded has no span at all. Any other call has
/// one, so that log lines and messages of all services name its trace.
#[derive(Clone)]
pub(crate) struct ObserveLayer {
    endpoints: Arc<Endpoints>,
    /// `None` if no spans are exported.
    sampling: Option<Sampling>,
}

impl ObserveLayer {
    /// Tells requests apart by these routes, in the router's syntax.
    pub(crate) fn new(routes: impl IntoIterator<Item = String>, sampling: Option<Sampling>) -> Self {
        Self { endpoints: Arc::new(Endpoints::new(routes)), sampling }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, layer: self.clone() }
    }
}

/// The service of [`ObserveLayer`].
#[derive(Clone)]
pub(crate) struct Observe<S> {
    inner: S,
    layer: ObserveLayer,
}

impl<B, S> Service<Request<B>> for Observe<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ObserveFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let started = Instant::now();
        let endpoints = self.layer.endpoints.clone();
        let endpoint = endpoints.index_of(request.uri().path());
        let method = RequestMetrics::method(request.method());
        let request_id = request_id(request.headers());
        let span = match self.layer.sampling.filter(|_| is_traced(request.uri().path())) {
            Some(sampling) => server_span(&request, endpoints.all[endpoint].route(), &request_id, sampling),
            None => Span::none(),
        };
        let inner = span.in_scope(|| self.inner.call(request)).instrument(span);
        ObserveFuture { inner, started, endpoints, endpoint, method, request_id: Some(request_id) }
    }
}

pin_project! {
    /// The answer of the inner service, observed.
    pub(crate) struct ObserveFuture<F> {
        #[pin]
        inner: Instrumented<F>,
        started: Instant,
        endpoints: Arc<Endpoints>,
        endpoint: usize,
        method: usize,
        request_id: Option<HeaderValue>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for ObserveFuture<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Ok(mut response) = ready!(this.inner.as_mut().poll(cx));
        http_server::update_span_from_response(this.inner.span(), &response);
        response.headers_mut().extend(this.request_id.take().map(|id| (REQUEST_ID.clone(), id)));
        let metrics = &this.endpoints.all[*this.endpoint];
        metrics.answered(*this.method, response.status().as_u16(), this.started.elapsed());
        Poll::Ready(Ok(response))
    }
}

/// The routes that requests are told apart by. Unmatched requests share one entry, the first, so that labels come
/// from a closed set.
struct Endpoints {
    router: matchit::Router<usize>,
    all: Vec<RequestMetrics>,
}

impl Endpoints {
    fn new(routes: impl IntoIterator<Item = String>) -> Self {
        let (mut router, mut all) = (matchit::Router::new(), vec![RequestMetrics::new("unmatched".into())]);
        for route in routes {
            router.insert(&*route, all.len()).expect("invariant: the router took the same routes");
            all.push(RequestMetrics::new(route));
        }
        Self { router, all }
    }

    fn index_of(&self, path: &str) -> usize {
        self.router.at(path).map_or(0, |matched| *matched.value)
    }
}

/// Whether requests for this path are traced: not the probes.
fn is_traced(path: &str) -> bool {
    path != "/metrics" && !path.starts_with("/health/")
}

/// Whether requests for this route are many, and lead to nothing in other services.
fn is_read(route: &str) -> bool {
    matches!(route, "/api/v1/price" | "/api/v1/price/{product_id}" | "/api/v1/prices")
}

/// The trace that a request continues. A stranger's is not: whether it is sampled, and so what it costs, is theirs to say.
fn remote_parent<B>(request: &Request<B>) -> Option<SpanContext> {
    let traceparent = request.headers().get("traceparent")?;
    let visitor = request.extensions().get::<Visitor>().filter(|visitor| visitor.identity.is_known());
    parse_traceparent(visitor.and_then(|_| traceparent.to_str().ok())?)
}

/// The server span of a request, named by OpenTelemetry's semantic conventions; none for a read whose trace is not
/// recorded. What the client chose is cut, so that no span is longer than the collector takes.
fn server_span<B>(request: &Request<B>, route: &str, request_id: &HeaderValue, sampling: Sampling) -> Span {
    let parent = remote_parent(request);
    let is_recorded = sampling.records(parent.as_ref());
    if !is_recorded && is_read(route) {
        return Span::none();
    }
    let (host, port) = http_host_port(request);
    let method = cut(request.method().as_str());
    let span = otel_trace_span!(
        "HTTP request",
        http.request.method = method,
        http.route = route,
        network.protocol.version = %http_flavor(request.version()),
        server.address = cut(host),
        server.port = port,
        user_agent.original = cut(user_agent(request)),
        http.response.status_code = Empty,
        url.path = cut(request.uri().path()),
        url.query = request.uri().query().map(cut),
        url.scheme = url_scheme(request.uri()),
        otel.name = format!("{method} {route}"),
        otel.kind = ?SpanKind::Server,
        otel.status_code = Empty,
    );
    match parent {
        Some(parent) => set_remote_parent(&span, with_decision(&parent, is_recorded)),
        None if is_recorded => {}
        None => set_remote_parent(&span, unrecorded_trace()),
    }
    if let Ok(id) = request_id.to_str() {
        span.set_attribute("pricing.request_id", id.to_owned());
    }
    span
}

/// The beginning of a text: all of it but for an abuse.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ATTRIBUTE)]
}

/// Sets an attribute of the current span.
pub(crate) fn set_attribute(name: &'static str, value: &'static str) {
    let span = Span::current();
    if !span.is_disabled() {
        span.set_attribute(name, value);
    }
}

fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sent = headers.get(&REQUEST_ID).filter(|id| is_sane(id.as_bytes()));
    sent.cloned().unwrap_or_else(|| {
        let mut id = [0; ulid::ULID_LEN];
        let id = Ulid::generate().array_to_str(&mut id);
        HeaderValue::from_str(id).expect("invariant: a ULID is letters and digits")
    })
}

fn is_sane(id: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::Method;
    use tower::ServiceExt as _;

    use super::*;

    async fn echoed(sent: Option<&[u8]>) -> HeaderValue {
        let service = ObserveLayer::new([], None).layer(Router::new());
        let request = sent.iter().fold(Request::get("/"), |request, id| request.header(&REQUEST_ID, *id));
        let answer = service.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        answer.headers()[&REQUEST_ID].clone()
    }

    #[tokio::test]
    async fn a_sane_request_id_is_echoed_and_any_other_replaced() {
        assert_eq!(echoed(Some(b"order-17.A_b")).await, "order-17.A_b");
        let long = [b'x'; MAX_REQUEST_ID + 1];
        for bad in [None, Some(&b""[..]), Some(b"a b"), Some(b"a\"b"), Some(b"\xff"), Some(&long)] {
            let id = echoed(bad).await;
            assert_eq!(id.len(), 26, "{bad:?} became {id:?}");
        }
    }

    #[test]
    fn labels_and_traces_are_bounded() {
        let method = |name: &[u8]| RequestMetrics::method(&Method::from_bytes(name).unwrap());
        assert_eq!((method(b"BREW"), method(b"BREW2")), (method(b"OTHER"), method(b"OTHER")));
        assert_ne!(method(b"GET"), method(b"POST"));
        let endpoints = Endpoints::new(["/price/{id}", "/price"].map(String::from));
        assert_eq!(["/price/P-1", "/price", "/price/P-1/x"].map(|path| endpoints.index_of(path)), [1, 2, 0]);
        assert!(is_traced("/api/v1/price") && !is_traced("/health/ready") && !is_traced("/metrics"));
    }
}
