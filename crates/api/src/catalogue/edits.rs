//! What all edits have in common: the audit before them, the cache after them, and how they are refused.

use std::time::Duration;

use axum::http::StatusCode;
use pricing_core::audit::{AuditAction, AuditEntry};
use pricing_core::cache::{Entry, ReadAt};
use pricing_core::catalogue::{CatalogueError, ChangeOrigin, EditRefusal, FieldError as Refused};
use pricing_core::causes::causes;
use pricing_core::trace::redis_call;
use tokio::time::timeout;

use crate::auth::{Caller, Manage};
use crate::metrics;
use crate::problem::{FieldError, Problem};
use crate::state::AppState;

/// What one edit costs, in units.
pub(super) const EDIT_UNITS: u32 = 10;
/// Maximum time of a call to the cache before or after an edit.
const CACHE_TIMEOUT: Duration = Duration::from_millis(500);

/// An edit that is in the audit, and is not made yet.
pub(super) struct Audited<'s> {
    state: &'s AppState,
    pub(super) origin: ChangeOrigin,
    /// The time of Redis before the edit; `None` if it does not tell.
    read_at: Option<ReadAt>,
}

impl<'s> Audited<'s> {
    /// Charges the caller, and leaves a row in the audit.
    ///
    /// # Errors
    ///
    /// 429, and 503 when the audit cannot be written.
    pub(super) async fn begin(
        state: &'s AppState,
        caller: &Caller<Manage>,
        units: u32,
        action: AuditAction,
        complete: impl FnOnce(AuditEntry) -> AuditEntry,
    ) -> Result<Self, Problem> {
        caller.charge(units)?;
        state.audit.record(&complete(caller.audited(action))).await.map_err(|error| {
            metrics::audit_failed();
            Problem::unavailable("The audit cannot be written, so nothing was changed.", &error)
        })?;
        let read_at = timeout(CACHE_TIMEOUT, redis_call("TIME", state.cache.read_at())).await;
        Ok(Self { state, origin: caller.origin(), read_at: read_at.ok().and_then(Result::ok) })
    }

    /// Stores what an edit made in the cache, so that its caller reads it from now on. When that fails, the workers do it
    /// later.
    pub(super) async fn store(self, entries: &[Entry<'_>]) {
        let Some(read_at) = self.read_at.filter(|_| !entries.is_empty()) else { return };
        let store = redis_call("EVALSHA store prices", self.state.cache.store(entries, read_at));
        match timeout(CACHE_TIMEOUT, store).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %causes(&error), "an edit is not in the cache yet; a worker stores it");
            }
            Err(_) => tracing::warn!("an edit is not in the cache yet; a worker stores it"),
        }
    }
}

/// The problem of a database that fails an edit or a look at the catalogue.
pub(super) fn failed(error: CatalogueError) -> Problem {
    match error {
        CatalogueError::PoolFull => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Too many calls use the database.")
        }
        error => Problem::unavailable("The catalogue is not available just now.", &error),
    }
}

/// The problem of an edit that is refused.
pub(super) fn refused(refusal: EditRefusal) -> Problem {
    match refusal {
        EditRefusal::NotFound => Problem::not_found("There is nothing with this id in the catalogue."),
        EditRefusal::Precondition { revision } => {
            let current = revision
                .map_or("it does not exist".to_owned(), |current| format!("its revision is {current}"));
            Problem::new(
                StatusCode::PRECONDITION_FAILED,
                format!("The precondition does not hold: {current}."),
            )
        }
        EditRefusal::Fields(errors) => invalid(errors),
        EditRefusal::Suspicious { change, revision } => {
            let detail = format!(
                "{} changes from {} to {}, which moves all prices of the market: repeat the call with ?confirm=true and \
                 If-Match: \"{revision}\" if it is meant.",
                change.field, change.old, change.new
            );
            Problem::new(StatusCode::CONFLICT, detail)
        }
        EditRefusal::DefaultMarket => Problem::new(
            StatusCode::CONFLICT,
            "The market default prices all locations without a market of their own: it cannot be deleted.",
        ),
    }
}

fn invalid(errors: Vec<Refused>) -> Problem {
    let error = |Refused { field, message }| FieldError { field: field.into(), message: message.into() };
    Problem::invalid(errors.into_iter().map(error).collect())
}
