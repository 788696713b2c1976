//! Answers that are not given at once.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::response::Response;
use futures_util::future::BoxFuture;
use pin_project_lite::pin_project;
use tokio::time::{Instant, sleep_until};
use tower::{Layer, Service};

/// An extension of an answer: it is given at this time at the earliest. A client that repeats a refused call at once waits
/// each time, and takes less of the processor from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotBefore(pub(crate) Instant);

/// Holds answers back until their [`NotBefore`]. What lies inside is free by then: permits, slots and the body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LateAnswerLayer;

impl<S> Layer<S> for LateAnswerLayer {
    type Service = LateAnswer<S>;

    fn layer(&self, inner: S) -> LateAnswer<S> {
        LateAnswer { inner }
    }
}

/// The service of [`LateAnswerLayer`].
#[derive(Debug, Clone)]
pub(crate) struct LateAnswer<S> {
    inner: S,
}

impl<R, S> Service<R> for LateAnswer<S>
where
    S: Service<R, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = LateAnswerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        LateAnswerFuture::Inner { inner: self.inner.call(request) }
    }
}

pin_project! {
    /// The answer of the inner service, now or later.
    #[project = Projected]
    pub(crate) enum LateAnswerFuture<F> {
        Inner { #[pin] inner: F },
        Late { answer: BoxFuture<'static, Response> },
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for LateAnswerFuture<F> {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let answer = match self.as_mut().project() {
                Projected::Inner { inner } => ready!(inner.poll(cx))?,
                Projected::Late { answer } => return answer.as_mut().poll(cx).map(Ok),
            };
            let Some(&NotBefore(earliest)) = answer.extensions().get() else {
                return Poll::Ready(Ok(answer));
            };
            let answer = async move {
                sleep_until(earliest).await;
                answer
            };
            self.set(Self::Late { answer: Box::pin(answer) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::body::Body;
    use axum::extract::Request;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tower::{ServiceBuilder, ServiceExt as _};

    use super::*;
    use crate::load_shed::{LoadShedLayer, Permits};
    use crate::problem::Problem;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_to_be_given_yet_waits_without_a_permit() {
        let (start, wait) = (Instant::now(), Duration::from_millis(500));
        let refuse = move || async move { Problem::too_many("Again.").not_before(start + wait) };
        let router = Router::new().route("/api/refused", get(refuse)).route("/api/fine", get(|| async {}));
        let one_at_a_time = LoadShedLayer::new(Permits::new(1), Duration::from_secs(5));
        let service = ServiceBuilder::new().layer(LateAnswerLayer).layer(one_at_a_time).service(router);
        let answer = |path: &str| {
            let request: Request = Request::get(path).body(Body::empty()).unwrap();
            service.clone().oneshot(request)
        };
        let refused = tokio::spawn(answer("/api/refused"));
        tokio::task::yield_now().await;
        assert_eq!(answer("/api/fine").await.unwrap().status(), StatusCode::OK);
        assert!(!refused.is_finished());
        assert_eq!(refused.await.unwrap().unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(start.elapsed(), wait);
    }
}
