//! The record of a task.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use pricing_core::audit::{AuditAction, AuditEntry};
use pricing_core::causes::causes;
use pricing_core::clock::rfc3339;
use pricing_core::failure::Failure;
use pricing_core::ids::TaskId;
use pricing_core::recalculation::Recalculation;
use pricing_core::trace::redis_call;
use pricing_queue::TaskRecord;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use validator::Validate;

use crate::auth::{Caller, Role, Tasks};
use crate::identifier::{Identifier, invalid_id, valid_id};
use crate::metrics;
use crate::parameters::ValidatedPath;
use crate::problem::{PROBLEM_JSON, Problem};
use crate::state::AppState;

/// The task, in the path.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct TaskPath {
    /// The task, or the market event that caused it: they share their id.
    #[validate(custom(function = valid_id))]
    #[param(value_type = Identifier)]
    task_id: String,
}

impl TaskPath {
    pub(crate) fn id(self) -> Result<TaskId, Problem> {
        TaskId::parse(self.task_id).map_err(invalid_id("task_id"))
    }
}

/// The record of a task. Times are RFC 3339 in UTC.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskAnswer {
    /// The task.
    #[schema(value_type = Identifier)]
    task_id: String,
    /// State: `queued`, `running`, `retrying`, `succeeded` or `dead`.
    #[schema(pattern = "^(queued|running|retrying|succeeded|dead)$", example = "succeeded")]
    state: &'static str,
    /// Runs begun.
    attempts: u32,
    /// Progress; null before the first batch.
    #[schema(required = true)]
    progress: Option<TaskProgress>,
    /// Result; null until the task succeeded.
    #[schema(required = true, value_type = Option<TaskResult>)]
    result: Option<Box<RawValue>>,
    /// Error of the latest failed run: a code, a colon and a sentence.
    #[schema(required = true, example = "database_failed: The database failed.")]
    error: Option<String>,
    /// What caused the error; only keys with the role `operate` see it: the whole chain, down to what the failed
    /// system said.
    #[serde(skip_serializing_if = "Option::is_none")]
    causes: Option<String>,
    /// Trace id.
    #[schema(required = true, pattern = "^[0-9a-f]{32}$")]
    trace_id: Option<String>,
    /// Time of enqueueing.
    #[schema(required = true, format = DateTime)]
    created_at: Option<String>,
    /// Start of the latest run.
    #[schema(required = true, format = DateTime)]
    started_at: Option<String>,
    /// Time of success or dead-lettering.
    #[schema(required = true, format = DateTime)]
    finished_at: Option<String>,
}

/// Progress of a task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskProgress {
    /// Products done.
    done: u64,
    /// Products in all.
    total: u64,
}

/// Result of a recalculation, as the worker recorded it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes what is passed on as it is")]
pub(crate) struct TaskResult {
    /// `updated` or `skipped`.
    #[schema(example = "updated")]
    pub(crate) status: String,
    /// How many products were updated.
    #[schema(example = 900)]
    pub(crate) updated_count: Option<u64>,
    /// Number of list prices that changed, if the recalculation was made.
    pub(crate) changed_count: Option<u64>,
    /// Number of rows of the database that were skipped, because no price can be made of them.
    pub(crate) invalid_count: Option<u64>,
    /// Number of products for which the cache holds a newer version than the database; absent when it is 0.
    pub(crate) refused_count: Option<u64>,
    /// Why it was skipped.
    pub(crate) reason: Option<String>,
}

impl TaskAnswer {
    /// What a caller may know of a task: with the causes of its error, or without.
    pub(crate) fn new(record: TaskRecord, with_causes: bool) -> Self {
        Self {
            trace_id: record.trace_id().map(str::to_owned),
            task_id: record.id,
            state: record.state.as_str(),
            attempts: record.attempts,
            progress: record.progress.map(|p| TaskProgress { done: p.done, total: p.total }),
            result: record.result.and_then(|json| RawValue::from_string(json).ok()),
            error: record.error.as_deref().map(error),
            causes: record.error.filter(|_| with_causes),
            created_at: rfc3339(record.created_at_ms),
            started_at: record.started_at_ms.and_then(rfc3339),
            finished_at: record.finished_at_ms.and_then(rfc3339),
        }
    }
}

/// The part of a record's error that every caller may know.
fn error(recorded: &str) -> String {
    let failure = Failure::of_record(recorded);
    format!("{failure}: {}", failure.sentence())
}

