//! A read of entries: from the near-cache, and in one round trip from Redis for those that it has not.

use std::io;
use std::time::{Duration, Instant};

use redis::{FromRedisValue as _, RedisResult, Value};
use smallvec::SmallVec;
use tokio::time::timeout;

use super::auto_pipeline::{Lookup, Replies};
use super::data::CachedValue;
use super::entry::{Decoded, Key};
use super::near::{NearCache, Read, Slot, Ticket, Tracked, run_id};
use super::{Cached, CachedInputs, PriceCache, READ_TIMEOUT};
use crate::ids::{Location, ProductId};
use crate::price::{Market, Product};

/// An entry that does not decode, with what Redis holds.
pub(super) struct Corrupt<'k> {
    pub(super) key: Key<'k>,
    pub(super) text: Vec<u8>,
}

/// A read under way: see [`PriceCache::begin`].
pub struct Reading<'r> {
    cache: &'r PriceCache,
    ids: &'r [ProductId],
    location: &'r Location,
    asked: Instant,
    /// What the near-cache has, or what it keeps the replies with.
    products: SmallVec<[Slot<Product>; 1]>,
    market: Slot<Market>,
    /// The connection whose replies may be kept; `None` if none may.
    tracked: Option<Tracked>,
}

impl<'r> Reading<'r> {
    pub(super) fn begin(cache: &'r PriceCache, ids: &'r [ProductId], location: &'r Location) -> Self {
        let asked = Instant::now();
        let near = cache.near.as_ref().filter(|near| near.is_open(asked));
        let (products, market) = match near {
            Some(near) => {
                (ids.iter().map(|id| near.product(id, asked)).collect(), near.market(location, asked))
            }
            None => {
                let nothing = Ticket::default();
                (ids.iter().map(|_| Slot::Ask(nothing)).collect(), Slot::Ask(nothing))
            }
        };
        // After the tickets: if the near-cache has been closed since, they are void.
        let tracked = near.and_then(NearCache::tracked);
        Self { cache, ids, location, asked, products, market, tracked }
    }

    /// All entries, if the near-cache has them.
    pub fn from_memory(&self) -> Option<CachedInputs> {
        let products = self.products.iter().map(Slot::kept).collect::<Option<_>>()?;
        Some(CachedInputs { products, market: self.market.kept()? })
    }

    /// All entries, in one round trip for those that the near-cache has not: there must be one, see
    /// [`Reading::from_memory`].
    ///
    /// # Errors
    ///
    /// When Redis is away or slow.
    pub async fn finish(mut self) -> RedisResult<CachedInputs> {
        let (cache, asked, replies) = (self.cache, self.asked, self.replies().await?);
        let (inputs, corrupt) = self.decode(&replies);
        if !corrupt.is_empty() {
            let spent = if cache.bounds_reads() { asked.elapsed() } else { Duration::ZERO };
            // If time is short, the next read finds them again.
            let _ = timeout(READ_TIMEOUT.saturating_sub(spent), Box::pin(cache.discard(corrupt))).await;
        }
        Ok(inputs)
    }

    /// The replies of Redis.
    async fn replies(&mut self) -> RedisResult<Replies> {
        if self.cache.is_patient {
            return Box::pin(self.replies_alone()).await; // rare, and its future is large
        }
        let Some(tracked) = &self.tracked else { return self.cache.reads.ask(self.asked_for()).await };
        match tracked.reads.ask(self.asked_for()).await {
            // It has ended, and says nothing about Redis.
            Err(error) if error.is_connection_dropped() => self.tracked = None,
            replies => return replies,
        }
        let left = READ_TIMEOUT.saturating_sub(self.asked.elapsed());
        let replies = timeout(left, self.cache.reads.ask(self.asked_for())).await;
        replies.unwrap_or_else(|elapsed| Err(io::Error::from(elapsed).into()))
    }

    /// The replies of Redis to a lookup of this read alone.
    async fn replies_alone(&mut self) -> RedisResult<Replies> {
        let mut redis = self.cache.redis.clone();
        let mut lookup = Lookup::with_capacity(self.ids.len() + 1);
        self.asked_for().for_each(|key| {
            lookup.add(key);
        });
        let Some(tracked) = &self.tracked else {
            return Ok(Replies::all(lookup.send(None, &mut redis).await?.0));
        };
        // On a connection of its own, which may lead to another server than the one that invalidates.
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let (found, info) = lookup.send(Some(info), &mut redis).await?;
        let info = info.and_then(|info| String::from_redis_value(info).ok());
        if info.and_then(|info| run_id(&info)) != Some(tracked.run_id.clone()) {
            self.tracked = None;
        }
        Ok(Replies::all(found))
    }

    /// The keys of the entries that the near-cache has not.
    fn asked_for(&self) -> impl Iterator<Item = Key<'_>> {
        let prefix = &self.cache.prefix;
        let products = self.ids.iter().zip(&self.products).filter(|(_, slot)| slot.kept().is_none());
        let products = products.map(|(id, _)| Key::product(prefix, id));
        products.chain(self.market.kept().is_none().then(|| Key::market(prefix, self.location)))
    }

    /// All entries, and those that must be removed. The near-cache keeps what was read, if it may.
    fn decode(self, replies: &Replies) -> (CachedInputs, Vec<Corrupt<'r>>) {
        let Self { cache, ids, location, asked, products, market, tracked } = self;
        let (entries, now_ms) = (replies.entries(), replies.now_ms());
        let mut decoder = Decoder { cache, entries, now_ms, corrupt: Vec::new() };
        let near = cache.near.as_ref();
        let read_with = |ticket| tracked.is_some().then_some(ticket);
        let products = ids.iter().zip(products).map(|(id, slot)| match slot {
            Slot::Kept(cached) => cached,
            Slot::Ask(ticket) => {
                let decoded = decoder.next(Key::product(&cache.prefix, id));
                if let Some(near) = near {
                    near.keep_product(id, Read { decoded: &decoded, asked, ticket: read_with(ticket) });
                }
                decoded.cached
            }
        });
        let products = products.collect();
        let market = match market {
            Slot::Kept(cached) => cached,
            Slot::Ask(ticket) => {
                let decoded = decoder.next(Key::market(&cache.prefix, location));
                if let Some(near) = near {
                    near.keep_market(location, Read { decoded: &decoded, asked, ticket: read_with(ticket) });
                }
                decoded.cached
            }
        };
        (CachedInputs { products, market }, decoder.corrupt)
    }
}

/// Decodes what a read found, and collects the corrupt entries.
struct Decoder<'r, 'k, I> {
    cache: &'r PriceCache,
    entries: I,
    now_ms: u64,
    corrupt: Vec<Corrupt<'k>>,
}

impl<'v, 'k, I: Iterator<Item = &'v Value>> Decoder<'_, 'k, I> {
    fn next<T: CachedValue>(&mut self, key: Key<'k>) -> Decoded<T> {
        let entry = self.entries.next().expect("invariant: each entry was asked for");
        let decoded = self.cache.ttls.decode(&key, entry, self.now_ms);
        if let (Cached::Corrupt, Value::BulkString(text)) = (&decoded.cached, entry) {
            self.corrupt.push(Corrupt { key, text: text.clone() });
        }
        decoded
    }
}
