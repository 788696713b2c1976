//! Fetches tasks for one worker and begins their runs.

use std::collections::{HashSet, VecDeque};
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::begin::{Begun, Beside};
use crate::entries::{Delivery, Entries, SCRIPT_BATCH};
use crate::error::{QueueError, causes};
use crate::hooks::OnPoll;
use crate::lease::Lease;
use crate::running::Running;

/// Maximum time that a blocking read waits. Delayed tasks and silent workers are looked for as often.
const BLOCK: Duration = Duration::from_secs(1);

/// Fetches tasks for one worker and sends their leases to `deliveries`, until `closing`.
pub(crate) struct Consumer {
    pub(crate) entries: Entries,
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
        let concurrency = self.concurrency();
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
        let Entries { store, name } = &self.entries;
        tokio::join!(fetch, self.running.keep_leases(store, name, &stopped));
        self.release_fetched().await;
        self.entries.leave_group().await;
    }

    fn concurrency(&self) -> usize {
        self.entries.store.options.concurrency
    }

    /// Fetches on one connection until it breaks or the worker closes.
    async fn session(&self, slots: &Arc<Semaphore>, backoff: &mut Backoff) -> Result<(), QueueError> {
        let Entries { store, name } = &self.entries;
        let mut connection = store.pool.get().await?;
        self.entries.join_group(&mut connection).await?;
        // After a failover all leases are lost, and their entries are begun again.
        self.running.renew_leases(store, name).await?;
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
            // Half of the slots at most: while one half's tasks begin, those of the other run and end.
            let mut free = vec![first];
            for _ in 1..self.concurrency().div_ceil(2) {
                let Ok(slot) = slots.clone().try_acquire_owned() else { break };
                free.push(slot);
            }

            if self.running.take_lost() {
                waiting = self.read_pending(&mut connection).await?;
            }
            if Instant::now() >= next_look {
                let due = self.entries.promote().await?;
                next_look = Instant::now() + due.unwrap_or(BLOCK).min(BLOCK);
                let before = waiting.len();
                self.claim_abandoned(free.len(), &mut waiting).await?;
                if waiting.len() - before >= free.len() {
                    next_look = Instant::now(); // there may be more
                }
            }
            if waiting.is_empty() {
                let block = next_look.saturating_duration_since(Instant::now());
                waiting.extend(self.entries.read_new(&mut connection, free.len(), block).await?);
            }
            while !free.is_empty() && !waiting.is_empty() && !self.closing.is_cancelled() {
                self.begin(&mut waiting, slots, &mut free).await?;
            }
            *backoff = Backoff::default();
        }
    }

    /// Begins runs of as many deliveries as slots are free and one script takes, and hands them to the worker.
    ///
    /// A task of which this is the last delivery has no run that ended: it may have ended its workers, or was only
    /// run beside a task that did. It runs alone, after the others have ended.
    async fn begin(
        &self,
        waiting: &mut VecDeque<Delivery>,
        slots: &Arc<Semaphore>,
        free: &mut Slots,
    ) -> Result<(), QueueError> {
        let count = waiting.len().min(free.len()).min(SCRIPT_BATCH);
        let begun = self.entries.begin(&waiting.make_contiguous()[..count], Beside::Others).await?;
        let batch: Vec<_> = waiting.drain(..begun.len()).zip(begun).collect();
        let mut suspects = self.hand_over(batch, free).await?.into_iter();
        let Some(suspect) = suspects.next() else { return Ok(()) };
        suspects.rev().for_each(|other| waiting.push_front(other));
        if !self.acquire_all(slots, free).await {
            return Ok(()); // it is released
        }
        let begun = self.entries.begin(std::slice::from_ref(&suspect), Beside::Nothing).await?;
        self.hand_over(iter::once(suspect).zip(begun), free).await?;
        Ok(())
    }

    /// Hands the runs that have begun to the worker. Returns the deliveries that must be begun alone.
    async fn hand_over(
        &self,
        batch: impl IntoIterator<Item = (Delivery, Begun)>,
        free: &mut Slots,
    ) -> Result<Vec<Delivery>, QueueError> {
        let (mut suspects, mut invalid) = (Vec::new(), Vec::new());
        for (delivery, begun) in batch {
            let Delivery { entry, task_id } = &delivery;
            match begun {
                Begun::Run { record, token, is_poisoned } => {
                    let slot = free.pop().expect("invariant: an entry is begun while a slot is free");
                    let store = self.entries.store.clone();
                    let lease = Lease::new(store, record, delivery.entry, token, is_poisoned, slot);
                    self.running.add(lease.clone());
                    if let Err(undelivered) = self.deliveries.send(lease).await {
                        self.running.requeue(undelivered.0).await;
                    }
                }
                Begun::Suspect => suspects.push(delivery),
                Begun::Gone if task_id.is_empty() => {
                    tracing::error!(entry, "entry dropped: it names no task");
                }
                Begun::Gone => {
                    tracing::debug!(task_id, "entry skipped: taken over, or not its task's current one");
                }
                Begun::Invalid(error) => {
                    tracing::error!(task_id, error = causes(&error), "task dropped");
                    invalid.push(delivery.entry);
                }
            }
        }
        if !invalid.is_empty() {
            self.entries.remove(&invalid).await?;
        }
        Ok(suspects)
    }

    /// Waits until nothing else runs here and merges all slots into one, for a task that is to run alone: if
    /// it kills this worker it takes no other task with it, and if another task did that, it ends well.
    /// Another worker may take it over meanwhile. Returns `false` when the worker closes first.
    async fn acquire_all(&self, slots: &Arc<Semaphore>, free: &mut Slots) -> bool {
        let held: usize = free.iter().map(OwnedSemaphorePermit::num_permits).sum();
        let others = u32::try_from(self.concurrency().saturating_sub(held)).unwrap_or(u32::MAX);
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

    /// Entries that this consumer has read and not begun, as when its connection broke, or whose runs have lost their
    /// leases. Without this, others would take them over after the visibility timeout.
    async fn read_pending(&self, connection: &mut Connection) -> Result<VecDeque<Delivery>, QueueError> {
        let mut pending = self.entries.read_pending(connection).await?;
        pending.retain(|delivery| !self.running.has_entry(&delivery.entry));
        Ok(pending.into())
    }

    /// Takes over entries of workers that are silent for the visibility timeout: so many that at most `limit` wait.
    async fn claim_abandoned(
        &self,
        limit: usize,
        waiting: &mut VecDeque<Delivery>,
    ) -> Result<(), QueueError> {
        let limit = limit.saturating_sub(waiting.len());
        if limit == 0 {
            return Ok(());
        }
        let claimed = self.entries.claim_abandoned(limit).await?;
        let here: HashSet<String> = waiting.iter().map(|delivery| delivery.entry.clone()).collect();
        let is_new =
            |delivery: &Delivery| !here.contains(&delivery.entry) && !self.running.has_entry(&delivery.entry);
        waiting.extend(claimed.into_iter().filter(is_new));
        Ok(())
    }

    /// Releases what was fetched and will not be begun, so that other workers can begin it at once.
    async fn release_fetched(&self) {
        let released = async {
            let mut fetched = self.entries.pending().await?;
            fetched.retain(|entry| !self.running.has_entry(entry));
            self.entries.release(&fetched).await
        };
        if let Err(error) = released.await {
            let error = causes(&error);
            tracing::warn!(error, "entries not released: they are taken over after the visibility timeout");
        }
    }
}
