//! A recalculation under the lock.

use crate::lock::{Acquire, Forfeit, LockError, LockGuard, RecalculationLock, Release};
use pricing_core::catalogue::CatalogueError;
use pricing_core::causes::causes;
use pricing_core::ids::{InvalidId, TaskId};
use pricing_core::job::{InvalidJob, Recalculation};
use pricing_core::simulation::ExternalApiTimeout;
use pricing_core::trace::current_traceparent;
use pricing_queue::{Lease, NewTask, Queue, QueueError};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use crate::job::{Outcome, Reason};
use crate::metrics;
use crate::scan::Scanner;

/// Scans one run makes at most, so that a steady stream of events cannot hold it for ever.
const MAX_SCANS: u32 = 3;

/// Why a recalculation failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The payload is no job for this build.
    #[error("the job cannot be read")]
    Job(#[from] InvalidJob),
    /// The task's id is none of ours.
    #[error("the task id is invalid")]
    Id(#[from] InvalidId),
    /// Products are there but no default market, so no list price can be computed.
    #[error("the catalogue has no market `default`: insert one")]
    NoDefaultMarket,
    /// The database failed or holds an invalid row.
    #[error("the catalogue failed")]
    Catalogue(#[from] CatalogueError),
    /// The database did not answer.
    #[error("the database did not answer within 15 s")]
    DatabaseSilent,
    /// The cache could not be written.
    #[error("the cache failed")]
    Cache(#[from] redis::RedisError),
    /// The lock could not be reached.
    #[error("the lock failed")]
    Lock(#[from] LockError),
    /// The queue could not be reached.
    #[error("the queue failed")]
    Queue(#[from] QueueError),
    /// An external service failed.
    #[error(transparent)]
    External(#[from] ExternalApiTimeout),
    /// The lock expired under us, as after a long pause of the process.
    #[error("the recalculation lock was lost")]
    LockLost,
    /// The process was asked to end; the task goes on in another one.
    #[error("the worker was asked to end")]
    Closing,
    /// The task was taken over, as after a long pause of the process.
    #[error("the task was taken over by another worker")]
    LeaseLost,
}

impl Failure {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        !matches!(
            self,
            Self::Job(_)
                | Self::Id(_)
                | Self::NoDefaultMarket
                | Self::Catalogue(CatalogueError::Invalid { .. })
        )
    }
}

/// Recalculates all prices, at most one at a time over all workers.
pub struct Recalculator {
    /// The global lock.
    pub lock: RecalculationLock,
    /// Where follow-up jobs are put.
    pub queue: Queue,
    /// What does the work.
    pub scanner: Scanner,
    /// Cancelled when the process is asked to end.
    pub closing: CancellationToken,
}

impl Recalculator {
    /// Runs one attempt of a task.
    ///
    /// Skips when another task holds the lock, which will scan again for this request, or when the request
    /// is covered. Otherwise scans until no request was made since the last scan started. The work ends at
    /// once when the lock is lost, and after the batch it is at when the process is to end; it can be repeated
    /// at any point without harm.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn run(&self, task: &TaskId, lease: &Lease) -> Result<Outcome, Failure> {
        let acquire = self.lock.acquire(lease.fence());
        let acquired = acquire
            .instrument(info_span!("acquire lock", otel.kind = "client", db.system.name = "redis"))
            .await?;
        metrics::acquired(&acquired);
        let held = match acquired {
            Acquire::Acquired(held) => held,
            Acquire::HeldByAnother => {
                return Ok(Outcome::Skipped { reason: Reason::LockHeldByAnotherWorker });
            }
            Acquire::Covered => return Ok(Outcome::Skipped { reason: Reason::CoveredByANewerRecalculation }),
            Acquire::Superseded => return Err(Failure::LeaseLost),
        };
        let work = async {
            self.scanner.simulation.external_call()?;
            self.scan_until_covered(&held, task, lease).await
        };
        let ended = tokio::select! {
            ended = work => ended,
            () = held.renew_until_lost() => Err(Failure::LockLost),
        };
        match ended {
            Ok(updated_count) => Ok(Outcome::Updated { updated_count }),
            Err(failure) => {
                if matches!(failure, Failure::LockLost) {
                    metrics::lock_lost();
                } else if let Err(error) = held.abandon().await {
                    tracing::warn!(
                        error = %causes(&error),
                        "the lock is held until it expires"
                    );
                }
                Err(failure)
            }
        }
    }

    /// Scans until every request made so far is covered, and releases the lock. Returns the number of
    /// products.
    async fn scan_until_covered(
        &self,
        held: &LockGuard,
        task: &TaskId,
        lease: &Lease,
    ) -> Result<u64, Failure> {
        let mut scans = 1;
        loop {
            let covers = self.queue.last_request().await?;
            let span = info_span!("scan", scan = scans, covers, products = tracing::field::Empty);
            let products = self.scanner.scan(task, lease, &self.closing).instrument(span).await?;
            match held.release_if_covered(covers).await? {
                Release::Released => return Ok(products),
                Release::NewerRequests if scans < MAX_SCANS => scans += 1,
                Release::NewerRequests => {
                    self.queue_follow_up(&held.follow_up_id(), "requests went on during three scans").await?;
                    // Lost to the follow-up, if it was begun already: then it covers what is left.
                    held.release_anyway(covers).await?;
                    return Ok(products);
                }
                Release::Lost => return Err(Failure::LockLost),
            }
        }
    }

    /// Gives up for good on behalf of a task, and queues a job for the requests that were skipped trusting
    /// it. Returns whether the task is to die: not if it has been taken over. Safe to repeat.
    ///
    /// # Errors
    ///
    /// When Redis is away.
    pub async fn forfeit(&self, lease: &Lease) -> Result<bool, Failure> {
        let number = lease.record().number;
        match self.lock.forfeit(&lease.fence()).await? {
            Forfeit::Superseded => return Ok(false),
            Forfeit::Covered => {}
            Forfeit::Open => {
                // A task dies once under a number: a replay gives it a new one.
                let id = TaskId::parse(format!("instead-of.{number}"))?;
                self.queue_follow_up(&id, "in place of a dead task").await?;
            }
        }
        Ok(true)
    }

    /// Queues a job that covers what a run leaves uncovered, once however often it is called, and even when
    /// the queue is full: the run must end for the queue to drain.
    async fn queue_follow_up(&self, id: &TaskId, reason: &str) -> Result<(), Failure> {
        let payload = Recalculation::now(reason).encode();
        let traceparent = current_traceparent();
        let task = NewTask { id: id.as_str(), payload: &payload, traceparent: traceparent.as_deref() };
        self.queue.enqueue_beyond_capacity(task).await?;
        tracing::info!(task_id = %id, reason, "follow-up job queued");
        Ok(())
    }
}
