//! The queue, as those see it who put tasks in and ask about them.

use std::time::Duration;

use deadpool_redis::{Pool, PoolError};
use redis::aio::ConnectionManager;
use redis::{AsyncCommands as _, RedisError};

use crate::keys::Keys;
use crate::record::{Fields, TaskRecord};
use crate::scripts::Scripts;

/// Redis name of the consumer group of the workers.
pub(crate) const GROUP: &str = "workers";
/// Longest id of a task, in bytes.
pub const MAX_TASK_ID: usize = 64;
/// Longest payload of a task, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1_024;

/// What can go wrong with a queue.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The queue holds as many tasks as [`QueueOptions::capacity`] allows.
    #[error("the queue is full: are workers running?")]
    Full,
    /// An id or a payload is longer than allowed, or an id is empty.
    #[error("the {0} of the task is empty or too long")]
    Bounds(&'static str),
    /// Redis is away, slow, full or refused the command.
    #[error("Redis failed")]
    Redis(#[from] RedisError),
    /// No connection to Redis could be had.
    #[error("no connection to Redis")]
    Pool(#[from] PoolError),
}

/// How a queue treats its tasks. Every process that uses a queue must be given the same options.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Runs of one worker at a time.
    pub concurrency: usize,
    /// How often a task is tried again after a transient failure, before it is dead.
    pub max_retries: u32,
    /// How long a task waits before it is tried again.
    pub retry_delay: Duration,
    /// How long a worker may be silent before its tasks are taken over. Running tasks are renewed every
    /// third of it.
    pub visibility_timeout: Duration,
    /// How often a task may be delivered without its run ending, as when it kills its worker, before it is
    /// dead.
    pub max_deliveries: u32,
    /// How long the record of a task that succeeded is kept.
    pub retention: Duration,
    /// Tasks that may be ready or running at a time.
    pub capacity: u64,
    /// Dead tasks that are kept; beyond that the oldest are dropped.
    pub dead_capacity: u64,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            concurrency: 4,
            max_retries: 5,
            retry_delay: Duration::from_secs(30),
            visibility_timeout: Duration::from_secs(30),
            max_deliveries: 3,
            retention: Duration::from_secs(24 * 60 * 60),
            capacity: 200_000,
            dead_capacity: 10_000,
        }
    }
}

/// A task to be put in a queue.
#[derive(Debug, Clone, Copy)]
pub struct NewTask<'a> {
    /// Its id: enqueueing the same id again does nothing while the first one's record is kept.
    pub id: &'a str,
    /// What to do.
    pub payload: &'a str,
    /// W3C `traceparent` of whoever enqueues it.
    pub traceparent: Option<&'a str>,
}

/// The receipt of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// Number of the request.
    pub number: u64,
    /// Whether the task is new: `false` when its id was enqueued before.
    pub created: bool,
}

/// How many tasks are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depths {
    /// Waiting for a worker.
    pub queued: u64,
    /// Being run.
    pub running: u64,
    /// Waiting to be tried again.
    pub retrying: u64,
    /// Failed for good.
    pub dead: u64,
}

/// A queue of tasks in Redis. Clones share its connections.
///
/// **An enqueued task is run at least once to its end**, whatever process dies: it leaves the stream only
/// when a run ended (acknowledged late), and a run whose worker falls silent for the visibility timeout is
/// taken over. **It is in effect once** towards the queue: every run has a lease, and only the holder of
/// the current one can report progress, success or failure.
#[derive(Clone)]
pub struct Queue {
    pub(crate) keys: Keys,
    pub(crate) commands: ConnectionManager,
    pub(crate) pool: Pool,
    pub(crate) options: QueueOptions,
    pub(crate) scripts: &'static Scripts,
}

impl Queue {
    /// The queue `name` whose keys start with `prefix`.
    ///
    /// `commands` serves the scripts; connections of `pool` are held for blocking reads of one second, so
    /// their response timeout must be longer.
    pub fn new(
        prefix: &str,
        name: &str,
        commands: ConnectionManager,
        pool: Pool,
        options: QueueOptions,
    ) -> Self {
        Self { keys: Keys::new(prefix, name), commands, pool, options, scripts: Scripts::get() }
    }

