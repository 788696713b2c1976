//! One market event becomes one recalculation task.

use std::time::Instant;

use pricing_core::causes::causes;
use pricing_core::events::{EventLog, LoggedEvent, MarketEvent};
use pricing_core::recalculation::RecalculationQueue;
use pricing_core::redis::{ConnectError, Redis};
use pricing_core::trace::{continue_trace, mark_failed};
use pricing_queue::{Backoff, Enqueued, QueueError};
use pricing_service::health::Heartbeat;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use crate::config::Config;
use crate::metrics;
use crate::source::Source;

/// The connections of a listener. Clones share them.
#[derive(Clone)]
pub struct Listener {
    pub(crate) redis: Redis,
    pub(crate) events: EventLog,
    queue: RecalculationQueue,
}

/// The result of handling an event once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// A task was enqueued.
    Queued,
    /// The event was received before: its task exists.
    Duplicate,
    /// The queue is full. A queued recalculation that no worker has begun covers this event as well, and waiting for a
    /// place would collect messages in memory.
    Dropped,
    /// No task yet; to be tried again.
    Retry,
}

impl Outcome {
    fn of(enqueued: &Result<Option<Enqueued>, QueueError>) -> Self {
        match enqueued {
            Ok(Some(enqueued)) if enqueued.created => Self::Queued,
            Ok(Some(_)) => Self::Duplicate,
            Ok(None) => Self::Dropped,
            Err(_) => Self::Retry,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Duplicate => "duplicate",
            Self::Dropped => "dropped",
            Self::Retry => "retry",
        }
    }
}

impl Listener {
    /// Prepares the connections without making one yet.
    ///
    /// # Errors
    ///
    /// When a setting is wrong.
    pub fn new(config: &Config) -> Result<Self, ConnectError> {
        let redis = Redis::new(&config.redis)?;
        let queue = RecalculationQueue::new(&redis, config.queue.options());
        Ok(Self { events: EventLog::new(&redis, &config.events), redis, queue })
    }

    /// Handles a message of the channel until it has a task or is dropped. Returns `false` when `shutdown` came first.
    ///
    /// The task has the id of the event, so an event that arrives again, from either source, changes nothing.
    pub(crate) async fn handle(
        &self,
        source: Source,
        event: &MarketEvent,
        heartbeat: &Heartbeat,
        shutdown: &CancellationToken,
    ) -> bool {
        let request = event.recalculation();
        let enqueue = || self.queue.enqueue_or_drop(&event.id, &request);
        until_handled(|| self.handle_once(source, event, enqueue()), heartbeat, shutdown).await
    }

    /// Handles an event of the log until its task has taken its place there. Returns `false` when `shutdown` came
    /// first: then the event stays in the log.
    pub(crate) async fn handle_logged(
        &self,
        logged: &LoggedEvent,
        heartbeat: &Heartbeat,
        shutdown: &CancellationToken,
    ) -> bool {
        let (event, request) = (&logged.event, logged.event.recalculation());
        let enqueue = async || {
            let source = self.events.source(logged);
            self.queue.enqueue_from(source, &event.id, &request).await.map(Some)
        };
        until_handled(|| self.handle_once(Source::Log, event, enqueue()), heartbeat, shutdown).await
    }

    /// Enqueues the task of an event, as part of the event's trace.
    async fn handle_once(
        &self,
        source: Source,
        event: &MarketEvent,
        enqueue: impl Future<Output = Result<Option<Enqueued>, QueueError>>,
    ) -> Outcome {
        let span = info_span!(
            "process market_events",
            otel.kind = "consumer",
            messaging.system = "redis",
            messaging.operation.name = "process",
            messaging.operation.type = "process",
            messaging.destination.name = self.events.channel(),
            messaging.message.id = %event.id,
            pricing.event_source = source.as_str(),
            pricing.duplicate = tracing::field::Empty,
        );
        continue_trace(&span, event.traceparent.as_deref());
        let started = Instant::now();
        let enqueued = enqueue.instrument(span.clone()).await;
        let outcome = Outcome::of(&enqueued);
        span.in_scope(|| {
            metrics::event(source, outcome.as_str());
            match &enqueued {
                Ok(_) => {
                    span.record("pricing.duplicate", outcome == Outcome::Duplicate);
                    metrics::enqueued_in(started.elapsed());
                }
                Err(error) => mark_failed(&span, error),
            }
            log(source, event, outcome, enqueued.err());
        });
        outcome
    }
}

/// Repeats `attempt` while it asks for a retry. Returns `false` when `shutdown` came first.
async fn until_handled<F: Future<Output = Outcome>>(
    attempt: impl Fn() -> F,
    heartbeat: &Heartbeat,
    shutdown: &CancellationToken,
) -> bool {
    let mut backoff = Backoff::default();
    while attempt().await == Outcome::Retry {
        heartbeat.beat();
        if shutdown.run_until_cancelled(backoff.pause()).await.is_none() {
            return false;
        }
    }
    heartbeat.beat();
    true
}

fn log(source: Source, event: &MarketEvent, outcome: Outcome, error: Option<QueueError>) {
    let (source, task_id) = (source.as_str(), event.id.as_str());
    match (outcome, error) {
        (Outcome::Queued, _) => tracing::info!(task_id, source, reason = event.reason, "market event queued"),
        (Outcome::Duplicate, _) => tracing::debug!(task_id, source, "market event received before"),
        (Outcome::Dropped, _) => {
            tracing::warn!(task_id, source, "queue full: message dropped, a queued recalculation covers it");
        }
        (Outcome::Retry, error) => {
            let error = error.map(|error| causes(&error).to_string());
            tracing::warn!(task_id, source, error, "market event not queued yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;
    use std::io;

    use redis::RedisError;

    use super::*;

    #[test]
    fn an_event_is_queued_once_dropped_or_tried_again() {
        let enqueued = |created| Ok(Some(Enqueued { number: 7, created }));
        let away = QueueError::Redis(RedisError::from(io::Error::other("gone")));
        assert_eq!(Outcome::of(&enqueued(true)), Outcome::Queued);
        assert_eq!(Outcome::of(&enqueued(false)), Outcome::Duplicate);
        assert_eq!(Outcome::of(&Ok(None)), Outcome::Dropped);
        assert_eq!(Outcome::of(&Err(away)), Outcome::Retry);
        assert_eq!(Outcome::of(&Err(QueueError::Full)), Outcome::Retry, "the log keeps it");
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_tried_again_until_it_is_handled_or_the_listener_ends() {
        let (heartbeat, shutdown) = (Heartbeat::new("the test"), CancellationToken::new());
        let attempts = Cell::new(0);
        let third = || {
            attempts.set(attempts.get() + 1);
            ready(if attempts.get() < 3 { Outcome::Retry } else { Outcome::Queued })
        };
        assert!(until_handled(third, &heartbeat, &shutdown).await);
        assert_eq!(attempts.get(), 3);
        shutdown.cancel();
        assert!(!until_handled(|| ready(Outcome::Retry), &heartbeat, &shutdown).await);
    }
}
