//! Settings of the worker.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::value_parser;
use pricing_core::cache::CacheSettings;
use pricing_core::catalogue::DatabaseSettings;
use pricing_core::job::QUEUE;
use pricing_core::redis::{Redis, RedisSettings};
use pricing_core::simulation::Simulation;
use pricing_queue::{Queue, QueueOptions};

use crate::tasks::TasksCommand;

/// Longest, in seconds, from the end of the visibility timeout to the run that takes over.
const TAKEOVER_SECONDS: u64 = 2;

/// Runs recalculation jobs: one at a time over all workers, each at least once, tried again when it fails.
#[derive(Debug, Clone, clap::Parser)]
#[command(version)]
pub struct Config {
    /// What to do instead of running jobs
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where metrics and health are served
    #[arg(long, env, default_value = "0.0.0.0:9101", global = true)]
    pub metrics_addr: SocketAddr,
    /// Jobs that this worker runs at a time; only one of them recalculates, the others are soon skipped
    #[arg(long, env, default_value_t = 4, value_parser = value_parser!(u16).range(1..=256))]
    pub worker_concurrency: u16,
    /// How often a job is tried again after a transient failure before it is dead
    #[arg(long, env, default_value_t = 5, value_parser = value_parser!(u32).range(0..=100))]
    pub retry_max: u32,
    /// Seconds before a job is tried again
    #[arg(long, env, default_value_t = 30, value_parser = value_parser!(u64).range(0..=86_400))]
    pub retry_delay_seconds: u64,
    /// Seconds that a worker may be silent before its jobs are taken over
    #[arg(long, env, default_value_t = 30, value_parser = value_parser!(u64).range(3..=3_600))]
    pub visibility_timeout_seconds: u64,
    /// Seconds after which the recalculation lock of a dead worker expires
    #[arg(long, env, default_value_t = 60, value_parser = value_parser!(u64).range(1..=3_600))]
    pub lock_ttl_seconds: u64,
    /// Seconds that jobs may go on after SIGTERM
    #[arg(long, env, default_value_t = 20, value_parser = value_parser!(u64).range(0..=3_600))]
    pub drain_timeout_seconds: u64,
    /// Where Redis is
    #[command(flatten)]
    pub redis: RedisSettings,
    /// Where the catalogue is
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// How long cache entries live
    #[command(flatten)]
    pub cache: CacheSettings,
    /// Slowness and failure on request
    #[command(flatten)]
    pub simulation: Simulation,
}

/// What the program can do besides running jobs.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Exit with 0 when the worker that runs on this host is ready
    Healthcheck,
    /// List, show and replay dead tasks
    #[command(subcommand)]
    Tasks(TasksCommand),
}

impl Config {
    /// Checks how the settings go together.
    ///
    /// # Errors
    ///
    /// When they do not, naming the ones to change.
    pub fn check(&self) -> Result<()> {
        let (lock, visibility) = (self.lock_ttl_seconds, self.visibility_timeout_seconds);
        ensure!(
            2 * lock >= 3 * (visibility + TAKEOVER_SECONDS),
            "LOCK_TTL_SECONDS ({lock}) must be at least 1.5 × (VISIBILITY_TIMEOUT_SECONDS + \
             {TAKEOVER_SECONDS}) = {}: the lock of a dead run has two thirds of its life left at worst, and \
             the run that takes over should still find it",
            (3 * (visibility + TAKEOVER_SECONDS)).div_ceil(2),
        );
        Ok(())
    }

    /// The queue that these settings describe.
    ///
    /// # Errors
    ///
    /// When a setting is wrong.
    pub fn queue(&self) -> Result<Queue> {
        Ok(self.queue_on(&Redis::new(&self.redis)?))
    }

    pub(crate) fn queue_on(&self, redis: &Redis) -> Queue {
        let options = QueueOptions {
            concurrency: usize::from(self.worker_concurrency),
            max_retries: self.retry_max,
            retry_delay: Duration::from_secs(self.retry_delay_seconds),
            visibility_timeout: Duration::from_secs(self.visibility_timeout_seconds),
            ..QueueOptions::default()
        };
        Queue::new(&redis.prefix, QUEUE, redis.commands.clone(), redis.pool.clone(), options)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn a_job_is_tried_again_five_times_thirty_seconds_apart() {
        let config = Config::parse_from(["pricing-worker"]);
        assert_eq!((config.retry_max, config.retry_delay_seconds), (5, 30));
        assert_eq!(config.visibility_timeout_seconds, 30);
    }

    #[test]
    fn a_lock_shorter_than_the_visibility_timeout_is_refused_by_name() {
        let config = Config::parse_from(["pricing-worker", "--lock-ttl-seconds", "47"]);
        let message = config.check().unwrap_err().to_string();
        assert!(message.contains("LOCK_TTL_SECONDS") && message.contains("VISIBILITY_TIMEOUT_SECONDS"));
        assert!(Config::parse_from(["pricing-worker"]).check().is_ok());
    }
}
