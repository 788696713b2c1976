//! The cache in front of the catalogue: cache-aside, versioned, validated on read.
//!
//! An entry holds an input of prices, a product or a market, under its own key, never the price of one customer.
//! So there are as many entries as products and markets, and no discount leaks from one customer to another.

mod auto_pipeline;
#[doc(hidden)]
pub mod codec;
mod data;
mod entry;
mod near;
mod read;
mod write;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use redis::aio::ConnectionManager;
use redis::{ErrorKind, RedisResult, Script};
use smallvec::SmallVec;

use auto_pipeline::AutoPipeline;
use data::MAX_VERSION;
pub use entry::{Cached, Entry, Kind};
use entry::{MARKET, PRODUCT, Ttls};
pub use near::{NEAR_AGE, NearCache, NearCacheSettings};
pub use read::Reading;
pub use write::Stored;

use crate::clock::millis;
use crate::ids::{Location, ProductId};
use crate::price::{Market, Product};
use crate::redis::{Redis, escaped};

const MAX_CACHE_TTL_SECONDS: u64 = 24 * 60 * 60;
const MAX_STALE_TTL_SECONDS: u64 = 7 * 24 * 60 * 60;

/// TTLs of cache entries.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct CacheSettings {
    /// Seconds that a cache entry is fresh, ± 10 % by key
    #[arg(long, env, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=MAX_CACHE_TTL_SECONDS))]
    pub cache_ttl_seconds: u64,
    /// Seconds that an entry is kept as stale after that, for outages of the database
    #[arg(long, env, default_value_t = 600, value_parser = clap::value_parser!(u64).range(0..=MAX_STALE_TTL_SECONDS))]
    pub stale_ttl_seconds: u64,
}

/// What the cache holds for one read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedInputs {
    /// The products' entries, in the order of the request.
    pub products: SmallVec<[Cached<Product>; 1]>,
    /// The entry of the location's market.
    pub market: Cached<Market>,
}

/// A time of Redis before which no read of the database began whose rows are to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadAt(u64);

impl ReadAt {
    /// A time of Redis, in milliseconds since 1970.
    pub fn from_ms(ms: u64) -> Self {
        Self(ms)
    }
}

/// The Redis behind the cache, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name, `master_replid`: it changes with every restart and promotion.
    pub id: String,
    /// Its clock, for rows that are read from now on.
    pub read_at: ReadAt,
    /// The highest version that its cache was given.
    pub highest_version: u64,
}

impl Server {
    /// Its clock in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.read_at.0
    }
}

/// Longest for a read on the connection for reads, connecting included. Reads that travel together share it: one timer for
/// all of them, and what nobody waits for is not sent to a Redis that comes back.
pub const READ_TIMEOUT: Duration = Duration::from_millis(250);

/// The price cache in Redis.
///
/// An entry is a text that Redis expires: its version, when it expires in milliseconds since 1970, and its data, such
/// as `17 1764000660000 [5499,null,null,null,"USD"]`. Its freshness follows from what is left until then by the time
/// of Redis, which each lookup asks for, so only the clock of Redis counts. A key of another type is no entry. **An
/// entry is replaced only by one of an equal or higher version**, in one script, whoever writes: a writer that was
/// paused while a newer version was stored changes nothing. A deleted product leaves a negative entry with the version
/// of its deletion, and no entry is written that was read from the database longer ago than negative entries live: **a
/// paused writer cannot bring a deleted product back.** Data that does not decode is [`Cached::Corrupt`] and never
/// served.
///
/// A read takes [`READ_TIMEOUT`] at most if the cache [bounds its reads](PriceCache::bounds_reads). No other method has a
/// time-out but that of its connection: callers set one.
#[derive(Clone)]
pub struct PriceCache {
    redis: ConnectionManager,
    /// The same connection, for reads of few entries.
    reads: AutoPipeline<ConnectionManager>,
    prefix: String,
    ttls: Ttls,
    store: Script,
    discard: Script,
    near: Option<NearCache>,
    /// Whether its connection is the one for commands.
    is_patient: bool,
}

impl PriceCache {
    /// A cache whose entries have the TTLs of the settings. Every process must be given the same settings.
    pub fn new(redis: &Redis, settings: CacheSettings) -> Self {
        Self {
            redis: redis.cache.clone(),
            reads: AutoPipeline::new(redis.cache.clone()),
            prefix: redis.prefix.clone(),
            ttls: Ttls {
                fresh_ttl: Duration::from_secs(settings.cache_ttl_seconds),
                stale_ttl: Duration::from_secs(settings.stale_ttl_seconds),
            },
            store: Script::new(include_str!("store.lua")),
            discard: Script::new(include_str!("discard.lua")),
            near: None,
            is_patient: false,
        }
    }

