//! How a queue treats its tasks.

use std::time::Duration;

const MIB: u64 = 1_024 * 1_024;

/// How a queue treats its tasks. Give every process that uses a queue the same options.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Runs of one worker at a time.
    pub concurrency: usize,
    /// Retries of a task after transient failures, before it is dead.
    pub max_retries: u32,
    /// Delay before a retry.
    pub retry_delay: Duration,
    /// Time without a heartbeat after which a worker's tasks are taken over. A worker renews the leases of
    /// its runs every third of it.
    pub visibility_timeout: Duration,
    /// Deliveries of a task without the end of a run, as when it kills its worker, before it is dead.
    pub max_deliveries: u32,
    /// How long the record of a task that succeeded is kept.
    pub retention: Duration,
    /// Maximum of bytes in Redis that the tasks take which wait for their end: ready, running or retrying. Keep it
    /// well below `maxmemory`.
    pub capacity_bytes: u64,
    /// Maximum number of dead tasks. Beyond it the oldest are dropped.
    pub dead_capacity: u64,
    /// Maximum of bytes in Redis that dead tasks take. Beyond it the oldest are dropped.
    pub dead_capacity_bytes: u64,
    /// Replicas that must have a new task before [`Queue::enqueue`](crate::Queue::enqueue) returns. A producer's own
    /// choice.
    pub replicas: u32,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            concurrency: 4,
            max_retries: 5,
            retry_delay: Duration::from_secs(30),
            visibility_timeout: Duration::from_secs(30),
            max_deliveries: 3,
            retention: Duration::from_secs(24 * 60 * 60),
            capacity_bytes: 128 * MIB,
            dead_capacity: 10_000,
            dead_capacity_bytes: 32 * MIB,
            replicas: 0,
        }
    }
}
