//! One market event becomes one job.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use pricing_core::events::{EventLog, MarketEvent};
use pricing_core::recalculation_queue::RecalculationQueue;
use pricing_core::redis::{ConnectError, Redis};
use pricing_core::trace::{continue_trace, mark_failed};
use pricing_queue::{QueueError, QueueOptions};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use crate::config::Config;
use crate::metrics;

/// What the listener reads from and writes to. Clones share connections.
#[derive(Clone)]
pub struct Listener {
    pub(crate) redis: Redis,
    pub(crate) events: EventLog,
    queue: RecalculationQueue,
}

impl Listener {
    /// Prepares the connections without making one yet.
    ///
    /// # Errors
    ///
    /// When a setting is wrong.
    pub fn new(config: &Config) -> Result<Self, ConnectError> {
        let redis = Redis::new(&config.redis)?;
        let queue = RecalculationQueue::new(&redis, QueueOptions::default());
        Ok(Self { events: EventLog::new(&redis), redis, queue })
    }

    /// Makes an event a job under the event's own id, so seeing it again, on the same or another way,
    /// changes nothing. The trace of whoever published it goes on in the job.
    ///
    /// # Errors
    ///
    /// When the queue is full or Redis is away. The event is not lost: it must be handed in again.
    pub async fn enqueue(&self, source: &'static str, event: &MarketEvent) -> Result<(), QueueError> {
        let process = info_span!(
            "process market_events",
            otel.kind = "consumer",
            messaging.system = "redis",
            messaging.operation.name = "process",
            messaging.operation.type = "process",
            messaging.destination.name = "market_events",
            messaging.message.id = %event.id,
            pricing.source = source,
            pricing.duplicate = tracing::field::Empty,
        );
        continue_trace(&process, event.traceparent.as_deref());
        let enqueued = async {
            let started = Instant::now();
            let created = self.queue.enqueue(&event.id, &event.reason).await?.created;
            metrics::event(source, created, started.elapsed().as_secs_f64());
            if created {
                tracing::info!(task_id = %event.id, reason = event.reason, "market event received, task queued");
            }
            Ok(created)
        };
        match enqueued.instrument(process.clone()).await {
            Ok(created) => {
                process.record("pricing.duplicate", !created);
                Ok(())
            }
            Err(error) => {
                mark_failed(&process, &error);
                Err(error)
            }
        }
    }
}

/// Pauses before Redis is tried again: from 50 ms to 1 s, and up to as much again.
pub(crate) fn pauses() -> ExponentialBackoff {
    let pauses = ExponentialBuilder::new().with_min_delay(Duration::from_millis(50));
    pauses.with_max_delay(Duration::from_secs(1)).with_jitter().without_max_times().build()
}

/// Pauses once, or until `shutdown`.
pub(crate) async fn pause(backoff: &mut ExponentialBackoff, shutdown: &CancellationToken) {
    let pause = backoff.next().unwrap_or_default();
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = shutdown.cancelled() => {}
    }
}
