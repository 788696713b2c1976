//! The event bridge: market events in, recalculation tasks out.
//!
//! In reading order: `run` starts the loops, `log` reads the durable event log and `channel` subscribes to what others
//! publish; both pass each event to `event`, which enqueues its task.

mod channel;
mod config;
mod event;
mod log;
mod metrics;
mod source;

use pricing_core::plaintext::warn_of_exposed;
use pricing_service::admin;
use pricing_service::health::{Health, Heartbeat};
use pricing_service::shutdown::Shutdown;
use pricing_service::supervisor::{PartFailed, Supervisor};
use pricing_service::telemetry::{self, Metrics};
use tokio::net::TcpListener;

pub use config::{Command, Config};
pub use event::Listener;
pub use metrics::install as install_metrics;

/// Reads the log and the channel until shutdown, and serves health and metrics on `port`.
///
/// The loops end between two events. An event that was read and has no task yet is read again by another
/// listener.
///
/// # Errors
///
/// When one of the loops ends by itself; the others are ended with it.
pub async fn run(
    port: TcpListener,
    listener: Listener,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<(), PartFailed> {
    let mut parts = Supervisor::new(shutdown);
    let log = Heartbeat::new("the reader of the event log");
    let subscription = Heartbeat::new("the subscription to the channel");
    let channel = Heartbeat::new("the reader of the channel");
    let heartbeats = [&log, &subscription, &channel];
    let health = Health::new(parts.shutdown(), &heartbeats, listener.redis.commands.clone(), None);
    parts.background("the upkeep of metrics", metrics.clone().upkeep());
    let connections = [listener.redis.plaintext(), telemetry::plaintext()];
    parts.background("the check for plaintext connections", warn_of_exposed(connections));
    parts.background("the watch over the primary of Redis", listener.redis.clone().follow_primary());
    parts.background("the metrics port", admin::serve(port, health.clone(), metrics));
    let (reader, closing) = (listener.clone(), parts.shutdown());
    parts.part(log.name(), async move { log::follow(&reader, &log, &closing).await });
    let (inbox, messages) = channel::inbox();
    let (subscriber, closing) = (listener.clone(), parts.shutdown());
    parts.part(subscription.name(), async move {
        channel::subscribe(&subscriber, &inbox, &subscription, &closing).await
    });
    let closing = parts.shutdown();
    parts.part(channel.name(), async move { channel::follow(&listener, messages, &channel, &closing).await });
    health.started();
    tracing::info!("listening for market events");
    parts.run().await
}
