//! A read of entries: from the near-cache, and in one round trip from Redis for those that it has not.

use std::slice;
use std::time::Instant;

use redis::{Cmd, ErrorKind, FromRedisValue as _, Pipeline, RedisError, RedisResult, Value};
use smallvec::SmallVec;

use super::data::CachedValue;
use super::entry::{Decoded, Key};
use super::near::{NearCache, Read, Slot, Ticket, Tracked, run_id};
use super::{Cached, CachedInputs, PriceCache};
use crate::ids::{Location, ProductId};
use crate::price::{Market, Product};

/// An entry that does not decode, with its data.
pub(super) struct Corrupt<'k> {
    pub(super) key: Key<'k>,
    pub(super) data: Vec<u8>,
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

    /// All entries, in one round trip for those that the near-cache has not.
    ///
    /// # Errors
    ///
    /// When Redis is away or slow.
    pub async fn finish(mut self) -> RedisResult<CachedInputs> {
        let (cache, replies) = (self.cache, self.replies().await?);
        let (inputs, corrupt) = self.decode(&replies)?;
        if !corrupt.is_empty() {
            Box::pin(cache.discard(corrupt)).await;
        }
        Ok(inputs)
    }

    /// The replies of Redis, two for each entry that is asked for.
    async fn replies(&mut self) -> RedisResult<Vec<Value>> {
        let asked = self.products.iter().filter(|slot| slot.kept().is_none()).count()
            + usize::from(self.market.kept().is_none());
        if asked == 0 {
            return Ok(Vec::new());
        }
        if !self.cache.is_patient {
            if let Some(tracked) = &self.tracked {
                match tracked.reads.send(self.commands()).await {
                    // It has ended, and says nothing about Redis.
                    Err(error) if error.is_connection_dropped() => self.tracked = None,
                    replies => return replies,
                }
            }
            return self.cache.reads.send(self.commands()).await;
        }
        let mut redis = self.cache.redis.clone();
        let mut pipe = Pipeline::with_capacity(2 * asked + 1);
        for command in self.commands() {
            pipe.add_command(command);
        }
        let Some(tracked) = &self.tracked else {
            return redis.send_packed_commands(&pipe, 0, 2 * asked).await;
        };
        // On a connection of its own, which may lead to another server than the one that invalidates.
        pipe.cmd("INFO").arg("server");
        let mut replies = redis.send_packed_commands(&pipe, 0, 2 * asked + 1).await?;
        let info = replies.pop().and_then(|info| String::from_redis_value(info).ok());
        if info.and_then(|info| run_id(&info)) != Some(tracked.run_id.clone()) {
            self.tracked = None;
        }
        Ok(replies)
    }

    /// Two commands for each entry that is asked for.
    fn commands(&self) -> impl Iterator<Item = Cmd> {
        let prefix = &self.cache.prefix;
        let products = self.ids.iter().zip(&self.products).filter(|(_, slot)| slot.kept().is_none());
        let products = products.map(|(id, _)| Key::product(prefix, id));
        let market = self.market.kept().is_none().then(|| Key::market(prefix, self.location));
        products.chain(market).flat_map(|key| {
            let mut fields = Cmd::with_capacity(4, 128);
            fields.arg("HMGET").arg(key).arg("v").arg("d");
            let mut ttl = Cmd::with_capacity(2, 128);
            ttl.arg("PTTL").arg(key);
            [fields, ttl]
        })
    }

    /// All entries, and those that must be removed. The near-cache keeps what was read, if it may.
    fn decode(self, replies: &[Value]) -> RedisResult<(CachedInputs, Vec<Corrupt<'r>>)> {
        let Self { cache, ids, location, asked, products, market, tracked } = self;
        let mut decoder = Decoder { cache, replies: replies.iter(), corrupt: Vec::new() };
        let near = cache.near.as_ref();
        let read_with = |ticket| tracked.is_some().then_some(ticket);
        let products = ids.iter().zip(products).map(|(id, slot)| match slot {
            Slot::Kept(cached) => Ok(cached),
            Slot::Ask(ticket) => {
                let decoded = decoder.next(Key::product(&cache.prefix, id))?;
                if let Some(near) = near {
                    near.keep_product(id, Read { decoded: &decoded, asked, ticket: read_with(ticket) });
                }
                Ok(decoded.cached)
            }
        });
        let products = products.collect::<RedisResult<_>>()?;
        let market = match market {
            Slot::Kept(cached) => cached,
            Slot::Ask(ticket) => {
                let decoded = decoder.next(Key::market(&cache.prefix, location))?;
                if let Some(near) = near {
                    near.keep_market(location, Read { decoded: &decoded, asked, ticket: read_with(ticket) });
                }
                decoded.cached
            }
        };
        Ok((CachedInputs { products, market }, decoder.corrupt))
    }
}

/// Decodes the replies to a read, two for each entry, and collects the corrupt ones.
struct Decoder<'r, 'k> {
    cache: &'r PriceCache,
    replies: slice::Iter<'r, Value>,
    corrupt: Vec<Corrupt<'k>>,
}

impl<'k> Decoder<'_, 'k> {
    fn next<T: CachedValue>(&mut self, key: Key<'k>) -> RedisResult<Decoded<T>> {
        let (Some(fields), Some(pttl)) = (self.replies.next(), self.replies.next()) else {
            return Err(RedisError::from((ErrorKind::UnexpectedReturnType, "fewer replies than commands")));
        };
        let pttl = redis::from_redis_value(pttl.clone().extract_error()?)?; // a number, or why the node refused
        let decoded = self.cache.ttls.decode(&key, fields, pttl);
        if matches!(decoded.cached, Cached::Corrupt) {
            let data = match fields {
                Value::Array(fields) => match fields.last() {
                    Some(Value::BulkString(data)) => data.clone(),
                    _ => Vec::new(),
                },
                _ => Vec::new(),
            };
            self.corrupt.push(Corrupt { key, data });
        }
        Ok(decoded)
    }
}
