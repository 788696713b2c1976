//! Recalculation tasks: their payload, and their one producer.

use pricing_queue::{Enqueued, NewTask, Queue, QueueError, QueueOptions, SourceEntry};
use serde::{Deserialize, Serialize};
use tracing::{Instrument as _, info_span};

use crate::clock::now_ms;
use crate::ids::TaskId;
use crate::redis::Redis;
use crate::trace::{current_traceparent, discard, mark_failed};

/// Name of the queue.
pub const QUEUE: &str = "recalculate";
/// Key, without prefix, of the highest request that was skipped or dropped because another task covers it.
pub const SKIPPED: &str = "recalculate_skipped";
/// Longest reason, in characters.
pub const MAX_REASON: usize = 256;
/// Version of the encoding.
const SCHEMA: u32 = 1;
const MAX_PAYLOAD: usize = 4_096;

/// A request to recalculate all prices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recalculation {
    schema: u32,
    /// Why prices should be recalculated, in the requester's words.
    pub reason: String,
    /// Time of the request in milliseconds since 1970, by the requester's clock.
    pub requested_at_ms: i64,
    /// Name of the key of the caller who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
}

/// A payload that this build cannot read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPayload {
    /// It is not JSON, or not of the expected shape.
    #[error("the payload is no recalculation")]
    Shape(#[source] serde_json::Error),
    /// It is longer than any payload of a recalculation.
    #[error("the payload is longer than {MAX_PAYLOAD} bytes")]
    TooLong,
    /// Another version wrote it.
    #[error("the payload has schema {0}, this build reads schema {SCHEMA}")]
    Schema(u32),
}

impl Recalculation {
    /// A request made now.
    pub fn now(reason: impl Into<String>) -> Self {
        Self { schema: SCHEMA, reason: reason.into(), requested_at_ms: now_ms(), caller: None }
    }

    /// The same request, made by the caller whose key has this name.
    #[must_use]
    pub fn by(self, caller: Option<String>) -> Self {
        Self { caller, ..self }
    }

    /// The payload for the queue.
    pub fn encode(&self) -> String {
        sonic_rs::to_string(self).expect("invariant: numbers and strings serialize")
    }

    /// Reads a payload from the queue, which anybody may have written.
    ///
    /// # Errors
    ///
    /// When it is not a recalculation, or one of another schema.
    pub fn decode(payload: &str) -> Result<Self, InvalidPayload> {
        #[derive(Deserialize)]
        struct Schema {
            schema: u32,
        }
        if payload.len() > MAX_PAYLOAD {
            return Err(InvalidPayload::TooLong);
        }
        let error = match serde_json::from_str::<Self>(payload) {
            Ok(job) if job.schema == SCHEMA => return Ok(job),
            Ok(job) => return Err(InvalidPayload::Schema(job.schema)),
            Err(error) => error,
        };
        // Another schema may have other fields.
        match serde_json::from_str::<Schema>(payload) {
            Ok(Schema { schema }) if schema != SCHEMA => Err(InvalidPayload::Schema(schema)),
            _ => Err(InvalidPayload::Shape(error)),
        }
    }
}

/// What all processes must agree on to use one queue.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct QueueSettings {
    /// Megabytes (MiB) of Redis that tasks may take which wait for their end; keep it well below `maxmemory`
    #[arg(long, env, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub queue_capacity_mb: u32,
}

impl QueueSettings {
    /// The options of the queue for a process that runs no tasks.
    pub fn options(self) -> QueueOptions {
        QueueOptions { capacity_bytes: u64::from(self.queue_capacity_mb) << 20, ..QueueOptions::default() }
    }
}

/// The queue of recalculations: its name, its connections and the payload of its tasks.
///
/// A task carries the trace of its producer: the `publish` span is the parent of the spans of its runs.
/// Clones share connections.
#[derive(Clone)]
pub struct RecalculationQueue {
    queue: Queue,
    skipped: String,
}

