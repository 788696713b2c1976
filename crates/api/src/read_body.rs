//! Reading a body within its bounds of length, time and memory.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::StatusCode;
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::metrics::{Shed, request_shed};
use crate::problem::Problem;

/// Maximum length of a request body, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1_024;
/// Maximum length of what is read of a longer body before its refusal, in bytes: a client that is still sending when
/// its connection is closed may never see the answer.
const MAX_DRAINED: usize = 1_024 * 1_024;
/// Longest for a body of which nothing arrives.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a body that give its client another second.
const BYTES_PER_SECOND: f64 = 16.0 * 1_024.0;
/// A longer body is a large one.
pub(crate) const SMALL_BODY: usize = 8 * 1_024;

/// The problem of a body that is too long.
fn too_long() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("The body must not exceed {MAX_BODY} bytes."))
}

/// A body that was read, and its permit if it is large.
pub(crate) struct WholeBody {
    pub(crate) bytes: Bytes,
    pub(crate) large: Option<OwnedSemaphorePermit>,
}

pin_project! {
    /// Reads a body within its bounds: it may take 2 seconds, and a second more for every 16 KiB that has arrived.
    pub(crate) struct ReadBody {
        body: Body,
        kept: Vec<u8>,
        received: usize,
        started: Instant,
        #[pin]
        timer: Option<Sleep>,
        // Permits for large bodies; `None` when what is read is dropped.
        large_bodies: Option<Arc<Semaphore>>,
        large: Option<OwnedSemaphorePermit>,
    }
}

impl ReadBody {
    /// Reads a body. A large one takes one of the permits.
    pub(crate) fn new(body: Body, large_bodies: Arc<Semaphore>) -> Self {
        Self { large_bodies: Some(large_bodies), ..Self::draining(body) }
    }

    /// Reads a body to drop it.
    pub(crate) fn draining(body: Body) -> Self {
        let (kept, started) = (Vec::new(), Instant::now());
        Self { body, kept, received: 0, started, timer: None, large_bodies: None, large: None }
    }

    /// Waits until the client is too slow.
    fn poll_late(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        // What is drained gives no more time than a body may take.
        #[expect(clippy::cast_precision_loss, reason = "at most 64 KiB")]
        let earned = Duration::from_secs_f64((*this.received).min(MAX_BODY) as f64 / BYTES_PER_SECOND);
        let deadline = *this.started + BODY_TIMEOUT + earned;
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(deadline)));
        }
        let mut timer = this.timer.as_pin_mut().expect("invariant: it was set");
        loop {
            ready!(timer.as_mut().poll(cx));
            if deadline <= timer.deadline() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

impl Future for ReadBody {
    type Output = Result<WholeBody, Problem>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let this = self.as_mut().project();
            let is_too_long = *this.received > MAX_BODY || this.body.size_hint().lower() > MAX_BODY as u64;
            let Poll::Ready(frame) = Pin::new(&mut *this.body).poll_frame(cx) else {
                ready!(self.poll_late(cx));
                let slow = || Problem::new(StatusCode::REQUEST_TIMEOUT, "The body took too long.");
                return Poll::Ready(Err(if is_too_long { too_long() } else { slow() }));
            };
            let data = match frame {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(_)) => return Poll::Ready(Err(Problem::malformed("The body could not be read."))),
                None if is_too_long => return Poll::Ready(Err(too_long())),
                None => {
                    let bytes = std::mem::take(this.kept).into();
                    return Poll::Ready(Ok(WholeBody { bytes, large: this.large.take() }));
                }
            };
            *this.received += data.len();
            if is_too_long || *this.received > MAX_BODY {
                *this.kept = Vec::new();
                if *this.received > MAX_BODY + MAX_DRAINED {
                    return Poll::Ready(Err(too_long()));
                }
                continue;
            }
            let Some(large_bodies) = this.large_bodies else { continue };
            if *this.received > SMALL_BODY && this.large.is_none() {
                let Ok(permit) = large_bodies.clone().try_acquire_owned() else {
                    request_shed(Shed::LargeBodies);
                    let detail = "Too many large requests are under way.";
                    return Poll::Ready(Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)));
                };
                *this.large = Some(permit);
            }
            // A small body comes in one piece, which need not be copied. A piece is a view of a larger buffer, so
            // many small ones must not be kept as they are.
            if this.kept.is_empty() && this.body.is_end_stream() {
                return Poll::Ready(Ok(WholeBody { bytes: data, large: this.large.take() }));
            }
            let bound = if this.large.is_some() { MAX_BODY } else { SMALL_BODY };
            let length = match this.body.size_hint().exact() {
                Some(rest) => this.received.saturating_add(usize::try_from(rest).unwrap_or(usize::MAX)),
                None => bound,
            };
            // What is announced costs memory only within the bound that holds already.
            let missing = length.min(bound).saturating_sub(this.kept.len());
            this.kept.reserve_exact(missing);
            this.kept.extend_from_slice(&data);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn a_body_takes_no_more_memory_than_its_bound() {
        for (piece, pieces, expected) in [
            (1, 1, SMALL_BODY),
            (1_024, 8, SMALL_BODY),
            (1_024, 9, MAX_BODY),
            (1_024, 64, MAX_BODY),
            (SMALL_BODY + 1, 1, MAX_BODY),
        ] {
            let sent = stream::iter((0..pieces).map(move |_| Ok::<_, Infallible>(vec![b' '; piece])));
            let unfinished = Body::from_stream(sent.chain(stream::pending()));
            let mut read = Box::pin(ReadBody::new(unfinished, Arc::new(Semaphore::new(1))));
            assert!(futures_util::poll!(&mut read).is_pending());
            assert_eq!((read.received, read.kept.capacity()), (piece * pieces, expected));
        }
    }

    #[tokio::test]
    async fn a_drained_body_takes_no_memory_and_is_bounded_like_any() {
        let pieces = |number| stream::iter((0..number).map(|_| Ok::<_, Infallible>(vec![b' '; 1_024])));
        let mut drained =
            Box::pin(ReadBody::draining(Body::from_stream(pieces(64).chain(stream::pending()))));
        assert!(futures_util::poll!(&mut drained).is_pending());
        assert_eq!((drained.received, drained.kept.capacity()), (MAX_BODY, 0));
        assert!(ReadBody::draining(Body::from_stream(pieces(64))).await.is_ok());
        assert!(ReadBody::draining(Body::from_stream(pieces(65))).await.is_err());
    }
}
