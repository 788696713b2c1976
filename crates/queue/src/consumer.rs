//! Fetches tasks for one worker and begins their runs.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::Connection;
use redis::streams::{
    StreamId, StreamPendingCountReply, StreamRangeReply, StreamReadOptions, StreamReadReply,
};
use redis::{AsyncCommands as _, RedisError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::error::{QueueError, causes};
use crate::hooks::OnPoll;
use crate::lease::{Lease, LeaseToken};
use crate::record::{Fields, TaskRecord};
use crate::running::Running;
use crate::scripts::{SCRIPTS, millis};
use crate::store::{GROUP, Store};

/// Maximum time that a blocking read waits. Delayed tasks and silent workers are looked for as often.
const BLOCK: Duration = Duration::from_secs(1);
/// Maximum number of tasks that one script makes ready or takes over.
const SCRIPT_BATCH: usize = 100;
/// An idle consumer without entries is removed from the group after this time.
const PRUNE_AFTER: Duration = Duration::from_secs(60 * 60);

/// Fetches tasks for one worker and sends their leases to `deliveries`, until `closing`.
pub(crate) struct Consumer {
    pub(crate) store: Store,
    /// A name that no other consumer has, or ever had.
    pub(crate) name: String,
    pub(crate) running: Running,
    pub(crate) deliveries: mpsc::Sender<Lease>,
    pub(crate) closing: CancellationToken,
    pub(crate) on_poll: Option<OnPoll>,
}

/// Slots for runs that are free. A permit may stand for several.
type Slots = Vec<OwnedSemaphorePermit>;

impl Consumer {
    /// Runs until `closing`, through every failure of Redis.
    pub(crate) async fn run(self) {
        let concurrency = self.store.options.concurrency;
        let slots = Arc::new(Semaphore::new(concurrency));
        let stopped = CancellationToken::new();
        let fetch = async {
            let mut backoff = Backoff::default();
            while !self.closing.is_cancelled() {
                self.poll();
                if let Err(error) = self.session(&slots, &mut backoff).await {
                    tracing::warn!(error = causes(&error), "connection to the queue broke; reconnecting");
                    self.closing.run_until_cancelled(backoff.pause()).await;
                }
            }
            self.release_fetched().await;
            // Runs go on after the last fetch; their leases are renewed until they end.
            let _ = slots.acquire_many(u32::try_from(concurrency).unwrap_or(u32::MAX)).await;
            stopped.cancel();
        };
        tokio::join!(fetch, self.running.keep_leases(&self.store, &self.name, &stopped));
        self.release_fetched().await;
        self.prune_consumers(&self.name).await;
    }

    /// Fetches on one connection until it breaks or the worker closes.
    async fn session(&self, slots: &Arc<Semaphore>, backoff: &mut Backoff) -> Result<(), QueueError> {
        let mut connection = self.store.pool.get().await?;
        self.join_group(&mut connection).await?;
        // After a failover all leases are lost, and their entries are begun again.
        self.running.renew_leases(&self.store, &self.name).await?;
        let mut waiting = self.read_pending(&mut connection).await?;
        let mut next_look = Instant::now();
        loop {
            self.poll();
            // A task is fetched only when it can run at once: tasks that wait stay where others can take them.
            let first = tokio::select! {
                biased;
                () = self.closing.cancelled() => return Ok(()),
                slot = slots.clone().acquire_owned() => slot,
                () = tokio::time::sleep(BLOCK) => continue,
            };
            let Ok(first) = first else { return Ok(()) };
            let mut free = vec![first];
            while let Ok(slot) = slots.clone().try_acquire_owned() {
                free.push(slot);
            }

            if self.running.take_lost() {
                waiting = self.read_pending(&mut connection).await?;
            }
            if Instant::now() >= next_look {
                let due = self.promote().await?;
                next_look = Instant::now() + due.unwrap_or(BLOCK).min(BLOCK);
                let before = waiting.len();
                self.claim_abandoned(free.len(), &mut waiting).await?;
                if waiting.len() - before >= free.len() {
                    next_look = Instant::now(); // there may be more
                }
            }
            if waiting.is_empty() {
                let block = next_look.saturating_duration_since(Instant::now());
                waiting.extend(self.read_new(&mut connection, free.len(), block).await?);
            }
            while !free.is_empty()
                && let Some(entry) = waiting.pop_front()
            {
                self.begin(entry, slots, &mut free).await?;
            }
            *backoff = Backoff::default();
        }
    }

    /// Begins a run of an entry under a new lease, and hands it to the worker.
    ///
    /// A task of which this is the last delivery has no run that ended: it may have ended its workers, or was only
    /// run beside a task that did. It runs alone.
    async fn begin(
        &self,
        entry: StreamId,
        slots: &Arc<Semaphore>,
        free: &mut Slots,
    ) -> Result<(), QueueError> {
        if self.closing.is_cancelled() {
            return Ok(()); // it is released
        }
        let Some(id) = entry.get::<String>("task") else {
            tracing::error!(entry = entry.id, "entry dropped: it names no task");
            return self.drop_entry(&entry).await;
        };
        let token = LeaseToken::new(&self.name);
        let mut begun = self.try_begin(&entry, &id, &token, "").await?;
        if begun.0 == "suspect" {
            if !self.acquire_all(slots, free).await {
                return Ok(());
            }
            begun = self.try_begin(&entry, &id, &token, "alone").await?;
        }
        let (reply, fields) = begun;
        match reply.as_str() {
            "run" | "poisoned" => {}
            "gone" => {
                tracing::debug!(task_id = id, "entry skipped: taken over, or not its task's current one");
                return Ok(());
            }
            _ => return Err(QueueError::Reply(reply)),
        }
        let record = match TaskRecord::parse(&id, fields) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(task_id = id, error = causes(&error), "task dropped");
                return self.drop_entry(&entry).await;
            }
        };
        let slot = free.pop().expect("invariant: an entry is begun while a slot is free");
        let lease = Lease::new(self.store.clone(), record, entry.id, token, reply == "poisoned", slot);
        self.running.add(lease.clone());
        if let Err(undelivered) = self.deliveries.send(lease).await {
            self.running.requeue(undelivered.0).await;
        }
        Ok(())
    }

    async fn try_begin(
        &self,
        entry: &StreamId,
        id: &str,
        token: &LeaseToken,
        alone: &str,
    ) -> Result<(String, Fields), QueueError> {
        let Store { keys, options, commands, .. } = &self.store;
        let mut call = SCRIPTS.begin.key(keys.record(id));
        call.key(&keys.stream).arg(GROUP).arg(&entry.id).arg(token.as_str());
        call.arg(options.max_deliveries).arg(&self.name).arg(alone);
        Ok(call.invoke_async(&mut commands.clone()).await?)
    }

    /// Removes an entry that no run can be made of.
    async fn drop_entry(&self, entry: &StreamId) -> Result<(), QueueError> {
        let mut pipe = redis::pipe();
        pipe.xack(&self.store.keys.stream, GROUP, &[&entry.id]).ignore();
        pipe.xdel(&self.store.keys.stream, &[&entry.id]).ignore();
        Ok(pipe.query_async(&mut self.store.commands.clone()).await?)
    }

    /// Waits until nothing else runs here and merges all slots into one, for a task that is to run alone: if
    /// it kills this worker it takes no other task with it, and if another task did that, it ends well.
    /// Another worker may take it over meanwhile. Returns `false` when the worker closes first.
    async fn acquire_all(&self, slots: &Arc<Semaphore>, free: &mut Slots) -> bool {
        let held: usize = free.iter().map(OwnedSemaphorePermit::num_permits).sum();
        let others = u32::try_from(self.store.options.concurrency.saturating_sub(held)).unwrap_or(u32::MAX);
        loop {
            self.poll();
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return false,
                all = slots.clone().acquire_many_owned(others) => {
                    let Ok(mut all) = all else { return false };
                    free.drain(..).for_each(|slot| all.merge(slot));
                    free.push(all);
                    return true;
                }
                () = tokio::time::sleep(BLOCK) => {}
            }
        }
    }

    fn poll(&self) {
        if let Some(on_poll) = &self.on_poll {
            on_poll();
        }
    }

    async fn join_group(&self, connection: &mut Connection) -> Result<(), QueueError> {
        let mut call = SCRIPTS.join.key(&self.store.keys.stream);
        call.arg(GROUP).invoke_async::<()>(connection).await?;
        self.prune_consumers("").await;
        Ok(())
    }

    /// Entries that this consumer has read and not begun, as when its connection broke, or whose runs have lost their
    /// leases. Without this, others would take them over after the visibility timeout.
    async fn read_pending(&self, connection: &mut Connection) -> Result<VecDeque<StreamId>, QueueError> {
        let limit = 2 * self.store.options.concurrency; // as many may be running
        let options = StreamReadOptions::default().group(GROUP, &self.name).count(limit);
        let mut entries = self.read(connection, "0", &options).await?;
        entries.retain(|entry| !self.running.has_entry(&entry.id));
        Ok(entries.into())
    }

    /// Waits for new entries.
    async fn read_new(
        &self,
        connection: &mut Connection,
        limit: usize,
        block: Duration,
    ) -> Result<Vec<StreamId>, QueueError> {
        let block = millis(block).max(1) as usize; // 0 would block for ever
        let options = StreamReadOptions::default().group(GROUP, &self.name).count(limit).block(block);
        self.read(connection, ">", &options).await
    }

    async fn read(
        &self,
        connection: &mut Connection,
        after: &str,
        options: &StreamReadOptions,
    ) -> Result<Vec<StreamId>, QueueError> {
        let reply: Option<StreamReadReply> =
            connection.xread_options(&[&self.store.keys.stream], &[after], options).await?;
        Ok(reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect())
    }

    /// Takes over entries of workers that are silent for the visibility timeout: so many that at most `limit` wait.
    async fn claim_abandoned(
        &self,
        limit: usize,
        waiting: &mut VecDeque<StreamId>,
    ) -> Result<(), QueueError> {
        let limit = limit.saturating_sub(waiting.len()).min(SCRIPT_BATCH);
        if limit == 0 {
            return Ok(());
        }
        let Store { keys, options, commands, .. } = &self.store;
        let mut call = SCRIPTS.claim.key(&keys.stream);
        call.arg(GROUP).arg(&self.name).arg(millis(options.visibility_timeout)).arg(limit);
        let claimed: StreamRangeReply = call.invoke_async(&mut commands.clone()).await?;
        let here: HashSet<String> = waiting.iter().map(|entry| entry.id.clone()).collect();
        let is_new = |entry: &StreamId| !here.contains(&entry.id) && !self.running.has_entry(&entry.id);
        waiting.extend(claimed.ids.into_iter().filter(is_new));
        Ok(())
    }

    /// Releases what was fetched and will not be begun, so that other workers can begin it at once.
    async fn release_fetched(&self) {
        if let Err(error) = self.try_release_fetched().await {
            let error = causes(&error);
            tracing::warn!(error, "entries not released: they are taken over after the visibility timeout");
        }
    }

    async fn try_release_fetched(&self) -> Result<(), QueueError> {
        let Store { keys, options, commands, .. } = &self.store;
        let (limit, mut redis) = (2 * options.concurrency, commands.clone());
        let pending: StreamPendingCountReply =
            redis.xpending_consumer_count(&keys.stream, GROUP, "-", "+", limit, &self.name).await?;
        let fetched = pending.ids.into_iter().map(|entry| entry.id);
        let fetched: Vec<String> = fetched.filter(|entry| !self.running.has_entry(entry)).collect();
        for entries in fetched.chunks(SCRIPT_BATCH) {
            let mut call = SCRIPTS.release.key(&keys.stream);
            call.arg(GROUP).arg(&self.name).arg(&keys.record_prefix).arg(entries);
            call.invoke_async::<()>(&mut redis).await?;
        }
        Ok(())
    }

    /// Makes delayed tasks ready that are due. Returns the time until the next one is due, if there is one.
    async fn promote(&self) -> Result<Option<Duration>, QueueError> {
        let keys = &self.store.keys;
        let mut call = SCRIPTS.promote.key(&keys.delayed);
        call.key(&keys.stream).arg(&keys.record_prefix).arg(SCRIPT_BATCH);
        let due: Option<u64> = call.invoke_async(&mut self.store.commands.clone()).await?;
        Ok(due.map(Duration::from_millis))
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
