//! The connections to Redis.

use std::path::PathBuf;
use std::time::Duration;

use deadpool_redis::{Manager, Pool, Runtime};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo};

use crate::settings::{SecretError, secret};

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

/// Address of Redis and prefix of our keys.
#[derive(Debug, Clone, clap::Args)]
pub struct RedisSettings {
    /// Address of Redis, `redis://[:password@]host[:port][/db]` [default: redis://127.0.0.1:6379]
    #[arg(long, env, hide_env_values = true)]
    pub redis_url: Option<String>,
    /// File that holds REDIS_URL, in its place
    #[arg(long, env)]
    pub redis_url_file: Option<PathBuf>,
    /// Prefix of every key
    #[arg(long, env, default_value = "pricing:")]
    pub redis_prefix: String,
}

/// Redis could not be set up. An unreachable server is no such error: connections are made on first use, and
/// again after they break.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The address is not one of a Redis server.
    #[error("REDIS_URL is not a Redis address")]
    Address(#[source] redis::RedisError),
    /// The connection pool refused its configuration.
    #[error("cannot build the Redis connection pool")]
    Pool(#[from] deadpool_redis::BuildError),
}

/// The connections of one process, and the prefix of its keys.
#[derive(Clone)]
pub struct Redis {
    /// Shared connection for cache reads and writes. Its time limit is 200 ms.
    pub cache: ConnectionManager,
    /// Shared connection for all other commands. Its time limit is 2 s.
    pub commands: ConnectionManager,
    /// Exclusive connections: for blocking reads and the lock.
    pub pool: Pool,
    /// Client for subscriptions, which need a connection each.
    pub client: Client,
    /// Prefix of every key.
    pub prefix: String,
}

impl Redis {
    /// Prepares the connections without making one yet.
    ///
    /// # Errors
    ///
    /// When `REDIS_URL` cannot be read or is not an address.
    pub fn new(settings: &RedisSettings) -> Result<Self, ConnectError> {
        let url = settings.redis_url.as_deref();
        let file = settings.redis_url_file.as_deref();
        let url = secret("REDIS_URL", url, file, "redis://127.0.0.1:6379")?;
        let info = url.into_connection_info().map_err(ConnectError::Address)?;
        let info = info.set_tcp_settings(tcp_settings());
        let client = Client::open(info.clone()).map_err(ConnectError::Address)?;
        let manager = |timeout| {
            let config = ConnectionManagerConfig::new()
                .set_response_timeout(Some(timeout))
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_max_delay(RECONNECT_PAUSE);
            ConnectionManager::new_lazy_with_config(client.clone(), config)
        };
        Ok(Self {
            cache: manager(CACHE_TIMEOUT).map_err(ConnectError::Address)?,
            commands: manager(COMMAND_TIMEOUT).map_err(ConnectError::Address)?,
            pool: pool(info)?,
            client,
            prefix: settings.redis_prefix.clone(),
        })
    }
}

/// Settings that detect a vanished peer within twenty seconds, with or without data under way.
fn tcp_settings() -> TcpSettings {
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(3));
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(probes.with_retries(3));
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(20));
    settings
}

/// A pool whose connections can sit out a blocking read of [`BLOCK`].
fn pool(info: ConnectionInfo) -> Result<Pool, ConnectError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(BLOCK + COMMAND_TIMEOUT));
    let manager = Manager::new_with_config(info, config).map_err(ConnectError::Address)?;
    Ok(Pool::builder(manager)
        .max_size(16)
        .wait_timeout(Some(COMMAND_TIMEOUT))
        .create_timeout(Some(COMMAND_TIMEOUT))
        .recycle_timeout(Some(COMMAND_TIMEOUT))
        .runtime(Runtime::Tokio1)
        .build()?)
}
