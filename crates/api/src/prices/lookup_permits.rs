//! How many lookups are made at a time.

use std::time::Duration;

use pricing_core::catalogue::MAX_CONNECTIONS;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::loaded::LoadError;
use crate::metrics::{Shed, request_shed};

/// Connections of the pool that lookups leave to others, such as the health check.
const SPARE_CONNECTIONS: u32 = 4;
/// Maximum lookups at a time.
const MAX_LOOKUPS: usize = (MAX_CONNECTIONS - SPARE_CONNECTIONS) as usize;
/// Maximum lookups of many products at a time: the others are left to reads of single products.
const MAX_LARGE_LOOKUPS: usize = MAX_LOOKUPS / 2;
/// A lookup of more products is large.
const SMALL_LOOKUP: usize = 16;
/// Longest that a lookup waits for a permit.
const PERMIT_TIMEOUT: Duration = Duration::from_millis(750);

/// Bounds the lookups below the size of the connection pool: many misses of one client do not use up the pool, whose
/// time-out could not be told from an outage. Permits are given in the order in which they were asked for.
pub(super) struct LookupPermits {
    all: Semaphore,
    large: Semaphore,
}

/// The right to make a lookup.
pub(super) struct LookupPermit<'p> {
    _large: Option<SemaphorePermit<'p>>,
    _permit: SemaphorePermit<'p>,
}

impl LookupPermits {
    pub(super) fn new() -> Self {
        Self { all: Semaphore::new(MAX_LOOKUPS), large: Semaphore::new(MAX_LARGE_LOOKUPS) }
    }

    /// Waits for the right to look up so many keys.
    ///
    /// # Errors
    ///
    /// [`LoadError::Busy`] after 750 ms.
    pub(super) async fn acquire(&self, keys: usize) -> Result<LookupPermit<'_>, LoadError> {
        let permits = async {
            let large = match keys > SMALL_LOOKUP {
                true => Some(self.large.acquire().await?),
                false => None,
            };
            Ok(LookupPermit { _large: large, _permit: self.all.acquire().await? })
        };
        let permit: Result<_, tokio::sync::AcquireError> = match timeout(PERMIT_TIMEOUT, permits).await {
            Ok(permit) => permit,
            Err(_) => {
                request_shed(Shed::Lookups);
                return Err(LoadError::Busy);
            }
        };
        Ok(permit.expect("invariant: the semaphores are never closed"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_lookups_leave_room_for_small_ones() {
        let permits = LookupPermits::new();
        let mut held = Vec::new();
        for _ in 0..MAX_LARGE_LOOKUPS {
            held.push(permits.acquire(500).await.ok().unwrap());
        }
        let start = Instant::now();
        assert!(matches!(permits.acquire(SMALL_LOOKUP + 1).await, Err(LoadError::Busy)));
        assert_eq!(start.elapsed(), PERMIT_TIMEOUT);
        for _ in MAX_LARGE_LOOKUPS..MAX_LOOKUPS {
            held.push(permits.acquire(1).await.ok().unwrap());
        }
        assert!(matches!(permits.acquire(1).await, Err(LoadError::Busy)));
        held.remove(0);
        assert!(permits.acquire(500).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_for_a_large_one_takes_nothing_along() {
        let permits = LookupPermits::new();
        let held = permits.all.acquire_many(MAX_LOOKUPS as u32).await.unwrap();
        assert!(matches!(permits.acquire(500).await, Err(LoadError::Busy)));
        assert_eq!(permits.large.available_permits(), MAX_LARGE_LOOKUPS);
        drop(held);
    }
}
