//! The requests of one connection, one after another.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use pin_project_lite::pin_project;
use pricing_core::clock::millis;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The rest of a head, or the first head.
    Head,
    /// The next request.
    Idle,
    /// The service, which has a request, or the client to take the answer.
    Busy,
}

/// The phase of a connection, known to its stream and to its service. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    accepted: Instant,
    step: AtomicU64,
    /// When the latest exchange ended, in milliseconds since `accepted`.
    idle_since: AtomicU64,
}

/// A phase and how many there were before: no two phases of a connection are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step(u64);

impl Step {
    pub(super) fn phase(self) -> Phase {
        match self.0 % 3 {
            0 => Phase::Head,
            1 => Phase::Busy,
            _ => Phase::Idle,
        }
    }

    /// The number of the exchange: from the end of one head to that of the next one.
    pub(super) fn exchange(self) -> u64 {
        self.0.saturating_add(2) / 3
    }
}

// Only the task of the connection reads and writes it, so relaxed ordering is enough.
impl Progress {
    pub(super) fn new() -> Self {
        let (accepted, step, idle_since) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(Shared { accepted, step, idle_since }))
    }

    pub(super) fn step(&self) -> Step {
        Step(self.0.step.load(Ordering::Relaxed))
    }

    /// When the latest exchange ended.
    pub(super) fn idle_since(&self) -> Instant {
        self.0.accepted + Duration::from_millis(self.0.idle_since.load(Ordering::Relaxed))
    }

    /// Bytes have arrived: the first ones of an idle connection begin a head.
    pub(super) fn received(&self) {
        if self.step().phase() == Phase::Idle {
            self.advance();
        }
    }

    fn advance(&self) {
        self.0.step.store(self.step().0 + 1, Ordering::Relaxed);
    }

    /// The head is complete. The connection is busy until the guard is dropped.
    fn begin(&self) -> Exchange {
        self.received(); // a pipelined head needs no more bytes
        self.advance();
        Exchange(self.clone())
    }
}

/// A request and its answer, until the answer has been handed over or given up.
struct Exchange(Progress);

impl Drop for Exchange {
    fn drop(&mut self) {
        let shared = &self.0.0;
        shared.idle_since.store(millis(shared.accepted.elapsed()), Ordering::Relaxed);
        self.0.advance();
    }
}

/// Serves the requests of one connection.
#[derive(Debug)]
pub(super) struct ConnectionService<S> {
    /// Called for one request after the other: a clone for each would cost the counts of all that it shares.
    inner: RefCell<S>,
    peer: SocketAddr,
    progress: Progress,
    shutdown: CancellationToken,
}

impl<S> ConnectionService<S> {
    pub(super) fn new(inner: S, peer: SocketAddr, progress: Progress, shutdown: CancellationToken) -> Self {
        Self { inner: RefCell::new(inner), peer, progress, shutdown }
    }
}

impl<S> hyper::service::Service<hyper::Request<Incoming>> for ConnectionService<S>
where
    S: Service<(SocketAddr, Request), Response = Response, Error = Infallible>,
{
    type Response = hyper::Response<AnswerBody>;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let exchange = self.progress.begin();
        let mut service = self.inner.borrow_mut();
        let is_ready = service.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready();
        debug_assert!(is_ready, "the service refuses, it does not wait");
        let inner = service.call((self.peer, request.map(Body::new)));
        Answer { inner, exchange: Some(exchange), shutdown: self.shutdown.clone() }
    }
}

pin_project! {
    /// The answer to a request. It asks to close the connection while the server shuts down.
    pub(super) struct Answer<F> {
        #[pin]
        inner: F,
        exchange: Option<Exchange>,
        shutdown: CancellationToken,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Answer<F> {
    type Output = Result<hyper::Response<AnswerBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.inner.poll(cx));
        if this.shutdown.is_cancelled() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let exchange = this.exchange.take();
        Poll::Ready(Ok(response.map(|body| AnswerBody { body, _exchange: exchange })))
    }
}

pin_project! {
    /// The body of an answer, which ends the exchange when it is dropped.
    pub(super) struct AnswerBody {
        #[pin]
        body: Body,
        _exchange: Option<Exchange>,
    }
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_goes_from_head_to_busy_to_idle_and_again() {
        let progress = Progress::new();
        let phase = || progress.step().phase();
        assert_eq!(phase(), Phase::Head, "from accept on");
        progress.received();
        assert_eq!(phase(), Phase::Head);
        let first = progress.step();
        let exchange = progress.begin();
        progress.received();
        assert_eq!(phase(), Phase::Busy, "a body, or the next head");
        drop(exchange);
        assert_eq!(phase(), Phase::Idle);
        progress.received();
        assert_eq!(phase(), Phase::Head);
        assert_ne!(progress.step(), first, "another head");
        assert_eq!(progress.step().exchange(), 1, "what is left of the answer may still be written");
        drop(progress.begin());
        drop(progress.begin());
        assert_eq!(phase(), Phase::Idle, "after a pipelined request too");
    }
}
