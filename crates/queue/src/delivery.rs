//! From an entry of the stream to a run under a lease.

use std::sync::{Arc, PoisonError};

use rand::RngExt as _;
use redis::AsyncCommands as _;
use redis::streams::StreamId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::consumer::{BLOCK, Consumer, give_up};
use crate::lease::Lease;
use crate::queue::{GROUP, QueueError};
use crate::record::{Fields, TaskRecord};

/// When an entry was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// Just now.
    Now,
    /// On a connection that broke; whether its run was begun is unknown, but none is under way here.
    Before,
}

impl Consumer {
    /// Whether the next run of a task is its last chance, because none before it ended. It may have ended its
    /// workers, or was only run beside one that did.
    async fn is_suspect(&self, entry: &StreamId) -> Result<bool, QueueError> {
        let record = self.queue.keys.record(&entry.get::<String>("task").unwrap_or_default());
        let deliveries: Option<u32> = self.queue.commands.clone().hget(record, "deliveries").await?;
        Ok(deliveries.unwrap_or(0) + 1 >= self.queue.options.max_deliveries)
    }

    /// Waits until nothing else runs here and makes all slots one, for a task that is to be run alone: if it
    /// ends this worker it takes no other with it, and if another did that, it ends well. Another worker may
    /// take it over meanwhile.
    async fn wait_for_all(&self, slots: &Arc<Semaphore>, free: &mut Vec<OwnedSemaphorePermit>) {
        let held: usize = free.iter().map(OwnedSemaphorePermit::num_permits).sum();
        let others = u32::try_from(self.queue.options.concurrency.saturating_sub(held)).unwrap_or(u32::MAX);
        loop {
            self.look();
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return, // then it is passed on
                all = slots.clone().acquire_many_owned(others) => {
                    let Ok(mut all) = all else { return };
                    free.drain(..).for_each(|slot| all.merge(slot));
                    return free.push(all);
                }
                () = tokio::time::sleep(BLOCK) => {}
            }
        }
    }

    /// Begins a run of an entry that was taken over from another worker.
    pub(crate) async fn deliver_claimed(
        &self,
        entry: StreamId,
        slots: &Arc<Semaphore>,
        free: &mut Vec<OwnedSemaphorePermit>,
    ) -> Result<(), QueueError> {
        if self.is_suspect(&entry).await? {
            self.wait_for_all(slots, free).await;
        }
        self.deliver(entry, free, Read::Now).await
    }

    /// Begins a run of an entry and hands it to the worker.
    pub(crate) async fn deliver(
        &self,
        entry: StreamId,
        free: &mut Vec<OwnedSemaphorePermit>,
        read: Read,
    ) -> Result<(), QueueError> {
        let Some(slot) = free.pop() else { return Ok(()) }; // more than asked for: taken over later
        let id: String = entry.get("task").unwrap_or_default();
        if self.closing.is_cancelled() {
            let mut call = self.queue.scripts.pass_on.key(self.queue.keys.record(&id));
            call.key(&self.queue.keys.stream).arg(GROUP).arg(&entry.id).arg(&id);
            return Ok(call.invoke_async(&mut self.queue.commands.clone()).await?);
        }
        let token = format!("{}:{:016x}", self.name, rand::rng().random::<u64>());
        let mut call = self.queue.scripts.begin.key(self.queue.keys.record(&id));
        call.key(&self.queue.keys.stream).arg(GROUP).arg(&entry.id).arg(&token);
        call.arg(self.queue.options.max_deliveries).arg(&self.name);
        call.arg(if read == Read::Before { "again" } else { "" });
        let begun: Option<(bool, Fields)> = call.invoke_async(&mut self.queue.commands.clone()).await?;
        let Some((run, hash)) = begun else {
            tracing::debug!(task_id = id, "an entry is no longer ours or its task's");
            return Ok(());
        };
        let Some(record) = TaskRecord::from_fields(&id, hash) else {
            tracing::error!(task_id = id, "dropped a task whose record is unreadable");
            let mut pipe = redis::pipe();
            pipe.xack(&self.queue.keys.stream, GROUP, &[&entry.id]).ignore();
            pipe.xdel(&self.queue.keys.stream, &[&entry.id]).ignore();
            return Ok(pipe.query_async(&mut self.queue.commands.clone()).await?);
        };
        let lease = Lease::new(self.queue.clone(), record, entry.id, token.clone(), !run, slot);
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), lease.clone());
        if let Err(undelivered) = self.deliveries.send(lease).await {
            give_up(undelivered.0, &self.running).await;
        }
        Ok(())
    }
}
