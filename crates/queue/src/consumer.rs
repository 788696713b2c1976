//! Fetches tasks for one worker and begins their runs.

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::Connection;
use rand::RngExt as _;
use redis::streams::{
    StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamReadOptions, StreamReadReply,
};
use redis::{AsyncCommands as _, RedisError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::error::{QueueError, causes};
use crate::hooks::OnPoll;
use crate::lease::Lease;
use crate::record::{Fields, TaskRecord};
use crate::running::Running;
use crate::scripts::{SCRIPTS, millis};
use crate::store::{GROUP, Store};

/// Maximum time that a blocking read waits. Delayed tasks and silent workers are looked for as often.
const BLOCK: Duration = Duration::from_secs(1);
/// Maximum number of tasks that one script makes ready.
const PROMOTION_BATCH: u32 = 100;
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

/// How an entry came to this consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Read or claimed just now.
    Fetched,
    /// Read earlier, on a connection that broke. No run of it goes on here; whether one was begun is unknown.
    Pending,
}

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
            // Runs go on after the last fetch; their leases are renewed until they end.
            let _ = slots.acquire_many(u32::try_from(concurrency).unwrap_or(u32::MAX)).await;
            stopped.cancel();
        };
        tokio::join!(fetch, self.running.keep_leases(&self.store, &self.name, &stopped));
        self.prune_consumers(&self.name).await;
    }

    /// Fetches on one connection until it breaks or the worker closes.
    async fn session(&self, slots: &Arc<Semaphore>, backoff: &mut Backoff) -> Result<(), QueueError> {
        let mut connection = self.store.pool.get().await?;
        self.join_group(&mut connection).await?;
        let mut cursor = "0-0".to_owned();
        let mut next_look = Instant::now();
        let mut pending = self.read_pending(&mut connection).await?;
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

            while let Some(entry) = pending.pop_if(|_| !free.is_empty()) {
                self.begin(entry, &mut free, Source::Pending).await?;
            }
            if free.is_empty() {
                continue;
            }
            let mut block = BLOCK;
            if Instant::now() >= next_look {
                let due = self.promote().await?;
                next_look = Instant::now() + due.unwrap_or(BLOCK).min(BLOCK);
                block = next_look - Instant::now();
                for entry in self.claim_abandoned(&mut connection, &mut cursor, free.len()).await? {
                    if free.is_empty() {
                        pending.insert(0, entry); // the entry before it runs alone
                        continue;
                    }
                    if self.is_last_delivery(&entry).await? {
                        self.acquire_all(slots, &mut free).await;
                    }
                    self.begin(entry, &mut free, Source::Fetched).await?;
                }
            }
            if free.is_empty() {
                continue;
            }
            for entry in self.read_new(&mut connection, free.len(), block).await? {
                self.begin(entry, &mut free, Source::Fetched).await?;
            }
            *backoff = Backoff::default();
        }
    }

    /// Begins a run of an entry under a new lease, and hands it to the worker.
    async fn begin(&self, entry: StreamId, free: &mut Slots, source: Source) -> Result<(), QueueError> {
        let Some(slot) = free.pop() else { return Ok(()) }; // Redis sent more than asked for: taken over later
        let Store { keys, options, .. } = &self.store;
        let mut redis = self.store.commands.clone();
        let Some(id) = entry.get::<String>("task") else {
            tracing::error!(entry = entry.id, "entry dropped: it names no task");
            return self.drop_entry(&entry).await;
        };
        if self.closing.is_cancelled() {
            let mut call = SCRIPTS.release.key(keys.record(&id));
            call.key(&keys.stream).arg(GROUP).arg(&entry.id).arg(&id);
            return Ok(call.invoke_async(&mut redis).await?);
        }
        let token = format!("{}:{:016x}", self.name, rand::rng().random::<u64>());
        let mut call = SCRIPTS.begin.key(keys.record(&id));
        call.key(&keys.stream).arg(GROUP).arg(&entry.id).arg(&token);
        call.arg(options.max_deliveries).arg(&self.name);
        call.arg(if source == Source::Pending { "pending" } else { "" });
        let begun: Option<(bool, Fields)> = call.invoke_async(&mut redis).await?;
        let Some((may_run, fields)) = begun else {
            tracing::debug!(task_id = id, "entry skipped: taken over, or not its task's current one");
            return Ok(());
        };
        let record = match TaskRecord::parse(&id, fields) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(task_id = id, error = causes(&error), "task dropped");
                return self.drop_entry(&entry).await;
            }
        };
        let lease = Lease::new(self.store.clone(), record, entry.id, token, !may_run, slot);
        self.running.add(lease.clone());
        if let Err(undelivered) = self.deliveries.send(lease).await {
            self.running.requeue(undelivered.0).await;
        }
        Ok(())
    }

    /// Removes an entry that no run can be made of.
    async fn drop_entry(&self, entry: &StreamId) -> Result<(), QueueError> {
        let mut pipe = redis::pipe();
        pipe.xack(&self.store.keys.stream, GROUP, &[&entry.id]).ignore();
        pipe.xdel(&self.store.keys.stream, &[&entry.id]).ignore();
        Ok(pipe.query_async(&mut self.store.commands.clone()).await?)
    }

    /// Whether the next run of a task is its last chance, because no run before it ended: it may have killed
    /// its workers, or was only run beside a task that did.
    async fn is_last_delivery(&self, entry: &StreamId) -> Result<bool, QueueError> {
        let record = self.store.keys.record(&entry.get::<String>("task").unwrap_or_default());
        let deliveries: Option<u32> = self.store.commands.clone().hget(record, "deliveries").await?;
        Ok(deliveries.unwrap_or(0) + 1 >= self.store.options.max_deliveries)
    }

    /// Waits until nothing else runs here and merges all slots into one, for a task that is to run alone: if
    /// it kills this worker it takes no other task with it, and if another task did that, it ends well.
    /// Another worker may take it over meanwhile.
    async fn acquire_all(&self, slots: &Arc<Semaphore>, free: &mut Slots) {
        let held: usize = free.iter().map(OwnedSemaphorePermit::num_permits).sum();
        let others = u32::try_from(self.store.options.concurrency.saturating_sub(held)).unwrap_or(u32::MAX);
        loop {
            self.poll();
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return, // then the entry is released
                all = slots.clone().acquire_many_owned(others) => {
                    let Ok(mut all) = all else { return };
                    free.drain(..).for_each(|slot| all.merge(slot));
                    return free.push(all);
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
        let created: Result<(), RedisError> =
            connection.xgroup_create_mkstream(&self.store.keys.stream, GROUP, "0").await;
        match created {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error.into()),
            _ => {
                self.prune_consumers("").await;
                Ok(())
            }
        }
    }

    /// Entries that this consumer read on an earlier connection and did not begin, the oldest last. Without
    /// this, others would take them over after the visibility timeout.
    async fn read_pending(&self, connection: &mut Connection) -> Result<Vec<StreamId>, QueueError> {
        let limit = 2 * self.store.options.concurrency; // as many may be running
        let options = StreamReadOptions::default().group(GROUP, &self.name).count(limit);
        let mut entries = self.read(connection, "0", &options).await?;
        entries.retain(|entry| !self.running.has_entry(&entry.id));
        entries.reverse();
        Ok(entries)
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

    /// Takes over entries of workers that are silent for the visibility timeout. `cursor` goes round all
    /// entries in steps.
    async fn claim_abandoned(
        &self,
        connection: &mut Connection,
        cursor: &mut String,
        limit: usize,
    ) -> Result<Vec<StreamId>, QueueError> {
        let Store { keys, options, .. } = &self.store;
        let (idle, limit) =
            (millis(options.visibility_timeout), StreamAutoClaimOptions::default().count(limit));
        let reply: StreamAutoClaimReply = connection
            .xautoclaim_options(&keys.stream, GROUP, &self.name, idle, cursor.as_str(), limit)
            .await?;
        *cursor = reply.next_stream_id;
        Ok(reply.claimed)
    }

    /// Makes delayed tasks ready that are due. Returns the time until the next one is due, if there is one.
    async fn promote(&self) -> Result<Option<Duration>, QueueError> {
        let keys = &self.store.keys;
        let mut call = SCRIPTS.promote.key(&keys.delayed);
        call.key(&keys.stream).arg(&keys.record_prefix).arg(PROMOTION_BATCH);
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
