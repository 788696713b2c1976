//! A connection that ends when its client is too slow.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::exchange::{Phase, Progress, Step};
use super::metrics::ABORTED;

/// Longest for the head of a request: from its first byte, or from accept for the first one.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that a connection waits for its next request.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Longest that an answer may wait for the client to read, beside what it earns by reading.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that give the client who took them another second.
pub(super) const BYTES_PER_SECOND: u32 = 16 * 1_024;

/// The stream of a connection, with time-outs for heads, for idleness and for writes.
///
/// How long the client takes for a body is up to the service. A head of which a part came together with the request
/// before it is only bounded by [`IDLE_TIMEOUT`].
#[derive(Debug)]
pub(super) struct TimedStream {
    stream: TcpStream,
    progress: Progress,
    /// A step in which a head is awaited, and its deadline.
    head: (Step, Instant),
    /// Wakes the connection at its deadline or before. A request is not worth a timer of its own: the timer of an
    /// earlier deadline is kept, and set again when it has fired.
    timer: Pin<Box<Sleep>>,
    /// The answer whose write has waited, by the number of its exchange, and how long it may wait.
    write: Option<(u64, Pin<Box<Sleep>>)>,
}

impl TimedStream {
    pub(super) fn new(stream: TcpStream, progress: Progress) -> Self {
        let deadline = Instant::now() + HEAD_TIMEOUT;
        let (head, timer) = ((progress.step(), deadline), Box::pin(sleep_until(deadline)));
        Self { stream, progress, head, timer, write: None }
    }

    /// Waits for the end of the time that the client has to send something; returns the phase that it is late in.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Phase> {
        let step = self.progress.step();
        let phase = step.phase();
        if phase == Phase::Head {
            if self.head.0 != step {
                self.head = (step, Instant::now() + HEAD_TIMEOUT);
            }
            if self.timer.deadline() > self.head.1 {
                self.timer.as_mut().reset(self.head.1);
            }
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let deadline = match phase {
                Phase::Head => self.head.1,
                Phase::Idle => self.progress.idle_since() + IDLE_TIMEOUT,
                // The connection may become idle without another read: this timer will look after it.
                Phase::Busy => Instant::now() + IDLE_TIMEOUT,
            };
            if deadline <= self.timer.deadline() {
                return Poll::Ready(phase);
            }
            self.timer.as_mut().reset(deadline);
        }
    }

    /// Passes on the result of a write, or ends the connection when the writes of one answer have waited too long: 10
    /// seconds, and one more for every 16 KiB that the client took.
    fn progressed(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let exchange = self.progress.step().exchange();
        self.write.take_if(|(waiting, _)| *waiting != exchange);
        if let Poll::Ready(written) = written {
            if let (Some((_, timer)), Ok(bytes)) = (&mut self.write, &written) {
                let bytes = u32::try_from(*bytes).unwrap_or(u32::MAX);
                let earned = Duration::from_secs(1) * bytes / BYTES_PER_SECOND;
                let deadline = timer.deadline() + earned;
                timer.as_mut().reset(deadline);
            }
            return Poll::Ready(written);
        }
        let (_, timer) = self.write.get_or_insert_with(|| (exchange, Box::pin(sleep(WRITE_TIMEOUT))));
        ready!(timer.as_mut().poll(cx));
        counter!(ABORTED, "reason" => "write_timeout").increment(1);
        // What the client did not read is dropped, and not kept for it by the system.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            if buffer.filled().len() > before {
                self.progress.received();
            }
            return Poll::Ready(read);
        }
        match ready!(self.poll_late(cx)) {
            Phase::Head => {
                counter!(ABORTED, "reason" => "head_timeout").increment(1);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head took too long")))
            }
            Phase::Idle | Phase::Busy => Poll::Ready(Ok(())), // as if the client had closed it
        }
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.progressed(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.progressed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
