//! Market events: their envelope, and the durable log that keeps each until its task is queued.

mod envelope;
mod reader;

use deadpool_redis::PoolError;
use redis::aio::ConnectionManager;
use redis::{RedisError, Script};

use crate::redis::Redis;

pub use envelope::MarketEvent;
pub use reader::{EventReader, LoggedEvent};

/// The Pub/Sub channel of market events. Any message on it asks for a recalculation.
pub const CHANNEL: &str = "market_events";
/// Capacity of the log, in events. Publishing to a full log fails until a listener has caught up.
pub const LOG_CAPACITY: u64 = 100_000;

/// Errors of the event log.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The log is full: it holds [`LOG_CAPACITY`] events.
    #[error("the event log is full: is a listener running?")]
    LogFull,
    /// Redis is away, slow, full or refused the command.
    #[error("Redis failed")]
    Redis(#[from] RedisError),
    /// The pool gave no connection to Redis.
    #[error("no connection to Redis")]
    Pool(#[from] PoolError),
}

/// The durable log of market events, a Redis stream.
///
/// **An event that was published is not lost**: [`EventLog::publish`] answers after Redis has both
/// appended it and published it on [`CHANNEL`], and the entry stays until a listener has queued its task and
/// acknowledged it. What Redis itself loses when its host dies depends on its `appendfsync`.
#[derive(Clone)]
pub struct EventLog {
    redis: Redis,
    commands: ConnectionManager,
    key: String,
    publish: Script,
    prune_consumers: Script,
}

impl EventLog {
    /// The log of this Redis and prefix.
    pub fn new(redis: &Redis) -> Self {
        Self {
            key: format!("{}events", redis.prefix),
            commands: redis.commands.clone(),
            redis: redis.clone(),
            publish: Script::new(include_str!("publish.lua")),
            prune_consumers: Script::new(include_str!("prune_consumers.lua")),
        }
    }

    /// Appends an event to the log and publishes it on [`CHANNEL`], in one step. Returns the length of the log:
    /// the number of events without a task.
    ///
    /// # Errors
    ///
    /// When the log is full or Redis is away. After a time-out it is unknown whether the event was
    /// published; publishing it again under the same id does no harm.
    pub async fn publish(&self, event: &MarketEvent) -> Result<u64, EventError> {
        let mut call = self.publish.key(&self.key);
        call.arg(CHANNEL).arg(event.encode()).arg(LOG_CAPACITY);
        match call.invoke_async(&mut self.commands.clone()).await? {
            0 => Err(EventError::LogFull),
            backlog => Ok(backlog),
        }
    }

    /// Length of the log: the number of events without a task.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn backlog(&self) -> Result<u64, EventError> {
        Ok(redis::cmd("XLEN").arg(&self.key).query_async(&mut self.commands.clone()).await?)
    }
}
