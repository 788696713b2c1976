//! A circuit breaker: after a failure, calls are skipped until a probe succeeds.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::Gauge;
use pricing_core::causes::causes;
use pricing_core::clock::millis;
use pricing_core::trace::client_call;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};
use tracing::Span;

use crate::metrics::{Dependency, degraded};

/// Milliseconds between two probes.
const PROBE_PERIOD_MS: u64 = 1_000;
/// Maximum time that a read waits for a probe.
const PROBE_TIMEOUT: Duration = Duration::from_millis(100);

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// The breaker is closed.
    Closed,
    /// The breaker is half open, and this caller makes the probe.
    Probe,
    /// The breaker is open.
    Refused,
}

/// A circuit breaker in front of Redis or the database.
///
/// A failure opens it. While it is open, one call a second is admitted as a probe, and the first success closes
/// it: an outage costs one call a second its waiting time, not every read. Lock-free: a closed breaker costs one
/// atomic load.
pub(super) struct Breaker {
    dependency: Dependency,
    /// 1 while it is open.
    gauge: Gauge,
    created: Instant,
    /// When the next probe is due, in milliseconds since `created`; 0 while the breaker is closed.
    probe_at: AtomicU64,
}

impl Breaker {
    /// A closed breaker.
    pub(super) fn new(dependency: Dependency) -> Self {
        Self { dependency, gauge: degraded(dependency), created: Instant::now(), probe_at: AtomicU64::new(0) }
    }

    /// Whether the last call failed.
    pub(super) fn is_open(&self) -> bool {
        self.probe_at.load(Ordering::Relaxed) != 0
    }

    /// Admits every call while it is closed, and one call a second while it is open.
    pub(super) fn admission(&self) -> Admission {
        let probe_at = self.probe_at.load(Ordering::Relaxed);
        if probe_at == 0 {
            return Admission::Closed;
        }
        let now = self.now();
        let next = now + PROBE_PERIOD_MS;
        let is_due = now >= probe_at
            && self.probe_at.compare_exchange(probe_at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_due { Admission::Probe } else { Admission::Refused }
    }

    /// Makes a call if it is admitted. `None` if it is not, or if it fails or takes longer than `max`, or than
    /// 100 ms when it is a probe. A call without `max` has a time limit of its own.
    pub(super) async fn call<T, E: Error + 'static>(
        &self,
        max: Option<Duration>,
        span: impl FnOnce() -> Span,
        call: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        let max = match self.admission() {
            Admission::Closed => max,
            Admission::Probe => Some(max.map_or(PROBE_TIMEOUT, |max| max.min(PROBE_TIMEOUT))),
            Admission::Refused => {
                skipped(self.dependency);
                return None;
            }
        };
        self.call_unconditionally(max, span(), call).await
    }

