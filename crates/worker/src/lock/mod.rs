//! The lock that lets one full recalculation run at a time, and loses no request for one.
//!
//! Every request takes a number from a counter when it is queued. A scan covers all numbers given out
//! before it started, because whoever asks does so after changing the catalogue. So:
//!
//! - a request whose number is covered needs no scan of its own;
//! - a request that finds the lock held needs none either, *provided that the holder scans again* when
//!   a number was given out after its scan started. [`Held::release_if_covered`] checks that and
//!   releases in one script, so no request can slip in between;
//! - whoever finds the lock free must cover all that were ever skipped, not its own request only: they may
//!   have trusted a holder that failed. So a holder that fails for a while is made good by its own next
//!   attempt, or by anybody else before that;
//! - a holder that fails for good calls [`RecalculationLock::forfeit`], which tells whether a fresh request
//!   must take its place.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use deadpool_redis::{Pool, PoolError};
use rand::RngExt as _;
use redis::{FromRedisValue, RedisError, Script, ScriptInvocation};
use tracing::Span;

use pricing_core::causes::causes;
use pricing_core::ids::TaskId;
use pricing_core::redis::Redis;
use pricing_core::trace::{current_traceparent, link_trace};

static ACQUIRE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("acquire.lua")));
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("renew.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("release.lua")));
static ABANDON: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("abandon.lua")));
static FORFEIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("forfeit.lua")));

/// The lock could not be reached. It expires by itself.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Redis is away, slow or refused the command.
    #[error("Redis failed")]
    Redis(#[from] RedisError),
    /// No connection to Redis could be had.
    #[error("no connection to Redis")]
    Pool(#[from] PoolError),
}

/// What came of asking for the lock.
#[derive(Debug)]
pub enum Acquire {
    /// The lock is ours.
    Acquired(Held),
    /// Another task holds it and will cover this request.
    HeldByAnother,
    /// A scan that started after this request was made has ended.
    Covered,
    /// The run that asks has been taken over by another one.
    Superseded,
}

/// Who asks for the lock, and by what right.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The task.
    pub task: &'a TaskId,
    /// Which attempt of it, for whoever looks at the lock.
    pub attempt: u32,
    /// Number of its request.
    pub number: u64,
    /// Key of the task's record, whose field `lease` names the run that is current.
    pub record: &'a str,
    /// The lease of the run that asks. Only the current one may hold the lock: others are skipped trusting
    /// the holder, so it must be one that is tried again when it fails.
    pub lease: &'a str,
}

/// What a task that gives up for good leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forfeit {
    /// Nothing.
    Covered,
    /// A newer request that may have been skipped trusting it: a fresh one must be queued in its place. (An
    /// older one that was dies with it: the dead task is what to replay.)
    Open,
    /// The run was taken over by another one, so the task does not die. Nothing was done.
    Superseded,
}

/// What came of ending a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The lock is free; every request made so far is covered.
    Released,
    /// Requests were made since the scan started: scan again. The lock is still ours.
    Moved,
    /// The lock was not ours any more; nothing was recorded.
    Lost,
}

/// The keys of the lock and of what is known about requests.
#[derive(Clone)]
struct Keys {
    /// Task, attempt and a random token of the holder; expires.
    lock: String,
    /// The number of the latest request.
    numbers: String,
    /// The highest number that a scan covered.
    covered: String,
    /// The highest number that was skipped because the lock was held.
    skipped: String,
    /// `traceparent`s of the latest that were skipped so.
    waiting: String,
}

/// The global lock `recalculate_global_lock`.
///
/// **At most one task holds it.** It expires by itself after its time to live, by the clock of Redis, and
/// a holder that was paused for longer finds so: it can neither renew nor release what is not its own.
/// Its value names task and attempt, so a redelivered task takes over from its own dead attempt at once.
#[derive(Clone)]
pub struct RecalculationLock {
    pool: Pool,
    keys: Keys,
    life: Duration,
}

impl RecalculationLock {
    /// The lock of this Redis and prefix, for requests numbered by the counter at key `numbers`.
    pub fn new(redis: &Redis, numbers: String, life: Duration) -> Self {
        let key = |name: &str| format!("{}{name}", redis.prefix);
        Self {
            pool: redis.pool.clone(),
            keys: Keys {
                lock: key("recalculate_global_lock"),
                numbers,
                covered: key("recalculate_covered"),
                skipped: key("recalculate_skipped"),
                waiting: key("recalculate_waiting"),
            },
            life,
        }
    }

