//! Market events: their envelope, and the durable log that keeps each until its task is queued.

mod envelope;

use std::time::Duration;

use deadpool_redis::{Connection, PoolError};
use pricing_queue::{SourceEntry, wait_for_replicas};
use redis::aio::ConnectionManager;
use redis::streams::{
    StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamReadOptions, StreamReadReply,
};
use redis::{AsyncCommands as _, RedisError, Script};

use crate::clock::millis;
use crate::redis::{BLOCK, Redis};

pub use envelope::MarketEvent;

/// Longest name of a channel.
const MAX_CHANNEL: usize = 128;
/// Capacity of the log, in events. Publishing to a full log fails until a listener has caught up.
pub const LOG_CAPACITY: u64 = 100_000;
/// Capacity of the log, in bytes of memory of Redis.
pub const LOG_CAPACITY_BYTES: u64 = 64 * 1_024 * 1_024;
const GROUP: &str = "listener";
/// Most entries of one read.
const BATCH: usize = 100;
/// After this time without acknowledgement an entry is claimed: its listener has died.
const ABANDONED: Duration = Duration::from_secs(10);
/// After this time of silence a listener without entries is removed from the group.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// Which Pub/Sub channel carries market events. The api and the listener must be given the same one.
#[derive(Debug, Clone, clap::Args)]
pub struct EventSettings {
    /// Pub/Sub channel of market events: at most 128 letters, digits and `._:-`
    #[arg(long, env, default_value = "market_events", value_parser = parse_channel)]
    pub events_channel: String,
}

/// Any message on the channel asks for a recalculation, and every deployment on one Redis hears it. A name has no
/// character that means something in a pattern, so that access can be granted by name.
fn parse_channel(name: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if name.is_empty() || name.len() > MAX_CHANNEL || !name.bytes().all(is_allowed) {
        return Err(format!("a channel has 1 to {MAX_CHANNEL} letters, digits and `._:-`"));
    }
    Ok(name.to_owned())
}

/// Errors of the event log.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The log is full: it holds [`LOG_CAPACITY`] events, or takes [`LOG_CAPACITY_BYTES`].
    #[error("the event log is full: is a listener running?")]
    LogFull,
    /// Too few replicas had the event in time, so a failover may lose it. It may have been published.
    #[error("too few replicas have the event")]
    NotReplicated,
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
/// appended it and published it on the channel, and the entry stays until the step that queues its task deletes
/// it ([`EventLog::source`]). What Redis itself loses when its host dies depends on its `appendfsync`.
#[derive(Clone)]
pub struct EventLog {
    redis: Redis,
    commands: ConnectionManager,
    key: String,
    channel: String,
    replicas: u32,
    publish: Script,
    prune_consumers: Script,
}

impl EventLog {
    /// The log of this Redis and prefix, with its channel.
    pub fn new(redis: &Redis, settings: &EventSettings) -> Self {
        Self {
            key: format!("{}events", redis.prefix),
            channel: settings.events_channel.clone(),
            replicas: 0,
            commands: redis.commands.clone(),
            redis: redis.clone(),
            publish: Script::new(include_str!("publish.lua")),
            prune_consumers: Script::new(include_str!("prune_consumers.lua")),
        }
    }

    /// The same log, whose [`EventLog::publish`] answers after so many replicas have the event.
    #[must_use]
    pub fn replicated(self, replicas: u32) -> Self {
        Self { replicas, ..self }
    }

    /// The Pub/Sub channel of market events.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Appends an event to the log and publishes it on the channel, in one step. Returns the length of the log:
    /// the number of events without a task.
    ///
    /// # Errors
    ///
    /// When the log is full, Redis is away, or too few replicas have the event. After a time-out it is unknown whether
    /// the event was published; publishing it again under the same id does no harm.
    pub async fn publish(&self, event: &MarketEvent) -> Result<u64, EventError> {
        let mut call = self.publish.key(&self.key);
        call.arg(&self.channel).arg(event.encode()).arg(LOG_CAPACITY).arg(LOG_CAPACITY_BYTES);
        let backlog = match self.replicas {
            0 => call.invoke_async(&mut self.commands.clone()).await?,
            replicas => {
                let mut connection = self.redis.pool.get().await?;
                let backlog: u64 = call.invoke_async(&mut connection).await?;
                if backlog > 0 && !wait_for_replicas(&mut connection, replicas).await? {
                    return Err(EventError::NotReplicated);
                }
                backlog
            }
        };
        if backlog == 0 { Err(EventError::LogFull) } else { Ok(backlog) }
    }

