//! The calls for operators: lists of tasks, and replays.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use pricing_core::audit::AuditAction;
use pricing_core::replay::{self, ReplayError, Replayed};
use pricing_core::trace::redis_call;
use pricing_queue::{ListedState, QueueError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use validator::Validate;

use super::NOT_REPLICATED;
use super::request::QueuedTask;
use super::task::{TaskAnswer, TaskPath, looked, unknown};
use crate::auth::{Caller, Operate, RECALCULATION_UNITS};
use crate::json::json;
use crate::metrics;
use crate::parameters::{ValidatedPath, ValidatedQuery};
use crate::problem::{PROBLEM_JSON, Problem};
use crate::state::AppState;

/// Tasks of a page unless the query says otherwise.
const PAGE: u16 = 100;

/// Which tasks, in the query.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Their state.
    #[serde(default = "dead")]
    #[param(
        value_type = String, pattern = "^(queued|running|retrying|dead)$", default = "dead", required = false
    )]
    state: ListedState,
    /// Where to go on: the `next` of the page before.
    #[param(required = false, value_type = Option<String>, max_length = 96)]
    after: Option<String>,
    /// Maximum number of tasks.
    #[serde(default = "page")]
    #[validate(range(min = 1, max = 500, message = "must be 1 to 500"))]
    #[param(default = 100, minimum = 1, maximum = 500, required = false)]
    limit: u16,
}

fn dead() -> ListedState {
    ListedState::Dead
}

fn page() -> u16 {
    PAGE
}

/// Tasks of one state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TasksAnswer {
    /// The tasks: dead ones from the latest death on, those that wait for a retry from the last one due, queued and
    /// running ones in the order in which they were made ready.
    tasks: Vec<TaskAnswer>,
    /// Where the next page begins; null on the last one. A page may be shorter than asked for and not the last.
    #[schema(required = true, max_length = 96)]
    next: Option<String>,
}

/// List tasks
///
/// Lists tasks of one state, page by page. Tasks that succeeded are in no list.
#[utoipa::path(
    get, path = "/api/v1/tasks", tag = "recalculation", params(ListQuery),
    responses((status = 200, description = "Tasks of the state", body = TasksAnswer))
)]
pub(crate) async fn tasks(
    caller: Caller<Operate>,
    State(state): State<Arc<AppState>>,
    ValidatedQuery(query): ValidatedQuery<ListQuery>,
) -> Result<Json<TasksAnswer>, Problem> {
    caller.charge(query.limit.into())?;
    looked(&state, &caller, |entry| entry.with_detail(query.state.as_str()), AuditAction::TasksListed).await;
    let list = state.queue.queue().list(query.state, query.after.as_deref(), query.limit.into());
    let page = redis_call("LIST tasks", list).await.map_err(|error| match error {
        QueueError::Cursor => Problem::invalid_field("after", "is not the `next` of a page of this state"),
        error => Problem::unavailable("Tasks cannot be read just now.", &error),
    })?;
    let tasks = page.tasks.into_iter().map(|record| TaskAnswer::new(record, true)).collect();
    Ok(Json(TasksAnswer { tasks, next: page.next }))
}

/// Replay a dead task
///
/// Puts a dead task back in the queue, as a new request with all its retries. The audit says so first.
#[utoipa::path(
    post, path = "/api/v1/tasks/{task_id}/replay", tag = "recalculation", params(TaskPath),
    responses(
        (status = 200, description = "The task is queued", body = QueuedTask),
        (status = 404, description = "No such task (any more)", body = Problem, content_type = PROBLEM_JSON),
        (status = 409, description = "The task is not dead", body = Problem, content_type = PROBLEM_JSON),
    )
)]
pub(crate) async fn replay(
    caller: Caller<Operate>,
    State(state): State<Arc<AppState>>,
    ValidatedPath(path): ValidatedPath<TaskPath>,
) -> Result<Response, Problem> {
    caller.charge(RECALCULATION_UNITS)?;
    let task = path.id()?;
    let entry = caller.audited(AuditAction::TaskReplayed);
    let replayed = replay::replay(state.queue.queue(), &state.audit, entry, task.as_str()).await;
    let replayed = replayed.map_err(|error| {
        let detail = match &error {
            ReplayError::Audit(_) => {
                metrics::audit_failed();
                "The audit cannot be written, so the task was not replayed."
            }
            ReplayError::Queue(QueueError::NotReplicated) => NOT_REPLICATED,
            ReplayError::Queue(_) => "Tasks cannot be replayed just now.",
        };
        Problem::unavailable(detail, &error)
    })?;
    match replayed {
        Replayed::Queued => Ok(json(&QueuedTask { status: "queued", task_id: task.as_str() })),
        Replayed::NotDead => Err(Problem::new(StatusCode::CONFLICT, "The task is not dead.")),
        Replayed::Unknown => Err(unknown()),
    }
}