    /// Asks for the lock on behalf of one attempt of a task.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn acquire(&self, claim: Claim<'_>) -> Result<Acquire, LockError> {
        let Claim { task, attempt, number, record, lease } = claim;
        let token = format!("{task}:{attempt}:{:016x}", rand::rng().random::<u64>());
        let Keys { lock, numbers, covered, skipped, waiting } = &self.keys;
        let asked = Instant::now();
        let mut call = ACQUIRE.key(lock);
        call.key(numbers).key(covered).key(skipped).key(waiting).key(record);
        call.arg(task.as_str()).arg(&token).arg(millis(self.life)).arg(number);
        call.arg(current_traceparent().unwrap_or_default()).arg(lease);
        let answer: String = self.invoke(&call).await?;
        Ok(match answer.as_str() {
            "acquired" => Acquire::Acquired(Held { lock: self.clone(), token, asked }),
            "covered" => Acquire::Covered,
            "held" => Acquire::HeldByAnother,
            _ => Acquire::Superseded,
        })
    }

    /// Gives up for good on behalf of a task: frees the lock if the task holds it, or the run that it is the
    /// follow-up of. Harmless to repeat.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn forfeit(&self, claim: Claim<'_>) -> Result<Forfeit, LockError> {
        let mut call = FORFEIT.key(&self.keys.lock);
        call.key(&self.keys.numbers).key(&self.keys.covered).key(&self.keys.skipped).key(claim.record);
        call.arg(claim.task.as_str()).arg(claim.number).arg(claim.lease);
        let answer: String = self.invoke(&call).await?;
        Ok(match answer.as_str() {
            "open" => Forfeit::Open,
            "covered" => Forfeit::Covered,
            _ => Forfeit::Superseded,
        })
    }

    async fn invoke<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, LockError> {
        let mut connection = self.pool.get().await?;
        Ok(call.invoke_async(&mut connection).await?)
    }
}

/// The lock, held.
#[derive(Clone)]
pub struct Held {
    lock: RecalculationLock,
    token: String,
    /// When the lock was asked for: it lives at least as long from here.
    asked: Instant,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("token", &self.token).finish_non_exhaustive()
    }
}

impl Held {
    /// Renews the lock every third of its life; returns when it is lost, or can no longer be known to be
    /// ours. Whatever runs under the lock must end then.
    pub async fn renew_until_lost(&self) {
        let mut renewed = self.asked;
        loop {
            let left = self.lock.life.saturating_sub(renewed.elapsed());
            // Renewed in time, it has two thirds of its life left; until it is, it is tried more often.
            let pause = if left > self.lock.life * 2 / 3 { self.lock.life / 3 } else { self.lock.life / 15 };
            tokio::time::sleep(left.min(pause)).await;
            let asked = Instant::now();
            let mut call = RENEW.key(&self.lock.keys.lock);
            call.arg(&self.token).arg(millis(self.lock.life));
            let left = self.lock.life.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.lock.invoke::<bool>(&call)).await {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => {
                    tracing::warn!(error = %causes(&error), "cannot renew the lock")
                }
            }
        }
    }

    /// The highest number given out so far. Read before a scan starts: the scan covers it.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn numbers_given(&self) -> Result<u64, LockError> {
        let mut connection = self.lock.pool.get().await?;
        let given: Option<u64> =
            redis::cmd("GET").arg(&self.lock.keys.numbers).query_async(&mut connection).await?;
        Ok(given.unwrap_or(0))
    }

    /// Ends a scan that started when `covers` was the highest number: releases the lock, unless a number
    /// was given out since. Links the current span to the latest of those that found the lock held.
    ///
    /// # Errors
    ///
    /// When Redis is away; then the lock is held until it expires or this task is tried again.
    pub async fn release_if_covered(&self, covers: u64) -> Result<Release, LockError> {
        self.end_scan(covers, "if covered").await
    }

    /// Like [`Held::release_if_covered`], but releases even if newer requests are open. Queue one that
    /// covers them first, under the id of [`Held::follow_up_id`]: it may find the lock still held, and takes
    /// it over then, so that this answers [`Release::Lost`].
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn release_anyway(&self, covers: u64) -> Result<Release, LockError> {
        self.end_scan(covers, "anyway").await
    }

    /// The id of the task that may take the lock over from this holder: no other task ever has it.
    pub fn follow_up_id(&self) -> TaskId {
        let random = self.token.rsplit(':').next().unwrap_or_default();
        TaskId::parse(format!("follow-up.{random}")).unwrap_or_else(|_| TaskId::generate()) // it always parses
    }

    async fn end_scan(&self, covers: u64, mode: &str) -> Result<Release, LockError> {
        let Keys { lock, numbers, covered, waiting, .. } = &self.lock.keys;
        let mut call = RELEASE.key(lock);
        call.key(numbers)
            .key(covered)
            .key(waiting)
            .arg(&self.token)
            .arg(covers)
            .arg(millis(self.lock.life))
            .arg(mode);
        let (answer, covered): (String, Vec<String>) = self.lock.invoke(&call).await?;
        covered.iter().for_each(|waiting| link_trace(&Span::current(), waiting));
        Ok(match answer.as_str() {
            "released" => Release::Released,
            "moved" => Release::Moved,
            _ => Release::Lost,
        })
    }

    /// Frees the lock after a scan that failed, covering nothing: the task will be tried again.
    ///
    /// # Errors
    ///
    /// When Redis is away; then the lock is held until it expires or this task is tried again.
    pub async fn abandon(&self) -> Result<(), LockError> {
        let mut call = ABANDON.key(&self.lock.keys.lock);
        call.arg(&self.token);
        self.lock.invoke(&call).await
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
