//! Bounds of a request: its URI and its body.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{Layer, Service};

use crate::load_shed::is_call;
use crate::problem::Problem;
use crate::read_body::{ReadBody, WholeBody};

/// Maximum length of a path with its query, in bytes.
const MAX_URI: usize = 8 * 1_024;
/// Maximum number of large bodies in memory: 32 MiB.
const LARGE_BODIES: usize = 512;

/// Refuses a URI that is too long, and reads the body of a call before the call takes a permit of load shedding:
/// clients that send slowly keep none from others.
///
/// A body may take 2 seconds, and a second more for every 16 KiB of it that has arrived. A slower one is answered 408,
/// a longer one than [`MAX_BODY`] 413, and its connection closes. A call without a body costs nothing.
#[derive(Debug, Clone)]
pub(crate) struct RequestBoundsLayer {
    large_bodies: Arc<Semaphore>,
}

impl RequestBoundsLayer {
    pub(crate) fn new() -> Self {
        Self { large_bodies: Arc::new(Semaphore::new(LARGE_BODIES)) }
    }
}

impl<S> Layer<S> for RequestBoundsLayer {
    type Service = RequestBounds<S>;

    fn layer(&self, inner: S) -> RequestBounds<S> {
        RequestBounds { inner, large_bodies: self.large_bodies.clone() }
    }
}

/// The service of [`RequestBoundsLayer`].
#[derive(Debug, Clone)]
pub(crate) struct RequestBounds<S> {
    inner: S,
    large_bodies: Arc<Semaphore>,
}

impl<S> Service<Request> for RequestBounds<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoundedFuture<S, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if length(request.uri()) > MAX_URI {
            let detail = format!("Path and query must not exceed {MAX_URI} bytes together.");
            return BoundedFuture::Refused { problem: Some(Problem::new(StatusCode::URI_TOO_LONG, detail)) };
        }
        if request.body().is_end_stream() || !is_call(&request) {
            return BoundedFuture::Served { answer: self.inner.call(request), large: None };
        }
        let (head, body) = request.into_parts();
        let read = ReadBody::new(body, self.large_bodies.clone());
        // The service that was polled ready is the one to call.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        BoundedFuture::Reading { read, then: Some((inner, head)) }
    }
}

fn length(uri: &Uri) -> usize {
    uri.path().len() + uri.query().map_or(0, |query| query.len() + 1)
}

pin_project! {
    /// The answer of the inner service, which gets the whole body, or a refusal.
    #[project = Projected]
    pub(crate) enum BoundedFuture<S, F> {
        Reading { #[pin] read: ReadBody, then: Option<(S, Parts)> },
        Served { #[pin] answer: F, large: Option<OwnedSemaphorePermit> },
        Refused { problem: Option<Problem> },
    }
}

impl<S, F> Future for BoundedFuture<S, F>
where
    S: Service<Request, Response = Response, Error = Infallible, Future = F>,
    F: Future<Output = Result<Response, Infallible>>,
{
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project() {
                Projected::Served { answer, .. } => return answer.poll(cx),
                Projected::Refused { problem } => {
                    let problem = problem.take().expect("invariant: polled once");
                    return Poll::Ready(Ok(closing(problem)));
                }
                Projected::Reading { read, then } => match ready!(read.poll(cx)) {
                    Ok(WholeBody { bytes, large }) => {
                        let (mut inner, head) = then.take().expect("invariant: the body is read once");
                        let answer = inner.call(Request::from_parts(head, Body::from(bytes)));
                        Self::Served { answer, large }
                    }
                    Err(problem) => Self::Refused { problem: Some(problem) },
                },
            };
            self.set(next);
        }
    }
}

