//! Ctrl-C, SIGTERM and SIGHUP: they end a command, and with it all that it started.

use std::process::ExitCode;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for a signal.
pub(crate) async fn wait() -> Result<()> {
    let (mut hangup, mut terminate) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = hangup.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// A command was cut short by a signal.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; everything that was started has been stopped")]
pub(crate) struct Interrupted;

/// Reports an error on stderr; an interruption gets the shell's code for it, 130, anything else 1.
pub(crate) fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    if error.is::<Interrupted>() { ExitCode::from(130) } else { ExitCode::FAILURE }
}
