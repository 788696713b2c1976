//! What can go wrong with a queue.

use std::time::Duration;

use apalis_core::error::{AbortError, BoxDynError, RetryAfterError};
use deadpool_redis::PoolError;
use redis::RedisError;

/// What can go wrong with a queue.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Its tasks take as many bytes as [`QueueOptions::capacity_bytes`](crate::QueueOptions::capacity_bytes) allows.
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
    /// The cursor of a page is none that the list before it gave.
    #[error("the cursor is not one of this list")]
    Cursor,
    /// A script gave a reply that it does not have.
    #[error("a script gave an unknown reply: {0}")]
    Reply(String),
    /// Too few replicas had the task in time, so a failover may lose it. It may have been enqueued; enqueueing it again
    /// does no harm.
    #[error("too few replicas have the task")]
    NotReplicated,
    /// Redis is away, slow or full, or refused the command.
    #[error("Redis failed")]
    Redis(#[from] RedisError),
    /// The pool had no connection to Redis.
    #[error("no connection to Redis")]
    Pool(#[from] PoolError),
}

/// The error of a job that cannot run its task now: the task is run again after `delay`, without using a retry.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct DeferFor {
    /// Time until the task is ready again.
    pub delay: Duration,
    /// What keeps the job from running it.
    #[source]
    pub error: BoxDynError,
}

/// An error and its causes on one line. Wrappers that only say how to treat an error are left out, and causes that
/// the text before names already.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let is_wrapper = error.is::<AbortError>() || error.is::<RetryAfterError>() || error.is::<DeferFor>();
    let first = error.source().filter(|_| is_wrapper).unwrap_or(error);
    let mut text = first.to_string();
    for cause in std::iter::successors(first.source(), |&error| error.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn each_cause_is_named_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("the database failed: {0}")]
        struct Outer(#[source] io::Error);
        assert_eq!(causes(&Outer(io::Error::other("no such table"))), "the database failed: no such table");
        let error = AbortError::new(QueueError::from(RedisError::from(io::Error::other("gone"))));
        assert_eq!(causes(&error), "Redis failed: gone");
    }
}
