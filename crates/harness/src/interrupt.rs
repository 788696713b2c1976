//! Ctrl-C, SIGTERM and SIGHUP: they end a command, and with it all that it started.

use std::process::ExitCode;

use anyhow::{Error, Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};

/// Waits for a signal.
///
/// # Errors
///
/// When the process cannot be told of signals.
pub async fn wait() -> Result<()> {
    let (mut hangup, mut terminate) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = hangup.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Runs a command to its end or to a signal: whatever it started ends with its future. Reports an error on stderr; an
/// interruption gets the shell's code for it, 130, anything else 1.
pub async fn exit_code(command: impl Future<Output = Result<ExitCode>>) -> ExitCode {
    let failed = |error: Error| (error, ExitCode::FAILURE);
    let interrupted =
        |()| (anyhow!("interrupted; everything that was started has been stopped"), ExitCode::from(130));
    let (error, code) = tokio::select! {
        biased;
        ended = command => match ended {
            Ok(code) => return code,
            Err(error) => failed(error),
        },
        signal = wait() => signal.map_or_else(failed, interrupted),
    };
    eprintln!("error: {error:#}");
    code
}
