//! Settings of the api.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use pricing_core::cache::{CacheSettings, NearCacheSettings};
use pricing_core::catalogue::DatabaseSettings;
use pricing_core::events::EventSettings;
use pricing_core::recalculation::QueueSettings;
use pricing_core::redis::RedisSettings;
use pricing_core::simulation::Simulation;
use pricing_service::http::{ConnectionSettings, DrainPolicy};

use crate::auth::{AuthSettings, KeysCommand};

/// Minimum request time-out, in seconds: the time-outs of cache and database must pass before it.
pub(crate) const MIN_REQUEST_TIMEOUT_SECONDS: u64 = 5;

/// The HTTP service of the pricing engine.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Config {
    /// Address to serve on
    #[arg(long, env, default_value = "127.0.0.1:8000", global = true)]
    pub api_addr: SocketAddr,
    /// Address that also serves metrics and health, without a key: inside a network that only operators reach
    #[arg(long, env)]
    pub metrics_addr: Option<SocketAddr>,
    /// Seconds until a request times out with 503
    #[arg(long, env, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub request_timeout_seconds: u64,
    /// Maximum concurrent requests; more are answered 503 at once
    #[arg(long, env, default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_concurrent_requests: u32,
    /// Seconds after SIGTERM that requests are accepted while readiness is 503, so that load balancers notice
    #[arg(long, env, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=300))]
    pub drain_delay_seconds: u64,
    /// Seconds after that until requests under way are aborted
    #[arg(long, env, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub drain_timeout_seconds: u64,
    /// Replicas of Redis that must have an event or a task before it is answered with 200
    #[arg(long, env, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=16))]
    pub wait_for_replicas: u32,
    #[command(flatten)]
    pub connections: ConnectionSettings,
    #[command(flatten)]
    pub auth: AuthSettings,
    #[command(flatten)]
    pub redis: RedisSettings,
    #[command(flatten)]
    pub queue: QueueSettings,
    #[command(flatten)]
    pub events: EventSettings,
    #[command(flatten)]
    pub database: DatabaseSettings,
    #[command(flatten)]
    pub cache: CacheSettings,
    #[command(flatten)]
    pub near_cache: NearCacheSettings,
    #[command(flatten)]
    pub simulation: Simulation,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Subcommands.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Exit with 0 if the api at API_ADDR is ready
    Healthcheck,
    /// Make and check the keys of callers
    #[command(subcommand)]
    Keys(KeysCommand),
}

/// Settings that do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// Requests would be given up before the database is.
    #[error(
        "REQUEST_TIMEOUT_SECONDS ({0}) must be at least {MIN_REQUEST_TIMEOUT_SECONDS}: \
         a read waits up to 2.75 s for the cache and the database, and up to 2 s more for the cache if the database \
         is away"
    )]
    RequestTimeout(u64),
    /// Requests would be cut off at the end although they are in time.
    #[error("DRAIN_TIMEOUT_SECONDS ({drain}) must be at least REQUEST_TIMEOUT_SECONDS ({request})")]
    DrainTimeout {
        /// Seconds to drain.
        drain: u64,
        /// Seconds for a request.
        request: u64,
    },
}

impl Config {
    /// Checks the settings against each other.
    ///
    /// # Errors
    ///
    /// The first relation that does not hold.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let (request, drain) = (self.request_timeout_seconds, self.drain_timeout_seconds);
        if request < MIN_REQUEST_TIMEOUT_SECONDS {
            return Err(InvalidConfig::RequestTimeout(request));
        }
        if drain < request {
            return Err(InvalidConfig::DrainTimeout { drain, request });
        }
        Ok(())
    }

    /// Longest time for a request.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_seconds)
    }

    /// How the server drains.
    pub fn drain_policy(&self) -> DrainPolicy {
        DrainPolicy {
            delay: Duration::from_secs(self.drain_delay_seconds),
            timeout: Duration::from_secs(self.drain_timeout_seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &str, drain: &str) -> Result<(), String> {
        let arguments = ["api", "--request-timeout-seconds", request, "--drain-timeout-seconds", drain];
        Config::parse_from(arguments).check().map_err(|error| error.to_string())
    }

    #[test]
    fn a_bad_relation_is_refused_by_the_name_of_its_variable() {
        assert_eq!(check("5", "10"), Ok(()));
        assert!(check("4", "10").unwrap_err().starts_with("REQUEST_TIMEOUT_SECONDS (4) must be at least 5"));
        assert_eq!(
            check("20", "10").unwrap_err(),
            "DRAIN_TIMEOUT_SECONDS (10) must be at least REQUEST_TIMEOUT_SECONDS (20)"
        );
    }
}
