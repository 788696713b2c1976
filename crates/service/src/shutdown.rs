//! When a process is asked to end.

use std::convert::Infallible;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// That the process is asked to end, and who hears it.
pub struct Shutdown {
    /// Cancelled by the first SIGTERM or SIGINT.
    pub token: CancellationToken,
    /// Hears the signals; to be [supervised](crate::supervisor::Supervisor).
    pub signals: JoinHandle<Infallible>,
}

/// Hears SIGTERM and SIGINT. The first one asks the process to end, which takes as long as what is under
/// way; the second one ends it at once, with exit code 1. Must be called inside the Tokio runtime.
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
        tracing::warn!("{name} received again: what is under way is cut off");
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
