//! Ctrl-C and SIGTERM as a flag that every wait looks at, so that started processes are always stopped.

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// Raised once SIGINT, SIGTERM or SIGHUP has arrived, and never lowered.
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    fn install() -> Result<Self> {
        let raised = Arc::new(AtomicBool::new(false));
        let handler = Arc::clone(&raised);
        ctrlc::set_handler(move || handler.store(true, Ordering::Relaxed))
            .context("cannot watch for Ctrl-C")?;
        Ok(Self(raised))
    }

    /// Whether a signal has arrived.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails with [`Interrupted`] once a signal has arrived.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_raised() {
            return Err(Interrupted.into());
        }
        Ok(())
    }
}

/// Runs a command that starts processes: it watches for signals instead of being ended by them.
pub(crate) fn interruptible(command: impl FnOnce(&Interrupt) -> Result<ExitCode>) -> Result<ExitCode> {
    command(&Interrupt::install()?)
}

/// A command was cut short by a signal.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("interrupted; everything that was started has been stopped")
    }
}

impl std::error::Error for Interrupted {}

/// Reports an error on stderr; an interruption gets the shell's code for it, 130, anything else 1.
pub(crate) fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    if error.is::<Interrupted>() { ExitCode::from(130) } else { ExitCode::FAILURE }
}
