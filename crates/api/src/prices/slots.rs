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
/// Maximum lookups that wait: as many as an empty cache asks for at once, and a quarter of the permits of load shedding.
const WAITING_LOOKUPS: usize = 512;
/// Maximum large batches at a time.
const LARGE_BATCHES: usize = 4;
/// Maximum large batches that wait. Each holds a permit of load shedding.
const WAITING_BATCHES: usize = 64;
/// Longest wait for a slot.
pub(super) const SLOT_TIMEOUT: Duration = Duration::from_millis(500);

/// Slots that are waited for, in the order in which they were asked for, by a bounded number of reads.
pub(super) struct Slots {
    free: Arc<Semaphore>,
    waiting_places: Semaphore,
    shed: Shed,
}

impl Slots {
    /// Slots for lookups, fewer than the pool has connections: many misses do not use up the pool, whose time-out
    /// could not be told from an outage.
    pub(super) fn for_lookups() -> Self {
        Self::new(LOOKUPS, WAITING_LOOKUPS, Shed::Lookups)
    }

    /// Slots for large batches, fewer than there are for lookups: single reads wait behind them, at Redis and for
    /// the processor.
    pub(super) fn for_batches() -> Self {
        Self::new(LARGE_BATCHES, WAITING_BATCHES, Shed::Batches)
    }

    fn new(slots: usize, waiting_places: usize, shed: Shed) -> Self {
        Self { free: Arc::new(Semaphore::new(slots)), waiting_places: Semaphore::new(waiting_places), shed }
    }

    /// Takes a slot, or waits for one.
    ///
    /// # Errors
    ///
    /// [`LoadError::Busy`] at once if too many wait already, and after [`SLOT_TIMEOUT`].
    pub(super) async fn acquire(&self) -> Result<OwnedSemaphorePermit, LoadError> {
        // A slot that becomes free goes to the first who waits, so this one passes nobody.
        if let Ok(slot) = self.free.clone().try_acquire_owned() {
            return Ok(slot);
        }
        let Ok(_place) = self.waiting_places.try_acquire() else { return Err(self.busy()) };
        match timeout(SLOT_TIMEOUT, self.free.clone().acquire_owned()).await {
            Ok(slot) => Ok(slot.expect("invariant: the semaphore is never closed")),
            Err(_) => Err(self.busy()),
        }
    }

    /// All slots that are free.
    #[cfg(test)]
    pub(super) async fn all(&self) -> Vec<OwnedSemaphorePermit> {
        let mut held = Vec::new();
        while self.free.available_permits() > 0 {
            held.push(self.acquire().await.expect("a slot is free"));
        }
        held
    }

    fn busy(&self) -> LoadError {
        request_shed(self.shed);
        LoadError::Busy
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_too_many_waits_its_turn_for_a_while() {
        let slots = Slots::for_batches();
        let mut held = slots.all().await;
        assert_eq!(held.len(), LARGE_BATCHES);
        let start = Instant::now();
        assert!(matches!(slots.acquire().await, Err(LoadError::Busy)));
        assert_eq!(start.elapsed(), SLOT_TIMEOUT);
        let (waiting, ()) = tokio::join!(slots.acquire(), async { drop(held.pop()) });
        assert!(waiting.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn those_without_a_waiting_place_are_refused_at_once() {
        for (slots, places) in
            [(Slots::for_batches(), WAITING_BATCHES), (Slots::for_lookups(), WAITING_LOOKUPS)]
        {
            let held = slots.all().await;
            let start = Instant::now();
            let refused = join_all((0..places + 100).map(|_| async {
                assert!(matches!(slots.acquire().await, Err(LoadError::Busy)));
                start.elapsed()
            }));
            let refused = refused.await;
            let at_once = refused.iter().filter(|elapsed| elapsed.is_zero()).count();
            let later = refused.iter().filter(|elapsed| **elapsed == SLOT_TIMEOUT).count();
            assert_eq!((at_once, later), (100, places));
            // The places are free again, also those of readers that gave up.
            let given_up = join_all((0..places).map(|_| slots.acquire()));
            assert!(timeout(SLOT_TIMEOUT / 2, given_up).await.is_err());
            let (waiting, ()) = tokio::join!(slots.acquire(), async { drop(held) });
            assert!(waiting.is_ok());
        }
    }

    #[test]
    fn batches_leave_lookups_to_single_reads() {
        assert!(LARGE_BATCHES < LOOKUPS && LOOKUPS < MAX_CONNECTIONS as usize);
    }
}