/// The answer to a refusal that closes the connection, of whose request a part may still be to come.
pub(crate) fn closing(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::body::Bytes;
    use axum::routing::{get, post};
    use futures_util::stream;
    use tokio::time::Instant;
    use tower::ServiceExt as _;

    use super::*;
    use crate::read_body::{MAX_BODY, SMALL_BODY};

    fn service() -> RequestBounds<Router> {
        let router = Router::new()
            .route("/api/length", post(async |body: Bytes| body.len().to_string()))
            .route("/page", get(async || "page"));
        RequestBoundsLayer::new().layer(router)
    }

    async fn ask(service: RequestBounds<Router>, request: Request) -> (u16, String, bool) {
        let answer = service.oneshot(request).await.unwrap();
        let (status, closes) = (answer.status().as_u16(), answer.headers().contains_key(header::CONNECTION));
        let body = axum::body::to_bytes(answer.into_body(), MAX_BODY).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap(), closes)
    }

    async fn post_to(service: RequestBounds<Router>, body: impl Into<Body>) -> (u16, String, bool) {
        ask(service, Request::post("/api/length").body(body.into()).unwrap()).await
    }

    /// A body in pieces of `length` bytes, one every `period`; it never ends.
    fn trickle(length: usize, period: Duration) -> Body {
        Body::from_stream(stream::unfold((), move |()| async move {
            tokio::time::sleep(period).await;
            Some((Ok::<_, Infallible>(vec![b' '; length]), ()))
        }))
    }

    #[tokio::test]
    async fn a_handler_gets_the_whole_body() {
        for length in [0, 1, SMALL_BODY + 1, MAX_BODY] {
            assert_eq!(post_to(service(), vec![b' '; length]).await, (200, length.to_string(), false));
        }
        let pieces = (0..64).map(|_| Ok::<_, Infallible>(vec![b' '; 1_024]));
        let chunked = Body::from_stream(stream::iter(pieces));
        assert_eq!(post_to(service(), chunked).await, (200, MAX_BODY.to_string(), false));
    }

    #[tokio::test]
    async fn a_longer_body_is_refused_after_a_part_of_it_is_read() {
        let (status, problem, closes) = post_to(service(), vec![b' '; MAX_BODY + 1]).await;
        assert!(status == 413 && closes && problem.contains("must not exceed 65536 bytes"), "{problem}");
        let endless = Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(vec![b' '; 4_096])));
        assert_eq!(post_to(service(), endless).await.0, 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_given_two_seconds_and_one_more_for_every_16_kib() {
        for (length, period_ms, seconds, expected) in [
            (0, 60_000, 2, 408),
            (1, 100, 2, 408),
            (1_024, 100, 5, 408), // 10 KiB a second
            (4_096, 200, 3, 413), // 20 KiB a second: all of 64 KiB, and then it is too long
        ] {
            let start = Instant::now();
            let (status, _, closes) =
                post_to(service(), trickle(length, Duration::from_millis(period_ms))).await;
            assert_eq!((status, closes), (expected, true), "{length} every {period_ms} ms");
            let took = start.elapsed().as_secs();
            assert!((seconds..=seconds + 4).contains(&took), "{length} every {period_ms} ms: {took} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_are_bounded_together_and_small_ones_are_not() {
        let service = service();
        let large = || trickle(SMALL_BODY + 1, Duration::from_millis(1_800));
        let held: Vec<_> =
            (0..LARGE_BODIES).map(|_| tokio::spawn(post_to(service.clone(), large()))).collect();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (status, problem, _) = post_to(service.clone(), vec![b' '; SMALL_BODY + 1]).await;
        assert_eq!(status, 503, "{problem}");
        assert_eq!(post_to(service.clone(), vec![b' '; SMALL_BODY]).await.0, 200);
        for held in held {
            assert_ne!(held.await.unwrap().0, 503);
        }
        assert_eq!(post_to(service, vec![b' '; SMALL_BODY + 1]).await.0, 200);
    }

    #[tokio::test]
    async fn a_long_uri_is_refused() {
        let get = |path: String| ask(service(), Request::get(path).body(Body::empty()).unwrap());
        assert_eq!(get("/page?".to_owned() + &"x".repeat(MAX_URI - 6)).await.0, 200);
        for path in ["/page?".to_owned() + &"x".repeat(MAX_URI - 5), "/".repeat(MAX_URI + 1)] {
            let (status, problem, _) = get(path).await;
            assert!(status == 414 && problem.contains(r#""status":414"#), "{problem}");
        }
    }
}
