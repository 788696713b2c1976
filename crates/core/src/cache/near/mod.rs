//! The near-cache: entries kept in the process, coherent with Redis through its invalidations.
//!
//! `tracking` is the connection that Redis invalidates on, `shards` holds the entries.

mod metrics;
mod refusals;
mod shards;
mod tracking;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio_util::sync::CancellationToken;

pub use metrics::NEAR_AGE;
use metrics::{NearMetrics, Results};
pub(super) use refusals::Ticket;
use shards::{Kept, Shards};
pub(super) use tracking::run_id;

use super::Cached;
use super::auto_pipeline::AutoPipeline;
use super::entry::{Decoded, MARKET, PRODUCT};
use crate::ids::{Location, ProductId};
use crate::price::{Market, Product};

/// Share of the memory that is for markets.
const MARKETS_SHARE: u64 = 8;

/// Settings of the near-cache.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct NearCacheSettings {
    /// Memory for cache entries kept in this process, in MiB; 0 keeps none
    #[arg(long, env, default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=65_536))]
    pub near_cache_mb: u64,
    /// Seconds that an entry is kept in this process at most: the bound of staleness if Redis loses an invalidation
    #[arg(long, env, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub near_cache_ttl_seconds: u64,
}

/// Entries of the cache, kept in this process.
///
/// **On one process no price goes back, and none is older than a second and a half plus the time that it takes to answer
/// it**, as long as Redis sends its invalidations; after [`NearCacheSettings::near_cache_ttl_seconds`] none is older
/// whatever happens. (Failovers are the exception: while connections lead to different servers, and if the newest entry was
/// lost, until the worker has stored it again.) The model is `near_cache` in `crates/model`.
///
/// - Redis invalidates each key that is written, whoever writes it ([`CLIENT TRACKING`] with `BCAST`), on a connection that
///   also reads: so a reply comes before what invalidates it. The invalidation is applied where the connection is read.
/// - The near-cache serves only while that connection has answered something that it was asked within the last second and a
///   half. It is empty when it opens.
/// - A reply may be handed to its reader after what invalidates it was applied. So a read takes a ticket before it is sent,
///   and its entry is kept only if the key was not invalidated since, and no newer version of it was served.
/// - What this process writes it drops itself: it does not wait to be told.
///
/// [`CLIENT TRACKING`]: https://redis.io/docs/latest/develop/reference/client-side-caching/
#[derive(Clone)]
pub struct NearCache {
    inner: Arc<Inner>,
}

struct Inner {
    prefix: String,
    ttl: Duration,
    products: Shards<Product>,
    markets: Shards<Market>,
    created: Instant,
    /// Until when the connection counts as alive, in microseconds since `created`.
    alive_until: AtomicU64,
    tracked: Mutex<Option<Tracked>>,
    metrics: NearMetrics,
}

/// The connection that Redis invalidates on.
#[derive(Clone)]
pub(super) struct Tracked {
    pub(super) reads: AutoPipeline<MultiplexedConnection>,
    /// Which one it is: the end of a connection closes no other one.
    session: u64,
    /// The run of Redis that it leads to.
    pub(super) run_id: Arc<str>,
}

/// What the near-cache has for a key: its entry, or what a reply may be kept with.
pub(super) enum Slot<T> {
    Kept(Cached<T>),
    Ask(Ticket),
}

/// A reply that is going to be served.
pub(super) struct Read<'r, T> {
    pub(super) decoded: &'r Decoded<T>,
    /// When it was asked for.
    pub(super) asked: Instant,
    /// From before that; `None` if it may not be kept, because Redis does not invalidate it here.
    pub(super) ticket: Option<Ticket>,
}

impl<T: Copy> Slot<T> {
    pub(super) fn kept(&self) -> Option<Cached<T>> {
        match self {
            Self::Kept(cached) => Some(*cached),
            Self::Ask(_) => None,
        }
    }
}

impl NearCache {
    /// A near-cache of a cache whose keys begin with `prefix`; `None` if the settings give it no memory. It is closed until
    /// [`NearCache::follow`] runs. The metrics recorder must be installed already.
    pub fn new(prefix: &str, settings: NearCacheSettings) -> Option<Self> {
        let bytes = settings.near_cache_mb * 1_024 * 1_024;
        let for_markets = bytes / MARKETS_SHARE;
        let inner = Inner {
            prefix: prefix.to_owned(),
            ttl: Duration::from_secs(settings.near_cache_ttl_seconds),
            products: Shards::new(bytes - for_markets),
            markets: Shards::new(for_markets),
            created: Instant::now(),
            alive_until: AtomicU64::new(0),
            tracked: Mutex::new(None),
            metrics: NearMetrics::new(),
        };
        (bytes > 0).then(|| Self { inner: Arc::new(inner) })
    }