    /// The entry of the log that the task of an event takes the place of.
    pub fn source<'a>(&'a self, event: &'a LoggedEvent) -> SourceEntry<'a> {
        SourceEntry { stream: &self.key, group: GROUP, entry: &event.entry }
    }

    /// Length of the log: the number of events without a task.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn backlog(&self) -> Result<u64, EventError> {
        Ok(redis::cmd("XLEN").arg(&self.key).query_async(&mut self.commands.clone()).await?)
    }

    /// Starts reading as `consumer`, a name that no other listener uses.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn reader(&self, consumer: &str) -> Result<EventReader, EventError> {
        let mut connection = self.redis.pool.get().await?;
        // The group starts at the beginning of the log, so nothing published before the first listener is missed.
        let created: Result<(), RedisError> = connection.xgroup_create_mkstream(&self.key, GROUP, "0").await;
        match created {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error.into()),
            _ => {
                let mut reader = EventReader { log: self.clone(), consumer: consumer.to_owned(), connection };
                reader.prune_consumers("").await?;
                Ok(reader)
            }
        }
    }
}

/// An entry of the log.
#[derive(Debug)]
pub struct LoggedEvent {
    entry: String,
    /// The event.
    pub event: MarketEvent,
}

/// A listener's position in the log.
pub struct EventReader {
    log: EventLog,
    consumer: String,
    connection: Connection,
}

impl EventReader {
    /// Entries that this listener read before its connection broke and that have no task yet.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn unfinished(&mut self) -> Result<Vec<LoggedEvent>, EventError> {
        let options = StreamReadOptions::default().group(GROUP, &self.consumer).count(BATCH);
        self.read("0", options).await
    }

    /// Waits for new entries, for at most [`BLOCK`].
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn next_batch(&mut self) -> Result<Vec<LoggedEvent>, EventError> {
        let block = usize::try_from(millis(BLOCK)).expect("invariant: a second fits");
        let options = StreamReadOptions::default().group(GROUP, &self.consumer).count(BATCH).block(block);
        self.read(">", options).await
    }

    async fn read(&mut self, from: &str, options: StreamReadOptions) -> Result<Vec<LoggedEvent>, EventError> {
        let reply: Option<StreamReadReply> =
            self.connection.xread_options(&[&self.log.key], &[from], &options).await?;
        let entries = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
        Ok(entries.map(logged).collect())
    }

    /// Claims entries that another listener did not acknowledge for ten seconds.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn abandoned(&mut self) -> Result<Vec<LoggedEvent>, EventError> {
        let options = StreamAutoClaimOptions::default().count(BATCH);
        let reply: StreamAutoClaimReply = self
            .connection
            .xautoclaim_options(&self.log.key, GROUP, &self.consumer, millis(ABANDONED), "0-0", options)
            .await?;
        Ok(reply.claimed.into_iter().map(logged).collect())
    }

    /// Leaves the group. Unacknowledged entries stay for the other listeners, under this reader's name.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn leave(mut self) -> Result<(), EventError> {
        let consumer = std::mem::take(&mut self.consumer);
        self.prune_consumers(&consumer).await
    }

    /// Removes listeners without entries from the group: the one of this name, and those that are long silent.
    async fn prune_consumers(&mut self, consumer: &str) -> Result<(), EventError> {
        let mut call = self.log.prune_consumers.key(&self.log.key);
        call.arg(GROUP).arg(consumer).arg(millis(FORGOTTEN_AFTER));
        Ok(call.invoke_async(&mut self.connection).await?)
    }
}

fn logged(entry: StreamId) -> LoggedEvent {
    let text: Option<Vec<u8>> = entry.get("event");
    if text.is_none() {
        tracing::error!(entry = entry.id, "log entry without an event: all prices are recalculated");
    }
    LoggedEvent { entry: entry.id, event: MarketEvent::decode(&text.unwrap_or_default()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_a_name_that_is_no_pattern() {
        for good in ["market_events", "shop-2:prices.v1", &"x".repeat(MAX_CHANNEL)] {
            assert_eq!(parse_channel(good).as_deref(), Ok(good));
        }
        for bad in
            ["", "market events", "market*", "m[ab]", "m?", "m\\n", "märkte", &"x".repeat(MAX_CHANNEL + 1)]
        {
            assert!(parse_channel(bad).is_err(), "{bad:?}");
        }
    }
}
