//! Writes of entries: by version in one burst, and the removal of corrupt ones.

use futures_util::future::try_join_all;
use redis::RedisResult;

use super::read::Corrupt;
use super::{Entry, PriceCache, ReadAt};
use crate::clock::millis;

/// Maximum entries in one call of `store.lua`, so that no call blocks Redis for long.
const ENTRIES_PER_SCRIPT: usize = 100;

/// The answer to a write of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// The entries were written, except for those at these positions: the cache holds a newer version.
    Except(Vec<usize>),
    /// They were read from the database too long ago. Some may have been written; read all again.
    Late,
}

impl Stored {
    /// Whether every entry was written.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Except(refused) if refused.is_empty())
    }
}

impl PriceCache {
    /// Writes entries in one burst, each unless a newer version is stored. `read_at` is the time of Redis before the
    /// rows were read from the database.
    ///
    /// # Errors
    ///
    /// When Redis is away or slow; then some may have been written.
    pub async fn store(&self, entries: &[Entry<'_>], read_at: ReadAt) -> RedisResult<Stored> {
        let highest = self.highest_key();
        let writes = entries.chunks(ENTRIES_PER_SCRIPT).map(async |entries| -> RedisResult<_> {
            let mut call = self.store.key(&highest);
            call.arg(read_at.0).arg(millis(self.ttls.max_read_age()));
            entries.iter().for_each(|entry| entry.append_to(&mut call, &self.prefix, &self.ttls));
            let refused: Option<Vec<usize>> = call.invoke_async(&mut self.redis.clone()).await?;
            Ok(refused)
        });
        let stored = try_join_all(writes).await;
        // Also after a failure: it may have been written.
        self.forget(entries);
        let mut refused = Vec::new();
        for (chunk, positions) in stored?.into_iter().enumerate() {
            let Some(positions) = positions else { return Ok(Stored::Late) };
            refused.extend(positions.into_iter().map(|position| chunk * ENTRIES_PER_SCRIPT + position - 1));
        }
        Ok(Stored::Except(refused))
    }

    /// Drops entries from the near-cache without waiting for Redis to say so.
    fn forget(&self, entries: &[Entry<'_>]) {
        let Some(near) = &self.near else { return };
        for entry in entries {
            match entry {
                Entry::Product(id, _) | Entry::NegativeProduct(id) | Entry::DeletedProduct(id, _) => {
                    near.forget_product(id);
                }
                Entry::Market(location, _)
                | Entry::NegativeMarket(location)
                | Entry::DeletedMarket(location, _) => near.forget_market(location),
            }
        }
    }

    /// Removes corrupt entries, so that the fills after these misses replace them whatever version they claim. An
    /// entry that cannot be removed now is found corrupt again.
    pub(super) async fn discard(&self, corrupt: Vec<Corrupt<'_>>) {
        let discards = corrupt.into_iter().map(async |Corrupt { key, text }| -> RedisResult<u64> {
            self.discard.key(key).arg(text).invoke_async(&mut self.redis.clone()).await
        });
        if let Err(error) = try_join_all(discards).await {
            tracing::warn!(%error, "cannot remove corrupt cache entries");
        }
    }
}
