//! The event bridge: market events in, recalculation jobs out.
//!
//! [`log`] reads the durable log, [`channel`] hears what others publish; both hand each event to
//! [`bridge`], which makes it a job.

pub mod bridge;
pub mod channel;
pub mod config;
pub mod log;
pub mod metrics;

use pricing_service::admin;
use pricing_service::health::{Health, Heartbeat};
use pricing_service::shutdown::Shutdown;
use pricing_service::supervisor::{PartFailed, Supervisor};
use pricing_service::telemetry::Metrics;
use tokio::net::TcpListener;

pub use bridge::Listener;

/// Reads the log and the channel until it is asked to end, and reports on `port`.
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
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<(), PartFailed> {
    let mut parts = Supervisor::new(shutdown);
    let (log, channel) =
        (Heartbeat::new("the reader of the event log"), Heartbeat::new("the reader of the channel"));
    let health = Health::new(parts.shutdown(), &[&log, &channel], listener.redis.commands.clone(), None);
    parts.background("the upkeep of metrics", metrics.clone().upkeep());
    parts.background("the metrics port", admin::serve(port, health.clone(), metrics));
    let (reader, ending) = (listener.clone(), parts.shutdown());
    parts.part(log.name(), async move { log::follow(&reader, &log, &ending).await });
    let ending = parts.shutdown();
    parts.part(channel.name(), async move { channel::follow(&listener, &channel, &ending).await });
    health.started();
    tracing::info!("listening for market events");
    parts.run().await
}
