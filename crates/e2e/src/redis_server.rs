//! A Redis of one's own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pricing_core::redis::{Redis, RedisSettings};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, AsyncConnectionConfig, Client};
use tempfile::TempDir;

use crate::ports::Port;
use crate::process::Environment;
use crate::waiting::eventually;

/// Prefix of all keys: not the default one, so that a key without it shows.
const PREFIX: &str = "e2e:";
/// Longest the server may take to answer its first command.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// Longest a command of the test itself may take.
const TEST_COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A real redis-server with an empty database on a port of its own. Dropping it kills it.
#[derive(Debug)]
pub struct RedisServer {
    process: Child,
    port: Port,
    directory: TempDir,
    options: Vec<String>,
    environment: Environment,
}

impl RedisServer {
    /// Starts a server that keeps nothing on disk; it answers commands when this returns.
    ///
    /// # Panics
    ///
    /// When `redis-server` is not in `PATH` or does not start.
    pub async fn start() -> Self {
        Self::start_with(&["--save", ""], Environment::new()).await
    }

    /// Starts a server that has every write on disk before it answers (`appendfsync always`).
    ///
    /// # Panics
    ///
    /// When `redis-server` is not in `PATH` or does not start.
    pub async fn start_durable() -> Self {
        Self::start_durable_in(Environment::new()).await
    }

    /// Like [`RedisServer::start_durable`], with more in its environment.
    ///
    /// # Panics
    ///
    /// When `redis-server` is not in `PATH` or does not start.
    pub async fn start_durable_in(environment: Environment) -> Self {
        Self::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"], environment).await
    }

    async fn start_with(options: &[&str], environment: Environment) -> Self {
        let (port, directory) = (Port::reserve(), tempfile::tempdir().expect("a temporary directory"));
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = spawn(&port, &directory, &options, &environment);
        let server = Self { process, port, directory, options, environment };
        server.wait_until_ready().await;
        server
    }

    /// Kills it (SIGKILL).
    pub fn stop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Makes it hang (SIGSTOP): it accepts connections and never answers.
    pub fn pause(&self) {
        let id = i32::try_from(self.process.id()).expect("process ids fit");
        kill(Pid::from_raw(id), Signal::SIGSTOP).expect("a child can be signalled");
    }

    /// Starts it again after [`RedisServer::stop`], on the same port and with what it kept on disk.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.process = spawn(&self.port, &self.directory, &self.options, &self.environment);
        self.wait_until_ready().await;
    }

    async fn wait_until_ready(&self) {
        eventually(START_DEADLINE, "redis-server to answer PING", async || {
            let mut connection = self.client().get_multiplexed_async_connection().await.ok()?;
            redis::cmd("PING").query_async::<String>(&mut connection).await.ok()
        })
        .await;
    }

    /// `REDIS_URL` of this server.
    pub fn url(&self) -> String {
        format!("redis://{}", self.port.address())
    }

    /// `REDIS_PREFIX` that the services are to use.
    pub fn prefix(&self) -> &'static str {
        PREFIX
    }

    /// A name below the prefix, as Redis knows it.
    pub fn key(&self, name: &str) -> String {
        format!("{PREFIX}{name}")
    }

    /// Settings that lead here.
    pub fn settings(&self) -> RedisSettings {
        RedisSettings { redis_url: Some(self.url()), redis_url_file: None, redis_prefix: PREFIX.to_owned() }
    }

    /// The connections of a process that uses this server. They are made when first used.
    pub fn connect(&self) -> Redis {
        Redis::new(&self.settings()).expect("the settings are good")
    }

    /// The time by its clock, in ms since 1970: the only one that decides anything.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub async fn now_ms(&self) -> u64 {
        let (seconds, micros): (u64, u64) =
            redis::cmd("TIME").query_async(&mut self.connection().await).await.expect("redis-server answers");
        seconds * 1_000 + micros / 1_000
    }

    /// Memory that its data takes, in bytes.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub async fn used_memory(&self) -> i64 {
        let info: redis::InfoDict = redis::cmd("INFO")
            .arg("memory")
            .query_async(&mut self.connection().await)
            .await
            .expect("it answers");
        info.get("used_memory").expect("it knows")
    }

    /// Lets all keys of a pattern below the prefix expire at once, as if their time had come.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub async fn expire_all(&self, pattern: &str) {
        let mut redis = self.connection().await;
        let keys: Vec<String> = redis.keys(self.key(pattern)).await.expect("redis-server answers");
        for keys in keys.chunks(1_000) {
            let mut pipe = redis::pipe();
            for key in keys {
                pipe.pexpire(key, 0).ignore();
            }
            let () = pipe.query_async(&mut redis).await.expect("redis-server answers");
        }
    }

    /// A client for what no service does, such as subscribing from outside.
    pub fn client(&self) -> Client {
        Client::open(self.url()).expect("the address is good")
    }

    /// A connection for the test's own commands, to look behind the scenes or to do damage.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub async fn connection(&self) -> MultiplexedConnection {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(TEST_COMMAND_TIMEOUT));
        let connection = self.client().get_multiplexed_async_connection_with_config(&config).await;
        connection.expect("redis-server accepts connections")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(port: &Port, directory: &TempDir, options: &[String], environment: &Environment) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.number().to_string()])
        .args(["--logfile", "log"])
        .args(options)
        .envs(environment)
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server can be started: run the tests with `cargo xtask test`, which installs it")
}
