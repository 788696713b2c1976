//! Kept entries by key, in shards, each with its lock.

use std::hash::BuildHasher as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};

use super::refusals::{Refusals, Ticket};
use crate::cache::Cached;

/// Number of shards, a power of two: a lock is held for some tens of nanoseconds.
const SHARDS: usize = 64;
/// Bytes that an entry takes besides its key and itself: the allocation of the key, and its place in table and queues.
const OVERHEAD: usize = 64;

/// What is kept under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept<T> {
    /// The value; `None` for a negative entry.
    pub(super) value: Option<T>,
    /// Version of the entry.
    pub(super) version: u64,
    /// When it was read from Redis.
    pub(super) read: Instant,
    /// How old the entry was then.
    pub(super) age: Duration,
    /// How long it was fresh from then on.
    pub(super) left: Duration,
    /// When it is dropped.
    pub(super) until: Instant,
}

impl<T: Copy> Kept<T> {
    /// Time since it was read from Redis.
    pub(super) fn since_read(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.read)
    }

    /// The entry as it is now.
    pub(super) fn cached(&self, now: Instant) -> Cached<T> {
        let since_read = self.since_read(now);
        match self.value {
            Some(value) => {
                let (age, left) = (self.age + since_read, self.left.saturating_sub(since_read));
                Cached::Fresh { value, age, left }
            }
            None => Cached::Negative,
        }
    }
}

/// Kept entries.
///
/// **A reply is kept only if, since its read began, its key was not invalidated and no newer version of it was served.**
/// A newer version that is kept is compared with; one that is not, or not any more, has been remembered as a [refusal].
/// All is decided under the lock of the shard.
///
/// [refusal]: Refusals
pub(super) struct Shards<T> {
    shards: Box<[Mutex<Shard<T>>]>,
    hasher: DefaultHashBuilder,
}

struct Shard<T> {
    entries: Cache<Box<str>, Kept<T>, Weigh, DefaultHashBuilder, Evictions>,
    refusals: Refusals,
}

impl<T: Copy> Shards<T> {
    /// Keeps entries of at most so many bytes together.
    pub(super) fn new(bytes: u64) -> Self {
        let hasher = DefaultHashBuilder::default();
        let bytes = bytes / SHARDS as u64;
        let items = bytes / (OVERHEAD + size_of::<Kept<T>>()) as u64;
        let shard = || Shard {
            entries: Cache::with(items as usize, bytes, Weigh, hasher.clone(), Evictions(hasher.clone())),
            refusals: Refusals::default(),
        };
        Self { shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(), hasher }
    }

    /// The entry of a key, or the ticket to keep one with.
    pub(super) fn get(&self, key: &str, now: Instant) -> Result<Kept<T>, Ticket> {
        let (mut shard, hash) = self.shard(key);
        let Shard { entries, refusals } = &mut *shard;
        match entries.get(key).copied() {
            Some(kept) if now < kept.until => return Ok(kept),
            Some(expired) => {
                entries.remove(key);
                refusals.refuse_below(hash, expired.version);
            }
            None => {}
        }
        Err(refusals.ticket())
    }

    /// Keeps what was read with the ticket of [`Shards::get`]. Without one, or if it was refused since, it is not kept; but
    /// what is older is dropped and refused then as well, for the reply is served.
    pub(super) fn keep(&self, key: &str, kept: Kept<T>, ticket: Option<Ticket>) -> bool {
        let (mut shard, hash) = self.shard(key);
        let Shard { entries, refusals } = &mut *shard;
        match entries.peek(key).map(|known| known.version) {
            Some(known) if known >= kept.version => return false,
            Some(_) => drop(entries.remove(key)),
            None => {}
        }
        let is_kept = ticket.is_some_and(|ticket| refusals.allow(hash, kept.version, ticket));
        if is_kept {
            entries.insert_with_lifecycle(key.into(), kept, refusals);
        } else {
            refusals.refuse_below(hash, kept.version);
        }
        is_kept
    }

    /// Drops the entry of a key, and refuses those whose read is under way.
    pub(super) fn forget(&self, key: &str) {
        let (mut shard, hash) = self.shard(key);
        shard.entries.remove(key);
        shard.refusals.refuse(hash);
    }

    /// Drops all entries, and refuses those whose read is under way.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = locked(shard);
            shard.entries.clear();
            shard.refusals.refuse_all();
        }
    }

    /// Bytes of all entries.
    pub(super) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| locked(shard).entries.weight()).sum()
    }

    /// The shard of a key, and the key's hash.
    fn shard(&self, key: &str) -> (MutexGuard<'_, Shard<T>>, u64) {
        let hash = self.hasher.hash_one(key);
        (locked(&self.shards[(hash >> 32) as usize % SHARDS]), hash)
    }
}

/// A panic under the lock leaves whole entries.
fn locked<T>(shard: &Mutex<Shard<T>>) -> MutexGuard<'_, Shard<T>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Weigh;

impl<T> Weighter<Box<str>, Kept<T>> for Weigh {
    fn weight(&self, key: &Box<str>, _: &Kept<T>) -> u64 {
        (key.len() + size_of::<Kept<T>>() + OVERHEAD) as u64
    }
}

/// Refuses what is older than an evicted entry.
struct Evictions(DefaultHashBuilder);

impl<T> Lifecycle<Box<str>, Kept<T>> for Evictions {
    type RequestState = Refusals;

