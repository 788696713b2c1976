//! One worker's side of the queue: fetching tasks, and keeping the ones it runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::Connection;
use redis::streams::{
    StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamReadOptions, StreamReadReply,
};
use redis::{AsyncCommands as _, RedisError};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backend::OnLook;
use crate::backoff::Backoff;
use crate::delivery::Read;
use crate::lease::Lease;
use crate::queue::{GROUP, Queue, QueueError};
use crate::settle::causes;

/// Longest a blocking read waits; also how often retries and abandoned tasks are looked for.
pub(crate) const BLOCK: Duration = Duration::from_secs(1);
/// Tasks made ready by one script at most.
const PROMOTED_AT_ONCE: u32 = 100;
/// Leases renewed by one script at most.
const RENEWED_AT_ONCE: usize = 100;
/// A consumer that held nothing and was silent for this long is removed from the group.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// The runs of a worker, by lease.
pub(crate) type Running = Arc<Mutex<HashMap<String, Lease>>>;

/// Fetches tasks for one worker and hands them to `deliveries`, until `closing`.
pub(crate) struct Consumer {
    pub(crate) queue: Queue,
    /// A name that no other consumer uses, ever.
    pub(crate) name: String,
    pub(crate) running: Running,
    pub(crate) deliveries: mpsc::Sender<Lease>,
    pub(crate) closing: CancellationToken,
    pub(crate) on_look: Option<OnLook>,
}

impl Consumer {
    /// Runs until `closing`, through every failure of Redis.
    pub(crate) async fn run(self) {
        let slots = Arc::new(Semaphore::new(self.queue.options.concurrency));
        let stopped = CancellationToken::new();
        let fetch = async {
            let mut backoff = Backoff::default();
            while !self.closing.is_cancelled() {
                self.look();
                if let Err(error) = self.session(&slots, &mut backoff).await {
                    warn_of(&error, "the queue is interrupted; reconnecting");
                    tokio::select! {
                        () = backoff.pause() => {}
                        () = self.closing.cancelled() => {}
                    }
                }
            }
            // Runs go on after the last fetch; their leases are renewed until they end.
            let all = u32::try_from(self.queue.options.concurrency).unwrap_or(u32::MAX);
            let _ = slots.acquire_many(all).await;
            stopped.cancel();
        };
        tokio::join!(fetch, self.keep_leases(&stopped));
        self.forget(&self.name).await;
    }

    /// Fetches on one connection until it breaks or the worker closes.
    async fn session(&self, slots: &Arc<Semaphore>, backoff: &mut Backoff) -> Result<(), QueueError> {
        let mut connection = self.queue.pool.get().await?;
        self.join_group(&mut connection).await?;
        let mut cursor = "0-0".to_owned();
        let mut next_look = Instant::now();
        let mut unbegun = self.unbegun(&mut connection).await?;
        loop {
            self.look();
            // A task is fetched only when it can be run at once: what waits, waits where others can take it.
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

            while let Some(entry) = unbegun.pop_if(|_| !free.is_empty()) {
                self.deliver(entry, &mut free, Read::Before).await?;
            }
            if free.is_empty() {
                continue;
            }
            let mut block = BLOCK;
            if Instant::now() >= next_look {
                let due = self.promote().await?;
                next_look = Instant::now() + due.unwrap_or(BLOCK).min(BLOCK);
                block = next_look - Instant::now();
                for entry in self.abandoned(&mut connection, &mut cursor, free.len()).await? {
                    if free.is_empty() {
                        unbegun.insert(0, entry); // one before it is to be run alone
                        continue;
                    }
                    self.deliver_claimed(entry, slots, &mut free).await?;
                }
            }
            if free.is_empty() {
                continue;
            }
            for entry in self.fresh(&mut connection, free.len(), block).await? {
                self.deliver(entry, &mut free, Read::Now).await?;
            }
            *backoff = Backoff::default();
        }
    }

    pub(crate) fn look(&self) {
        if let Some(on_look) = &self.on_look {
            on_look();
        }
    }