impl RecalculationQueue {
    /// The queue of this Redis and prefix. All processes must pass the same `options`, except for the
    /// concurrency of a worker.
    pub fn new(redis: &Redis, options: QueueOptions) -> Self {
        let (commands, pool) = (redis.commands.clone(), redis.pool.clone());
        let skipped = format!("{}{SKIPPED}", redis.prefix);
        Self { queue: Queue::new(&redis.prefix, QUEUE, commands, pool, options), skipped }
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
    pub async fn enqueue(&self, id: &TaskId, request: &Recalculation) -> Result<Enqueued, QueueError> {
        let enqueue = async |task: NewTask<'_>| self.queue.enqueue(task).await;
        publish(id, request, enqueue, |enqueued| enqueued.created).await
    }

    /// Enqueues like [`RecalculationQueue::enqueue`] and deletes the entry of the event log that the request comes
    /// from, in one step.
    ///
    /// # Errors
    ///
    /// As [`RecalculationQueue::enqueue`]; the entry stays then.
    pub async fn enqueue_from(
        &self,
        source: SourceEntry<'_>,
        id: &TaskId,
        request: &Recalculation,
    ) -> Result<Enqueued, QueueError> {
        let enqueue = async |task: NewTask<'_>| self.queue.enqueue_from(source, task).await;
        publish(id, request, enqueue, |enqueued| enqueued.created).await
    }

    /// Enqueues like [`RecalculationQueue::enqueue`], or drops the request (`None`) when the queue is full and a task
    /// that no worker has begun covers it.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn enqueue_or_drop(
        &self,
        id: &TaskId,
        request: &Recalculation,
    ) -> Result<Option<Enqueued>, QueueError> {
        let enqueue = async |task: NewTask<'_>| self.queue.enqueue_or_drop(&self.skipped, task).await;
        publish(id, request, enqueue, |enqueued| enqueued.is_some_and(|enqueued| enqueued.created)).await
    }

    /// Enqueues like [`RecalculationQueue::enqueue`], also when the queue is full: a run that must end for the
    /// queue to drain enqueues its follow-up this way.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn enqueue_beyond_capacity(
        &self,
        id: &TaskId,
        request: &Recalculation,
    ) -> Result<Enqueued, QueueError> {
        let enqueue = async |task: NewTask<'_>| self.queue.enqueue_beyond_capacity(task).await;
        publish(id, request, enqueue, |enqueued| enqueued.created).await
    }
}

/// Enqueues a task under a `publish` span, which is discarded when no task was made.
async fn publish<T: Copy>(
    id: &TaskId,
    request: &Recalculation,
    enqueue: impl AsyncFnOnce(NewTask<'_>) -> Result<T, QueueError>,
    is_new: impl FnOnce(T) -> bool,
) -> Result<T, QueueError> {
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
        let (payload, traceparent) = (request.encode(), current_traceparent());
        let task = NewTask { id: id.as_str(), payload: &payload, traceparent: traceparent.as_deref() };
        enqueue(task).await
    };
    let enqueued = enqueued.instrument(span.clone()).await;
    match &enqueued {
        Ok(enqueued) if !is_new(*enqueued) => discard(&span),
        Ok(_) => {}
        Err(error) => mark_failed(&span, error),
    }
    enqueued
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_reads_back() {
        for caller in [None, Some("shop".to_owned())] {
            let job = Recalculation::now("prices of \"summer\"\n").by(caller);
            assert_eq!(Recalculation::decode(&job.encode()).unwrap(), job);
        }
    }

    #[test]
    fn an_older_or_newer_payload_is_refused_by_its_schema() {
        let newer = r#"{"schema":2,"why":"x","requested":"2027-01-01"}"#;
        assert_eq!(
            Recalculation::decode(newer).unwrap_err().to_string(),
            "the payload has schema 2, this build reads schema 1"
        );
        let deep = format!(r#"{{"schema":1,"x":{}"#, "[".repeat(4_000));
        for garbage in ["", "Recalculate_Triggered_v1", "{}", "[1]", r#"{"schema":1}"#, &deep] {
            assert!(matches!(Recalculation::decode(garbage), Err(InvalidPayload::Shape(_))), "{garbage:.20}");
        }
        assert!(matches!(Recalculation::decode(&"[".repeat(5_000)), Err(InvalidPayload::TooLong)));
    }
}
