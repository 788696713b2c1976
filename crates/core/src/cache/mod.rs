//! The cache in front of the catalogue: cache-aside, versioned, validated on read.
//!
//! What is cached is the inputs of a price, each under its own key, never the price of one customer: so
//! the number of entries is products + markets, and no discount can leak from one customer to another.

mod entry;

use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::ConnectionManager;
use redis::{RedisResult, Script};

pub use entry::{Cached, Entry};
use entry::{Reply, UNKNOWN_MARKET_LIFE, UNKNOWN_PRODUCT_LIFE};

use crate::ids::{Location, ProductId};
use crate::price::{Market, Product};
use crate::redis::Redis;

/// Entries one script writes at most, so that none holds Redis up for long.
const ENTRIES_PER_SCRIPT: usize = 100;

/// How long entries live.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct CacheSettings {
    /// Seconds, ± 10 % by key, that a cache entry is served as fresh
    #[arg(long, env, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub cache_ttl_seconds: u64,
    /// Seconds that an entry is kept beyond that, to be served while the database is away
    #[arg(long, env, default_value_t = 600, value_parser = clap::value_parser!(u64).range(0..=604_800))]
    pub stale_ttl_seconds: u64,
}

/// What the cache holds for one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedInputs {
    /// The product's entry.
    pub product: Cached<Product>,
    /// The entry of the market of the customer's location.
    pub market: Cached<Market>,
}

/// An entry that does not decode, as it was found.
struct Corrupt<'k> {
    key: &'k str,
    data: Vec<u8>,
}

/// The price cache in Redis.
///
/// An entry is a hash of version `v` and data `d` that Redis itself expires; how fresh it is follows
/// from its remaining life, so only the clock of Redis counts. **An entry is replaced only by one of an
/// equal or higher version**, in one script, whoever writes: a writer that was paused while a newer
/// version was stored changes nothing. Data that does not decode is [`Cached::Corrupt`] and never served.
#[derive(Clone)]
pub struct PriceCache {
    redis: ConnectionManager,
    prefix: String,
    lives: entry::Lives,
    store: Script,
    discard: Script,
}

impl PriceCache {
    /// A cache whose entries live as the settings say. Every process must be given the same settings.
    pub fn new(redis: &Redis, settings: CacheSettings) -> Self {
        Self {
            redis: redis.cache.clone(),
            prefix: redis.prefix.clone(),
            lives: entry::Lives {
                fresh: Duration::from_secs(settings.cache_ttl_seconds),
                spare: Duration::from_secs(settings.stale_ttl_seconds),
            },
            store: Script::new(include_str!("store.lua")),
            discard: Script::new(include_str!("discard.lua")),
        }
    }

    /// The same cache with the patience of a background job: what a read gives up after 200 ms may take 2 s.
    #[must_use]
    pub fn patient(self, redis: &Redis) -> Self {
        Self { redis: redis.commands.clone(), ..self }
    }

    /// Reads the entries of a product and of a market, in one round trip.
    ///
    /// # Errors
    ///
    /// When Redis is away or slow.
    pub async fn inputs(&self, product: &ProductId, location: &Location) -> RedisResult<CachedInputs> {
        let (product_key, market_key) = (self.product_key(product), self.market_key(location));
        let mut pipe = redis::pipe();
        read(&mut pipe, &product_key);
        read(&mut pipe, &market_key);
        let (product, product_left, market, market_left): (Reply, i64, Reply, i64) =
            pipe.ignore_errors().query_async(&mut self.redis.clone()).await?;
        let mut corrupt = Vec::new();
        let inputs = CachedInputs {
            product: self.judge(&product_key, &product, product_left, &mut corrupt),
            market: self.judge(&market_key, &market, market_left, &mut corrupt),
        };
        self.discard(corrupt).await;
        Ok(inputs)
    }

