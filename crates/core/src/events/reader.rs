//! The reader of the log. Several listeners share it through a consumer group.

use std::time::Duration;

use deadpool_redis::Connection;
use redis::streams::{
    StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamReadOptions, StreamReadReply,
};
use redis::{AsyncCommands as _, RedisError};

use super::{EventError, EventLog, MarketEvent};
use crate::clock::millis;
use crate::redis::BLOCK;

const GROUP: &str = "listener";
/// Most entries of one read.
const BATCH: usize = 100;
/// After this time without acknowledgement an entry is claimed: its listener has died.
const ABANDONED: Duration = Duration::from_secs(10);

/// After this time of silence a listener without entries is removed from the group.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

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

impl EventLog {
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

impl EventReader {
    /// Entries that this listener read before its connection broke and has not acknowledged.
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

    /// Acknowledges and removes an entry whose task is queued.
    ///
    /// # Errors
    ///
    /// When Redis is away; then the entry is read again, by this listener or another.
    pub async fn acknowledge(&mut self, event: &LoggedEvent) -> Result<(), EventError> {
        let mut pipe = redis::pipe();
        pipe.atomic().xack(&self.log.key, GROUP, &[&event.entry]).ignore();
        pipe.xdel(&self.log.key, &[&event.entry]).ignore();
        Ok(pipe.query_async(&mut self.connection).await?)
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