    fn on_evict(&self, refusals: &mut Refusals, key: Box<str>, evicted: Kept<T>) {
        refusals.refuse_below(self.0.hash_one(&*key), evicted.version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(version: u64, now: Instant) -> Kept<u64> {
        let until = now + Duration::from_secs(5);
        let left = Duration::from_secs(60);
        Kept { value: Some(version), version, read: now, age: Duration::ZERO, left, until }
    }

    fn shards() -> (Shards<u64>, Instant) {
        (Shards::new(1 << 20), Instant::now())
    }

    #[test]
    fn a_reply_is_not_kept_if_its_key_was_invalidated_after_its_read_began() {
        let (shards, now) = shards();
        let ticket = shards.get("P-1", now).unwrap_err();
        assert!(shards.keep("P-1", kept(1, now), Some(ticket)));
        assert_eq!(shards.get("P-1", now), Ok(kept(1, now)));

        shards.forget("P-1");
        let ticket = shards.get("P-1", now).unwrap_err();
        shards.forget("P-1"); // overtakes the reply that it invalidates
        assert!(!shards.keep("P-1", kept(1, now), Some(ticket)));
        let ticket = shards.get("P-1", now).unwrap_err();
        shards.forget("P-2");
        assert!(shards.keep("P-1", kept(1, now), Some(ticket)), "another key was invalidated");
        shards.forget("P-1");
        let ticket = shards.get("P-1", now).unwrap_err();
        shards.clear();
        assert!(!shards.keep("P-1", kept(1, now), Some(ticket)));
        assert!(shards.get("P-1", now).is_err());
    }

    #[test]
    fn an_older_version_replaces_nothing_and_a_newer_one_drops_what_is_older() {
        let (shards, now) = shards();
        let ticket = shards.get("P-1", now).unwrap_err();
        assert!(shards.keep("P-1", kept(5, now), Some(ticket)));
        assert!(!shards.keep("P-1", kept(4, now), Some(ticket)));
        assert_eq!(shards.get("P-1", now), Ok(kept(5, now)));
        assert!(!shards.keep("P-1", kept(6, now), None), "it may be outdated by now");
        assert!(shards.get("P-1", now).is_err(), "somebody has seen version 6");
        assert!(!shards.keep("P-1", kept(5, now), Some(ticket)), "which was read before that");
    }

    #[test]
    fn a_version_that_was_served_and_not_kept_refuses_older_ones_whose_read_is_under_way() {
        let (shards, now) = shards();
        let outdated = shards.get("P-1", now).unwrap_err();
        shards.forget("P-1");
        let ticket = shards.get("P-1", now).unwrap_err();
        assert!(!shards.keep("P-1", kept(6, now), Some(outdated)));
        assert!(!shards.keep("P-1", kept(5, now), Some(ticket)), "somebody has seen version 6");
        assert!(shards.keep("P-1", kept(6, now), Some(ticket)));
    }

    #[test]
    fn an_expired_entry_is_dropped_and_older_ones_whose_read_is_under_way_are_refused() {
        let (shards, now) = shards();
        let ticket = shards.get("P-1", now).unwrap_err();
        assert!(shards.keep("P-1", kept(5, now), Some(ticket)));
        assert!(shards.get("P-1", now + Duration::from_secs(5)).is_err());
        assert_eq!(shards.bytes(), 0);
        assert!(!shards.keep("P-1", kept(4, now), Some(ticket)), "somebody has seen version 5");
        assert!(shards.keep("P-1", kept(5, now), Some(ticket)));
    }

    #[test]
    fn an_evicted_entry_refuses_older_ones_whose_read_is_under_way() {
        let (shards, now) = shards();
        let mut tickets = Vec::new();
        // Until one is evicted, by a read that began just before.
        for n in 0..100_000 {
            let key = format!("P-{n}");
            let ticket = shards.get(&key, now).unwrap_err();
            assert!(shards.keep(&key, kept(5, now), Some(ticket)));
            tickets.push((key, ticket));
            let gone = tickets
                .iter()
                .rev()
                .take(8)
                .find(|(key, _)| shards.shard(key).0.entries.peek(key.as_str()).is_none());
            if let Some((key, ticket)) = gone {
                assert!(!shards.keep(key, kept(4, now), Some(*ticket)), "somebody has seen version 5");
                return;
            }
        }
        panic!("nothing was evicted");
    }

    #[test]
    fn a_full_shard_keeps_all_of_a_batch() {
        let (shards, now) = shards();
        let read = |batch: usize| {
            let keys: Vec<_> = (0..500).map(|n| format!("P-{}", batch * 500 + n)).collect();
            let tickets: Vec<_> = keys.iter().map(|key| shards.get(key, now).unwrap_err()).collect();
            let keep = |(key, ticket): (&String, _)| shards.keep(key, kept(1, now), Some(ticket));
            keys.iter().zip(tickets).filter(|read| keep(*read)).count()
        };
        for batch in 0..20 {
            assert_eq!(read(batch), 500, "of batch {batch}");
        }
    }

    #[test]
    fn memory_is_bounded_and_a_scan_leaves_what_is_read_again_and_again() {
        let (shards, now) = shards();
        let read = |key: &str| {
            if let Err(ticket) = shards.get(key, now) {
                shards.keep(key, kept(1, now), Some(ticket));
            }
        };
        let hot: Vec<String> = (0..200).map(|n| format!("hot-{n}")).collect();
        for _ in 0..3 {
            hot.iter().for_each(|key| read(key));
        }
        for n in 0..100_000 {
            read(&format!("scan-{n}"));
            assert!(n % 1_000 != 0 || shards.bytes() <= 1 << 20, "{}", shards.bytes());
        }
        let left = hot.iter().filter(|key| shards.get(key, now).is_ok()).count();
        assert!(left > 150, "{left} of 200");
    }
}
