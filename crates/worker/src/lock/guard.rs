//! The lock in the hands of its holder.

use std::sync::LazyLock;
use std::time::Instant;

use pricing_core::causes::causes;
use pricing_core::clock::millis;
use pricing_core::ids::TaskId;
use pricing_core::trace::{link_trace, redis_call};
use pricing_queue::Fence;
use redis::Script;
use tracing::Span;

use super::{Keys, LockError, RecalculationLock, script};

static RENEW: LazyLock<Script> = LazyLock::new(|| script(include_str!("renew.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| script(include_str!("release.lua")));
static ABANDON: LazyLock<Script> = LazyLock::new(|| script(include_str!("abandon.lua")));

/// The answer to a holder that has ended a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The lock is free; every request made so far is covered.
    Released,
    /// A request was made since the scan started: scan again. The lock is still held.
    NewerRequests,
    /// The run is not current any more, or did not hold the lock; nothing was recorded.
    Lost,
}

impl Release {
    pub(super) fn parse(reply: String) -> Result<Self, LockError> {
        match reply.as_str() {
            "released" => Ok(Self::Released),
            "newer_requests" => Ok(Self::NewerRequests),
            "lost" => Ok(Self::Lost),
            _ => Err(LockError::Reply(reply)),
        }
    }
}

/// The lock in the hands of its holder. It is not released when this is dropped: it expires.
#[derive(Clone)]
pub struct LockGuard {
    pub(super) lock: RecalculationLock,
    pub(super) fence: Fence,
    pub(super) token: String,
    /// The random part of the token.
    pub(super) nonce: u64,
    /// When the lock was asked for: its TTL began no earlier.
    pub(super) asked: Instant,
}

impl std::fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockGuard").field("token", &self.token).finish_non_exhaustive()
    }
}

impl LockGuard {
    /// Renews the lock every third of its TTL. Returns when it is lost, or may have expired; the work under
    /// the lock must end then.
    pub async fn renew_until_lost(&self) {
        let ttl = self.lock.ttl;
        let mut renewed = self.asked;
        loop {
            let left = ttl.saturating_sub(renewed.elapsed());
            // Renewed in time, it has two thirds of its TTL left. After a failure it is tried more often.
            let pause = if left > ttl * 2 / 3 { ttl / 3 } else { ttl / 15 };
            tokio::time::sleep(left.min(pause)).await;
            let asked = Instant::now();
            let mut call = self.lock.invocation(&RENEW, &self.fence);
            call.arg(&self.token).arg(millis(ttl));
            let left = ttl.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.lock.invoke::<bool>(&call)).await {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => tracing::warn!(error = %causes(&error), "lock not renewed"),
            }
        }
    }

    /// Ends a scan that started when `covers` was the last request: releases the lock, unless a newer request
    /// has arrived. Links the current span to the latest requests that were skipped.
    ///
    /// # Errors
    ///
    /// When Redis is away. Then the lock is held until it expires or the task is retried.
    pub async fn release_if_covered(&self, covers: u64) -> Result<Release, LockError> {
        self.release(covers, "if_covered").await
    }

    /// Like [`LockGuard::release_if_covered`], but releases even if newer requests have arrived. Enqueue a
    /// request that covers them first, under the id of [`LockGuard::follow_up_id`]: its run may find the lock
    /// still held, and takes it over then, so that this answers [`Release::Lost`].
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn release_anyway(&self, covers: u64) -> Result<Release, LockError> {
        self.release(covers, "always").await
    }

    async fn release(&self, covers: u64, mode: &str) -> Result<Release, LockError> {
        let Keys { covered, skipped_traces, .. } = &*self.lock.keys;
        let mut call = self.lock.invocation(&RELEASE, &self.fence);
        call.key(covered).key(skipped_traces);
        call.arg(&self.token).arg(covers).arg(millis(self.lock.ttl)).arg(mode);
        let (reply, traces): (String, Vec<String>) =
            redis_call("EVALSHA release lock", self.lock.invoke(&call)).await?;
        traces.iter().for_each(|traceparent| link_trace(&Span::current(), traceparent));
        Release::parse(reply)
    }

    /// Releases the lock after a scan that failed. It covers nothing; the task will be retried.
    ///
    /// # Errors
    ///
    /// When Redis is away. Then the lock is held until it expires or the task is retried.
    pub async fn abandon(&self) -> Result<(), LockError> {
        let mut call = self.lock.invocation(&ABANDON, &self.fence);
        call.arg(&self.token);
        redis_call("EVALSHA abandon lock", self.lock.invoke(&call)).await
    }

    /// The id of the one task that may take the lock over from this holder.
    pub fn follow_up_id(&self) -> TaskId {
        let id = TaskId::parse(format!("follow-up.{:016x}", self.nonce));
        id.expect("invariant: a prefix and hexadecimal digits are a task id")
    }
}
