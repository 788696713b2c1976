//! One process of a service, made of the real binary.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tempfile::{NamedTempFile, TempPath};

use crate::api_key;
use crate::ports::Port;
use crate::process::{Process, end_of_log, log_to, memory};
use crate::waiting::{pause, poll};

/// Longest a service may take to become ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// Longest that a service goes on answering with metrics that it has rendered.
const MAX_METRICS_AGE: Duration = Duration::from_secs(1);
/// Lines of a log that are printed when a test fails.
const LAST_LINES: usize = 200;

/// Environment of a process. It gets nothing else but `PATH` and `HOME`.
pub type Environment = BTreeMap<String, String>;

/// The binaries of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binary {
    /// `pricing-api`.
    Api,
    /// `pricing-listener`.
    Listener,
    /// `pricing-worker`.
    Worker,
}

impl Binary {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "pricing-api",
            Self::Listener => "pricing-listener",
            Self::Worker => "pricing-worker",
        }
    }

    /// The setting that says where it serves its health.
    fn address_setting(self) -> &'static str {
        match self {
            Self::Api => "API_ADDR",
            Self::Listener | Self::Worker => "METRICS_ADDR",
        }
    }

    /// A command that runs it in `environment`, for arguments to be added, such as subcommands.
    pub fn command(self, environment: &Environment) -> Command {
        let path = self.path();
        assert!(path.exists(), "{} is missing: run `cargo xtask test`, which builds it", path.display());
        in_environment(Command::new(path), environment)
    }

    /// The file: tests are in `target/debug/deps`, the binaries of the same build in `target/debug`, as xtask is.
    pub fn path(self) -> PathBuf {
        let program = std::env::current_exe().expect("a program knows its own path");
        let folder = program.parent().expect("a program is in a folder");
        let folder =
            if folder.ends_with("deps") { folder.parent().expect("deps has a parent") } else { folder };
        folder.join(self.name())
    }
}

/// `command` with `environment` and nothing else but `PATH` and `HOME`.
pub fn in_environment(mut command: Command, environment: &Environment) -> Command {
    let inherited = ["PATH", "HOME"].map(|name| std::env::var_os(name).map(|value| (name, value)));
    command.env_clear().envs(inherited.into_iter().flatten()).envs(environment);
    command
}

/// A running service. Dropping it ends it, and prints the end of its log when the test has failed.
#[derive(Debug)]
pub struct Service {
    binary: Binary,
    process: Process,
    port: Port,
    log: PathBuf,
    /// Removed with the service, unless the log is to be kept.
    _temporary: Option<TempPath>,
}

impl Service {
    /// Starts a service on its own port and waits until it is ready.
    pub async fn start(binary: Binary, environment: &Environment) -> Self {
        let mut service = Self::spawn(binary, environment);
        service.wait_until_ready().await;
        service
    }

    /// Starts a service on its own port.
    pub fn spawn(binary: Binary, environment: &Environment) -> Self {
        Self::run(binary, binary.command(environment)).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Starts a service by `command` on its own port.
    pub fn run(binary: Binary, mut command: Command) -> Result<Self> {
        let (port, log) = (Port::reserve(), NamedTempFile::new()?.into_temp_path());
        command.env(binary.address_setting(), port.address().to_string()).stdout(Stdio::null());
        log_to(&mut command, &log)?;
        let process = Process::spawn(binary.name(), command)?;
        Ok(Self { binary, process, port, log: log.to_path_buf(), _temporary: Some(log) })
    }

    /// Starts a service by `command` on `port`; its output goes to the file `log`, and it is asked to end instead of
    /// killed.
    pub fn run_on(port: Port, binary: Binary, mut command: Command, log: PathBuf) -> Result<Self> {
        command.env(binary.address_setting(), port.address().to_string());
        log_to(&mut command, &log)?;
        let process = Process::spawn_group(binary.name(), command, Signal::SIGTERM)?;
        Ok(Self { binary, process, port, log, _temporary: None })
    }

    /// Waits until the service says that it is ready.
    pub async fn wait_until_ready(&mut self) {
        self.ready_within(READY_DEADLINE).await.unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Waits until the service says that it is ready.
    pub async fn ready_within(&mut self, deadline: Duration) -> Result<()> {
        let url = self.url("/health/ready");
        let ready = poll(deadline, async || {
            if let Some(status) = self.exit_status() {
                return Some(Err(status));
            }
            let answer = reqwest::get(&url).await.ok()?;
            answer.status().is_success().then_some(Ok(()))
        });
        let (ready, name) = (ready.await, self.name());
        let ready = ready
            .with_context(|| format!("{name} was not ready within {deadline:?}: {}", self.end_of_log()))?;
        ready.map_err(|status| anyhow::anyhow!("{name} ended ({status}): {}", self.end_of_log()))
    }

    /// The name of its binary.
    pub fn name(&self) -> &'static str {
        self.binary.name()
    }

    /// Address of `path` at the service: all its calls for the API, health and metrics for the others.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.port.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Bytes of memory that it holds, `None` on systems that do not say so in `/proc`.
    pub fn resident_memory(&self) -> Option<u64> {
        memory(self.id(), "VmRSS:")
    }

    /// The file that it logs to.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn end_of_log(&self) -> String {
        end_of_log(&self.log, LAST_LINES)
    }

    /// How it ended, `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// Asks it to end (SIGTERM) and does not wait.
    pub fn ask_to_end(&mut self) {
        self.process.signal(Signal::SIGTERM);
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.ask_to_end();
        let ended = poll(deadline, async || self.exit_status()).await;
        ended.unwrap_or_else(|| panic!("{} did not end within {deadline:?} of SIGTERM", self.binary.name()))
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it: at once, or by asking it to where it was started so.
    pub fn end(&mut self) {
        self.process.end();
    }

    /// Freezes it (SIGSTOP), as a host does that swaps or moves: it holds its connections and does nothing.
    pub fn pause(&mut self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Lets it go on after [`Service::pause`] (SIGCONT).
    pub fn resume(&mut self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The text of its metrics as they are now: an answer may be a second old, so that time is let pass first.
    pub async fn metrics(&self) -> String {
        pause(MAX_METRICS_AGE).await;
        let answer = api_key::client().get(self.url("/metrics")).send().await.expect("the service answers");
        answer.text().await.expect("in text")
    }

    /// The sum of all series of a metric; 0 when there is none.
    pub async fn metric(&self, name: &str) -> f64 {
        let value = |line: &str| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        };
        self.metrics().await.lines().filter_map(value).sum()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("---- end of the log of {} ----\n{}\n----", self.name(), self.end_of_log());
        }
    }
}