    /// Puts a task in the queue, once per id.
    ///
    /// # Errors
    ///
    /// When the queue is full, the task breaks a bound, or Redis is away. After a time-out it is unknown
    /// whether the task was enqueued; enqueueing it again does no harm.
    pub async fn enqueue(&self, task: NewTask<'_>) -> Result<Enqueued, QueueError> {
        self.enqueue_within(self.options.capacity, task).await
    }

    /// Puts a task in the queue even when it is full: for a task that a run must leave behind before it can
    /// end and make room.
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
        let mut call = self.scripts.enqueue.key(self.keys.record(task.id));
        call.key(&self.keys.stream).key(&self.keys.numbers);
        call.arg(task.id).arg(task.payload).arg(task.traceparent.unwrap_or("")).arg(capacity);
        let (created, number): (i8, u64) = call.invoke_async(&mut self.commands.clone()).await?;
        match created {
            -1 => Err(QueueError::Full),
            created => Ok(Enqueued { number, created: created == 1 }),
        }
    }

    /// The record of a task, `None` when there is none (any more).
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn task(&self, id: &str) -> Result<Option<TaskRecord>, QueueError> {
        let fields: Fields = self.commands.clone().hgetall(self.keys.record(id)).await?;
        Ok(TaskRecord::from_fields(id, fields))
    }

    /// How many tasks are where.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn depths(&self) -> Result<Depths, QueueError> {
        let mut pipe = redis::pipe();
        pipe.xlen(&self.keys.stream).zcard(&self.keys.delayed).zcard(&self.keys.dead);
        let (all, retrying, dead): (u64, u64, u64) = pipe.query_async(&mut self.commands.clone()).await?;
        let running = self.pending().await?;
        Ok(Depths { queued: all.saturating_sub(running), running, retrying, dead })
    }

    async fn pending(&self) -> Result<u64, QueueError> {
        let summary: Result<Vec<redis::Value>, RedisError> = redis::cmd("XPENDING")
            .arg(&self.keys.stream)
            .arg(GROUP)
            .query_async(&mut self.commands.clone())
            .await;
        match summary {
            Ok(summary) => Ok(summary
                .first()
                .map(redis::from_redis_value_ref)
                .transpose()
                .map_err(RedisError::from)?
                .unwrap_or(0)),
            Err(error) if error.code() == Some("NOGROUP") => Ok(0), // no worker was ever there
            Err(error) => Err(error.into()),
        }
    }

    /// The records of at most `limit` dead tasks, the latest first.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn dead(&self, limit: usize) -> Result<Vec<TaskRecord>, QueueError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut redis = self.commands.clone();
        let last = isize::try_from(limit).unwrap_or(isize::MAX).saturating_sub(1);
        let ids: Vec<String> = redis.zrevrange(&self.keys.dead, 0, last).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        ids.iter().for_each(|id| {
            pipe.hgetall(self.keys.record(id));
        });
        let records: Vec<Fields> = pipe.query_async(&mut redis).await?;
        Ok(ids.iter().zip(records).filter_map(|(id, fields)| TaskRecord::from_fields(id, fields)).collect())
    }

    /// Puts a dead task back in the queue, as a new request with all its retries. Returns whether the task
    /// was dead.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn replay(&self, id: &str) -> Result<bool, QueueError> {
        let mut call = self.scripts.replay.key(self.keys.record(id));
        call.key(&self.keys.stream).key(&self.keys.numbers).key(&self.keys.dead).arg(id);
        Ok(call.invoke_async(&mut self.commands.clone()).await?)
    }

    /// How this queue treats its tasks.
    pub fn options(&self) -> &QueueOptions {
        &self.options
    }

    /// The key of the counter that numbers the requests, for scripts of others that compare with it.
    pub fn numbers_key(&self) -> &str {
        &self.keys.numbers
    }
}