/// Get a task's status
///
/// A record is kept for a day after its task succeeded. A key sees the tasks that it caused; with the role `operate` it
/// sees all of them, and what caused their errors.
#[utoipa::path(
    get, path = "/api/v1/tasks/{task_id}", tag = "recalculation", params(TaskPath),
    responses(
        (status = 200, description = "What is known of the task", body = TaskAnswer),
        (status = 404, description = "No such task (any more)", body = Problem, content_type = PROBLEM_JSON),
    )
)]
pub(crate) async fn task(
    caller: Caller<Tasks>,
    State(state): State<Arc<AppState>>,
    ValidatedPath(path): ValidatedPath<TaskPath>,
) -> Result<Json<TaskAnswer>, Problem> {
    let task = path.id()?;
    let record = record(&state, &task).await?;
    let is_own = record.as_ref().is_some_and(|record| is_own(&caller, record));
    if !is_own {
        looked(&state, &caller, |entry| entry.on(task.as_str()), AuditAction::TaskRead).await;
    }
    let record = record.filter(|_| is_own || caller.has(Role::Operate)).ok_or_else(unknown)?;
    Ok(Json(TaskAnswer::new(record, caller.has(Role::Operate))))
}

/// The record of a task, `None` when there is none.
async fn record(state: &AppState, task: &TaskId) -> Result<Option<TaskRecord>, Problem> {
    let record = redis_call("HGETALL task record", state.queue.queue().task(task.as_str())).await;
    record.map_err(|error| Problem::unavailable("Tasks cannot be read just now.", &error))
}

/// The problem of a task that does not exist, or that the caller may not know of.
pub(crate) fn unknown() -> Problem {
    Problem::not_found("The task does not exist (any more).")
}

/// Whether the caller caused the task.
fn is_own<A>(caller: &Caller<A>, record: &TaskRecord) -> bool {
    let request = Recalculation::decode(&record.payload).ok();
    request.and_then(|request| request.caller).is_some_and(|name| caller.name() == Some(&name))
}

/// Audits that the holder of a key with the role `operate` looks at something. The look goes on if the row cannot be
/// written: the log has it then.
pub(crate) async fn looked<A>(
    state: &AppState,
    caller: &Caller<A>,
    at: impl FnOnce(AuditEntry) -> AuditEntry,
    action: AuditAction,
) {
    if caller.name().is_none() || !caller.has(Role::Operate) {
        return;
    }
    let entry = at(caller.audited(action));
    if let Err(error) = state.audit.record(&entry).await {
        metrics::audit_failed();
        // A target whose lines are not limited: this one stands for the row.
        tracing::error!(target: "pricing_api::audit", ?entry, error = %causes(&error), "not in the audit: it could not be written");
    }
}

#[cfg(test)]
mod tests {
    use pricing_queue::{Progress, TaskState};

    use super::*;

    fn record() -> TaskRecord {
        TaskRecord {
            id: "T-1".into(),
            number: 1,
            state: TaskState::Queued,
            attempts: 0,
            retries: 0,
            payload: "{}".into(),
            progress: None,
            result: None,
            error: None,
            traceparent: None,
            created_at_ms: 1_795_375_221_123,
            ready_at_ms: 0,
            started_at_ms: None,
            finished_at_ms: None,
        }
    }

    #[test]
    fn what_is_not_known_is_null() {
        let json = serde_json::to_string(&TaskAnswer::new(record(), true)).unwrap();
        assert_eq!(
            json,
            r#"{"task_id":"T-1","state":"queued","attempts":0,"progress":null,"result":null,"error":null,"trace_id":null,"created_at":"2026-11-22T19:20:21.123Z","started_at":null,"finished_at":null}"#
        );
    }

    #[test]
    fn a_result_is_passed_on_as_it_is() {
        let done = TaskRecord {
            state: TaskState::Succeeded,
            progress: Some(Progress { done: 9, total: 9 }),
            result: Some(
                r#"{"status":"updated","updated_count":9,"changed_count":2,"invalid_count":0}"#.into(),
            ),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            ..record()
        };
        let json = serde_json::to_string(&TaskAnswer::new(done, false)).unwrap();
        assert!(
            json.contains(
                r#""progress":{"done":9,"total":9},"result":{"status":"updated","updated_count":9,"changed_count":2,"invalid_count":0},"#
            )
        );
        assert!(json.contains(r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736""#));
        let failed = TaskRecord { error: Some("redis_failed: no route to 10.0.0.7".into()), ..record() };
        let shown =
            |with_causes| serde_json::to_string(&TaskAnswer::new(failed.clone(), with_causes)).unwrap();
        assert!(shown(false).contains(r#""error":"redis_failed: Redis failed.","trace_id""#));
        assert!(shown(true).contains(r#""causes":"redis_failed: no route to 10.0.0.7""#));
        let broken = TaskRecord { result: Some("{".into()), ..record() };
        assert!(serde_json::to_string(&TaskAnswer::new(broken, false)).unwrap().contains(r#""result":null"#));
    }
}
