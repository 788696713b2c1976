//! The job that apalis runs for each task.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apalis::prelude::{AbortError, BoxDynError, Data, DeferredError};
use pricing_core::causes::causes;
use pricing_core::clock::{millis, now_ms};
use pricing_core::ids::TaskId;
use pricing_core::recalculation::{InvalidPayload, QUEUE, Recalculation};
use pricing_core::trace::{continue_trace, integer, mark_failed};
use pricing_queue::{DeferFor, Lease, OnDead};
use tracing::field::Empty;
use tracing::{Span, info_span};

use crate::coordinator::Coordinator;
use crate::metrics;
use crate::outcome::{Outcome, RecalculationError, Recorded, Treatment, outcome_name};

/// How long a task of another schema waits for a build that can read it, before it is dead.
const SCHEMA_PATIENCE: Duration = Duration::from_secs(60 * 60);
/// Time until it is tried again.
const SCHEMA_DELAY: Duration = Duration::from_secs(5);

/// The span of a run, in the trace of its task.
pub(crate) fn span(lease: &Lease) -> Span {
    let record = lease.record();
    let span = info_span!(
        "process recalculate",
        otel.kind = "consumer",
        otel.status_code = Empty,
        messaging.system = "redis",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = QUEUE,
        messaging.message.id = record.id,
        pricing.attempt = i64::from(record.attempts),
        pricing.queue_wait_ms = integer(millis(lease.queue_wait())),
        pricing.outcome = Empty,
    );
    continue_trace(&span, record.traceparent.as_deref());
    span
}

/// Runs one task: decodes its payload and recalculates.
///
/// The error tells the queue how to treat the task: [`AbortError`] dead-letters it, [`DeferredError`] requeues
/// it, [`DeferFor`] requeues it after a delay, any other error has it retried.
pub(crate) async fn recalculate(
    payload: String,
    lease: Data<Lease>,
    coordinator: Data<Arc<Coordinator>>,
) -> Result<Outcome, BoxDynError> {
    metrics::run_started(lease.queue_wait());
    let started = Instant::now();
    let ended = run(&payload, &lease, &coordinator).await;
    let outcome = outcome_name(&ended);
    metrics::run_ended(outcome, started.elapsed());
    Span::current().record("pricing.outcome", outcome);
    ended.map_err(|error| report(error, &lease))
}

async fn run(payload: &str, lease: &Lease, coordinator: &Coordinator) -> Result<Outcome, RecalculationError> {
    let request = decode(payload, lease.age())?;
    let task = TaskId::parse(lease.record().id.as_str())?;
    let outcome = coordinator.recalculate(&task, lease).await?;
    let updated_count = outcome.updated_count();
    tracing::info!(
        task_id = %task,
        reason = request.reason,
        outcome = outcome_name(&Ok(outcome)),
        updated_count,
        "recalculation ended"
    );
    if updated_count.is_some() {
        metrics::event_to_price(now_ms() - request.requested_at_ms);
    }
    Ok(outcome)
}

/// Decodes the payload of a task of this age.
fn decode(payload: &str, age: Duration) -> Result<Recalculation, RecalculationError> {
    Recalculation::decode(payload).map_err(|error| match error {
        InvalidPayload::Schema(_) if age < SCHEMA_PATIENCE => RecalculationError::UnknownSchema(error),
        _ => error.into(),
    })
}

/// Logs a failure, here and nowhere else, and tells the queue how to treat the task.
fn report(error: RecalculationError, lease: &Lease) -> BoxDynError {
    let (task_id, attempt) = (lease.record().id.as_str(), lease.record().attempts);
    let treatment = error.treatment();
    if !matches!(treatment, Treatment::Requeue | Treatment::Defer) {
        mark_failed(&Span::current(), &error);
        metrics::run_failed(treatment == Treatment::Retry);
    }
    match treatment {
        Treatment::Requeue => {
            tracing::info!(task_id, attempt, "recalculation interrupted; its task is requeued");
            DeferredError::new(error).into()
        }
        Treatment::Defer => {
            tracing::warn!(task_id, attempt, error = %causes(&error), "task left to a worker that can read it");
            DeferFor { delay: SCHEMA_DELAY, error: Recorded::from(error).into() }.into()
        }
        Treatment::Retry => {
            let retries_left = lease.retries_left();
            if retries_left > 0 {
                metrics::retry();
            }
            tracing::warn!(task_id, attempt, retries_left, error = %causes(&error), "recalculation failed");
            Recorded::from(error).into()
        }
        Treatment::DeadLetter => {
            tracing::error!(task_id, attempt, error = %causes(&error), "recalculation failed for good");
            AbortError::new(Recorded::from(error)).into()
        }
    }
}

/// Before a task is dead-lettered, enqueues a follow-up for requests that were skipped because of it.
pub(crate) fn on_dead(coordinator: Arc<Coordinator>) -> OnDead {
    Arc::new(move |lease, error| {
        let coordinator = coordinator.clone();
        Box::pin(async move {
            // A task that cannot be read as well: a message may have been dropped trusting it while it waited.
            let record = lease.record();
            if !coordinator.forfeit(&lease).await? {
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
    fn a_payload_of_another_schema_waits_an_hour_for_a_build_that_reads_it() {
        let decode = |payload, minutes: u64| decode(payload, Duration::from_secs(60 * minutes)).unwrap_err();
        for schema in [r#"{"schema":0}"#, r#"{"schema":2,"why":"x"}"#] {
            assert!(matches!(decode(schema, 59), RecalculationError::UnknownSchema(_)), "{schema}");
            assert!(matches!(decode(schema, 60), RecalculationError::Payload(_)), "{schema}");
        }
        assert!(matches!(decode("garbage", 0), RecalculationError::Payload(_)));
    }
}