    /// The same cache, which keeps in the process what it reads.
    #[must_use]
    pub fn with_near(self, near: Option<NearCache>) -> Self {
        Self { near, ..self }
    }

    /// The same cache on the connection for commands, whose time-out is 2 s.
    #[must_use]
    pub fn patient(self, redis: &Redis) -> Self {
        Self { redis: redis.commands.clone(), is_patient: true, ..self }
    }

    /// Whether a read ends within [`READ_TIMEOUT`] by itself. Not on the connection for commands.
    pub fn bounds_reads(&self) -> bool {
        !self.is_patient
    }

    /// Begins a read of the entries of products and of a location's market: what the near-cache has is there at once.
    pub fn begin<'r>(&'r self, products: &'r [ProductId], location: &'r Location) -> Reading<'r> {
        Reading::begin(self, products, location)
    }

    /// Reads the entries of products and of a location's market, in one round trip at most.
    ///
    /// # Errors
    ///
    /// When Redis is away or slow.
    pub async fn get(&self, products: &[ProductId], location: &Location) -> RedisResult<CachedInputs> {
        let reading = self.begin(products, location);
        match reading.from_memory() {
            Some(inputs) => Ok(inputs),
            None => reading.finish().await,
        }
    }

    /// After this time nothing is left in Redis of what was read from the database before: reads that may still be
    /// stored are too old, and their entries have expired.
    pub fn retention(&self) -> Duration {
        self.ttls.longest() + self.ttls.max_read_age()
    }

    /// Passes over the ids of all entries of one kind. Start with cursor 0; it ends when the next cursor is 0.
    ///
    /// # Errors
    ///
    /// When Redis is away or slow.
    pub async fn scan_ids(&self, kind: Kind, cursor: u64) -> RedisResult<(u64, Vec<String>)> {
        let prefix = match kind {
            Kind::Product => format!("{}{PRODUCT}", self.prefix),
            Kind::Market => format!("{}{MARKET}", self.prefix),
        };
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{}*", escaped(&prefix))).arg("COUNT").arg(1_000);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut self.redis.clone()).await?;
        let id = |key: &Vec<u8>| {
            let id = std::str::from_utf8(key).ok()?.strip_prefix(&prefix)?;
            ProductId::parse(id).is_ok().then(|| id.to_owned()) // a location has the same characters
        };
        let ids: BTreeSet<String> = keys.iter().filter_map(id).collect();
        Ok((next, ids.into_iter().collect()))
    }

    /// The time of Redis, for rows whose read from the database begins no earlier than this call.
    ///
    /// # Errors
    ///
    /// When Redis is away or slow.
    pub async fn read_at(&self) -> RedisResult<ReadAt> {
        let asked = Instant::now();
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut self.redis.clone()).await?;
        // The read may have begun when this was asked.
        Ok(ReadAt((seconds * 1_000 + micros / 1_000).saturating_sub(millis(asked.elapsed()) + 1)))
    }

    /// Which Redis this is, its clock, and the highest version that its cache was given.
    ///
    /// # Errors
    ///
    /// When Redis is away or slow.
    pub async fn server(&self) -> RedisResult<Server> {
        let mut pipe = redis::pipe();
        pipe.cmd("INFO").arg("replication").cmd("TIME").cmd("GET").arg(self.highest_key());
        let (info, (seconds, micros), highest): (String, (u64, u64), Option<String>) =
            pipe.query_async(&mut self.redis.clone()).await?;
        let id = info.lines().find_map(|line| line.strip_prefix("master_replid:"));
        let id = id.ok_or((ErrorKind::UnexpectedReturnType, "INFO replication names no master_replid"))?;
        Ok(Server {
            id: id.trim().to_owned(),
            read_at: ReadAt(seconds * 1_000 + micros / 1_000),
            // Damaged, it says nothing; it is written anew.
            highest_version: highest
                .and_then(|text| text.parse().ok())
                .filter(|v| *v < MAX_VERSION)
                .unwrap_or(0),
        })
    }

    fn highest_key(&self) -> String {
        format!("{}highest_version", self.prefix)
    }
}