    async fn join_group(&self, connection: &mut Connection) -> Result<(), QueueError> {
        let stream = &self.queue.keys.stream;
        let created: Result<(), RedisError> = connection.xgroup_create_mkstream(stream, GROUP, "0").await;
        match created {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error.into()),
            _ => {
                self.forget("").await;
                Ok(())
            }
        }
    }

    /// Entries that were read on a connection that broke before their runs were begun: nobody else need wait
    /// for the visibility timeout to take them over.
    async fn unbegun(&self, connection: &mut Connection) -> Result<Vec<StreamId>, QueueError> {
        let all = 2 * self.queue.options.concurrency; // as many may be running
        let options = StreamReadOptions::default().group(GROUP, &self.name).count(all);
        let reply: Option<StreamReadReply> =
            connection.xread_options(&[&self.queue.keys.stream], &["0"], &options).await?;
        let mut entries: Vec<StreamId> =
            reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| running.values().all(|lease| lease.entry() != entry.id));
        entries.reverse(); // the oldest is taken first
        Ok(entries)
    }

    /// Waits for new entries.
    async fn fresh(
        &self,
        connection: &mut Connection,
        count: usize,
        block: Duration,
    ) -> Result<Vec<StreamId>, QueueError> {
        let block = usize::try_from(block.as_millis()).unwrap_or(usize::MAX).max(1); // 0 would block for ever
        let options = StreamReadOptions::default().group(GROUP, &self.name).count(count).block(block);
        let reply: Option<StreamReadReply> =
            connection.xread_options(&[&self.queue.keys.stream], &[">"], &options).await?;
        Ok(reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect())
    }

    /// Takes over entries whose worker has been silent for the visibility timeout, and goes round all of
    /// them in steps.
    async fn abandoned(
        &self,
        connection: &mut Connection,
        cursor: &mut String,
        count: usize,
    ) -> Result<Vec<StreamId>, QueueError> {
        let options = StreamAutoClaimOptions::default().count(count);
        let idle = u64::try_from(self.queue.options.visibility_timeout.as_millis()).unwrap_or(u64::MAX);
        let stream = &self.queue.keys.stream;
        let reply: StreamAutoClaimReply =
            connection.xautoclaim_options(stream, GROUP, &self.name, idle, cursor.as_str(), options).await?;
        *cursor = reply.next_stream_id;
        Ok(reply.claimed)
    }

    /// Makes tasks ready whose waiting is over; returns when to look again, if any task waits.
    async fn promote(&self) -> Result<Option<Duration>, QueueError> {
        let mut call = self.queue.scripts.promote.key(&self.queue.keys.delayed);
        call.key(&self.queue.keys.stream).arg(&self.queue.keys.task).arg(PROMOTED_AT_ONCE);
        let due: i64 = call.invoke_async(&mut self.queue.commands.clone()).await?;
        Ok(u64::try_from(due).ok().map(Duration::from_millis))
    }

    /// Renews the leases of all runs every third of the visibility timeout. When Redis could not be
    /// reached for the whole of it, the runs may have been taken over, so all leases count as lost.
    async fn keep_leases(&self, stopped: &CancellationToken) {
        let timeout = self.queue.options.visibility_timeout;
        let mut renewed = Instant::now();
        loop {
            let pause = if renewed.elapsed() < timeout / 3 { timeout / 3 } else { timeout / 15 };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped.cancelled() => return,
            }
            let leases: Vec<Lease> =
                self.running.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            let asked = Instant::now();
            match self.renew(&leases).await {
                Ok(()) => renewed = asked,
                Err(error) => {
                    warn_of(&error, "cannot renew the leases");
                    if renewed.elapsed() >= timeout {
                        leases.iter().for_each(Lease::declare_lost);
                    }
                }
            }
        }
    }

    async fn renew(&self, leases: &[Lease]) -> Result<(), QueueError> {
        for leases in leases.chunks(RENEWED_AT_ONCE) {
            let mut call = self.queue.scripts.heartbeat.key(&self.queue.keys.stream);
            call.arg(GROUP).arg(&self.name);
            for lease in leases {
                call.key(lease.record_key()).arg(lease.entry()).arg(lease.token());
            }
            let current: Vec<bool> = call.invoke_async(&mut self.queue.commands.clone()).await?;
            let lost = leases.iter().zip(current).filter(|(_, current)| !current);
            lost.for_each(|(lease, _)| lease.declare_lost());
        }
        Ok(())
    }

    /// Removes consumers from the group that hold nothing: `name`, and those long gone.
    async fn forget(&self, name: &str) {
        let mut call = self.queue.scripts.forget.key(&self.queue.keys.stream);
        call.arg(GROUP).arg(name).arg(u64::try_from(FORGOTTEN_AFTER.as_millis()).unwrap_or(u64::MAX));
        let forgotten: Result<(), RedisError> = call.invoke_async(&mut self.queue.commands.clone()).await;
        if let Err(error) = forgotten {
            tracing::debug!(%error, "consumers were not tidied up");
        }
    }
}

/// Hands a task back that was fetched but will not be run, so that another worker need not wait.
pub(crate) async fn give_up(lease: Lease, running: &Running) {
    if let Err(error) = lease.hand_back().await {
        warn_of(&error, "a task is not handed back; it is taken over after the visibility timeout");
    }
    running.lock().unwrap_or_else(PoisonError::into_inner).remove(lease.token());
}

fn warn_of(error: &QueueError, what: &str) {
    tracing::warn!(error = causes(error), "{what}");
}
