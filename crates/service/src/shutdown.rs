//! The signals that end a process.

use std::convert::Infallible;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The shutdown of a process.
pub struct Shutdown {
    /// Cancelled by the first SIGTERM or SIGINT.
    pub token: CancellationToken,
    /// The task that waits for the signals; the supervisor runs it as a part.
    pub signals: JoinHandle<Infallible>,
}

/// Waits for SIGTERM and SIGINT. The first signal begins the shutdown, which lets work under way finish; the
/// second one ends the process at once, with exit code 1. Must be called inside the Tokio runtime.
///
/// # Errors
///
/// When the signals cannot be listened for.
pub fn on_signal() -> std::io::Result<Shutdown> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let asked = token.clone();
    let signals = tokio::spawn(async move {
        let name = first(&mut terminate, &mut interrupt).await;
        tracing::info!("{name} received: finishing what is under way; a second signal ends it at once");
        asked.cancel();
        let name = first(&mut terminate, &mut interrupt).await;
        tracing::warn!("{name} received again: work under way is aborted");
        std::process::exit(1)
    });
    Ok(Shutdown { token, signals })
}

async fn first(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
