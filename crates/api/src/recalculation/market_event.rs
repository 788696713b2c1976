//! The call that publishes a market event.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pricing_core::events::{EventError, EventLog, MarketEvent};
use pricing_core::trace::{client_call, current_traceparent};
use serde::Serialize;
use tracing::{field, info_span};
use utoipa::ToSchema;

use super::NOT_REPLICATED;
use super::reason::ReasonRequest;
use crate::auth::{Caller, EVENT_UNITS, Publish};
use crate::identifier::Identifier;
use crate::json::{ValidatedJson, json};
use crate::metrics;
use crate::problem::Problem;
use crate::state::AppState;

/// A market event that was published.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PublishedEvent<'a> {
    /// Always `Event published`.
    #[schema(example = "Event published")]
    status: &'static str,
    /// The Pub/Sub channel it was published on.
    #[schema(example = "market_events")]
    channel: &'a str,
    /// The event.
    #[schema(value_type = Identifier)]
    event_id: &'a str,
    /// The task that the event becomes; it has the same id.
    #[schema(value_type = Identifier)]
    task_id: &'a str,
}

/// Publish a market event
///
/// Appends the event to the log and publishes it, in one step, before the answer. The listener turns it into a
/// task that recalculates all prices. The body may be left out.
#[utoipa::path(
    post, path = "/api/v1/publish-market-event", tag = "recalculation", request_body = Option<ReasonRequest>,
    responses((status = 200, description = "The event is in the log", body = PublishedEvent))
)]
pub(crate) async fn publish_market_event(
    caller: Caller<Publish>,
    State(state): State<Arc<AppState>>,
    body: Option<ValidatedJson<ReasonRequest>>,
) -> Result<Response, Problem> {
    caller.charge(EVENT_UNITS)?;
    let event = publish(&state.events, ReasonRequest::or(body, "market event"), caller.name()).await;
    let event = event.map_err(|error| {
        let detail = match error {
            EventError::LogFull => "The event log is full.",
            EventError::NotReplicated => NOT_REPLICATED,
            EventError::Redis(_) | EventError::Pool(_) => "Events cannot be published just now.",
        };
        Problem::unavailable(detail, &error)
    })?;
    let (channel, id) = (state.events.channel(), event.id.as_str());
    Ok(json(&PublishedEvent { status: "Event published", channel, event_id: id, task_id: id }))
}

/// Publishes an event that continues the current trace.
async fn publish(events: &EventLog, reason: String, caller: Option<&str>) -> Result<MarketEvent, EventError> {
    let span = info_span!(
        "publish",
        otel.name = "publish market_events",
        otel.kind = "producer",
        messaging.system = "redis",
        messaging.operation.name = "publish",
        messaging.operation.type = "send",
        messaging.destination.name = events.channel(),
        messaging.message.id = field::Empty,
    );
    let event = span.in_scope(|| MarketEvent::new(reason, current_traceparent()));
    let event = event.by(caller.map(str::to_owned));
    span.record("messaging.message.id", event.id.as_str());
    metrics::event_published(caller, client_call(span, events.publish(&event)).await?);
    Ok(event)
}
