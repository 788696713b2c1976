//! A Redis of one's own.

#[cfg(feature = "engine")]
mod engine;
mod users;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::certificates::ServerTls;
use crate::ports::Port;
use crate::process::{Process, end_of_log, log_to};
use crate::service::{Binary, Environment};
use crate::waiting::poll;

/// Prefix of all keys: not the default one, so that a key without it shows.
const PREFIX: &str = "e2e:";
/// Longest the server may take to load its data and answer.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// A real redis-server on its own port. Dropping it ends it.
///
/// With the feature `engine` it has the users of production, see `users`. A command that Redis refused to one of
/// them fails the test when the server is dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    port: Port,
    directory: PathBuf,
    options: Vec<String>,
    environment: Environment,
    /// The port for TLS, beside the other one.
    tls: Option<Port>,
    /// Whether clients log in as one of [`users`].
    has_users: bool,
    /// Removed with the server, unless the data is to be kept.
    _temporary: Option<TempDir>,
}

impl RedisServer {
    /// Starts a server that keeps nothing on disk; it answers commands when this returns.
    pub async fn start() -> Self {
        Self::start_with(&["--save", ""], None, Environment::new()).await
    }

    /// Starts a server that has every write on disk before it answers (`appendfsync always`).
    pub async fn start_durable() -> Self {
        Self::start_durable_in(Environment::new()).await
    }

    /// Starts a server that writes to disk once a second (`appendfsync everysec`), as Redis does by default with an
    /// append-only file.
    pub async fn start_everysec() -> Self {
        let options = ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"];
        Self::start_with(&options, None, Environment::new()).await
    }

    /// Like [`RedisServer::start_durable`], with more in its environment.
    pub async fn start_durable_in(environment: Environment) -> Self {
        let options = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"];
        Self::start_with(&options, None, environment).await
    }

    /// Like [`RedisServer::start`], with one more port that speaks TLS only.
    pub async fn start_with_tls(tls: &ServerTls) -> Self {
        Self::start_with(&["--save", ""], Some(tls), Environment::new()).await
    }

