//! The layer that asks the door.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody as _};
use axum::http::Request;
use axum::response::{IntoResponse, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::door::{Door, Identity, Visitor};
use crate::problem::Problem;
use crate::read_body::ReadBody;
use crate::request_bounds::closing;

/// Refuses requests at the door.
#[derive(Clone)]
pub(crate) struct AdmitLayer(pub(crate) Arc<Door>);

impl<S> Layer<S> for AdmitLayer {
    type Service = Admit<S>;

    fn layer(&self, inner: S) -> Admit<S> {
        Admit { inner, door: self.0.clone() }
    }
}

/// The service of [`AdmitLayer`].
#[derive(Clone)]
pub(crate) struct Admit<S> {
    inner: S,
    door: Arc<Door>,
}

impl<S> Service<Request<Body>> for Admit<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = AdmitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.door.admit(&request) {
            Ok(()) => AdmitFuture::Admitted { inner: self.inner.call(request) },
            Err(problem) => AdmitFuture::Refused { refusal: Box::pin(refuse(request, problem)) },
        }
    }
}

/// Answers a request that is refused. A client that is still sending its body when the connection closes may never see
/// why: the body of a caller with a key is read first, within the bounds of any body.
async fn refuse(request: Request<Body>, problem: Problem) -> Response {
    let visitor = request.extensions().get::<Visitor>();
    let has_key = visitor.is_some_and(|visitor| matches!(visitor.identity, Identity::Key(_)));
    let body = request.into_body();
    let is_read = body.is_end_stream() || has_key && ReadBody::draining(body).await.is_ok();
    if is_read { problem.into_response() } else { closing(problem) }
}

pin_project! {
    /// The answer of the inner service, or a refusal.
    #[project = Projected]
    pub(crate) enum AdmitFuture<F> {
        Admitted {
            #[pin]
            inner: F,
        },
        Refused {
            refusal: Pin<Box<dyn Future<Output = Response> + Send>>,
        },
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for AdmitFuture<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Admitted { inner } => inner.poll(cx),
            Projected::Refused { refusal } => refusal.as_mut().poll(cx).map(Ok),
        }
    }
}
