//! One market event becomes one job.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use pricing_core::events::{EventLog, MarketEvent};
use pricing_core::job::{QUEUE, Recalculation};
use pricing_core::redis::{ConnectError, Redis};
use pricing_core::trace::{continue_trace, current_traceparent};
use pricing_queue::{NewTask, Queue, QueueError, QueueOptions};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use crate::config::Config;
use crate::metrics;

/// What the listener reads from and writes to. Clones share connections.
#[derive(Clone)]
pub struct Listener {
    pub(crate) redis: Redis,
    pub(crate) events: EventLog,
    queue: Queue,
}

impl Listener {
    /// Prepares the connections without making one yet.
    ///
    /// # Errors
    ///
    /// When a setting is wrong.
    pub fn new(config: &Config) -> Result<Self, ConnectError> {
        let redis = Redis::new(&config.redis)?;
        let options = QueueOptions::default();
        let queue = Queue::new(&redis.prefix, QUEUE, redis.commands.clone(), redis.pool.clone(), options);
        Ok(Self { events: EventLog::new(&redis), redis, queue })
    }

    /// Makes an event a job under the event's own id, so seeing it again, on the same or another way,
    /// changes nothing. The trace of whoever published it goes on in the job.
    ///
    /// # Errors
    ///
    /// When the queue is full or Redis is away. The event is not lost: it must be handed in again.
    pub async fn enqueue(&self, way: &'static str, event: &MarketEvent) -> Result<(), QueueError> {
        let process = info_span!(
            "process market_events",
            otel.kind = "consumer",
            messaging.system = "redis",
            messaging.operation.name = "process",
            messaging.operation.type = "process",
            messaging.destination.name = "market_events",
            messaging.message.id = %event.id,
            way,
            new = tracing::field::Empty,
        );
        continue_trace(&process, event.traceparent.as_deref());
        async {
            let started = Instant::now();
            let new = self.publish_job(event).await?;
            tracing::Span::current().record("new", new);
            metrics::event(way, new, started.elapsed().as_secs_f64());
            if new {
                tracing::info!(task_id = %event.id, reason = event.reason, "market event received, job queued");
            }
            Ok(())
        }
        .instrument(process)
        .await
    }

    async fn publish_job(&self, event: &MarketEvent) -> Result<bool, QueueError> {
        let publish = info_span!(
            "publish recalculate",
            otel.kind = "producer",
            messaging.system = "redis",
            messaging.operation.name = "publish",
            messaging.operation.type = "send",
            messaging.destination.name = QUEUE,
            messaging.message.id = %event.id,
        );
        async {
            let payload = Recalculation::now(event.reason.as_str()).encode();
            let traceparent = current_traceparent();
            let task =
                NewTask { id: event.id.as_str(), payload: &payload, traceparent: traceparent.as_deref() };
            Ok(self.queue.enqueue(task).await?.created)
        }
        .instrument(publish)
        .await
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
