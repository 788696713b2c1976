//! Single-flight loads: concurrent loads of the same key share one.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

/// How long a result serves later loads: those that asked the cache before it was filled.
const LINGER: Duration = Duration::from_secs(1);

/// A loaded value, and how it was obtained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flight<V> {
    /// This caller made the load.
    Led(V),
    /// Another caller's load, under way at the same time. That caller fills the cache.
    Joined(V),
    /// A load that ended less than [`LINGER`] ago: the database was not asked now. This caller fills the cache
    /// again, because the first fill came too early to be seen, or failed.
    Lingering(V),
}

impl<V> Flight<V> {
    pub(super) fn value(&self) -> &V {
        let (Self::Led(value) | Self::Joined(value) | Self::Lingering(value)) = self;
        value
    }

    /// The value, if this caller fills the cache.
    pub(super) fn to_fill(&self) -> Option<&V> {
        match self {
            Self::Led(value) | Self::Lingering(value) => Some(value),
            Self::Joined(_) => None,
        }
    }

    /// Whether the database answered during this call.
    pub(super) fn is_new(&self) -> bool {
        !matches!(self, Self::Lingering(_))
    }
}

/// Loads of one kind, by key.
///
/// **Single-flight**: of all concurrent callers with the same key one makes the load, and the others share its
/// result. If it is dropped or fails, the next caller makes the load. Failures are not kept.
pub(super) struct SingleFlight<K, V> {
    results: Cache<K, V>,
}

impl<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> SingleFlight<K, V> {
    /// Keeps results of a total weight of at most `max_weight`.
    pub(super) fn new(max_weight: u64, weigh: impl Fn(&K) -> usize + Send + Sync + 'static) -> Self {
        let weigher = move |key: &K, _: &V| u32::try_from(weigh(key)).unwrap_or(u32::MAX);
        let results = Cache::builder().max_capacity(max_weight).weigher(weigher).time_to_live(LINGER);
        Self { results: results.build() }
    }

    /// The result of `load`, or of another caller's load of the same key.
    ///
    /// # Errors
    ///
    /// When the load fails.
    pub(super) async fn get_or_load<Q, E: Send + Sync + 'static>(
        &self,
        key: &Q,
        load: impl Future<Output = Result<V, E>>,
    ) -> Result<Flight<V>, Arc<E>>
    where
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        K: Borrow<Q>,
    {
        if let Some(value) = self.results.get(key).await {
            return Ok(Flight::Lingering(value));
        }
        let entry = self.results.entry_by_ref(key).or_try_insert_with(load).await?;
        let is_ours = entry.is_fresh();
        let value = entry.into_value();
        Ok(if is_ours { Flight::Led(value) } else { Flight::Joined(value) })
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::*;

    fn single_flight() -> SingleFlight<String, u32> {
        SingleFlight::new(10, |_| 1)
    }

    #[tokio::test]
    async fn concurrent_callers_share_one_load() {
        let (single_flight, loads) = (single_flight(), AtomicU32::new(0));
        let get = || {
            single_flight.get_or_load("P-1", async {
                tokio::task::yield_now().await;
                Ok::<_, ()>(loads.fetch_add(1, Ordering::Relaxed))
            })
        };
        let flights = join_all((0..1_000).map(|_| get())).await;
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        let count =
            |expected: &Flight<u32>| flights.iter().flatten().filter(|flight| *flight == expected).count();
        assert_eq!((count(&Flight::Led(0)), count(&Flight::Joined(0))), (1, 999));
        let late = get().await.unwrap();
        assert_eq!(late, Flight::Lingering(0));
        assert!(!late.is_new() && late.to_fill().is_some());
    }

    #[tokio::test]
    async fn a_load_that_fails_or_is_dropped_is_not_kept() {
        let single_flight = single_flight();
        assert_eq!(*single_flight.get_or_load("P-1", ready(Err("gone"))).await.unwrap_err(), "gone");

        let mut dropped = Box::pin(single_flight.get_or_load("P-1", pending::<Result<_, ()>>()));
        assert!(futures_util::poll!(&mut dropped).is_pending());
        let mut waiting = Box::pin(single_flight.get_or_load("P-1", ready(Ok::<_, ()>(2))));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(dropped);
        assert_eq!(waiting.await.unwrap(), Flight::Led(2));
    }
}
