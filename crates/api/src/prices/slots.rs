//! How much of the read path is under way at a time.

use std::time::Duration;

use pricing_core::catalogue::MAX_CONNECTIONS;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::loaded::LoadError;
use crate::metrics::{Shed, request_shed};

/// Connections of the pool that lookups leave to others, such as the health check.
const SPARE_CONNECTIONS: u32 = 4;
/// Maximum lookups at a time.
const LOOKUPS: usize = (MAX_CONNECTIONS - SPARE_CONNECTIONS) as usize;
/// Maximum large batches at a time.
const LARGE_BATCHES: usize = 6;
/// A batch of more products is large.
const SMALL_BATCH: usize = 16;
/// Longest wait for a slot.
const SLOT_TIMEOUT: Duration = Duration::from_millis(750);

/// Slots that are waited for, in the order in which they were asked for.
pub(super) struct Slots {
    free: Semaphore,
    shed: Shed,
}

impl Slots {
    /// Slots for lookups, fewer than the pool has connections: many misses do not use up the pool, whose time-out
    /// could not be told from an outage.
    pub(super) fn for_lookups() -> Self {
        Self { free: Semaphore::new(LOOKUPS), shed: Shed::Lookups }
    }

    /// Slots for large batches, fewer than there are for lookups: Redis answers all reads of a process on one
    /// connection, and single reads wait there behind the batches.
    pub(super) fn for_batches() -> Self {
        Self { free: Semaphore::new(LARGE_BATCHES), shed: Shed::Batches }
    }

    /// Waits for a slot.
    ///
    /// # Errors
    ///
    /// [`LoadError::Busy`] after 750 ms.
    pub(super) async fn acquire(&self) -> Result<SemaphorePermit<'_>, LoadError> {
        match timeout(SLOT_TIMEOUT, self.free.acquire()).await {
            Ok(permit) => Ok(permit.expect("invariant: the semaphore is never closed")),
            Err(_) => {
                request_shed(self.shed);
                Err(LoadError::Busy)
            }
        }
    }

    /// Waits for a slot if so many products are a large batch.
    ///
    /// # Errors
    ///
    /// [`LoadError::Busy`] after 750 ms.
    pub(super) async fn acquire_for(
        &self,
        products: usize,
    ) -> Result<Option<SemaphorePermit<'_>>, LoadError> {
        match products > SMALL_BATCH {
            true => self.acquire().await.map(Some),
            false => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_too_many_waits_its_turn_for_a_while() {
        let slots = Slots::for_batches();
        let mut held = Vec::new();
        for _ in 0..LARGE_BATCHES {
            held.push(slots.acquire_for(SMALL_BATCH + 1).await.unwrap());
        }
        assert!(slots.acquire_for(SMALL_BATCH).await.unwrap().is_none(), "a small one needs none");
        let start = Instant::now();
        assert!(matches!(slots.acquire_for(500).await, Err(LoadError::Busy)));
        assert_eq!(start.elapsed(), SLOT_TIMEOUT);
        let (waiting, ()) = tokio::join!(slots.acquire_for(500), async { drop(held.pop()) });
        assert!(waiting.unwrap().is_some());
    }

    #[test]
    fn batches_leave_lookups_to_single_reads() {
        assert!(LARGE_BATCHES < LOOKUPS && LOOKUPS < MAX_CONNECTIONS as usize);
    }
}
