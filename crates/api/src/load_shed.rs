//! Load shedding and time-outs of the API's calls.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{Timeout, timeout};
use tower::{Layer, Service};

use crate::metrics::{Shed, request_shed};
use crate::problem::Problem;

/// Products of a batch that count as one more request.
const PRODUCTS_PER_PERMIT: usize = 50;

/// Permits for concurrent requests. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Permits {
    free: Arc<Semaphore>,
    all: usize,
}

impl Permits {
    /// So many permits.
    pub(crate) fn new(all: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), all }
    }

    /// The permits that a batch takes beside its first, which the layer has taken: one for every 50 products. A
    /// batch of 500 takes 11 in all, about what its lookups and its answer weigh.
    ///
    /// # Errors
    ///
    /// 503 when there are not enough.
    pub(crate) fn acquire_for_batch(&self, products: usize) -> Result<Option<SemaphorePermit<'_>>, Problem> {
        let permits = (products / PRODUCTS_PER_PERMIT).min(self.all.saturating_sub(1));
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        match permits {
            0 => Ok(None),
            _ => self.free.try_acquire_many(permits).map(Some).map_err(|_| too_many()),
        }
    }
}

fn too_many() -> Problem {
    request_shed(Shed::Requests);
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Too many requests are under way.")
}

/// Bounds how many calls are served at a time, and for how long.
///
/// A call that finds no permit is answered 503 at once: under more load than the service can bear it is better to
/// refuse some requests quickly than to make all of them slow. A call that takes too long is answered 503 as well.
/// Requests for health, metrics and documentation need no permit.
#[derive(Debug, Clone)]
pub(crate) struct LoadShedLayer {
    permits: Permits,
    request_timeout: Duration,
}

impl LoadShedLayer {
    /// Serves a call with each of the permits, for at most `request_timeout`.
    pub(crate) fn new(permits: Permits, request_timeout: Duration) -> Self {
        Self { permits, request_timeout }
    }
}

impl<S> Layer<S> for LoadShedLayer {
    type Service = LoadShed<S>;

    fn layer(&self, inner: S) -> LoadShed<S> {
        LoadShed { inner, bounds: self.clone() }
    }
}

/// The service of [`LoadShedLayer`].
#[derive(Debug, Clone)]
pub(crate) struct LoadShed<S> {
    inner: S,
    bounds: LoadShedLayer,
}

impl<B, S> Service<Request<B>> for LoadShed<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = LoadShedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match is_call(&request).then(|| self.bounds.permits.free.clone().try_acquire_owned()).transpose() {
            Ok(permit) => {
                let inner = timeout(self.bounds.request_timeout, self.inner.call(request));
                LoadShedFuture::Admitted { inner, permit }
            }
            Err(_) => LoadShedFuture::Shed,
        }
    }
}

/// Whether this is a call of the API, and not one for health, metrics or documentation.
pub(crate) fn is_call<B>(request: &Request<B>) -> bool {
    request.uri().path().starts_with("/api/")
}

pin_project! {
    /// The answer of the inner service, or a refusal.
    #[project = Projected]
    pub(crate) enum LoadShedFuture<F> {
        Admitted {
            #[pin]
            inner: Timeout<F>,
            permit: Option<OwnedSemaphorePermit>,
        },
        Shed,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for LoadShedFuture<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Admitted { inner, permit } => {
                let answer = ready!(inner.poll(cx));
                *permit = None;
                Poll::Ready(answer.unwrap_or_else(|elapsed| {
                    Ok(Problem::unavailable("The request took too long.", &elapsed).into_response())
                }))
            }
            Projected::Shed => Poll::Ready(Ok(too_many().into_response())),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::header;
    use axum::routing::get;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt as _;

    use super::*;

    fn one_at_a_time() -> LoadShedLayer {
        LoadShedLayer::new(Permits::new(1), Duration::from_secs(5))
    }

    async fn get_from(service: LoadShed<Router>, path: &str) -> Response {
        service.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn one_request_too_many_is_refused_at_once_and_the_next_one_served() {
        let (begun, go_on) = (CancellationToken::new(), CancellationToken::new());
        let (beginning, going_on) = (begun.clone(), go_on.clone());
        let slow = move || async move {
            beginning.cancel();
            going_on.cancelled().await;
        };
        let router = Router::new().route("/api/slow", get(slow)).route("/health", get(|| async {}));
        let router = one_at_a_time().layer(router);

        let first = tokio::spawn(get_from(router.clone(), "/api/slow"));
        begun.cancelled().await;
        let refused = get_from(router.clone(), "/api/slow").await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(get_from(router.clone(), "/health").await.status(), StatusCode::OK);
        go_on.cancel();
        assert_eq!(first.await.unwrap().status(), StatusCode::OK);
        assert_eq!(get_from(router, "/api/slow").await.status(), StatusCode::OK);
    }

    #[test]
    fn a_batch_takes_a_permit_more_for_every_50_products() {
        let permits = Permits::new(22);
        assert!(permits.acquire_for_batch(49).unwrap().is_none());
        let batches = [500, 500].map(|products| permits.acquire_for_batch(products).unwrap());
        assert_eq!(permits.free.available_permits(), 2);
        let refused = permits.acquire_for_batch(150).unwrap_err();
        assert!(refused.into_response().headers().contains_key(header::RETRY_AFTER));
        drop(batches);
        assert!(Permits::new(5).acquire_for_batch(500).unwrap().is_some(), "it takes all but the first one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_request_is_a_503_to_be_tried_again() {
        let router = Router::new().route("/api/slow", get(std::future::pending::<()>));
        let answer = get_from(one_at_a_time().layer(router), "/api/slow").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key(header::RETRY_AFTER));
    }
}
