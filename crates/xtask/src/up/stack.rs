//! The processes of `up`, started in order and stopped in the reverse one.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::interrupt::Interrupt;
use crate::process::{POLL, Process};
use crate::redis;
use crate::up::service::Service;

/// How long the services may take from start to readiness.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How much of a log an error shows.
const LOG_LINES: usize = 15;

/// Everything that `up` has started; dropping it stops all of it.
pub(crate) struct Stack {
    directory: PathBuf,
    redis: Option<SocketAddr>,
    services: Vec<Service>,
    /// In the order of their start.
    processes: Vec<Process>,
}

impl Stack {
    /// Nothing yet; data and logs will be in `directory`.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, redis: None, services: Vec::new(), processes: Vec::new() }
    }

    /// Starts Redis and waits until it answers.
    pub(crate) fn start_redis(&mut self, server: &Path, interrupt: &Interrupt) -> Result<()> {
        let (process, address) =
            redis::start(server, &self.directory.join("redis"), &self.log("redis"), interrupt)?;
        self.processes.push(process);
        self.redis = Some(address);
        Ok(())
    }

    /// Starts the binaries in `programs`; Redis must run already.
    pub(crate) fn start_services(&mut self, programs: &Path, api_port: u16) -> Result<()> {
        let redis = self.redis.context("Redis has not been started")?;
        let database = self.directory.join("prices.db");
        for service in Service::all(api_port)? {
            let command = service.command(programs, redis, &database);
            self.processes.push(Process::spawn_logged(service.name(), command, &self.log(service.name()))?);
            self.services.push(service);
        }
        Ok(())
    }

    /// Polls every service until it says that it is ready.
    pub(crate) fn wait_until_ready(&mut self, interrupt: &Interrupt) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while let Some(waiting) = self.services.iter().position(|service| !service.is_ready()) {
            interrupt.check()?;
            self.check_processes()?;
            let name = self.services[waiting].name();
            ensure!(
                Instant::now() < deadline,
                "{name} was not ready within {READY_WITHIN:?}: {}",
                self.end_of_log(name)
            );
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Returns at Ctrl-C; fails when a process ends before that.
    pub(crate) fn wait_for_interrupt(&mut self, interrupt: &Interrupt) -> Result<()> {
        while !interrupt.is_raised() {
            self.check_processes()?;
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// The services that have been started.
    pub(crate) fn services(&self) -> &[Service] {
        &self.services
    }

    /// Each process with its log file.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.processes.iter().map(|process| (process.name(), self.log(process.name())))
    }

    fn check_processes(&mut self) -> Result<()> {
        for process in &mut self.processes {
            if let Some(status) = process.exit_status()? {
                let name = process.name().to_owned();
                bail!(
                    "{name} ended on its own ({status}), so the rest was stopped: {}",
                    self.end_of_log(&name)
                );
            }
        }
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    /// The last lines of a log below its path.
    fn end_of_log(&self, name: &str) -> String {
        let path = self.log(name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        format!("its log {} ends with\n{end}", path.display())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        while let Some(mut process) = self.processes.pop() {
            process.stop();
        }
    }
}
