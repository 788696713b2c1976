//! The connections to Redis.
//!
//! [`acl`] is what each service may do there. `address` reads the address and the certificates. All connections are
//! made of what it returns: what one of them verifies, all verify.

pub mod acl;
mod address;

use std::time::Duration;

use deadpool_redis::{Hook, HookError, Manager, Pool, Runtime};
use redis::aio::{
    AsyncPushSender, ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection,
};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, ProtocolVersion, RedisError, RedisResult};

use crate::plaintext::Plaintext;

pub use address::{AddressError, RedisSettings};

/// Time limit of a cache command. After it, the read is served from the database.
const CACHE_TIMEOUT: Duration = Duration::from_millis(200);
/// Time limit of any other command but a blocking one.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// Time that a blocking read waits on the server.
pub const BLOCK: Duration = Duration::from_secs(1);
/// Time limit of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest pause between two attempts to reconnect.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// Period at which a connection is asked whether it leads to the primary.
pub const PRIMARY_PERIOD: Duration = Duration::from_millis(500);

/// Redis could not be set up. An unreachable server is no such error: connections are made on first use, and
/// again after they break.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A setting is wrong.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The client refused the address.
    #[error("REDIS_URL: connections cannot be prepared")]
    Client(#[source] RedisError),
    /// The connection pool refused its configuration.
    #[error("cannot build the Redis connection pool")]
    Pool(#[from] deadpool_redis::BuildError),
}

/// The connections of one process, and the prefix of its keys.
///
/// **No connection stays with a node that was demoted**, also one that only reads: it connects again, to the node that
/// the address leads to by then. The shared connections do so while [`Redis::follow_primary`] runs, those of the pool
/// when they are taken from it, and subscriptions when [`PrimaryProbe::check`] fails.
#[derive(Clone)]
pub struct Redis {
    /// Shared connection for cache reads and writes. Its time limit is 200 ms.
    pub cache: ConnectionManager,
    /// Shared connection for all other commands. Its time limit is 2 s.
    pub commands: ConnectionManager,
    /// Exclusive connections: for blocking reads and the lock.
    pub pool: Pool,
    /// Asks a connection whether it leads to the primary.
    pub primary: PrimaryProbe,
    /// Prefix of every key.
    pub prefix: String,
    /// For subscriptions and invalidations, which need a connection each.
    subscriber: Client,
    /// Where connections lead to, if they are not encrypted.
    plaintext: Option<Plaintext>,
}

impl Redis {
    /// Prepares the connections without making one yet.
    ///
    /// # Errors
    ///
    /// When `REDIS_URL` or a certificate cannot be used.
    pub fn new(settings: &RedisSettings) -> Result<Self, ConnectError> {
        let info = address::read(settings)?.set_tcp_settings(tcp_settings());
        // Redis 7.0 knows no CLIENT SETINFO, so no ACL could allow it there.
        let quiet = info.redis_settings().clone().set_skip_set_lib_name();
        let info = info.set_redis_settings(quiet);
        let client = Client::open(info.clone()).map_err(ConnectError::Client)?;
        let resp3 = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let subscriber =
            Client::open(info.clone().set_redis_settings(resp3)).map_err(ConnectError::Client)?;
        let manager = |timeout| {
            let config = ConnectionManagerConfig::new()
                .set_response_timeout(Some(timeout))
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_max_delay(RECONNECT_PAUSE);
            ConnectionManager::new_lazy_with_config(client.clone(), config)
        };
        let primary = PrimaryProbe { key: format!("{}primary", settings.redis_prefix) };
        Ok(Self {
            cache: manager(CACHE_TIMEOUT).map_err(ConnectError::Client)?,
            commands: manager(COMMAND_TIMEOUT).map_err(ConnectError::Client)?,
            pool: pool(info, primary.clone())?,
            primary,
            prefix: settings.redis_prefix.clone(),
            subscriber,
            plaintext: address::plaintext(client.get_connection_info()),
        })
    }

    /// The connection to warn of, if it is not encrypted.
    pub fn plaintext(&self) -> Option<Plaintext> {
        self.plaintext.clone()
    }

    /// Subscribes to a channel on a connection of its own, which speaks RESP3, so that it takes other commands too.
    /// The connection calls `on_push` for each message and for its own end.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn subscribe(
        &self,
        channel: &str,
        on_push: impl AsyncPushSender,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT))
            .set_push_sender(on_push);
        let mut connection = self.subscriber.get_multiplexed_async_connection_with_config(&config).await?;
        connection.subscribe(channel).await?;
        Ok(connection)
    }

    /// Has Redis invalidate keys that begin with one of `prefixes`, on a connection of its own, which speaks RESP3, so that
    /// it takes reads too. The connection calls `on_push` for each invalidation and for its own end. Its time limit is that
    /// of cache commands.
    ///
    /// # Errors
    ///
    /// When Redis is away, or refuses.
    pub(crate) async fn track(
        &self,
        prefixes: &[String],
        on_push: impl AsyncPushSender,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CACHE_TIMEOUT))
            .set_push_sender(on_push);
        let mut connection = self.subscriber.get_multiplexed_async_connection_with_config(&config).await?;
        let mut tracking = redis::cmd("CLIENT");
        tracking.arg("TRACKING").arg("ON").arg("BCAST");
        for prefix in prefixes {
            tracking.arg("PREFIX").arg(prefix);
        }
        tracking.exec_async(&mut connection).await?;
        Ok(connection)
    }

    /// Has the shared connections leave a node that is not the primary, within [`PRIMARY_PERIOD`], and connect again
    /// as often until they have found the primary. Never returns.
    pub async fn follow_primary(self) {
        tokio::join!(self.keep_on_primary(self.cache.clone()), self.keep_on_primary(self.commands.clone()));
    }

    async fn keep_on_primary(&self, mut connection: ConnectionManager) {
        let mut is_primary = true;
        loop {
            tokio::time::sleep(PRIMARY_PERIOD).await;
            let error = self.primary.check(&mut connection).await.err().filter(is_not_primary);
            let was_primary = std::mem::replace(&mut is_primary, error.is_none());
            let Some(error) = error else { continue };
            if was_primary {
                tracing::warn!(%error, "connected to a Redis that is not the primary: connecting again");
            }
            // QUIT closes the connection. That PING gets no answer tells the manager to make another one.
            let _ = redis::pipe().cmd("QUIT").cmd("PING").exec_async(&mut connection).await;
        }
    }
}

