//! A circuit breaker: what just failed is passed by for a while.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::Gauge;
use pricing_core::causes::causes;
use tokio::time::{Instant, timeout};

use crate::metrics::degraded;

/// Milliseconds between two probes of what failed.
const PAUSE_MS: u64 = 1_000;
/// Longest that a read waits for a probe.
const PROBE_WAIT: Duration = Duration::from_millis(100);

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The breaker is closed: as far as is known, the call will succeed.
    Closed,
    /// It is half open: this one caller is to try.
    Probe,
    /// It is open: the call would fail.
    Refused,
}

/// Lets reads pass something by once it failed. Then one read a second probes it, and its success lets the
/// others back, so an absence costs one read a second its waiting time, not every read.
///
/// Lock-free: a closed breaker costs one atomic load.
pub struct Breaker {
    /// What it stands in front of, for the log.
    name: &'static str,
    /// 1 while it is open.
    gauge: Gauge,
    born: Instant,
    /// When the next read may probe, in milliseconds since `born`; 0 while it is closed.
    retry_at: AtomicU64,
}

impl Breaker {
    /// A closed breaker in front of what `name` says, to be counted as `missing` while it is open.
    pub fn new(name: &'static str, missing: &'static str) -> Self {
        Self { name, gauge: degraded(missing), born: Instant::now(), retry_at: AtomicU64::new(0) }
    }

    /// Whether what is behind it failed, and has not been seen to work again.
    pub fn is_open(&self) -> bool {
        self.retry_at.load(Ordering::Relaxed) != 0
    }

    /// Whether to call: yes while it is closed; while it is open, for one caller a second.
    pub fn admission(&self) -> Admission {
        let retry_at = self.retry_at.load(Ordering::Relaxed);
        if retry_at == 0 {
            return Admission::Closed;
        }
        let now = self.now();
        let next = now + PAUSE_MS;
        let is_due = now >= retry_at
            && self.retry_at.compare_exchange(retry_at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_due { Admission::Probe } else { Admission::Refused }
    }

    /// Makes a call if it is admitted. `None` if it is not, or if it fails or takes longer than `wait`, or
    /// than 100 ms when it is a probe.
    pub async fn call<T, E: Error + 'static>(
        &self,
        wait: Duration,
        call: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        let wait = match self.admission() {
            Admission::Closed => wait,
            Admission::Probe => wait.min(PROBE_WAIT),
            Admission::Refused => return None,
        };
        self.insist(wait, call).await
    }

    /// Makes a call even if the last one failed: for whoever has nothing else to ask. `None` if it fails or
    /// takes longer than `wait`.
    pub async fn insist<T, E: Error + 'static>(
        &self,
        wait: Duration,
        call: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        match timeout(wait, call).await {
            Ok(Ok(value)) => {
                self.close();
                return Some(value);
            }
            Ok(Err(error)) => self.open(&error),
            Err(elapsed) => self.open(&elapsed),
        }
        None
    }

    /// Opens the breaker, after a failure. The first one of an absence is logged.
    pub fn open(&self, cause: &(dyn Error + 'static)) {
        if self.retry_at.swap(self.now() + PAUSE_MS, Ordering::Relaxed) == 0 {
            self.gauge.set(1);
            tracing::warn!(error = %causes(cause), "{} failed: reads do without until it works again", self.name);
        }
    }

    /// Closes the breaker, after a success.
    pub fn close(&self) {
        if self.is_open() && self.retry_at.swap(0, Ordering::Relaxed) != 0 {
            self.gauge.set(0);
            tracing::info!("{} works again", self.name);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::io;

    use super::*;

    const WAIT: Duration = Duration::from_millis(250);

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_one_read_a_second_probes_until_one_succeeds() {
        let breaker = Breaker::new("Redis", "redis");
        let works = || breaker.call(WAIT, ready(Ok::<_, io::Error>(1)));
        assert_eq!(works().await, Some(1));
        assert_eq!(breaker.call(WAIT, ready(Err::<i32, _>(io::Error::other("gone")))).await, None);
        assert_eq!(works().await, None, "passed by");

        tokio::time::advance(Duration::from_millis(PAUSE_MS)).await;
        assert_eq!((breaker.admission(), breaker.admission()), (Admission::Probe, Admission::Refused));
        assert_eq!(works().await, None, "another one is trying");

        tokio::time::advance(Duration::from_millis(PAUSE_MS)).await;
        assert_eq!((works().await, works().await), (Some(1), Some(1)));
        assert!(!breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_nothing_else_to_ask_asks_all_the_same() {
        let breaker = Breaker::new("Redis", "redis");
        assert_eq!(breaker.call(WAIT, ready(Err::<i32, _>(io::Error::other("gone")))).await, None);
        assert_eq!(breaker.call(WAIT, ready(Ok::<_, io::Error>(1))).await, None);
        assert_eq!(breaker.insist(WAIT, ready(Ok::<_, io::Error>(1))).await, Some(1));
        assert!(!breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_redis_costs_its_waiting_time_once_and_then_a_short_probe_a_second() {
        let (breaker, start) = (Breaker::new("Redis", "redis"), Instant::now());
        let silent = || breaker.call(WAIT, pending::<Result<i32, io::Error>>());
        for _ in 0..100 {
            assert_eq!(silent().await, None);
        }
        assert_eq!(start.elapsed(), WAIT);
        tokio::time::advance(Duration::from_millis(PAUSE_MS)).await;
        for _ in 0..100 {
            assert_eq!(silent().await, None);
        }
        assert_eq!(start.elapsed(), WAIT + Duration::from_millis(PAUSE_MS) + PROBE_WAIT);
    }
}
