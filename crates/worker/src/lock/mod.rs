//! The lock that lets one full recalculation run at a time, without losing a request.
//!
//! Every request gets a number when it is enqueued. A scan covers all requests numbered before it started,
//! because a request is made after the change of the catalogue. So:
//!
//! - A request that is covered needs no scan of its own.
//! - A request that finds the lock held is skipped, *because the holder scans again* when a request was
//!   numbered after its scan started. [`LockGuard::release_if_covered`] checks that and releases in one
//!   script, so no request can slip in between.
//! - A run that finds the lock free must cover every request that was ever skipped, not only its own: they
//!   may have trusted a holder that failed. So the next attempt of that holder, or any run before it, makes
//!   up for the failure.
//! - A holder that fails for good calls [`RecalculationLock::forfeit`], which tells whether a new request must
//!   take its place.
//! - After a failover of Redis every holder from before it has failed, and the lock is free.

mod guard;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use deadpool_redis::{Pool, PoolError};
use pricing_core::clock::millis;
use pricing_core::recalculation::SKIPPED;
use pricing_core::redis::Redis;
use pricing_core::trace::{current_traceparent, integer, redis_call};
use pricing_queue::Fence;
use rand::RngExt as _;
use redis::{FromRedisValue, RedisError, Script, ScriptInvocation};
use tracing::Span;

pub use guard::{LockGuard, Release};

static ACQUIRE: LazyLock<Script> = LazyLock::new(|| script(include_str!("acquire.lua")));
static FORFEIT: LazyLock<Script> = LazyLock::new(|| script(include_str!("forfeit.lua")));

/// The lock could not be reached, or its state is unknown. It expires by itself.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("Redis failed")]
    Redis(#[from] RedisError),
    #[error("no connection to Redis")]
    Pool(#[from] PoolError),
    #[error("a script of the lock gave an unknown reply: {0}")]
    Reply(String),
}

/// The answer to a run that asks for the lock.
#[derive(Debug)]
pub enum Acquire {
    Acquired(LockGuard),
    /// Another task holds the lock and will cover the request.
    HeldByAnother,
    /// A scan that started after the request was made has ended.
    Covered,
    /// The run has been taken over by another one.
    Superseded,
}

impl Acquire {
    fn parse(reply: String, guard: impl FnOnce() -> LockGuard) -> Result<Self, LockError> {
        match reply.as_str() {
            "acquired" => Ok(Self::Acquired(guard())),
            "held" => Ok(Self::HeldByAnother),
            "covered" => Ok(Self::Covered),
            "superseded" => Ok(Self::Superseded),
            _ => Err(LockError::Reply(reply)),
        }
    }

    /// The name of the answer in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Acquired(_) => "acquired",
            Self::HeldByAnother => "held",
            Self::Covered => "covered",
            Self::Superseded => "superseded",
        }
    }
}

/// What a task that fails for good leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forfeit {
    /// Nothing.
    Covered,
    /// A newer request that may have been skipped trusting the task: a new request must take its place. (An
    /// older request that was skipped dies with the task; an operator replays it.)
    Open,
    /// The run has been taken over, so its task does not die. Nothing was changed.
    Superseded,
}

impl Forfeit {
    fn parse(reply: String) -> Result<Self, LockError> {
        match reply.as_str() {
            "open" => Ok(Self::Open),
            "covered" => Ok(Self::Covered),
            "superseded" => Ok(Self::Superseded),
            _ => Err(LockError::Reply(reply)),
        }
    }
}

struct Keys {
    /// Task, attempt and nonce of the holder, and the Redis that gave the lock; expires.
    lock: String,
    /// The same without a TTL, so that it is not evicted.
    kept: String,
    /// The highest request that a scan covered.
    covered: String,
    /// The highest request that was skipped because the lock was held, or dropped because the queue was full.
    skipped: String,
    /// `traceparent`s of the latest requests that were skipped so.
    skipped_traces: String,
}