    /// Reads the entries of many products and of one market, in one round trip. The products come in the
    /// order of their ids.
    ///
    /// # Errors
    ///
    /// When Redis is away or slow.
    pub async fn inputs_of_many(
        &self,
        products: &[ProductId],
        location: &Location,
    ) -> RedisResult<(Vec<Cached<Product>>, Cached<Market>)> {
        let keys: Vec<String> = products.iter().map(|id| self.product_key(id)).collect();
        let market_key = self.market_key(location);
        let mut pipe = redis::pipe();
        keys.iter().chain([&market_key]).for_each(|key| read(&mut pipe, key));
        let replies: Vec<redis::Value> = pipe.ignore_errors().query_async(&mut self.redis.clone()).await?;

        let mut replies = replies.into_iter();
        let mut next = || -> RedisResult<(Reply, i64)> {
            let reply = redis::from_redis_value(replies.next().unwrap_or(redis::Value::Nil))?;
            let left = redis::from_redis_value(replies.next().unwrap_or(redis::Value::Nil))?;
            Ok((reply, left))
        };
        let (mut cached, mut corrupt) = (Vec::with_capacity(keys.len()), Vec::new());
        for key in &keys {
            let (reply, left) = next()?;
            cached.push(self.judge(key, &reply, left, &mut corrupt));
        }
        let (reply, left) = next()?;
        let market = self.judge(&market_key, &reply, left, &mut corrupt);
        self.discard(corrupt).await;
        Ok((cached, market))
    }

    /// Reads the entry of one market.
    ///
    /// # Errors
    ///
    /// When Redis is away or slow.
    pub async fn market(&self, location: &Location) -> RedisResult<Cached<Market>> {
        let key = self.market_key(location);
        let mut pipe = redis::pipe();
        read(&mut pipe, &key);
        let (reply, left): (Reply, i64) = pipe.ignore_errors().query_async(&mut self.redis.clone()).await?;
        let mut corrupt = Vec::new();
        let market = self.judge(&key, &reply, left, &mut corrupt);
        self.discard(corrupt).await;
        Ok(market)
    }

    /// Writes entries, in one burst, each except where a newer version is stored already. Returns how
    /// many were written.
    ///
    /// # Errors
    ///
    /// When Redis is away or slow; then some may have been written.
    pub async fn store(&self, entries: &[Entry<'_>]) -> RedisResult<u64> {
        let writes = entries.chunks(ENTRIES_PER_SCRIPT).map(async |entries| -> RedisResult<u64> {
            let mut call = self.store.prepare_invoke();
            for entry in entries {
                let (key, life) = match entry {
                    Entry::Product(id, _) => with_life(&self.lives, self.product_key(id)),
                    Entry::Market(location, _) => with_life(&self.lives, self.market_key(location)),
                    Entry::UnknownMarket(location) => (self.market_key(location), UNKNOWN_MARKET_LIFE),
                    Entry::UnknownProduct(id, _) => (self.product_key(id), UNKNOWN_PRODUCT_LIFE),
                };
                call.key(key).arg(entry.version()).arg(entry.data()).arg(life.as_millis() as u64);
            }
            call.invoke_async(&mut self.redis.clone()).await
        });
        Ok(try_join_all(writes).await?.into_iter().sum())
    }

    /// Removes entries that were found corrupt, so that the fills after these misses take their place
    /// whatever version they claim. One that stays is found corrupt again.
    async fn discard(&self, corrupt: Vec<Corrupt<'_>>) {
        let discards = corrupt.into_iter().map(async |Corrupt { key, data }| -> RedisResult<u64> {
            self.discard.key(key).arg(data).invoke_async(&mut self.redis.clone()).await
        });
        if let Err(error) = try_join_all(discards).await {
            tracing::warn!(%error, "corrupt cache entries are not removed yet");
        }
    }

    /// Decodes an entry; notes it when it is corrupt.
    fn judge<'k, T: entry::Decode>(
        &self,
        key: &'k str,
        reply: &Reply,
        left_ms: i64,
        corrupt: &mut Vec<Corrupt<'k>>,
    ) -> Cached<T> {
        let cached = self.lives.decode(key, reply, left_ms);
        if matches!(cached, Cached::Corrupt) {
            let data = reply.as_ref().ok().and_then(|(_, data)| data.clone()).unwrap_or_default();
            corrupt.push(Corrupt { key, data });
        }
        cached
    }

    fn product_key(&self, id: &ProductId) -> String {
        format!("{}product:{id}", self.prefix)
    }

    fn market_key(&self, location: &Location) -> String {
        format!("{}market:{location}", self.prefix)
    }
}

fn read(pipe: &mut redis::Pipeline, key: &str) {
    pipe.cmd("HMGET").arg(key).arg("v").arg("d").cmd("PTTL").arg(key);
}

fn with_life(lives: &entry::Lives, key: String) -> (String, Duration) {
    let life = lives.life(&key);
    (key, life)
}
