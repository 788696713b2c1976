//! Producer API: enqueue tasks and query them.

use deadpool_redis::Pool;
use redis::aio::ConnectionManager;
use redis::{AsyncCommands as _, RedisError, Script, ScriptInvocation};

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

/// An entry of another stream that a task is made from.
#[derive(Debug, Clone, Copy)]
pub struct SourceEntry<'a> {
    /// Key of the stream.
    pub stream: &'a str,
    /// Consumer group that the entry is acknowledged for.
    pub group: &'a str,
    /// Id of the entry.
    pub entry: &'a str,
}

/// The receipt of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// The number of the request.
    pub number: u64,
    /// Whether the task is new: `false` when its id was enqueued before.
    pub created: bool,
}

/// The number of tasks in each state, and their bytes.
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
    /// Bytes in Redis that the tasks take which are not dead.
    pub bytes: u64,
}

/// A queue of tasks in Redis. Clones share its connections.
///
/// **An enqueued task is run to its end at least once**, whatever process dies: it leaves the stream when a
/// run has ended (late acknowledgement), and a task whose worker is silent for the visibility timeout is
/// taken over. **Only one run takes effect** on the queue: every run has a lease, and only the current lease
/// can record progress, success or failure.
///
/// **Tasks that wait take at most [`QueueOptions::capacity_bytes`] of Redis**, but for what runs leave behind and
/// one task that a full queue cannot drop. A full queue drains by itself, also when Redis is out of memory.
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
    /// When the queue is full, the task breaks a bound, Redis is away or out of memory, or too few replicas have the
    /// task. After a time-out it is unknown whether the task was enqueued; enqueueing it again does no harm.
    pub async fn enqueue(&self, task: NewTask<'_>) -> Result<Enqueued, QueueError> {
        let mut call = self.enqueueing(&SCRIPTS.enqueue, task)?;
        self.enqueued(call.arg("refuse")).await
    }

    /// Enqueues a task that is made from an entry of another stream, and acknowledges and deletes the entry: both or
    /// neither. When the task exists already, the entry alone is deleted.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`]; the entry stays then.
    pub async fn enqueue_from(
        &self,
        source: SourceEntry<'_>,
        task: NewTask<'_>,
    ) -> Result<Enqueued, QueueError> {
        let mut call = self.enqueueing(&SCRIPTS.enqueue, task)?;
        call.arg("refuse").key(source.stream).arg(source.group).arg(source.entry);
        self.enqueued(&call).await
    }

    /// Enqueues a task, or drops it when the queue is full and a task that no worker has begun can do its work as well.
    ///
    /// A dropped task is a request all the same: it gets a number, and the key `skipped` is raised to that in the same
    /// step. A run that finds this mark above what is covered must do the work. When every task of a full queue has
    /// begun, none is sure to see the mark, so the task is enqueued beyond the capacity. Returns `None` when it is
    /// dropped.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`], but never [`QueueError::Full`].
    pub async fn enqueue_or_drop(
        &self,
        skipped: &str,
        task: NewTask<'_>,
    ) -> Result<Option<Enqueued>, QueueError> {
        let mut call = self.enqueueing(&SCRIPTS.enqueue, task)?;
        match self.reply(call.arg("drop").key(skipped)).await? {
            (reply, _) if reply == "dropped" => Ok(None),
            reply => enqueued(reply).map(Some),
        }
    }

    /// Enqueues a task even if the queue is full or Redis is out of memory: for a task that a run must leave behind
    /// before it can end and free its place.
    ///
    /// # Errors
    ///
    /// When the task breaks a bound or Redis is away.
    pub async fn enqueue_beyond_capacity(&self, task: NewTask<'_>) -> Result<Enqueued, QueueError> {
        let mut call = self.enqueueing(&SCRIPTS.follow_up, task)?;
        self.enqueued(call.arg("exceed")).await
    }

    /// The call of `enqueue.lua`, to which the treatment of a full queue is added.
    fn enqueueing<'s>(
        &self,
        script: &'s Script,
        task: NewTask<'_>,
    ) -> Result<ScriptInvocation<'s>, QueueError> {
        if task.id.is_empty() || task.id.len() > MAX_TASK_ID {
            return Err(QueueError::Bounds("id"));
        }
        if task.payload.len() > MAX_PAYLOAD {
            return Err(QueueError::Bounds("payload"));
        }
        let Store { keys, options, .. } = &self.store;
        let mut call = script.key(keys.record(task.id));
        call.key(&keys.stream).key(&keys.last_request).key(&keys.delayed).key(&keys.bytes);
        call.arg(task.id).arg(task.payload).arg(task.traceparent.unwrap_or(""));
        call.arg(GROUP).arg(options.capacity_bytes);
        Ok(call)
    }

    async fn enqueued(&self, call: &ScriptInvocation<'_>) -> Result<Enqueued, QueueError> {
        enqueued(self.reply(call).await?)
    }

    async fn reply(&self, call: &ScriptInvocation<'_>) -> Result<(String, u64), QueueError> {
        self.store.write(call).await
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

    /// The number of tasks in each state, and their bytes.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn depths(&self) -> Result<Depths, QueueError> {
        let (keys, mut redis) = (&self.store.keys, self.store.commands.clone());
        let mut pipe = redis::pipe();
        pipe.xlen(&keys.stream).zcard(&keys.delayed).zcard(&keys.dead).hget(&keys.bytes, "waiting");
        let (all, retrying, dead, bytes): (u64, u64, u64, Option<u64>) = pipe.query_async(&mut redis).await?;
        let running = self.running().await?;
        let (queued, bytes) = (all.saturating_sub(running), bytes.unwrap_or(0));
        Ok(Depths { queued, running, retrying, dead, bytes })
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

    /// Puts a dead task back in the queue, as a new request with all its retries. Returns whether the task
    /// was dead.
    ///
    /// # Errors
    ///
    /// When Redis is away, or too few replicas have the write: then the task may be in the queue.
    pub async fn replay(&self, id: &str) -> Result<bool, QueueError> {
        let keys = &self.store.keys;
        let mut call = SCRIPTS.replay.key(keys.record(id));
        call.key(&keys.stream).key(&keys.last_request).key(&keys.dead).key(&keys.bytes).arg(id);
        self.store.write(&call).await
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

fn enqueued((reply, number): (String, u64)) -> Result<Enqueued, QueueError> {
    match reply.as_str() {
        "created" => Ok(Enqueued { number, created: true }),
        "known" => Ok(Enqueued { number, created: false }),
        "full" => Err(QueueError::Full),
        _ => Err(QueueError::Reply(reply)),
    }
}
