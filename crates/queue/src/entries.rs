//! The entries of the stream that one worker has, and those that it can get.

use std::time::Duration;

use deadpool_redis::Connection;
use redis::streams::{
    StreamId, StreamPendingCountReply, StreamRangeReply, StreamReadOptions, StreamReadReply,
};
use redis::{AsyncCommands as _, RedisError};

use crate::error::QueueError;
use crate::scripts::{SCRIPTS, millis};
use crate::store::{GROUP, Store};

/// Maximum number of tasks that one script touches.
pub(crate) const SCRIPT_BATCH: usize = 100;
/// An idle consumer without entries is removed from the group after this time.
const PRUNE_AFTER: Duration = Duration::from_secs(60 * 60);

/// An entry of the stream that was delivered to this worker.
pub(crate) struct Delivery {
    pub(crate) entry: String,
    /// The id of its task; empty, as that of no task, if the entry names none.
    pub(crate) task_id: String,
}

impl From<StreamId> for Delivery {
    fn from(entry: StreamId) -> Self {
        Self { task_id: entry.get("task").unwrap_or_default(), entry: entry.id }
    }
}

/// The stream, as the consumer `name` of its group sees it.
pub(crate) struct Entries {
    pub(crate) store: Store,
    /// A name that no other consumer has, or ever had.
    pub(crate) name: String,
}

impl Entries {
    /// Makes the group unless it exists.
    pub(crate) async fn join_group(&self, connection: &mut Connection) -> Result<(), QueueError> {
        let mut call = SCRIPTS.join.key(&self.store.keys.stream);
        call.arg(GROUP).invoke_async::<()>(connection).await?;
        self.prune_consumers("").await;
        Ok(())
    }

    /// Entries that this consumer has, up to two for each slot: some may be running.
    pub(crate) async fn read_pending(
        &self,
        connection: &mut Connection,
    ) -> Result<Vec<Delivery>, QueueError> {
        let options = self.read_options().count(self.pending_limit());
        self.read(connection, "0", &options).await
    }

    /// Waits for new entries.
    pub(crate) async fn read_new(
        &self,
        connection: &mut Connection,
        limit: usize,
        block: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        let block = millis(block).max(1) as usize; // 0 would block for ever
        self.read(connection, ">", &self.read_options().count(limit).block(block)).await
    }

    fn read_options(&self) -> StreamReadOptions {
        StreamReadOptions::default().group(GROUP, &self.name)
    }

    async fn read(
        &self,
        connection: &mut Connection,
        after: &str,
        options: &StreamReadOptions,
    ) -> Result<Vec<Delivery>, QueueError> {
        let reply: Option<StreamReadReply> =
            connection.xread_options(&[&self.store.keys.stream], &[after], options).await?;
        let entries = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
        Ok(entries.map(Delivery::from).collect())
    }

    /// Takes over entries of workers that are silent for the visibility timeout.
    pub(crate) async fn claim_abandoned(&self, limit: usize) -> Result<Vec<Delivery>, QueueError> {
        let Store { keys, options, commands, .. } = &self.store;
        let mut call = SCRIPTS.claim.key(&keys.stream);
        call.arg(GROUP).arg(&self.name).arg(millis(options.visibility_timeout)).arg(limit.min(SCRIPT_BATCH));
        let claimed: StreamRangeReply = call.invoke_async(&mut commands.clone()).await?;
        Ok(claimed.ids.into_iter().map(Delivery::from).collect())
    }

    /// Ids of the entries that this consumer has, up to two for each slot.
    pub(crate) async fn pending(&self) -> Result<Vec<String>, QueueError> {
        let (keys, limit) = (&self.store.keys, self.pending_limit());
        let mut redis = self.store.commands.clone();
        let pending: StreamPendingCountReply =
            redis.xpending_consumer_count(&keys.stream, GROUP, "-", "+", limit, &self.name).await?;
        Ok(pending.ids.into_iter().map(|entry| entry.id).collect())
    }

    fn pending_limit(&self) -> usize {
        2 * self.store.options.concurrency
    }

    /// Makes the tasks of entries that have not begun ready for other workers.
    pub(crate) async fn release(&self, entries: &[String]) -> Result<(), QueueError> {
        let Store { keys, commands, .. } = &self.store;
        for entries in entries.chunks(SCRIPT_BATCH) {
            let mut call = SCRIPTS.release.key(&keys.stream);
            call.arg(GROUP).arg(&self.name).arg(&keys.record_prefix).arg(entries);
            call.invoke_async::<()>(&mut commands.clone()).await?;
        }
        Ok(())
    }

    /// Removes entries that no run can be made of.
    pub(crate) async fn remove(&self, entries: &[String]) -> Result<(), QueueError> {
        let mut pipe = redis::pipe();
        pipe.xack(&self.store.keys.stream, GROUP, entries).ignore();
        pipe.xdel(&self.store.keys.stream, entries).ignore();
        Ok(pipe.query_async(&mut self.store.commands.clone()).await?)
    }

    /// Makes delayed tasks ready that are due. Returns the time until the next one is due, if there is one.
    pub(crate) async fn promote(&self) -> Result<Option<Duration>, QueueError> {
        let keys = &self.store.keys;
        let mut call = SCRIPTS.promote.key(&keys.delayed);
        call.key(&keys.stream).arg(&keys.record_prefix).arg(SCRIPT_BATCH);
        let due: Option<u64> = call.invoke_async(&mut self.store.commands.clone()).await?;
        Ok(due.map(Duration::from_millis))
    }

    /// Leaves the group, unless this consumer has entries.
    pub(crate) async fn leave_group(&self) {
        self.prune_consumers(&self.name).await;
    }

    /// Removes consumers without entries from the group: `name`, and those idle for long.
    async fn prune_consumers(&self, name: &str) {
        let mut call = SCRIPTS.prune_consumers.key(&self.store.keys.stream);
        call.arg(GROUP).arg(name).arg(millis(PRUNE_AFTER));
        let pruned: Result<(), RedisError> = call.invoke_async(&mut self.store.commands.clone()).await;
        if let Err(error) = pruned {
            tracing::debug!(%error, "consumers not pruned");
        }
    }
}