/// The global lock `recalculate_global_lock`.
///
/// **At most one task holds it.** It expires after its TTL by the clock of Redis; a holder that was paused
/// for longer can neither renew nor release the lock of another. Its value names task and attempt, so a
/// redelivered task takes over from its own dead attempt at once.
///
/// **Only the current run of a task holds it, on the Redis that gave the lock.** Each script compares the lease of
/// the run, and the Redis that gave lease and lock. After a failover, which may have lost requests that the holder
/// has noted, it can neither cover nor release, and its lock is free for others.
///
/// **A Redis that is out of memory takes the lock from nobody.** It may evict a key that has a TTL, so a second key
/// keeps what the lock holds, with the time at which it expires.
#[derive(Clone)]
pub struct RecalculationLock {
    pool: Pool,
    keys: Arc<Keys>,
    ttl: Duration,
}

impl RecalculationLock {
    pub fn new(redis: &Redis, ttl: Duration) -> Self {
        let key = |name: &str| format!("{}{name}", redis.prefix);
        Self {
            pool: redis.pool.clone(),
            keys: Arc::new(Keys {
                lock: key("recalculate_global_lock"),
                kept: key("recalculate_global_lock_kept"),
                covered: key("recalculate_covered"),
                skipped: key(SKIPPED),
                skipped_traces: key("recalculate_skipped_traces"),
            }),
            ttl,
        }
    }

    /// Asks for the lock on behalf of a run.
    ///
    /// Only the current run of a task gets it. Requests are skipped trusting the holder, so it must be a run
    /// that is retried when it fails.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn acquire(&self, fence: Fence) -> Result<Acquire, LockError> {
        let nonce = rand::rng().random();
        let token = format!("{}:{}:{nonce:016x}", fence.task_id(), fence.attempt());
        let asked = Instant::now();
        let mut call = self.invocation(&ACQUIRE, &fence);
        let Keys { covered, skipped, skipped_traces, .. } = &*self.keys;
        call.key(covered).key(skipped).key(skipped_traces);
        call.arg(&token).arg(millis(self.ttl)).arg(current_traceparent().unwrap_or_default());
        let reply: String = redis_call("EVALSHA acquire lock", self.invoke(&call)).await?;
        Acquire::parse(reply, || LockGuard { lock: self.clone(), fence, token, nonce, asked })
    }

    /// Gives up on a task for good: releases the lock if the task holds it, or the run that it follows up.
    /// Harmless to repeat.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn forfeit(&self, fence: &Fence) -> Result<Forfeit, LockError> {
        let mut call = self.invocation(&FORFEIT, fence);
        call.key(&self.keys.covered).key(&self.keys.skipped);
        Forfeit::parse(redis_call("EVALSHA forfeit lock", self.invoke(&call)).await?)
    }

    /// An invocation of a script of the lock, which begins with the lock's two keys.
    fn invocation<'s>(&self, script: &'s Script, fence: &Fence) -> ScriptInvocation<'s> {
        let mut call = fence.invocation(script);
        call.key(&self.keys.lock).key(&self.keys.kept);
        call
    }

    async fn invoke<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, LockError> {
        let asked = Instant::now();
        let connection = self.pool.get().await;
        Span::current().record("pricing.pool_wait_ms", integer(millis(asked.elapsed())));
        let mut connection = connection?;
        Ok(call.invoke_async(&mut connection).await?)
    }
}

/// A script of the lock, which takes a fence.
fn script(lua: &str) -> Script {
    Fence::script(&[include_str!("lock.lua"), lua].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_that_no_script_gives_is_an_error() {
        for reply in ["", "OK", "Superseded", "lost"] {
            let acquire = Acquire::parse(reply.to_owned(), || unreachable!("not acquired"));
            assert!(matches!(acquire, Err(LockError::Reply(_))), "{reply}");
            assert!(matches!(Forfeit::parse(reply.to_owned()), Err(LockError::Reply(_))), "{reply}");
        }
        for reply in ["", "OK", "moved", "superseded"] {
            assert!(matches!(Release::parse(reply.to_owned()), Err(LockError::Reply(_))), "{reply}");
        }
    }
}
