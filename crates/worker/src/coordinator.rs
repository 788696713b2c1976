//! One recalculation of all prices: the lock, the scans, the follow-up.

use std::sync::Arc;

use pricing_core::causes::causes;
use pricing_core::ids::TaskId;
use pricing_core::recalculation::{Recalculation, RecalculationQueue};
use pricing_core::trace::integer;
use pricing_queue::Lease;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, info_span};

use crate::lock::{Acquire, Forfeit, RecalculationLock, Release};
use crate::metrics;
use crate::outcome::{Outcome, RecalculationError, SkipReason};
use crate::scan::Scanner;

/// Maximum number of scans of one run, so that a steady stream of requests cannot occupy it for ever.
const MAX_SCANS: i64 = 3;

/// Recalculates all prices, one run at a time over all workers.
pub(crate) struct Coordinator {
    pub(crate) lock: RecalculationLock,
    pub(crate) queue: RecalculationQueue,
    pub(crate) scanner: Arc<Scanner>,
    /// Cancelled when the process is to end.
    pub(crate) closing: CancellationToken,
}

impl Coordinator {
    /// Makes one run of a task: acquires the lock, scans the catalogue until no request is newer than the
    /// scan, and releases the lock. After [`MAX_SCANS`] scans it leaves newer requests to a follow-up.
    ///
    /// The run is skipped when its request is covered, or when another task holds the lock and will cover it.
    /// It ends at once when the lock is lost, and after the current batch when the process is to end. It may be
    /// dropped at any point and repeated.
    pub(crate) async fn recalculate(
        &self,
        task: &TaskId,
        lease: &Lease,
    ) -> Result<Outcome, RecalculationError> {
        let acquired = self.lock.acquire(lease.fence()).await?;
        metrics::lock_requested(acquired.as_str());
        let guard = match acquired {
            Acquire::Acquired(guard) => guard,
            Acquire::Covered => return Ok(Outcome::skipped(SkipReason::CoveredByANewerRecalculation)),
            Acquire::HeldByAnother => return Ok(Outcome::skipped(SkipReason::LockHeldByAnotherWorker)),
            Acquire::Superseded => return Err(RecalculationError::LeaseLost),
        };

        let scans = async {
            self.scanner.simulation.external_call()?;
            let mut scan = 1;
            loop {
                let covers = lease.last_request().await?.ok_or(RecalculationError::LeaseLost)?;
                let span = info_span!(
                    "scan",
                    pricing.scan = scan,
                    pricing.covers = integer(covers),
                    pricing.products = Empty,
                );
                let scanned = self.scanner.scan(task, lease, &self.closing).instrument(span).await?;
                match guard.release_if_covered(covers).await? {
                    Release::Released => return Ok(scanned),
                    Release::NewerRequests if scan < MAX_SCANS => scan += 1,
                    Release::NewerRequests => {
                        self.follow_up(&guard.follow_up_id(), "requests went on during three scans").await?;
                        // Lost to the follow-up if that has begun: then it covers the newer requests.
                        guard.release_anyway(covers).await?;
                        return Ok(scanned);
                    }
                    Release::Lost => return Err(RecalculationError::LockLost),
                }
            }
        };
        let scanned = tokio::select! {
            scanned = scans => scanned,
            () = guard.renew_until_lost() => Err(RecalculationError::LockLost),
        };

        if let Err(RecalculationError::LockLost) = scanned {
            metrics::lock_lost();
        } else if scanned.is_err()
            && let Err(error) = guard.abandon().await
        {
            tracing::warn!(error = %causes(&error), "lock not released: it is held until it expires");
        }
        Ok(Outcome::Updated(scanned?))
    }

    /// Gives up on a task for good: releases its lock, and enqueues a follow-up if requests were skipped
    /// trusting it. Returns whether the task is to die: not if it has been taken over. Safe to repeat.
    pub(crate) async fn forfeit(&self, lease: &Lease) -> Result<bool, RecalculationError> {
        match self.lock.forfeit(&lease.fence()).await? {
            Forfeit::Superseded => return Ok(false),
            Forfeit::Covered => {}
            Forfeit::Open => {
                // The same id when this run repeats the step, and no other task's.
                let id = TaskId::parse(format!("instead-of.{:016x}", lease.nonce()));
                let id = id.expect("invariant: a prefix and hexadecimal digits are a task id");
                self.follow_up(&id, "in place of a dead task").await?;
            }
        }
        Ok(true)
    }

    /// Enqueues a task for requests that a run leaves uncovered: once per id, and even if the queue is full,
    /// because the run must end for the queue to drain.
    async fn follow_up(&self, id: &TaskId, reason: &str) -> Result<(), RecalculationError> {
        self.queue.enqueue_beyond_capacity(id, &Recalculation::now(reason)).await?;
        tracing::info!(task_id = %id, reason, "follow-up enqueued");
        Ok(())
    }
}
