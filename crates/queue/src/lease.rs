//! The right to run a task, and the proof of it.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use redis::{Script, ScriptInvocation};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::error::QueueError;
use crate::options::QueueOptions;
use crate::record::{Progress, TaskRecord};
use crate::scripts::{SCRIPTS, essential};
use crate::span::client_span;
use crate::store::{Keys, Store};

/// The right to run a task.
///
/// **Only the current lease changes the task's record**: every change is a script that compares the lease
/// first. When a worker is silent for the visibility timeout, its tasks are taken over; the earlier run is
/// dropped as soon as it is known ([`Lease::lost`]), and can change nothing before that.
///
/// **A lease is current only on the Redis that gave it.** It names that Redis by its replication id, which is a
/// new one after every promotion and restart. So a run that began before a failover, which may have lost what
/// the run relies on, changes nothing after it; its task is run again.
#[derive(Clone)]
pub struct Lease {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    record: TaskRecord,
    entry: String,
    token: LeaseToken,
    poisoned: bool,
    lost: CancellationToken,
    _slot: OwnedSemaphorePermit,
}

impl Lease {
    pub(crate) fn new(
        store: Store,
        record: TaskRecord,
        entry: String,
        token: LeaseToken,
        poisoned: bool,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        let lost = CancellationToken::new();
        Self { inner: Arc::new(Inner { store, record, entry, token, poisoned, lost, _slot: slot }) }
    }

    /// The task's record at the start of this run.
    pub fn record(&self) -> &TaskRecord {
        &self.inner.record
    }

    /// The proof that this run is current, for scripts of other crates.
    pub fn fence(&self) -> Fence {
        let TaskRecord { id, number, attempts, .. } = self.record();
        Fence::new(&self.inner.store.keys, id, *number, *attempts, &self.inner.token.text)
    }

    /// A random number that names this run.
    pub fn nonce(&self) -> u64 {
        self.inner.token.nonce
    }

    /// Retries that the task has left.
    pub fn retries_left(&self) -> u32 {
        self.inner.store.options.max_retries.saturating_sub(self.inner.record.retries)
    }

    /// How long the task was ready before this run began.
    pub fn queue_wait(&self) -> Duration {
        let record = &self.inner.record;
        let wait = record.started_at_ms.unwrap_or(record.ready_at_ms) - record.ready_at_ms;
        Duration::from_millis(u64::try_from(wait).unwrap_or(0))
    }

    /// How old the task was when this run began.
    pub fn age(&self) -> Duration {
        let record = &self.inner.record;
        let age = record.started_at_ms.unwrap_or(record.created_at_ms) - record.created_at_ms;
        Duration::from_millis(u64::try_from(age).unwrap_or(0))
    }

    /// Returns when the lease is lost: the task has been taken over, or may have been.
    pub async fn lost(&self) {
        self.inner.lost.cancelled().await;
    }

    /// The number of the queue's latest request, `None` when the lease is not current any more. Work of this run
    /// that starts now covers all requests up to it.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn last_request(&self) -> Result<Option<u64>, QueueError> {
        let mut call = SCRIPTS.latest.key(self.record_key());
        call.key(&self.inner.store.keys.last_request).arg(self.token());
        let latest = async { Ok(call.invoke_async(&mut self.inner.store.commands.clone()).await?) };
        let latest: Option<u64> = client_span("EVALSHA last request", latest).await?;
        if latest.is_none() {
            self.declare_lost();
        }
        Ok(latest)
    }

    /// Records the progress of the run. Returns whether the lease is still current.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn progress(&self, progress: Progress) -> Result<bool, QueueError> {
        let mut call = SCRIPTS.progress.key(self.record_key());
        call.arg(self.token()).arg(progress.done).arg(progress.total);
        client_span("EVALSHA record progress", self.invoke(&call)).await
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn options(&self) -> &QueueOptions {
        &self.inner.store.options
    }

    pub(crate) fn declare_lost(&self) {
        self.inner.lost.cancel();
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.inner.lost.is_cancelled()
    }

    /// Whether the task was delivered too often without the end of a run.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.inner.poisoned
    }

    /// The entry of the stream that delivered the task.
    pub(crate) fn entry(&self) -> &str {
        &self.inner.entry
    }

    /// The lease's token. While the lease is current, the record holds it with the name of the Redis behind it.
    pub(crate) fn token(&self) -> &str {
        &self.inner.token.text
    }

    pub(crate) fn record_key(&self) -> String {
        self.inner.store.keys.record(&self.inner.record.id)
    }

    async fn invoke(&self, call: &ScriptInvocation<'_>) -> Result<bool, QueueError> {
        let is_current: bool = call.invoke_async(&mut self.inner.store.commands.clone()).await?;
        if !is_current {
            self.declare_lost();
        }
        Ok(is_current)
    }
}

/// The name of a lease: the worker's, and a nonce.
pub(crate) struct LeaseToken {
    text: String,
    nonce: u64,
}

impl LeaseToken {
    /// A token that no other lease has.
    pub(crate) fn new(worker: &str) -> Self {
        let nonce = rand::rng().random();
        Self { text: format!("{worker}:{nonce:016x}"), nonce }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// The proof that a run is the current run of its task, on the Redis that began it.
///
/// A run that was taken over, because its worker was paused for longer than the visibility timeout, may
/// notice late. A Lua script outside this crate that must act for the current run only takes a fence:
/// build the script with [`Fence::script`] and call it with [`Fence::invocation`].
#[derive(Debug, Clone)]
pub struct Fence {
    record_key: String,
    last_request_key: String,
    lease: String,
    task_id: String,
    request: u64,
    attempt: u32,
}

impl Fence {
    pub(crate) fn new(keys: &Keys, task_id: &str, request: u64, attempt: u32, lease: &str) -> Self {
        Self {
            record_key: keys.record(task_id),
            last_request_key: keys.last_request.clone(),
            lease: lease.to_owned(),
            task_id: task_id.to_owned(),
            request,
            attempt,
        }
    }

    /// A script that takes a fence.
    ///
    /// `KEYS[1]` and `ARGV[1]` are the record and the lease of the run, for `is_current(KEYS[1], ARGV[1])`;
    /// `KEYS[2]` is the number of the queue's latest request, `ARGV[2]` that of the task's own, and `ARGV[3]` the
    /// task's id. The script's own keys start at `KEYS[3]`, its own arguments at `ARGV[4]`. `number(key)` reads a
    /// counter. `given_here(token)` is what stands in a key for a token that this Redis gave, and
    /// `is_given_here(value)` tells it from what stands there since before a failover. The script runs when Redis is
    /// out of memory too: a run must be able to end then.
    pub fn script(lua: &str) -> Script {
        essential(lua)
    }

    /// An invocation of a script from [`Fence::script`] with this fence. Add the script's own keys and
    /// arguments to it.
    pub fn invocation<'s>(&self, script: &'s Script) -> ScriptInvocation<'s> {
        let mut call = script.key(&self.record_key);
        call.key(&self.last_request_key).arg(&self.lease).arg(self.request).arg(&self.task_id);
        call
    }

    /// The id of the task.
    pub fn task_id(&self) -> &str {
        &self.task_id
    }

    /// The number of the attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}
