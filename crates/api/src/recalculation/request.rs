//! The call that enqueues a recalculation without an event.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pricing_core::ids::TaskId;
use pricing_core::recalculation::Recalculation;
use pricing_queue::QueueError;
use serde::Serialize;
use utoipa::ToSchema;

use super::NOT_REPLICATED;
use super::reason::ReasonRequest;
use crate::auth::{Caller, Publish, RECALCULATION_UNITS};
use crate::identifier::Identifier;
use crate::json::{ValidatedJson, json};
use crate::metrics;
use crate::problem::Problem;
use crate::state::AppState;

/// An enqueued task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueuedTask<'a> {
    /// Always `queued`.
    #[schema(example = "queued")]
    pub(super) status: &'static str,
    /// The task; `GET /api/v1/tasks/{task_id}` gives its record.
    #[schema(value_type = Identifier)]
    pub(super) task_id: &'a str,
}

/// Recalculate all prices
///
/// Enqueues a task and answers at once. The body may be left out.
#[utoipa::path(
    post, path = "/api/v1/recalculate", tag = "recalculation", request_body = Option<ReasonRequest>,
    responses((status = 200, description = "The task is queued", body = QueuedTask))
)]
pub(crate) async fn recalculate(
    caller: Caller<Publish>,
    State(state): State<Arc<AppState>>,
    body: Option<ValidatedJson<ReasonRequest>>,
) -> Result<Response, Problem> {
    caller.charge(RECALCULATION_UNITS)?;
    let (task, name) = (TaskId::generate(), caller.name());
    let request = Recalculation::now(ReasonRequest::or(body, "requested")).by(name.map(str::to_owned));
    state.queue.enqueue(&task, &request).await.map_err(|error| {
        let detail = match error {
            QueueError::Full => "The queue is full.",
            QueueError::NotReplicated => NOT_REPLICATED,
            _ => "Tasks cannot be queued just now.",
        };
        Problem::unavailable(detail, &error)
    })?;
    metrics::task_enqueued(name);
    Ok(json(&QueuedTask { status: "queued", task_id: task.as_str() }))
}