    async fn start_with(options: &[&str], tls: Option<&ServerTls>, environment: Environment) -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let (port, directory) = (Port::reserve(), temporary.path().to_owned());
        let mut options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let tls = tls.map(|tls| {
            let port = Port::reserve();
            options.extend(tls_options(tls, &port));
            port
        });
        options.extend(users::options(&directory));
        let process = spawn(&port, &directory, &options, &environment, false);
        let process = process.expect("run the tests with `cargo xtask test`, which installs redis-server");
        let mut server = Self {
            process,
            port,
            directory,
            options,
            environment,
            tls,
            has_users: users::EXIST,
            _temporary: Some(temporary),
        };
        server.wait_until_ready().await.expect("redis-server starts");
        server
    }

    /// Starts a server that keeps its data in `directory`, and is asked to end instead of killed.
    pub async fn start_in(directory: PathBuf) -> Result<Self> {
        let port = Port::reserve();
        let options = ["--save", "", "--appendonly", "yes"].map(str::to_owned).to_vec();
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let environment = Environment::new();
        let process = spawn(&port, &directory, &options, &environment, true)?;
        let mut server = Self {
            process,
            port,
            directory,
            options,
            environment,
            tls: None,
            has_users: false,
            _temporary: None,
        };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// Kills it (SIGKILL).
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Makes it hang (SIGSTOP): it accepts connections and never answers.
    pub fn pause(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Starts it again after [`RedisServer::stop`], on the same port and with what it kept on disk.
    pub async fn restart(&mut self) {
        let process = spawn(&self.port, &self.directory, &self.options, &self.environment, false);
        self.process = process.expect("redis-server starts again");
        self.wait_until_ready().await.expect("redis-server starts again");
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let ready =
            poll(START_DEADLINE, async || (self.answers() || self.exit_status().is_some()).then_some(()));
        let ready = ready.await.is_some() && self.exit_status().is_none();
        ready
            .then_some(())
            .with_context(|| format!("redis-server did not start: {}", end_of_log(&self.log(), 20)))
    }

    /// Whether it answers PING; while it loads its data it answers with an error instead.
    fn answers(&self) -> bool {
        self.ask("PING").is_ok_and(|answer| answer == "+PONG")
    }

    /// The first line of its answer to a command, as its administrator gets it. Blocks for a second at most.
    fn ask(&self, command: &str) -> std::io::Result<String> {
        let mut connection = TcpStream::connect(self.port.address())?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        let login = if self.has_users {
            format!("AUTH {} {}", users::ADMIN, users::password(users::ADMIN))
        } else {
            "PING".to_owned()
        };
        write!(connection, "{login}\r\n{command}\r\n")?;
        let mut lines = BufReader::new(connection).lines();
        let end = || std::io::ErrorKind::UnexpectedEof;
        lines.next().ok_or_else(end)??;
        lines.next().ok_or_else(end)?
    }

    /// All lines of its answer to a command, as far as they come at once.
    fn ask_all(&self, command: &str) -> String {
        let answer = || {
            let mut connection = TcpStream::connect(self.port.address())?;
            connection.set_read_timeout(Some(Duration::from_millis(200)))?;
            write!(connection, "AUTH {} {}\r\n{command}\r\n", users::ADMIN, users::password(users::ADMIN))?;
            let lines = BufReader::new(connection).lines();
            std::io::Result::Ok(lines.map_while(Result::ok).collect::<Vec<_>>().join(" "))
        };
        answer().unwrap_or_default()
    }

    /// The address with a login, if it has users.
    fn url_as(&self, scheme: &str, user: &str, port: &Port) -> String {
        if self.has_users {
            format!("{scheme}://{user}:{}@{}", users::password(user), port.address())
        } else {
            format!("{scheme}://{}", port.address())
        }
    }

    /// Removes all keys.
    ///
    /// # Errors
    ///
    /// When it does not say that it has.
    pub fn flush(&self) -> Result<()> {
        let answer = self.ask("FLUSHALL").context("redis-server does not answer")?;
        anyhow::ensure!(answer == "+OK", "FLUSHALL: {answer}");
        Ok(())
    }

    /// How it ended, `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// The file that it logs to.
    pub fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `REDIS_URL` of this server, for what runs in the test's process. It may do what any service may.
    pub fn url(&self) -> String {
        self.url_as("redis", users::SERVICES, &self.port)
    }

    /// `REDIS_URL` of this server for a service.
    pub fn url_of(&self, binary: Binary) -> String {
        self.url_as("redis", users::name(binary), &self.port)
    }

    /// `REDIS_URL` of its port for TLS, for a service.
    pub fn tls_url_of(&self, binary: Binary) -> String {
        let port = self.tls.as_ref().expect("it was started by `start_with_tls`");
        self.url_as("rediss", users::name(binary), port)
    }

    /// `REDIS_PREFIX` that the services are to use.
    pub fn prefix(&self) -> &'static str {
        PREFIX
    }

    /// A name below the prefix, as Redis knows it.
    pub fn key(&self, name: &str) -> String {
        format!("{PREFIX}{name}")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // A server that was killed or hangs has nothing to say.
        let denied = if self.has_users { self.ask("ACL LOG").unwrap_or_default() } else { String::new() };
        if !denied.is_empty() && denied != "*0" && !std::thread::panicking() {
            let log = self.ask_all("ACL LOG 3");
            panic!("Redis refused commands to a user, see `core/src/redis/acl.rs`: {log}");
        }
    }
}

fn tls_options(tls: &ServerTls, port: &Port) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    let asks = if tls.client_ca.is_some() { "yes" } else { "no" };
    let mut options: Vec<String> = [
        ("--tls-port", port.number().to_string()),
        ("--tls-cert-file", path(&tls.identity.certificate)),
        ("--tls-key-file", path(&tls.identity.key)),
        ("--tls-auth-clients", asks.to_owned()),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value])
    .collect();
    // Redis wants an authority even if it asks for no certificate.
    let authority = tls.client_ca.as_ref().unwrap_or(&tls.identity.certificate);
    options.extend(["--tls-ca-cert-file".to_owned(), path(authority)]);
    options
}

fn spawn(
    port: &Port,
    directory: &Path,
    options: &[String],
    environment: &Environment,
    leads_group: bool,
) -> Result<Process> {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.number().to_string()]);
    command.args(["--repl-diskless-sync-delay", "0"]); // a replica waits for no other one
    command.args(options).envs(environment).current_dir(directory);
    log_to(&mut command, &directory.join("log"))?;
    if leads_group {
        return Process::spawn_group("redis-server", command, Signal::SIGTERM);
    }
    Process::spawn("redis-server", command)
}
