//! What is known of every request: its id, its trace and its duration.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tracing::Span;
use ulid::Ulid;

use crate::metrics;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id of a request that is taken over from the client, in bytes.
const MAX_REQUEST_ID: usize = 64;

/// Whether requests for this path are traced: those of people, not those of probes.
pub fn is_traced(path: &str) -> bool {
    path != "/metrics" && !path.starts_with("/health/")
}

/// Gives the request an id, the client's own if it sent a sane one; puts it on the span, and returns it to
/// the client.
pub async fn identify(request: Request, next: Next) -> Response {
    let sent = request.headers().get(&REQUEST_ID).filter(|id| is_sane(id.as_bytes())).cloned();
    let id = sent.or_else(|| HeaderValue::try_from(Ulid::generate().to_string()).ok());
    let span = Span::current();
    if let Some(id) = id.as_ref().and_then(|id| id.to_str().ok()) {
        span.record("request_id", id);
    }
    let mut response = next.run(request).await;
    response.headers_mut().extend(id.map(|id| (REQUEST_ID.clone(), id)));
    response
}

fn is_sane(id: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(allowed)
}

/// Measures how long the request takes, by its matched route: never by its path, which clients choose.
pub async fn measure(request: Request, next: Next) -> Response {
    let start = Instant::now();
    let method = known_method(request.method());
    let route = request.extensions().get::<MatchedPath>();
    let endpoint = route.map_or("unmatched", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    metrics::request_answered(method, endpoint, response.status().as_u16(), start.elapsed());
    response
}

fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use tower::ServiceExt as _;

    use super::*;

    async fn echoed(sent: Option<&[u8]>) -> HeaderValue {
        let router = Router::new().layer(from_fn(measure)).layer(from_fn(identify));
        let request = sent.iter().fold(Request::get("/"), |request, id| request.header(&REQUEST_ID, *id));
        let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
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
        assert_eq!(known_method(&Method::from_bytes(b"BREW").unwrap()), "OTHER");
        assert!(is_traced("/api/v1/price") && !is_traced("/health/ready") && !is_traced("/metrics"));
    }
}