/// Asks a connection whether it leads to the primary of our keys.
///
/// Connections that were open during a failover stay with the demoted node. It answers reads and keeps subscriptions,
/// so only writes fail. The probe is a write that changes nothing, `PERSIST` of a key that does not exist: the node
/// answers it as it would any other write.
#[derive(Debug, Clone)]
pub struct PrimaryProbe {
    key: String,
}

impl PrimaryProbe {
    /// Succeeds if the connection leads to a node that takes writes.
    ///
    /// # Errors
    ///
    /// When the node is not the primary, or does not answer.
    pub async fn check(&self, connection: &mut impl ConnectionLike) -> RedisResult<()> {
        redis::cmd("PERSIST").arg(&self.key).exec_async(connection).await
    }
}

/// A text as a pattern of Redis that matches it alone.
pub(crate) fn escaped(text: &str) -> String {
    let special = |character| matches!(character, '*' | '?' | '[' | ']' | '\\');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// Whether a node refused a write because it is not, or not yet, the primary of the key.
fn is_not_primary(error: &RedisError) -> bool {
    matches!(error.code(), Some("READONLY" | "MOVED" | "LOADING" | "MASTERDOWN"))
}

/// Settings that detect a vanished peer within twenty seconds, with or without data under way.
fn tcp_settings() -> TcpSettings {
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(3));
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(probes.with_retries(3));
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(20));
    settings
}

/// A pool whose connections can sit out a blocking read of [`BLOCK`]. A connection that does not lead to the primary is
/// closed instead of being used again.
fn pool(info: ConnectionInfo, primary: PrimaryProbe) -> Result<Pool, ConnectError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(BLOCK + COMMAND_TIMEOUT));
    let manager = Manager::new_with_config(info, config).map_err(ConnectError::Client)?;
    let still_primary = Hook::async_fn(move |connection, _| {
        let primary = primary.clone();
        Box::pin(async move { primary.check(connection).await.map_err(HookError::Backend) })
    });
    Ok(Pool::builder(manager)
        .pre_recycle(still_primary)
        .max_size(16)
        .wait_timeout(Some(COMMAND_TIMEOUT))
        .create_timeout(Some(COMMAND_TIMEOUT))
        .recycle_timeout(Some(COMMAND_TIMEOUT))
        .runtime(Runtime::Tokio1)
        .build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_left_if_another_one_may_take_the_write_and_not_for_any_other_refusal() {
        let refusal = |reply: &str| {
            let reply = redis::parse_redis_value(format!("-{reply} why\r\n").as_bytes()).unwrap();
            reply.extract_error().unwrap_err()
        };
        for code in ["READONLY", "MOVED", "LOADING", "MASTERDOWN"] {
            assert!(is_not_primary(&refusal(code)), "{code}");
        }
        for code in ["OOM", "NOPERM", "NOAUTH", "MISCONF", "BUSY", "NOREPLICAS", "ERR"] {
            assert!(!is_not_primary(&refusal(code)), "{code}");
        }
        assert!(!is_not_primary(&RedisError::from(std::io::Error::other("gone"))));
    }
}
