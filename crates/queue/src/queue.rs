//! Producer API: enqueue tasks and query them.

use deadpool_redis::Pool;
use redis::aio::ConnectionManager;
use redis::{AsyncCommands as _, RedisError};

use crate::error::QueueError;
use crate::lease::Fence;
use crate::options::QueueOptions;
use crate::record::{Fields, TaskRecord};
use crate::scripts::SCRIPTS;
use crate::store::{GROUP, Keys, Store};

/// Maximum length of a task's id, in bytes.
pub const MAX_TASK_ID: usize = 64;
/// Maximum length of a task's payload, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1_024;

/// A task to enqueue.
#[derive(Debug, Clone, Copy)]
pub struct NewTask<'a> {
    /// The id. Enqueueing an id again does nothing while the first task's record is kept.
    pub id: &'a str,
    /// The argument of the job.
    pub payload: &'a str,
    /// W3C `traceparent` of the span that enqueues it.
    pub traceparent: Option<&'a str>,
}

/// The receipt of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// The number of the request.
    pub number: u64,
    /// Whether the task is new: `false` when its id was enqueued before.
    pub created: bool,
}

/// The number of tasks in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depths {
    /// Waiting for a worker.
    pub queued: u64,
    /// Being run.
    pub running: u64,
    /// Waiting for a retry.
    pub retrying: u64,
    /// In the dead list.
    pub dead: u64,
}

/// A queue of tasks in Redis. Clones share its connections.
///
/// **An enqueued task is run to its end at least once**, whatever process dies: it leaves the stream when a
/// run has ended (late acknowledgement), and a task whose worker is silent for the visibility timeout is
/// taken over. **Only one run takes effect** on the queue: every run has a lease, and only the current lease
/// can record progress, success or failure.
#[derive(Clone)]
pub struct Queue {
    pub(crate) store: Store,
}

impl Queue {
    /// The queue `name`, with `prefix` in front of its keys.
    ///
    /// `commands` runs the scripts. Blocking reads of one second hold connections of `pool`, so their response
    /// timeout must be longer.
    pub fn new(
        prefix: &str,
        name: &str,
        commands: ConnectionManager,
        pool: Pool,
        options: QueueOptions,
    ) -> Self {
        Self { store: Store { keys: Keys::new(prefix, name), commands, pool, options } }
    }

    /// Enqueues a task, once per id.
    ///
    /// # Errors
    ///
    /// When the queue is full, the task breaks a bound, Redis is away, or too few replicas have the task. After a
    /// time-out it is unknown whether the task was enqueued; enqueueing it again does no harm.
    pub async fn enqueue(&self, task: NewTask<'_>) -> Result<Enqueued, QueueError> {
        self.enqueue_within(self.store.options.capacity, task).await
    }

    /// Enqueues a task even if the queue is full: for a task that a run must leave behind before it can end
    /// and free its place.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`], but never [`QueueError::Full`].
    pub async fn enqueue_beyond_capacity(&self, task: NewTask<'_>) -> Result<Enqueued, QueueError> {
        self.enqueue_within(u64::MAX, task).await
    }

    async fn enqueue_within(&self, capacity: u64, task: NewTask<'_>) -> Result<Enqueued, QueueError> {
        if task.id.is_empty() || task.id.len() > MAX_TASK_ID {
            return Err(QueueError::Bounds("id"));
        }
        if task.payload.len() > MAX_PAYLOAD {
            return Err(QueueError::Bounds("payload"));
        }
        let keys = &self.store.keys;
        let mut call = SCRIPTS.enqueue.key(keys.record(task.id));
        call.key(&keys.stream).key(&keys.last_request);
        call.arg(task.id).arg(task.payload).arg(task.traceparent.unwrap_or("")).arg(capacity);
        let (reply, number): (String, u64) = self.store.write(&call).await?;
        match reply.as_str() {
            "created" => Ok(Enqueued { number, created: true }),
            "known" => Ok(Enqueued { number, created: false }),
            "full" => Err(QueueError::Full),
            _ => Err(QueueError::Reply(reply)),
        }
    }

    /// The record of a task; `None` when it has none, or none any more.
    ///
    /// # Errors
    ///
    /// When Redis is away or the record is damaged.
    pub async fn task(&self, id: &str) -> Result<Option<TaskRecord>, QueueError> {
        let fields: Fields = self.store.commands.clone().hgetall(self.store.keys.record(id)).await?;
        if fields.is_empty() { Ok(None) } else { TaskRecord::parse(id, fields).map(Some) }
    }

    /// The number of the latest request. Work that starts now covers all requests up to it.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn last_request(&self) -> Result<u64, QueueError> {
        self.store.last_request().await
    }

    /// The number of tasks in each state.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn depths(&self) -> Result<Depths, QueueError> {
        let (keys, mut redis) = (&self.store.keys, self.store.commands.clone());
        let mut pipe = redis::pipe();
        pipe.xlen(&keys.stream).zcard(&keys.delayed).zcard(&keys.dead);
        let (all, retrying, dead): (u64, u64, u64) = pipe.query_async(&mut redis).await?;
        let running = self.running().await?;
        Ok(Depths { queued: all.saturating_sub(running), running, retrying, dead })
    }

    async fn running(&self) -> Result<u64, QueueError> {
        let mut pending = redis::cmd("XPENDING");
        pending.arg(&self.store.keys.stream).arg(GROUP);
        let summary: Result<(u64, redis::Value, redis::Value, redis::Value), RedisError> =
            pending.query_async(&mut self.store.commands.clone()).await;
        match summary {
            Ok((count, ..)) => Ok(count),
            Err(error) if error.code() == Some("NOGROUP") => Ok(0), // no worker has started yet
            Err(error) => Err(error.into()),
        }
    }

    /// The records of at most `limit` dead tasks, the latest first.
    ///
    /// # Errors
    ///
    /// When Redis is away or a record is damaged.
    pub async fn dead(&self, limit: usize) -> Result<Vec<TaskRecord>, QueueError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let (keys, mut redis) = (&self.store.keys, self.store.commands.clone());
        let last = isize::try_from(limit).unwrap_or(isize::MAX).saturating_sub(1);
        let ids: Vec<String> = redis.zrevrange(&keys.dead, 0, last).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        ids.iter().for_each(|id| {
            pipe.hgetall(keys.record(id));
        });
        let records: Vec<Fields> = pipe.query_async(&mut redis).await?;
        let records = ids.iter().zip(records).filter(|(_, fields)| !fields.is_empty());
        let parse = |(id, fields): (&String, Fields)| match TaskRecord::parse(id, fields) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::error!(task_id = id, %error, "damaged record of a dead task left out");
                None
            }
        };
        Ok(records.filter_map(parse).collect())
    }

    /// Puts a dead task back in the queue, as a new request with all its retries. Returns whether the task
    /// was dead.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn replay(&self, id: &str) -> Result<bool, QueueError> {
        let keys = &self.store.keys;
        let mut call = SCRIPTS.replay.key(keys.record(id));
        call.key(&keys.stream).key(&keys.last_request).key(&keys.dead).arg(id);
        Ok(call.invoke_async(&mut self.store.commands.clone()).await?)
    }

    /// The fence of a run whose lease is known by name, to test scripts that take one. A job gets its own from
    /// [`Lease::fence`](crate::Lease::fence).
    pub fn fence(&self, task_id: &str, request: u64, attempt: u32, lease: &str) -> Fence {
        Fence::new(&self.store.keys, task_id, request, attempt, lease)
    }

    /// How this queue treats its tasks.
    pub fn options(&self) -> &QueueOptions {
        &self.store.options
    }
}
