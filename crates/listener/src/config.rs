//! Settings of the listener.

use std::net::SocketAddr;

use pricing_core::events::EventSettings;
use pricing_core::recalculation::QueueSettings;
use pricing_core::redis::RedisSettings;

/// Turns market events into recalculation tasks.
///
/// Reads the durable event log and a Redis channel. Each event becomes one task, however often it arrives.
#[derive(Debug, Clone, clap::Parser)]
#[command(version)]
pub struct Config {
    /// What to do instead of listening
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where metrics and health are served
    #[arg(long, env, default_value = "127.0.0.1:9102", global = true)]
    pub metrics_addr: SocketAddr,
    /// Where Redis is
    #[command(flatten)]
    pub redis: RedisSettings,
    /// How much the queue may hold
    #[command(flatten)]
    pub queue: QueueSettings,
    /// Which channel is subscribed to
    #[command(flatten)]
    pub events: EventSettings,
}

/// What the program can do besides listening.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub enum Command {
    /// Exit with 0 when the listener that runs on this host is ready
    Healthcheck,
}
