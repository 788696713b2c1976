//! The Redis side of one queue: its keys and its connections.

use deadpool_redis::Pool;
use redis::aio::ConnectionManager;
use redis::{AsyncCommands as _, FromRedisValue, ScriptInvocation};

use crate::error::QueueError;
use crate::options::QueueOptions;
use crate::replication::wait_for_replicas;

/// Consumer group of the workers.
pub(crate) const GROUP: &str = "workers";

/// The keys, connections and options of one queue. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) keys: Keys,
    /// For scripts and other short commands.
    pub(crate) commands: ConnectionManager,
    /// For blocking reads.
    pub(crate) pool: Pool,
    pub(crate) options: QueueOptions,
}

impl Store {
    /// Calls a script that writes. Returns after as many replicas have the write as the options ask for.
    pub(crate) async fn write<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, QueueError> {
        let replicas = self.options.replicas;
        if replicas == 0 {
            return Ok(call.invoke_async(&mut self.commands.clone()).await?);
        }
        let mut connection = self.pool.get().await?;
        let reply = call.invoke_async(&mut connection).await?;
        match wait_for_replicas(&mut connection, replicas).await? {
            true => Ok(reply),
            false => Err(QueueError::NotReplicated),
        }
    }

    pub(crate) async fn last_request(&self) -> Result<u64, QueueError> {
        let number: Option<u64> = self.commands.clone().get(&self.keys.last_request).await?;
        Ok(number.unwrap_or(0))
    }
}

/// The keys of one queue. All share one hash tag, so a Redis Cluster keeps them in one slot.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// Stream of the tasks that are ready or running. An entry holds the id of its task.
    pub(crate) stream: String,
    /// Sorted set of the tasks that wait for a retry, by the time it is due.
    pub(crate) delayed: String,
    /// Sorted set of the dead tasks, by time of death.
    pub(crate) dead: String,
    /// Counter of requests: the number of the latest one.
    pub(crate) last_request: String,
    /// Hash of the bytes that tasks take: those that wait for their end, and those that are dead.
    pub(crate) bytes: String,
    /// Prefix of the records, which are hashes.
    pub(crate) record_prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str, queue: &str) -> Self {
        let key = |name: &str| format!("{prefix}queue:{{{queue}}}:{name}");
        Self {
            stream: key("stream"),
            delayed: key("delayed"),
            dead: key("dead"),
            last_request: key("last_request"),
            bytes: key("bytes"),
            record_prefix: key("task:"),
        }
    }

    pub(crate) fn record(&self, id: &str) -> String {
        format!("{}{id}", self.record_prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_queue_share_one_hash_tag() {
        let keys = Keys::new("pricing:", "recalculate");
        let record = keys.record("01J");
        for key in [&keys.stream, &keys.delayed, &keys.dead, &keys.last_request, &keys.bytes, &record] {
            assert!(key.starts_with("pricing:queue:{recalculate}:"), "{key}");
        }
    }
}
