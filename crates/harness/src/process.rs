//! A child process that never outlives the one that started it.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::waiting::pause;

/// Time between two looks at a process.
const POLL: Duration = Duration::from_millis(50);
/// Longest a process that was asked to end may take.
const GRACE: Duration = Duration::from_secs(20);

/// A running child without standard input. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Asks it to end, when it leads a process group.
    stop_signal: Option<Signal>,
    has_ended: bool,
}

impl Process {
    /// Starts `command` in the process group of the caller. It is killed when it is dropped.
    pub fn spawn(name: &str, mut command: Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).spawn();
        let child =
            child.with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        Ok(Self { name: name.to_owned(), child, stop_signal: None, has_ended: false })
    }

    /// Starts `command` in its own process group, which the terminal's Ctrl-C does not reach. When it is dropped it
    /// is asked to end with `stop_signal`; after that the whole group is killed.
    pub fn spawn_group(name: &str, mut command: Command, stop_signal: Signal) -> Result<Self> {
        command.process_group(0);
        let mut process = Self::spawn(name, command)?;
        process.stop_signal = Some(stop_signal);
        Ok(process)
    }

    /// The name it was given when it was started.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process is a child of this one")
    }

    /// Waits until it ends.
    pub async fn wait(mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            pause(POLL).await;
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        assert!(!self.has_ended, "{} has ended already", self.name);
        kill(self.pid(), signal).expect("a child can be signalled");
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.has_ended = true;
    }

    /// Asks it to end, if it leads a process group, and kills what has not ended after twenty seconds.
    pub fn end(&mut self) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        if let Some(signal) = self.stop_signal {
            // A group that is gone already is what was wanted, here and below.
            if self.exit_status().is_none() {
                let _ = killpg(self.pid(), signal);
                let deadline = Instant::now() + GRACE;
                while Instant::now() < deadline && self.exit_status().is_none() {
                    thread::sleep(POLL);
                }
            }
            let _ = killpg(self.pid(), Signal::SIGKILL);
        }
        self.kill();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// CPU time that all threads of a process have used, in user and kernel mode.
///
/// # Errors
///
/// When it has ended, or the system does not say so in `/proc`.
pub fn cpu_time(process: u32) -> Result<Duration> {
    let stat =
        std::fs::read_to_string(format!("/proc/{process}/stat")).context("CPU time is read from /proc")?;
    // After the name, which may hold anything in its parentheses, utime and stime are fields 12 and 13.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace());
    let ticks = fields.context("/proc/PID/stat has no name")?.skip(11).take(2).map(str::parse::<u32>);
    let ticks: u32 = ticks.sum::<Result<_, _>>()?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the clock tick is unknown")?;
    Ok(Duration::from_secs(1) * ticks / u32::try_from(per_second)?)
}

/// Most bytes of memory that a process has held so far, `None` if the system does not say so in `/proc`.
pub fn peak_memory(process: u32) -> Option<u64> {
    memory(process, "VmHWM:")
}

/// A line of `/proc/PID/status` that is in kB, in bytes.
pub(crate) fn memory(process: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1_024)
}

/// Sends both output streams of `command` to the new file `log`.
pub fn log_to(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file);
    Ok(())
}

/// The last lines of a log, below its path.
pub fn end_of_log(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    format!("{}:\n{}", log.display(), all[all.len().saturating_sub(lines)..].join("\n"))
}
