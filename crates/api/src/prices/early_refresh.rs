//! Early refreshes: an entry that is read often is loaded again before it expires, beside the reads.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pricing_core::cache::Cached;
use pricing_core::ids::{Location, ProductId};
use pricing_core::price::Market;
use smallvec::smallvec;

use super::plan::CachedRead;
use super::reader::PriceReader;

/// Entries that are refreshed at the same time at most. Others are read again when they have expired.
const MAX_UNDER_WAY: usize = 64;
/// The least time that a load is taken to last: it leaves room for Redis, and for another process to see the result.
const SHORTEST_LOAD: Duration = Duration::from_millis(20);
/// Loads that an entry must have left so that no read refreshes it: a chance of one in ten million.
const HORIZON: u32 = 16;

/// Decides which read refreshes an entry that is about to expire.
///
/// Each read of an entry draws, and the chance grows exponentially as its end comes near: a hot entry is refreshed by one
/// read, about as long before its end as a load takes, and no read waits. (XFetch: Vattani, Chierichetti, Lowenstein,
/// *Optimal Probabilistic Cache Stampede Prevention*, VLDB 2015, with β = 1.)
#[derive(Default)]
pub(super) struct EarlyRefreshes {
    /// How long loads last, in microseconds: a moving average.
    load_micros: AtomicU64,
    under_way: Arc<Mutex<HashSet<String>>>,
}

impl EarlyRefreshes {
    /// Notes how long a load has lasted.
    pub(super) fn loaded_within(&self, time: Duration) {
        let (last, new) = (self.load_micros.load(Ordering::Relaxed), time.as_micros() as u64);
        // Two at once may lose one of them, which does not matter.
        self.load_micros.store(if last == 0 { new } else { (7 * last + new) / 8 }, Ordering::Relaxed);
    }

    /// Whether this read is to refresh an entry that is fresh for the time `left`.
    pub(super) fn is_due(&self, left: Duration) -> bool {
        let load = Duration::from_micros(self.load_micros.load(Ordering::Relaxed)).max(SHORTEST_LOAD);
        left < HORIZON * load && left < load.mul_f64(-rand::random::<f64>().max(f64::MIN_POSITIVE).ln())
    }

    /// Begins the refresh of an entry; `None` if it is under way, or too many are.
    pub(super) fn begin(&self, key: &str) -> Option<Refresh> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = under_way.len() < MAX_UNDER_WAY && under_way.insert(key.to_owned());
        begins.then(|| Refresh { under_way: self.under_way.clone(), key: key.to_owned() })
    }
}

/// A refresh under way, until it is dropped.
pub(super) struct Refresh {
    under_way: Arc<Mutex<HashSet<String>>>,
    key: String,
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl PriceReader {
    /// Loads entries again, in the background, that are about to expire and are read often.
    pub(super) fn refresh_early(self: &Arc<Self>, ids: &[ProductId], cached: &CachedRead<'_>) {
        for (id, product) in ids.iter().zip(&cached.products) {
            if let Cached::Fresh { left, .. } = product
                && self.early_refreshes.is_due(*left)
            {
                self.refresh(Some(id), cached.market, cached.location);
            }
        }
        if let Cached::Fresh { left, .. } = cached.market
            && self.early_refreshes.is_due(left)
        {
            self.refresh(None, Cached::Absent, cached.location);
        }
    }

    /// Loads a product in the background, and the market if it is absent, and fills the cache with them.
    fn refresh(self: &Arc<Self>, id: Option<&ProductId>, market: Cached<Market>, location: &Location) {
        if self.loader.is_down() {
            return;
        }
        let key = id.map_or_else(|| format!("market {location}"), ProductId::to_string);
        let Some(refresh) = self.early_refreshes.begin(&key) else { return };
        let (reader, ids, location) = (self.clone(), Vec::from_iter(id.cloned()), location.clone());
        tokio::spawn(async move {
            let products = smallvec![Cached::Absent; ids.len()];
            let missed = CachedRead { products, market, location: &location, has_answered: true };
            // What fails is loaded when it has expired.
            let _ = reader.load(&ids, &missed).await;
            drop(refresh);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chance_of_a_refresh_grows_as_the_end_comes_near() {
        let refreshes = EarlyRefreshes::default();
        refreshes.loaded_within(Duration::from_millis(50));
        let due = |millis| (0..10_000).filter(|_| refreshes.is_due(Duration::from_millis(millis))).count();
        // e^-left/load
        for (left, expected) in [(0, 10_000), (50, 3_679), (150, 498), (800, 0), (60_000, 0)] {
            let found = due(left);
            assert!(found.abs_diff(expected) < 300, "{found} of 10,000 with {left} ms left");
        }
    }

    #[test]
    fn an_entry_is_refreshed_once_at_a_time() {
        let refreshes = EarlyRefreshes::default();
        let first = refreshes.begin("P-1").unwrap();
        assert!(refreshes.begin("P-1").is_none());
        let others: Vec<_> = (0..100).filter_map(|n| refreshes.begin(&format!("K-{n}"))).collect();
        assert_eq!(others.len(), MAX_UNDER_WAY - 1);
        drop(others);
        assert!(refreshes.begin("P-2").is_some());
        drop(first);
        assert!(refreshes.begin("P-1").is_some());
    }
}
