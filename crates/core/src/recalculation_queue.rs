//! The one producer of recalculation tasks.

use pricing_queue::{Enqueued, NewTask, Queue, QueueError, QueueOptions};
use tracing::{Instrument as _, info_span};

use crate::ids::TaskId;
use crate::recalculation::Recalculation;
use crate::redis::Redis;
use crate::trace::{current_traceparent, discard, mark_failed};

/// Name of the queue.
pub const QUEUE: &str = "recalculate";

/// The queue of recalculations: its name, its connections and the payload of its tasks.
///
/// A task carries the trace of its producer: the `publish` span is the parent of the spans of its runs.
/// Clones share connections.
#[derive(Clone)]
pub struct RecalculationQueue {
    queue: Queue,
}

impl RecalculationQueue {
    /// The queue of this Redis and prefix. All processes must pass the same `options`, except for the
    /// concurrency of a worker.
    pub fn new(redis: &Redis, options: QueueOptions) -> Self {
        let (commands, pool) = (redis.commands.clone(), redis.pool.clone());
        Self { queue: Queue::new(&redis.prefix, QUEUE, commands, pool, options) }
    }

    /// The queue below: for the worker that runs its tasks, and for their records.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Enqueues a request to recalculate all prices, unless a task with this id exists.
    ///
    /// # Errors
    ///
    /// When the queue is full, or Redis is away. After a time-out the task may exist; repeating the call does
    /// no harm.
    pub async fn enqueue(&self, id: &TaskId, reason: &str) -> Result<Enqueued, QueueError> {
        publish(id, reason, async |task| self.queue.enqueue(task).await).await
    }

    /// Enqueues like [`RecalculationQueue::enqueue`], also when the queue is full: a run that must end for the
    /// queue to drain enqueues its follow-up this way.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn enqueue_beyond_capacity(&self, id: &TaskId, reason: &str) -> Result<Enqueued, QueueError> {
        publish(id, reason, async |task| self.queue.enqueue_beyond_capacity(task).await).await
    }
}

/// Enqueues a task under a `publish` span, which is discarded when the id was known already.
async fn publish(
    id: &TaskId,
    reason: &str,
    enqueue: impl AsyncFnOnce(NewTask<'_>) -> Result<Enqueued, QueueError>,
) -> Result<Enqueued, QueueError> {
    let span = info_span!(
        "publish recalculate",
        otel.kind = "producer",
        messaging.system = "redis",
        messaging.operation.name = "publish",
        messaging.operation.type = "send",
        messaging.destination.name = QUEUE,
        messaging.message.id = id.as_str(),
    );
    let enqueued = async {
        let (payload, traceparent) = (Recalculation::now(reason).encode(), current_traceparent());
        let task = NewTask { id: id.as_str(), payload: &payload, traceparent: traceparent.as_deref() };
        enqueue(task).await
    };
    let enqueued = enqueued.instrument(span.clone()).await;
    match &enqueued {
        Ok(enqueued) if !enqueued.created => discard(&span),
        Ok(_) => {}
        Err(error) => mark_failed(&span, error),
    }
    enqueued
}
