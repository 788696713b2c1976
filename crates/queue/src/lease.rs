//! The right to run a task, for as long as nobody else has it.

use std::sync::Arc;
use std::time::Duration;

use redis::ScriptInvocation;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::queue::{GROUP, Queue, QueueError};
use crate::record::{Progress, TaskRecord};

/// Longest error kept in a record, in bytes.
const MAX_ERROR: usize = 2_048;

/// The right to run a task.
///
/// **Only the holder of the current lease changes the task's record**: each change is a script that
/// compares the lease first. A run that was taken over, because its worker was silent for the visibility
/// timeout, is told so by [`Lease::lost`] and can change nothing any more.
#[derive(Clone)]
pub struct Lease {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Queue,
    record: TaskRecord,
    entry: String,
    token: String,
    poisoned: bool,
    lost: CancellationToken,
    _slot: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("task", &self.inner.record.id).finish_non_exhaustive()
    }
}

impl Lease {
    pub(crate) fn new(
        queue: Queue,
        record: TaskRecord,
        entry: String,
        token: String,
        poisoned: bool,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        let lost = CancellationToken::new();
        Self { inner: Arc::new(Inner { queue, record, entry, token, poisoned, lost, _slot: slot }) }
    }

    /// The task as it was when this run began.
    pub fn record(&self) -> &TaskRecord {
        &self.inner.record
    }

    /// How often the task may still be tried again.
    pub fn retries_left(&self) -> u32 {
        self.inner.queue.options.max_retries.saturating_sub(self.inner.record.retries)
    }

    /// How long the task waited for this run.
    pub fn waited(&self) -> Duration {
        let record = &self.inner.record;
        let waited = record.started_at_ms.unwrap_or(record.ready_at_ms) - record.ready_at_ms;
        Duration::from_millis(u64::try_from(waited).unwrap_or(0))
    }

    /// Returns when the lease is lost: the run has been, or may have been, taken over.
    pub async fn lost(&self) {
        self.inner.lost.cancelled().await;
    }

    /// Records how much is done. Returns whether the lease is still current.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn progress(&self, progress: Progress) -> Result<bool, QueueError> {
        let mut call = self.inner.queue.scripts.progress.key(self.record_key());
        call.arg(&self.inner.token).arg(progress.done).arg(progress.total);
        self.invoke(&call).await
    }

    pub(crate) fn declare_lost(&self) {
        self.inner.lost.cancel();
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.inner.lost.is_cancelled()
    }

    /// Whether the task was delivered too often without a run ending.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.inner.poisoned
    }

    pub(crate) fn entry(&self) -> &str {
        &self.inner.entry
    }

    /// The lease's name: while it is current, it is the field `lease` of [`Lease::record_key`]. For scripts
    /// of others that must act for the current run only.
    pub fn token(&self) -> &str {
        &self.inner.token
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    /// The key of the task's record.
    pub fn record_key(&self) -> String {
        self.inner.queue.keys.record(&self.inner.record.id)
    }

    /// Ends the run with a result, in JSON.
    pub(crate) async fn succeed(&self, result: &str) -> Result<bool, QueueError> {
        let queue = &self.inner.queue;
        let mut call = queue.scripts.succeed.key(self.record_key());
        call.key(&queue.keys.stream).arg(GROUP).arg(&self.inner.token).arg(result);
        call.arg(millis(queue.options.retention));
        self.invoke(&call).await
    }

    /// Ends the run; the task is tried again after `delay`.
    pub(crate) async fn retry(&self, error: &str, delay: Duration) -> Result<bool, QueueError> {
        let queue = &self.inner.queue;
        let mut call = queue.scripts.retry.key(self.record_key());
        call.key(&queue.keys.stream).key(&queue.keys.delayed).arg(GROUP).arg(&self.inner.token);
        call.arg(&self.inner.record.id).arg(shortened(error)).arg(millis(delay));
        self.invoke(&call).await
    }

    /// Ends the run; the task is ready again at once.
    pub(crate) async fn hand_back(&self) -> Result<bool, QueueError> {
        let queue = &self.inner.queue;
        let mut call = queue.scripts.hand_back.key(self.record_key());
        call.key(&queue.keys.stream).arg(GROUP).arg(&self.inner.token).arg(&self.inner.record.id);
        self.invoke(&call).await
    }

    /// Ends the run; the task is dead.
    pub(crate) async fn bury(&self, error: &str) -> Result<bool, QueueError> {
        let queue = &self.inner.queue;
        let mut call = queue.scripts.bury.key(self.record_key());
        call.key(&queue.keys.stream).key(&queue.keys.dead).arg(GROUP).arg(&self.inner.token);
        call.arg(&self.inner.record.id).arg(shortened(error)).arg(queue.options.dead_capacity);
        call.arg(&queue.keys.task).arg(millis(queue.options.retention));
        self.invoke(&call).await
    }

    async fn invoke(&self, call: &ScriptInvocation<'_>) -> Result<bool, QueueError> {
        let current: bool = call.invoke_async(&mut self.inner.queue.commands.clone()).await?;
        if !current {
            self.declare_lost();
        }
        Ok(current)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn shortened(error: &str) -> &str {
    let end = (0..=MAX_ERROR.min(error.len())).rev().find(|end| error.is_char_boundary(*end));
    &error[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_shortened_at_a_character() {
        let error = "é".repeat(MAX_ERROR);
        assert_eq!(shortened(&error), "é".repeat(MAX_ERROR / 2));
        assert_eq!(shortened("short"), "short");
    }
}
