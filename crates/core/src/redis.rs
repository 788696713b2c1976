//! How the services reach Redis.

use std::path::PathBuf;
use std::time::Duration;

use deadpool_redis::{Manager, Pool, Runtime};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo};

use crate::settings::{SecretError, secret};

/// Longest a cache command may take before the read is served from the database.
const CACHE_TIMEOUT: Duration = Duration::from_millis(200);
/// Longest any other command may take, except a blocking one.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest a blocking read waits for news on the server.
pub const BLOCK: Duration = Duration::from_secs(1);
/// Longest to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest pause between two attempts of a broken connection to come back.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Where Redis is and where our keys are in it.
#[derive(Debug, Clone, clap::Args)]
pub struct RedisSettings {
    /// Address of Redis, `redis://[:password@]host[:port][/db]` [default: redis://127.0.0.1:6379]
    #[arg(long, env, hide_env_values = true)]
    pub redis_url: Option<String>,
    /// File that holds REDIS_URL, in its place
    #[arg(long, env)]
    pub redis_url_file: Option<PathBuf>,
    /// Put before the name of every key
    #[arg(long, env, default_value = "pricing:")]
    pub redis_prefix: String,
}

/// Redis could not be set up. An unreachable server is none of these: connections are made when first
/// used, and made again whenever they break.
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
    /// For cache reads and writes: shared by all requests, gives up after 200 ms.
    pub cache: ConnectionManager,
    /// For every other command: shared, gives up after 2 s.
    pub commands: ConnectionManager,
    /// For whoever holds a connection: blocking reads and the lock.
    pub pool: Pool,
    /// For subscriptions, each of which has a connection of its own.
    pub client: Client,
    /// Put before the name of every key.
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

/// A peer that vanished without a word is found out within twenty seconds, with or without data on its way.
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
