//! One process of a service, made of the real binary.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use crate::ports::Port;
use crate::waiting::{eventually, poll};

/// Longest a service may take to become ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);
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
    ///
    /// # Panics
    ///
    /// When the binary has not been built.
    pub fn command(self, environment: &Environment) -> Command {
        let mut command = Command::new(self.path());
        let inherited = ["PATH", "HOME"].map(|name| std::env::var_os(name).map(|value| (name, value)));
        command.env_clear().envs(inherited.into_iter().flatten()).envs(environment).stdin(Stdio::null());
        command
    }

    /// Tests are in `target/debug/deps`, the binaries of the same build in `target/debug`.
    fn path(self) -> PathBuf {
        let test = std::env::current_exe().expect("the test knows its own path");
        let folder = test.ancestors().nth(2).expect("tests are in a folder of the build");
        let path = folder.join(self.name());
        assert!(path.exists(), "{} is missing: run `cargo xtask test`, which builds it", path.display());
        path
    }
}

/// A running service. Dropping it kills it, and prints the end of its log when the test has failed.
#[derive(Debug)]
pub struct Service {
    binary: Binary,
    process: Child,
    port: Port,
    log: NamedTempFile,
}

impl Service {
    /// Starts a service on a port of its own and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it has not been built, ends, or is not ready in time.
    pub async fn start(binary: Binary, environment: &Environment) -> Self {
        let mut service = Self::spawn(binary, environment);
        service.wait_until_ready().await;
        service
    }

    /// Starts a service on a port of its own.
    ///
    /// # Panics
    ///
    /// When it has not been built.
    pub fn spawn(binary: Binary, environment: &Environment) -> Self {
        let (port, log) = (Port::reserve(), NamedTempFile::new().expect("a temporary file"));
        let process = binary
            .command(environment)
            .env(binary.address_setting(), port.address().to_string())
            .stdout(Stdio::null())
            .stderr(log.reopen().expect("the log opens"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary.name()));
        Self { binary, process, port, log }
    }

    /// Waits until the service says that it is ready.
    ///
    /// # Panics
    ///
    /// When it ends or is not ready in time.
    pub async fn wait_until_ready(&mut self) {
        let (name, url) = (self.binary.name(), self.url("/health/ready"));
        eventually(READY_DEADLINE, &format!("{name} to be ready"), async || {
            if let Some(status) = self.exit_status() {
                panic!("{name} ended before it was ready: {status}");
            }
            let answer = reqwest::get(&url).await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
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
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kibibytes * 1_024)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.log.path()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// How it ended, `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("the process is a child of this one")
    }

    /// Asks it to end (SIGTERM) and does not wait.
    ///
    /// # Panics
    ///
    /// When it has ended already.
    pub fn ask_to_end(&mut self) {
        self.signal(Signal::SIGTERM);
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    ///
    /// When it has not before `deadline`.
    pub async fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.ask_to_end();
        let ended = poll(deadline, async || self.exit_status()).await;
        ended.unwrap_or_else(|| panic!("{} did not end within {deadline:?} of SIGTERM", self.binary.name()))
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        // Fails only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Freezes it (SIGSTOP), as a host does that swaps or moves: it holds its connections and does nothing.
    ///
    /// # Panics
    ///
    /// When it has ended already.
    pub fn pause(&mut self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on after [`Service::pause`] (SIGCONT).
    ///
    /// # Panics
    ///
    /// When it has ended already.
    pub fn resume(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The text of its metrics.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub async fn metrics(&self) -> String {
        let answer = reqwest::get(self.url("/metrics")).await.expect("the service answers");
        answer.text().await.expect("in text")
    }

    /// The sum of all series of a metric; 0 when there is none.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub async fn metric(&self, name: &str) -> f64 {
        let value = |line: &str| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        };
        self.metrics().await.lines().filter_map(value).sum()
    }

    fn signal(&mut self, signal: Signal) {
        assert_eq!(self.exit_status(), None, "{} has ended already", self.binary.name());
        let id = i32::try_from(self.process.id()).expect("process ids fit");
        kill(Pid::from_raw(id), signal).expect("a child can be signalled");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
            eprintln!("---- end of the log of {} ----\n{last}\n----", self.binary.name());
        }
    }
}
