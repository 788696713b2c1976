//! Replays of dead tasks, each with its row in the audit.

use pricing_queue::{Queue, QueueError, TaskState};

use crate::audit::{Audit, AuditEntry};
use crate::catalogue::CatalogueError;
use crate::trace::redis_call;

/// What came of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// The task is in the queue again.
    Queued,
    /// The task is not dead, so nothing was done.
    NotDead,
    /// There is no such task.
    Unknown,
}

/// A replay that failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Its row in the audit cannot be written, so nothing was done.
    #[error("the replay was refused: its row in the audit cannot be written")]
    Audit(#[source] CatalogueError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Puts a dead task back in the queue, after a row in the audit says so. A replay of any other task leaves a row too,
/// which says why it was refused.
///
/// `entry` says who replays it; the task is added here.
///
/// # Errors
///
/// When the row cannot be written, Redis is away or too few replicas have the write.
pub async fn replay(
    queue: &Queue,
    audit: &Audit,
    entry: AuditEntry,
    task: &str,
) -> Result<Replayed, ReplayError> {
    let entry = entry.on(task);
    let record = redis_call("HGETALL task record", queue.task(task)).await?;
    let refusal = match record.map(|record| record.state) {
        Some(TaskState::Dead) => {
            audit.record(&entry).await.map_err(ReplayError::Audit)?;
            if redis_call("EVALSHA replay", queue.replay(task)).await? {
                return Ok(Replayed::Queued);
            }
            Replayed::NotDead // somebody else was faster
        }
        Some(_) => Replayed::NotDead,
        None => Replayed::Unknown,
    };
    let reason = if refusal == Replayed::Unknown { "refused: no such task" } else { "refused: not dead" };
    audit.record(&entry.with_detail(reason)).await.map_err(ReplayError::Audit)?;
    Ok(refusal)
}
