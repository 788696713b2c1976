//! The event bridge: market events in, recalculation jobs out.
//!
//! [`log`] reads the durable log, [`channel`] hears what others publish; both hand each event to
//! [`bridge`], which makes it a job.

pub mod bridge;
pub mod channel;
pub mod config;
pub mod log;
pub mod metrics;

use anyhow::{Context as _, bail};
use metrics_exporter_prometheus::PrometheusHandle;
use pricing_core::admin::{self, Health, Phase};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use bridge::Listener;

/// Serves until `shutdown`: reads the log and the channel, and reports on `port`.
///
/// Both readers end between two events. An event that was read and is not a job yet is read again by
/// another listener.
///
/// # Errors
///
/// When one of the parts ends by itself; the others are ended with it.
pub async fn run(
    port: TcpListener,
    listener: Listener,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let health = Health::new(listener.redis.commands.clone(), None);
    let mut parts: JoinSet<(&'static str, anyhow::Result<()>)> = JoinSet::new();
    let ended = CancellationToken::new();
    let (admin_health, ending) = (health.clone(), ended.clone());
    parts.spawn(async move {
        let served = admin::serve(port, admin_health, metrics, ending).await;
        ("the metrics port", served.context("cannot serve"))
    });
    let (reader, ending) = (listener.clone(), shutdown.clone());
    parts.spawn(async move {
        log::follow(&reader, &ending).await;
        ("the reader of the event log", Ok(()))
    });
    let ending = shutdown.clone();
    parts.spawn(async move {
        channel::follow(&listener, &ending).await;
        ("the reader of the channel", Ok(()))
    });
    health.enter(Phase::Ready);
    tracing::info!("listening for market events");
    let (draining, asked) = (health, shutdown.clone());
    parts.spawn(async move {
        asked.cancelled().await;
        draining.enter(Phase::Draining);
        ("the watch for the end", Ok(()))
    });

    while let Some(ended_part) = parts.join_next().await {
        let (part, result) = ended_part.context("a part of the listener panicked")?;
        result.context(part)?;
        if !shutdown.is_cancelled() {
            bail!("{part} ended by itself");
        }
        if parts.len() == 1 {
            ended.cancel(); // only the port is left, which answers until the end
        }
    }
    Ok(())
}
