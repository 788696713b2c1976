//! What becomes of a task when its run ends: a decision without I/O.

use std::time::Duration;

use apalis_core::error::{AbortError, BoxDynError, DeferredError, RetryAfterError};
use tracing::Span;

use crate::error::{DeferFor, causes};
use crate::options::QueueOptions;

/// How a run ended.
#[derive(Debug)]
pub(crate) enum RunEnd {
    /// The job returned this JSON.
    Returned(serde_json::Result<String>),
    /// The job failed.
    Failed(BoxDynError),
    /// The job panicked, with this message.
    Panicked(String),
    /// The job was dropped because the worker ends.
    Aborted,
    /// The job was dropped, or not called, because the lease was lost.
    LeaseLost,
    /// The job was not called because the task was delivered too often.
    Poisoned,
}

impl RunEnd {
    /// Records in the span of a run that its job gave no answer. An answer is the job's to record.
    pub(crate) fn record_in(&self, span: &Span) {
        let (outcome, is_failure) = match self {
            Self::Returned(_) | Self::Failed(_) => return,
            Self::Panicked(_) => ("panicked", true),
            Self::Aborted => ("requeued", false),
            Self::LeaseLost => ("lease_lost", true),
            Self::Poisoned => ("poisoned", true),
        };
        span.record("pricing.outcome", outcome);
        if is_failure {
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// What becomes of the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded { result: String },
    Retry { error: String, delay: Duration },
    Defer { error: String, delay: Duration },
    Requeue,
    DeadLetter { error: String },
}

impl Outcome {
    /// Decides from how a run ended and how many retries its task has used. `None`: nothing, because the
    /// task has been taken over.
    ///
    /// An error that is not of the job begins with a code: `panicked`, `poisoned` or `invalid_result`.
    pub(crate) fn decide(end: RunEnd, retries: u32, options: &QueueOptions) -> Option<Self> {
        let dead = |error| Self::DeadLetter { error };
        Some(match end {
            RunEnd::Returned(Ok(result)) => Self::Succeeded { result },
            RunEnd::Returned(Err(error)) => dead(format!("invalid_result: {error}")),
            RunEnd::Failed(error) if error.is::<DeferredError>() => Self::Requeue,
            RunEnd::Failed(error) if error.is::<AbortError>() => dead(causes(&*error)),
            RunEnd::Failed(error) if error.is::<DeferFor>() => {
                let named = error.downcast_ref::<DeferFor>().map(|defer| defer.delay);
                Self::Defer { error: causes(&*error), delay: named.unwrap_or(options.retry_delay) }
            }
            RunEnd::Failed(error) if retries >= options.max_retries => {
                dead(format!("{} (after {} retries)", causes(&*error), options.max_retries))
            }
            RunEnd::Failed(error) => {
                let named = error.downcast_ref::<RetryAfterError>().map(RetryAfterError::get_duration);
                Self::Retry { error: causes(&*error), delay: named.unwrap_or(options.retry_delay) }
            }
            RunEnd::Panicked(message) => dead(format!("panicked: {message}")),
            RunEnd::Aborted => Self::Requeue,
            RunEnd::LeaseLost => return None,
            RunEnd::Poisoned => dead(format!(
                "poisoned: delivered {} times without a run ending: it may have ended its workers",
                options.max_deliveries
            )),
        })
    }

    /// The outcome's name in `ack.lua`.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded { .. } => "succeeded",
            Self::Retry { .. } => "retry",
            Self::Defer { .. } => "defer",
            Self::Requeue => "requeue",
            Self::DeadLetter { .. } => "dead_letter",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(30);

    fn failed(error: impl Into<BoxDynError>) -> RunEnd {
        RunEnd::Failed(error.into())
    }

    fn not_json() -> serde_json::Result<String> {
        Err(serde_json::from_str::<u8>("").unwrap_err())
    }

    #[test]
    fn the_end_of_a_run_decides_what_becomes_of_its_task() {
        let options = QueueOptions { max_retries: 5, retry_delay: DELAY, ..QueueOptions::default() };
        let named = Duration::from_millis(7);
        let succeeded = || Some(Outcome::Succeeded { result: "1".into() });
        let retry = |delay| Some(Outcome::Retry { error: "no luck".into(), delay });
        let dead = |error: &str| Some(Outcome::DeadLetter { error: error.into() });
        let exhausted = "no luck (after 5 retries)";
        let poisoned = "poisoned: delivered 3 times without a run ending: it may have ended its workers";
        let broken = "invalid_result: EOF while parsing a value at line 1 column 0";

        // How the run ended; the outcome with no, with four and with all five retries used.
        type Row = (fn() -> RunEnd, [Option<Outcome>; 3]);
        let defer = || Some(Outcome::Defer { error: "no luck".into(), delay: named });
        let table: [Row; 11] = [
            (|| RunEnd::Returned(Ok("1".into())), [succeeded(), succeeded(), succeeded()]),
            (|| RunEnd::Returned(not_json()), [dead(broken), dead(broken), dead(broken)]),
            (|| failed("no luck"), [retry(DELAY), retry(DELAY), dead(exhausted)]),
            (
                || failed(RetryAfterError::new("no luck", Duration::from_millis(7))),
                [retry(named), retry(named), dead(exhausted)],
            ),
            (|| failed(AbortError::new("no luck")), [dead("no luck"), dead("no luck"), dead("no luck")]),
            (
                || failed(DeferredError::new("later")),
                [Some(Outcome::Requeue), Some(Outcome::Requeue), Some(Outcome::Requeue)],
            ),
            (
                || failed(DeferFor { delay: Duration::from_millis(7), error: "no luck".into() }),
                [defer(), defer(), defer()],
            ),
            (|| RunEnd::Panicked("a bug".into()), ["panicked: a bug"; 3].map(dead)),
            (|| RunEnd::Aborted, [Some(Outcome::Requeue), Some(Outcome::Requeue), Some(Outcome::Requeue)]),
            (|| RunEnd::LeaseLost, [None, None, None]),
            (|| RunEnd::Poisoned, [dead(poisoned), dead(poisoned), dead(poisoned)]),
        ];
        for (end, outcomes) in table {
            for (retries, outcome) in [0, 4, 5].into_iter().zip(outcomes) {
                let (end, shown) = (end(), format!("{:?} after {retries} retries", end()));
                assert_eq!(Outcome::decide(end, retries, &options), outcome, "{shown}");
            }
        }
    }
}