    /// Makes a call although the breaker may be open: for a read that has nothing else to ask. `None` if it fails
    /// or takes longer than `max`.
    pub(super) async fn call_unconditionally<T, E: Error + 'static>(
        &self,
        max: Option<Duration>,
        span: Span,
        call: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        match attempt(max, span, call).await {
            Ok(value) => {
                self.record_success();
                Some(value)
            }
            Err(error) => {
                self.record_failure(&error);
                None
            }
        }
    }

    /// Opens the breaker. The first failure of an outage is logged.
    pub(super) fn record_failure(&self, cause: &(dyn Error + 'static)) {
        if self.probe_at.swap(self.now() + PROBE_PERIOD_MS, Ordering::Relaxed) == 0 {
            self.gauge.set(1);
            let dependency = self.dependency.as_str();
            tracing::warn!(dependency, error = %causes(cause), "dependency failed: reads go on without it");
        }
    }

    /// Closes the breaker.
    pub(super) fn record_success(&self) {
        if self.is_open() && self.probe_at.swap(0, Ordering::Relaxed) != 0 {
            self.gauge.set(0);
            tracing::info!(dependency = self.dependency.as_str(), "dependency works again");
        }
    }

    fn now(&self) -> u64 {
        millis(self.created.elapsed())
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError<E> {
    /// The dependency answered with an error, or the connection broke.
    #[error("{0}")]
    Failed(#[source] E),
    /// There was no answer in time.
    #[error("no answer in time")]
    TimedOut(#[source] Elapsed),
}

/// Makes a call within `max`, if it has no time limit of its own, and within its client span.
pub(super) async fn attempt<T, E: Error + 'static>(
    max: Option<Duration>,
    span: Span,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, CallError<E>> {
    let call = async {
        let answer = match max {
            Some(max) => timeout(max, call).await.map_err(CallError::TimedOut)?,
            None => call.await,
        };
        answer.map_err(CallError::Failed)
    };
    client_call(span, call).await
}

/// Notes on the span of the request that an open breaker skipped a call.
pub(super) fn skipped(dependency: Dependency) {
    crate::observe::set_attribute("pricing.skipped", dependency.as_str());
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::io;

    use super::*;

    const WAIT: Option<Duration> = Some(Duration::from_millis(250));

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_one_read_a_second_probes_until_one_succeeds() {
        let breaker = Breaker::new(Dependency::Redis);
        let works = || breaker.call(WAIT, Span::none, ready(Ok::<_, io::Error>(1)));
        assert_eq!(works().await, Some(1));
        assert_eq!(
            breaker.call(WAIT, Span::none, ready(Err::<i32, _>(io::Error::other("gone")))).await,
            None
        );
        assert_eq!(works().await, None, "skipped");

        tokio::time::advance(Duration::from_millis(PROBE_PERIOD_MS)).await;
        assert_eq!((breaker.admission(), breaker.admission()), (Admission::Probe, Admission::Refused));
        assert_eq!(works().await, None, "another one is trying");

        tokio::time::advance(Duration::from_millis(PROBE_PERIOD_MS)).await;
        assert_eq!((works().await, works().await), (Some(1), Some(1)));
        assert!(!breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_skipped_may_close_an_open_breaker() {
        let breaker = Breaker::new(Dependency::Redis);
        assert_eq!(
            breaker.call(WAIT, Span::none, ready(Err::<i32, _>(io::Error::other("gone")))).await,
            None
        );
        assert_eq!(breaker.call(WAIT, Span::none, ready(Ok::<_, io::Error>(1))).await, None);
        assert_eq!(
            breaker.call_unconditionally(WAIT, Span::none(), ready(Ok::<_, io::Error>(1))).await,
            Some(1)
        );
        assert!(!breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_is_short_also_of_a_call_with_a_time_limit_of_its_own() {
        let breaker = Breaker::new(Dependency::Redis);
        breaker.record_failure(&io::Error::other("gone"));
        tokio::time::advance(Duration::from_millis(PROBE_PERIOD_MS)).await;
        let start = Instant::now();
        let silent = pending::<Result<i32, io::Error>>();
        assert_eq!(breaker.call(None, Span::none, silent).await, None);
        assert_eq!(start.elapsed(), PROBE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_redis_costs_its_waiting_time_once_and_then_a_short_probe_a_second() {
        let (breaker, start) = (Breaker::new(Dependency::Redis), Instant::now());
        let silent = || breaker.call(WAIT, Span::none, pending::<Result<i32, io::Error>>());
        for _ in 0..100 {
            assert_eq!(silent().await, None);
        }
        assert_eq!(start.elapsed(), WAIT.unwrap());
        tokio::time::advance(Duration::from_millis(PROBE_PERIOD_MS)).await;
        for _ in 0..100 {
            assert_eq!(silent().await, None);
        }
        assert_eq!(start.elapsed(), WAIT.unwrap() + Duration::from_millis(PROBE_PERIOD_MS) + PROBE_TIMEOUT);
    }
}
