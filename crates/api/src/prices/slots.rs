//! How much of the read path is under way at a time.

use std::sync::Arc;
use std::time::Duration;

use pricing_core::catalogue::MAX_CONNECTIONS;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::loaded::LoadError;
use crate::metrics::{Shed, request_shed};

/// Connections of the pool that lookups leave to others, such as the health check.
const SPARE_CONNECTIONS: u32 = 4;
/// Maximum lookups at a time.
const LOOKUPS: usize = (MAX_CONNECTIONS - SPARE_CONNECTIONS) as usize;
/// Maximum large batches at a time.
const LARGE_BATCHES: usize = 4;
/// Longest wait for a slot.
const SLOT_TIMEOUT: Duration = Duration::from_millis(750);

/// Slots that are waited for, in the order in which they were asked for.
pub(super) struct Slots {
    free: Arc<Semaphore>,
    shed: Shed,
}

impl Slots {
    /// Slots for lookups, fewer than the pool has connections: many misses do not use up the pool, whose time-out
    /// could not be told from an outage.
    pub(super) fn for_lookups() -> Self {
        Self { free: Arc::new(Semaphore::new(LOOKUPS)), shed: Shed::Lookups }
    }

    /// Slots for large batches, fewer than there are for lookups: single reads wait behind them, at Redis and for
    /// the processor.
    pub(super) fn for_batches() -> Self {
        Self { free: Arc::new(Semaphore::new(LARGE_BATCHES)), shed: Shed::Batches }
    }

    /// Waits for a slot.
    ///
    /// # Errors
    ///
    /// [`LoadError::Busy`] after 750 ms.
    pub(super) async fn acquire(&self) -> Result<OwnedSemaphorePermit, LoadError> {
        match timeout(SLOT_TIMEOUT, self.free.clone().acquire_owned()).await {
            Ok(permit) => Ok(permit.expect("invariant: the semaphore is never closed")),
            Err(_) => {
                request_shed(self.shed);
                Err(LoadError::Busy)
            }
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
            held.push(slots.acquire().await.unwrap());
        }
        let start = Instant::now();
        assert!(matches!(slots.acquire().await, Err(LoadError::Busy)));
        assert_eq!(start.elapsed(), SLOT_TIMEOUT);
        let (waiting, ()) = tokio::join!(slots.acquire(), async { drop(held.pop()) });
        assert!(waiting.is_ok());
    }

    #[test]
    fn batches_leave_lookups_to_single_reads() {
        assert!(LARGE_BATCHES < LOOKUPS && LOOKUPS < MAX_CONNECTIONS as usize);
    }
}