    /// Whether it serves.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.inner.micros(now) < self.inner.alive_until.load(Ordering::Acquire)
    }

    /// The connection that Redis invalidates on, while it is open.
    pub(super) fn tracked(&self) -> Option<Tracked> {
        self.inner.tracked().clone()
    }

    pub(super) fn product(&self, id: &ProductId, now: Instant) -> Slot<Product> {
        let NearMetrics { product, age, .. } = &self.inner.metrics;
        let kept = self.inner.products.get(id.as_str(), now);
        if let Ok(kept) = &kept {
            age.record(kept.since_read(now));
        }
        product.slot(kept, now)
    }

    pub(super) fn market(&self, location: &Location, now: Instant) -> Slot<Market> {
        self.inner.metrics.market.slot(self.inner.markets.get(location.as_str(), now), now)
    }

    pub(super) fn keep_product(&self, id: &ProductId, read: Read<'_, Product>) {
        self.inner.keep(&self.inner.products, id.as_str(), read);
    }

    pub(super) fn keep_market(&self, location: &Location, read: Read<'_, Market>) {
        self.inner.keep(&self.inner.markets, location.as_str(), read);
    }

    pub(super) fn forget_product(&self, id: &ProductId) {
        self.inner.products.forget(id.as_str());
    }

    pub(super) fn forget_market(&self, location: &Location) {
        self.inner.markets.forget(location.as_str());
    }
}

impl Results {
    /// What was found, counted.
    fn slot<T: Copy>(&self, found: Result<Kept<T>, Ticket>, now: Instant) -> Slot<T> {
        self.count(found.is_ok());
        match found {
            Ok(kept) => Slot::Kept(kept.cached(now)),
            Err(ticket) => Slot::Ask(ticket),
        }
    }
}

impl Inner {
    /// Keeps what was read, if it is fresh and may be kept. Drops what is older in any case.
    fn keep<T: Copy>(&self, shards: &Shards<T>, key: &str, read: Read<'_, T>) {
        let Read { decoded, asked, ticket } = read;
        let (value, age, ticket) = match decoded.cached {
            Cached::Fresh { value, age, .. } => (Some(value), age, ticket),
            Cached::Negative => (None, Duration::ZERO, ticket),
            Cached::Stale { value, age } => (Some(value), age, None),
            Cached::Absent | Cached::Corrupt => return,
        };
        let until = asked + decoded.left.min(self.ttl);
        let Decoded { version, left, .. } = *decoded;
        let kept = Kept { value, version, read: asked, age, left, until };
        shards.keep(key, kept, ticket);
    }

    /// Opens it for a connection that has answered what it was asked at `asked`, unless the connection has ended.
    fn open(&self, connection: Tracked, asked: Instant, ended: &CancellationToken) {
        let mut tracked = self.tracked();
        if !ended.is_cancelled() {
            *tracked = Some(connection);
            self.serve_after(asked);
            self.metrics.open.set(1);
        }
    }

    /// Goes on serving: its connection has answered what it was asked at `asked`.
    fn extend(&self, session: u64, asked: Instant) {
        let tracked = self.tracked();
        if tracked.as_ref().is_some_and(|tracked| tracked.session == session) {
            self.serve_after(asked);
        }
    }

    fn serve_after(&self, asked: Instant) {
        self.alive_until.store(self.micros(asked + tracking::ALIVE), Ordering::Release);
    }

    /// Closes it, and drops all entries, if it is open for this connection.
    fn close(&self, session: u64) {
        let mut tracked = self.tracked();
        if tracked.take_if(|tracked| tracked.session == session).is_some() {
            self.alive_until.store(0, Ordering::Release);
            self.clear();
            self.metrics.open.set(0);
        }
    }

    /// Drops the entries of keys that Redis invalidates; all of them if it names none.
    fn invalidate(&self, data: &[Value]) {
        let Some(Value::Array(keys)) = data.first() else { return self.clear() };
        for key in keys {
            let Value::BulkString(key) = key else { return self.clear() };
            let key = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(&self.prefix));
            // Another key has a prefix of ours and is none of ours.
            match key.map(|key| (key.strip_prefix(PRODUCT), key.strip_prefix(MARKET))) {
                Some((Some(id), _)) => self.products.forget(id),
                Some((_, Some(location))) => self.markets.forget(location),
                _ => {}
            }
        }
        self.metrics.invalidations.increment(keys.len() as u64);
    }

    fn clear(&self) {
        self.products.clear();
        self.markets.clear();
        self.metrics.flushes.increment(1);
    }

    fn tracked(&self) -> MutexGuard<'_, Option<Tracked>> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn micros(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.created).as_micros()).unwrap_or(u64::MAX)
    }
}
