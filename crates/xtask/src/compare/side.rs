//! One of the two binaries, with its own Redis and its own database.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{SysconfVar, sysconf};
use tempfile::TempDir;

use crate::compare::load::Client;
use crate::http::Http;
use crate::interrupt::Interrupt;
use crate::ports;
use crate::process::{POLL, Process};
use crate::redis;

/// Longest until the api is ready, also under valgrind.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// Longest until all products are cached.
const CACHED_WITHIN: Duration = Duration::from_secs(60);

/// A binary and what it needs. Dropping it stops Redis and removes the data.
pub(crate) struct Side {
    name: &'static str,
    binary: PathBuf,
    redis: SocketAddr,
    _redis: Process,
    directory: TempDir,
}

/// The api of a side. Dropping it stops it.
pub(crate) struct Service {
    process: Process,
    address: SocketAddr,
}

impl Side {
    /// Starts its Redis and fills its cache with the whole demo catalogue.
    pub(crate) fn start(
        name: &'static str,
        binary: PathBuf,
        redis_server: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (data, log) = (directory.path().join("redis"), directory.path().join("redis.log"));
        let (process, redis) = redis::start(redis_server, &data, &log, interrupt)?;
        let side = Self { name, binary, redis, _redis: process, directory };
        let service = side.serve(interrupt)?;
        let (mut client, deadline) = (Client::connect(service.address, 0)?, Instant::now() + CACHED_WITHIN);
        let mut cached_in_a_row = 0;
        while cached_in_a_row < 900 {
            cached_in_a_row = if client.read()? { cached_in_a_row + 1 } else { 0 };
            ensure!(Instant::now() < deadline, "{name}: the products are not cached after {CACHED_WITHIN:?}");
        }
        Ok(side)
    }

    /// Which of the two it is.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// A directory for files that are thrown away with it.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the api.
    pub(crate) fn serve(&self, interrupt: &Interrupt) -> Result<Service> {
        self.serve_by(Command::new(&self.binary), interrupt)
    }

    /// Starts the api by `wrapper`, which is given the binary as its last argument.
    pub(crate) fn serve_under(&self, mut wrapper: Command, interrupt: &Interrupt) -> Result<Service> {
        wrapper.arg(&self.binary);
        self.serve_by(wrapper, interrupt)
    }

    fn serve_by(&self, mut command: Command, interrupt: &Interrupt) -> Result<Service> {
        let address = ports::loopback(ports::free()?);
        let database = self.directory.path().join("prices.db");
        let variables: Vec<_> =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
        let inherited = ["PATH", "HOME"].map(|name| (name, std::env::var_os(name).unwrap_or_default()));
        command.env_clear().envs(inherited);
        for (name, value) in variables {
            command.env(name, value.unwrap_or_default());
        }
        command
            .env("API_ADDR", address.to_string())
            .env("REDIS_URL", format!("redis://{}", self.redis))
            .env("DATABASE_URL", format!("sqlite://{}", database.display()))
            .env("DEMO_CATALOGUE", "true")
            // Nothing expires while it is measured.
            .env("CACHE_TTL_SECONDS", "86400")
            .env("DRAIN_DELAY_SECONDS", "0");
        let log = self.directory.path().join("api.log");
        let mut process = Process::spawn_logged(self.name, command, &log)?;
        let http = Http::new(&format!("http://{address}"));
        let deadline = Instant::now() + READY_WITHIN;
        while !http.get("/health/ready").is_ok_and(|answer| answer.status == 200) {
            interrupt.check()?;
            if process.exit_status()?.is_some() || Instant::now() > deadline {
                bail!(
                    "the {} api did not start: {}",
                    self.name,
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            thread::sleep(POLL);
        }
        Ok(Service { process, address })
    }
}

impl Service {
    /// Where it serves.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU time that all its threads have used, in user and kernel mode.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.process.id());
        let stat =
            fs::read_to_string(path).context("the CPU time of a process is read from /proc, on Linux")?;
        // After the name, which may hold anything in its parentheses, utime and stime are fields 12 and 13.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace());
        let ticks = fields.context("/proc/PID/stat has no name")?.skip(11).take(2).map(str::parse::<u32>);
        let ticks: u32 = ticks.sum::<Result<_, _>>()?;
        let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the clock tick is unknown")?;
        Ok(Duration::from_secs(1) * ticks / u32::try_from(per_second)?)
    }

    /// Ends it as SIGTERM does, and waits for that.
    pub(crate) fn stop(mut self) {
        self.process.stop();
    }
}
