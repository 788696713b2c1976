//! Settings of the worker.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::value_parser;
use pricing_core::audit::Audit;
use pricing_core::cache::CacheSettings;
use pricing_core::catalogue::{Catalogue, DatabaseSettings};
use pricing_core::recalculation::{QueueSettings, RecalculationQueue};
use pricing_core::redis::{Redis, RedisSettings};
use pricing_core::simulation::Simulation;
use pricing_queue::QueueOptions;

use crate::scan::STATEMENT_TIMEOUT;

/// Longest, in seconds, from the end of the visibility timeout to the run that takes over.
const TAKEOVER_SECONDS: u64 = 2;

#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Address that serves metrics and health
    #[arg(long, env, default_value = "127.0.0.1:9101", global = true)]
    pub metrics_addr: SocketAddr,
    /// Runs of this worker at a time; only one recalculates, the others are soon skipped
    #[arg(long, env, default_value_t = 4, value_parser = value_parser!(u16).range(1..=256))]
    pub worker_concurrency: u16,
    /// Retries of a task after transient failures, before it is dead
    #[arg(long, env, default_value_t = 5, value_parser = value_parser!(u32).range(0..=100))]
    pub retry_max: u32,
    /// Seconds before a retry
    #[arg(long, env, default_value_t = 30, value_parser = value_parser!(u64).range(0..=86_400))]
    pub retry_delay_seconds: u64,
    /// Seconds without a heartbeat after which a worker's tasks are taken over
    #[arg(long, env, default_value_t = 30, value_parser = value_parser!(u64).range(3..=3_600))]
    pub visibility_timeout_seconds: u64,
    /// Seconds after which the recalculation lock of a dead worker expires
    #[arg(long, env, default_value_t = 60, value_parser = value_parser!(u64).range(1..=3_600))]
    pub lock_ttl_seconds: u64,
    /// Seconds that runs may go on after SIGTERM
    #[arg(long, env, default_value_t = 20, value_parser = value_parser!(u64).range(0..=3_600))]
    pub drain_timeout_seconds: u64,
    /// Days that the history of list prices is kept
    #[arg(long, env, default_value_t = 400, value_parser = value_parser!(u32).range(1..=36_500))]
    pub history_days: u32,
    /// Days that the audit is kept
    #[arg(long, env, default_value_t = 400, value_parser = value_parser!(u32).range(1..=36_500))]
    pub audit_days: u32,
    #[command(flatten)]
    pub redis: RedisSettings,
    #[command(flatten)]
    pub queue: QueueSettings,
    #[command(flatten)]
    pub database: DatabaseSettings,
    #[command(flatten)]
    pub cache: CacheSettings,
    #[command(flatten)]
    pub simulation: Simulation,
}

impl Config {
    /// Checks relations between settings.
    ///
    /// # Errors
    ///
    /// When a relation is broken, naming the settings to change.
    pub fn check(&self) -> Result<()> {
        let (lock, visibility) = (self.lock_ttl_seconds, self.visibility_timeout_seconds);
        ensure!(
            2 * lock >= 3 * (visibility + TAKEOVER_SECONDS),
            "LOCK_TTL_SECONDS ({lock}) must be at least 1.5 × (VISIBILITY_TIMEOUT_SECONDS + \
             {TAKEOVER_SECONDS}) = {}: the lock of a dead run has two thirds of its TTL left at worst, and \
             the run that takes over should still find it",
            (3 * (visibility + TAKEOVER_SECONDS)).div_ceil(2),
        );
        Ok(())
    }

    /// # Errors
    ///
    /// When a setting is wrong.
    pub fn recalculations(&self) -> Result<RecalculationQueue> {
        Ok(self.queue_on(&Redis::new(&self.redis)?))
    }

    /// The audit, for a command: without a change of the schema, which a worker makes when it starts.
    ///
    /// # Errors
    ///
    /// When `DATABASE_URL` is wrong, or there is no such database.
    pub fn audit(&self) -> Result<Audit> {
        crate::catalogue::exists(&self.database)?;
        let (catalogue, _) = Catalogue::lazy(&self.database, STATEMENT_TIMEOUT)?;
        Ok(Audit::new(&catalogue))
    }

    pub(crate) fn queue_on(&self, redis: &Redis) -> RecalculationQueue {
        let options = QueueOptions {
            concurrency: usize::from(self.worker_concurrency),
            max_retries: self.retry_max,
            retry_delay: Duration::from_secs(self.retry_delay_seconds),
            visibility_timeout: Duration::from_secs(self.visibility_timeout_seconds),
            ..self.queue.options()
        };
        RecalculationQueue::new(redis, options)
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn config(arguments: &[&str]) -> Config {
        let command = Config::augment_args(clap::Command::new("pricing-worker").no_binary_name(true));
        Config::from_arg_matches(&command.get_matches_from(arguments)).unwrap()
    }

    #[test]
    fn a_task_is_retried_five_times_thirty_seconds_apart() {
        let config = config(&[]);
        assert_eq!((config.retry_max, config.retry_delay_seconds), (5, 30));
        assert_eq!(config.visibility_timeout_seconds, 30);
    }

    #[test]
    fn a_lock_shorter_than_the_visibility_timeout_is_refused_by_name() {
        let message = config(&["--lock-ttl-seconds", "47"]).check().unwrap_err().to_string();
        assert!(message.contains("LOCK_TTL_SECONDS") && message.contains("VISIBILITY_TIMEOUT_SECONDS"));
        assert!(config(&[]).check().is_ok());
    }
}
