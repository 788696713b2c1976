//! What apalis runs for each task.

use std::sync::Arc;
use std::time::Instant;

use apalis::prelude::{AbortError, BoxDynError, Data, DeferredError};
use pricing_core::causes::causes;
use pricing_core::ids::TaskId;
use pricing_core::job::{QUEUE, Recalculation, now_ms};
use pricing_core::trace::continue_trace;
use pricing_queue::{Lease, OnDead};
use serde::Serialize;
use tracing::{Instrument as _, info_span};

use crate::metrics;
use crate::recalculate::{Failure, Recalculator};

/// What a recalculation ended as: the result in the task's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// All prices were recalculated.
    Updated {
        /// Number of products.
        updated_count: u64,
    },
    /// There was nothing to do.
    Skipped {
        /// Why not.
        reason: Reason,
    },
}

/// Why a recalculation was skipped. Its request is met all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Another worker is recalculating, and will scan again for this request.
    LockHeldByAnotherWorker,
    /// A recalculation that started after this request was made has ended.
    CoveredByANewerRecalculation,
}

/// Runs one task: decodes its payload, continues its trace and recalculates.
///
/// # Errors
///
/// A failure that will not go away by itself as [`AbortError`], which ends the task; the end of the process
/// as [`DeferredError`], which hands it back; any other as it is, which has it tried again.
pub async fn recalculate(
    payload: String,
    lease: Data<Lease>,
    recalculator: Data<Arc<Recalculator>>,
) -> Result<Outcome, BoxDynError> {
    let record = lease.record();
    let span = info_span!(
        "process recalculate",
        otel.kind = "consumer",
        otel.status_code = tracing::field::Empty,
        messaging.system = "redis",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = QUEUE,
        messaging.message.id = record.id,
        attempt = record.attempts,
        queue_wait_ms = u64::try_from(lease.queue_wait().as_millis()).unwrap_or(u64::MAX),
    );
    continue_trace(&span, record.traceparent.as_deref());
    metrics::started(lease.queue_wait());
    async {
        let started = Instant::now();
        let ended = attempt(&payload, &lease, &recalculator).await;
        metrics::ended(&ended, started.elapsed());
        ended.map_err(|failure| report(failure, &lease))
    }
    .instrument(span)
    .await
}

async fn attempt(payload: &str, lease: &Lease, recalculator: &Recalculator) -> Result<Outcome, Failure> {
    let job = Recalculation::decode(payload)?;
    let task = TaskId::parse(lease.record().id.as_str())?;
    let outcome = recalculator.run(&task, lease).await?;
    tracing::info!(task_id = %task, outcome = ?outcome, reason = job.reason, "recalculation ended");
    if matches!(outcome, Outcome::Updated { .. }) {
        metrics::event_to_price(now_ms() - job.requested_at_ms);
    }
    Ok(outcome)
}

/// Logs a failure, here and nowhere else, and says how the task goes on.
fn report(failure: Failure, lease: &Lease) -> BoxDynError {
    let (task_id, attempt) = (lease.record().id.as_str(), lease.record().attempts);
    let error = causes(&failure).to_string();
    if matches!(failure, Failure::Closing) {
        tracing::info!(task_id, attempt, "recalculation interrupted: its task is handed back");
        return DeferredError::new(failure).into();
    }
    tracing::Span::current().record("otel.status_code", "ERROR");
    if failure.is_transient() {
        let retries_left = lease.retries_left();
        if retries_left > 0 {
            metrics::retry();
        }
        tracing::warn!(task_id, attempt, retries_left, error, "recalculation failed");
        failure.into()
    } else {
        tracing::error!(task_id, attempt, error, "recalculation failed for good");
        AbortError::new(failure).into()
    }
}

/// What happens before a task is dead: requests that were skipped trusting it get one that covers them.
pub fn on_dead(recalculator: Arc<Recalculator>) -> OnDead {
    Arc::new(move |lease, error| {
        let recalculator = recalculator.clone();
        Box::pin(async move {
            let record = lease.record();
            // What was never a recalculation never held the lock, and nobody trusted it.
            let task = TaskId::parse(record.id.as_str());
            if let (Ok(_), Ok(_)) = (Recalculation::decode(&record.payload), task)
                && !recalculator.forfeit(&lease).await?
            {
                return Ok(());
            }
            tracing::error!(
                task_id = record.id,
                attempts = record.attempts,
                error,
                "task is dead; replay it with `pricing-worker tasks replay`"
            );
            metrics::dead();
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_read_as_the_contract_says() {
        let json = |outcome| serde_json::to_string(&outcome).unwrap();
        assert_eq!(
            json(Outcome::Updated { updated_count: 900 }),
            r#"{"status":"updated","updated_count":900}"#
        );
        assert_eq!(
            json(Outcome::Skipped { reason: Reason::LockHeldByAnotherWorker }),
            r#"{"status":"skipped","reason":"lock_held_by_another_worker"}"#
        );
        assert_eq!(
            json(Outcome::Skipped { reason: Reason::CoveredByANewerRecalculation }),
            r#"{"status":"skipped","reason":"covered_by_a_newer_recalculation"}"#
        );
    }
}
