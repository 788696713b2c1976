//! Panics of handlers.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use futures_util::future::CatchUnwind;
use pin_project_lite::pin_project;
use pricing_service::panics::panic_text;
use tower::{Layer, Service};

use crate::problem::Problem;

/// Answers a panic with a 500, and logs what it said. Panics are those of the inner service's future, and of its call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CatchPanicLayer;

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic { inner }
    }
}

/// The service of [`CatchPanicLayer`].
#[derive(Debug, Clone)]
pub(crate) struct CatchPanic<S> {
    inner: S,
}

impl<B, S> Service<Request<B>> for CatchPanic<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = CatchPanicFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match catch_unwind(AssertUnwindSafe(|| self.inner.call(request))) {
            Ok(answer) => CatchPanicFuture::Called { answer: AssertUnwindSafe(answer).catch_unwind() },
            Err(panic) => CatchPanicFuture::Panicked { panic },
        }
    }
}

pin_project! {
    /// The answer of the inner service, or to its panic.
    #[project = Projected]
    pub(crate) enum CatchPanicFuture<F> {
        Called {
            #[pin]
            answer: CatchUnwind<AssertUnwindSafe<F>>,
        },
        Panicked {
            panic: Box<dyn Any + Send>,
        },
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for CatchPanicFuture<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Called { answer } => {
                answer.poll(cx).map(|answer| answer.unwrap_or_else(|panic| Ok(to_panic(&*panic))))
            }
            Projected::Panicked { panic } => Poll::Ready(Ok(to_panic(&**panic))),
        }
    }
}

fn to_panic(panic: &(dyn Any + Send)) -> Response {
    tracing::error!(panic = panic_text(panic), "a request handler panicked");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "The service failed.").into_response()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::extract::Request;
    use axum::routing::get;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_500_that_reveals_nothing() {
        let router = Router::new().route("/", get(async || -> () { panic!("secret {}", 7) }));
        let call = |_: Request| -> std::future::Ready<Result<Response, Infallible>> { panic!("secret") };
        let request = || Request::new(Body::empty());
        for answer in [
            CatchPanicLayer.layer(router).oneshot(request()).await.unwrap(),
            CatchPanicLayer.layer(service_fn(call)).oneshot(request()).await.unwrap(),
        ] {
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            assert!(!String::from_utf8_lossy(&body).contains("secret"), "{body:?}");
        }
    }
}
