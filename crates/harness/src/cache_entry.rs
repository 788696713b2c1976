//! Entries of the price cache as they lie in Redis, for tests that look behind the cache.

use std::fmt;
use std::str::FromStr;

use anyhow::Context as _;
use redis::AsyncCommands as _;

use crate::redis_server::RedisServer;

/// An entry: a text of three parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// The version of its product or market.
    pub version: String,
    /// The end of its life in milliseconds since 1970.
    pub expires_at_ms: i64,
    /// A JSON array, or `null`.
    pub data: String,
}

impl FromStr for CacheEntry {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (version, rest) = text.split_once(' ').context("it has no end of life")?;
        let (expires_at_ms, data) = rest.split_once(' ').context("it has no data")?;
        Ok(Self { version: version.into(), expires_at_ms: expires_at_ms.parse()?, data: data.into() })
    }
}

impl fmt::Display for CacheEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.version, self.expires_at_ms, self.data)
    }
}

impl RedisServer {
    /// The entry under `name`, such as `product:4:P-100`.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn cache_entry(&self, name: &str) -> CacheEntry {
        let text: String = self.connection().await.get(self.key(name)).await.expect("there is an entry");
        text.parse().expect("it is an entry")
    }

    /// Replaces the entry under `name`. It ends when it says so, though Redis does not remove it.
    ///
    /// # Panics
    ///
    /// When Redis does not take it.
    pub async fn put_cache_entry(&self, name: &str, entry: &CacheEntry) {
        let (key, text) = (self.key(name), entry.to_string());
        self.connection().await.set(key, text).await.expect("Redis takes the entry")
    }
}
