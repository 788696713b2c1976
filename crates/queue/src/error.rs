//! What can go wrong with a queue.

use apalis_core::error::{AbortError, RetryAfterError};
use deadpool_redis::PoolError;
use redis::RedisError;

/// What can go wrong with a queue.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The queue holds as many tasks as [`QueueOptions::capacity`](crate::QueueOptions::capacity) allows.
    #[error("the queue is full: are workers running?")]
    Full,
    /// An id or a payload is longer than allowed, or an id is empty.
    #[error("the {0} of the task is empty or too long")]
    Bounds(&'static str),
    /// A task's record lacks a field, or holds a value that this crate never writes.
    #[error("the record of task {id} is damaged: field `{field}`")]
    Record {
        /// The task.
        id: String,
        /// The field of the record.
        field: &'static str,
    },
    /// A script gave a reply that it does not have.
    #[error("a script gave an unknown reply: {0}")]
    Reply(String),
    /// Redis is away, slow or full, or refused the command.
    #[error("Redis failed")]
    Redis(#[from] RedisError),
    /// The pool had no connection to Redis.
    #[error("no connection to Redis")]
    Pool(#[from] PoolError),
}

/// An error and its causes on one line. Wrappers that only say how to treat an error are left out.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let is_wrapper = error.is::<AbortError>() || error.is::<RetryAfterError>();
    let first = error.source().filter(|_| is_wrapper).unwrap_or(error);
    let chain = std::iter::successors(Some(first), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
