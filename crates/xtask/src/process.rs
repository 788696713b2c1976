//! Child processes that are stopped, with everything below them, whatever way a command ends.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::interrupt::Interrupt;

/// How often a wait looks again.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// How long a process may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(20);

/// A running child in a process group of its own, so that the terminal's Ctrl-C reaches only xtask,
/// which then stops its children in its own order. Dropping it stops it.
pub(crate) struct Process {
    name: String,
    child: Child,
    /// What asks it to end; SIGTERM unless it means something else by that.
    stop_signal: Signal,
    stopped: bool,
}

impl Process {
    /// Starts `command` without standard input.
    pub(crate) fn spawn(name: &str, mut command: Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        Ok(Self { name: name.to_owned(), child, stop_signal: Signal::SIGTERM, stopped: false })
    }

    /// Starts `command` with its output, both streams, in the file `log`.
    pub(crate) fn spawn_logged(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        command.stdout(file.try_clone()?).stderr(file);
        Self::spawn(name, command)
    }

    /// The same process, stopped with `signal` instead of SIGTERM.
    pub(crate) fn stopped_by(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// The name it was given when it was started.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot ask for the state of {}", self.name))
    }

    /// Waits for its end; an interrupt stops it and is the error.
    pub(crate) fn wait(mut self, interrupt: &Interrupt) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            interrupt.check()?;
            thread::sleep(POLL);
        }
    }

    /// Asks the whole group to end, kills it after [`GRACE`], and returns when it is gone.
    pub(crate) fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        let group = Pid::from_raw(self.child.id().cast_signed());
        if matches!(self.child.try_wait(), Ok(None)) {
            // A group that is gone already is what was wanted, here and below.
            let _ = killpg(group, self.stop_signal);
            let deadline = Instant::now() + GRACE;
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(POLL);
            }
        }
        // Whoever outlived the leader, such as the servers of a test run that was cut short.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// The code to end with after a child that ended so.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}
