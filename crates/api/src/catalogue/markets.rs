//! The calls for markets.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use pricing_core::audit::AuditAction;
use pricing_core::cache::Entry;
use pricing_core::catalogue::{Action, Edited, MarketEdit, Page};
use pricing_core::ids::Location;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use validator::Validate;

use super::edits::{Audited, EDIT_UNITS, failed, refused};
use super::precondition::EditPrecondition;
use super::products::page;
use super::shape::{MarketAnswer, MarketBody, MarketEditBody, unless_known, with_tag};
use crate::auth::{Caller, Manage};
use crate::identifier::{Identifier, invalid_id, valid_id};
use crate::json::{ValidatedJson, json};
use crate::parameters::{ValidatedPath, ValidatedQuery};
use crate::problem::{PROBLEM_JSON, Problem};
use crate::state::AppState;

/// The market, in the path.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct MarketPath {
    /// The market's location.
    #[validate(custom(function = valid_id))]
    #[param(value_type = Identifier)]
    location: String,
}

impl MarketPath {
    pub(super) fn location(self) -> Result<Location, Problem> {
        Location::parse(self.location).map_err(invalid_id("location"))
    }
}

/// Whether a change is meant, in the query.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConfirmQuery {
    /// Confirms a change of the currency, or of the multiplier or the rate by more than a fifth; takes `If-Match` as well.
    #[serde(default)]
    #[param(default = false, required = false)]
    confirm: bool,
}

/// Which markets, in the query.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Where to go on: the `next` of the page before.
    #[validate(custom(function = valid_id))]
    #[param(required = false, value_type = Option<Identifier>)]
    after: Option<String>,
    /// Maximum number of markets.
    #[serde(default = "page")]
    #[validate(range(min = 1, max = 500, message = "must be 1 to 500"))]
    #[param(default = 100, minimum = 1, maximum = 500, required = false)]
    limit: u16,
}

/// Markets, in the order of their locations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MarketsAnswer<'a> {
    /// The markets.
    markets: Vec<MarketAnswer<'a>>,
    /// Where the next page begins; null on the last one.
    #[schema(required = true, value_type = Option<Identifier>)]
    next: Option<&'a str>,
}

/// Get a market
///
/// Gets the terms of a market. Its `ETag` is its revision.
#[utoipa::path(
    get, path = "/api/v1/markets/{location}", tag = "catalogue", params(MarketPath),
    responses(
        (status = 200, description = "The market", body = MarketAnswer),
        (status = 304, description = "It still has the revision of `If-None-Match`"),
        (status = 404, description = "The market does not exist", body = Problem, content_type = PROBLEM_JSON),
    )
)]
pub(crate) async fn market(
    _caller: Caller<Manage>,
    State(state): State<Arc<AppState>>,
    ValidatedPath(path): ValidatedPath<MarketPath>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let market = state.catalogue.catalogue_market(&path.location()?).await.map_err(failed)?;
    let market = market.ok_or_else(|| Problem::not_found("The market does not exist."))?;
    Ok(unless_known(&headers, market.revision, &MarketAnswer::new(&market)))
}

/// List markets
///
/// Lists markets page by page.
#[utoipa::path(
    get, path = "/api/v1/markets", tag = "catalogue", params(ListQuery),
    responses((status = 200, description = "A page of markets", body = MarketsAnswer))
)]
pub(crate) async fn markets(
    caller: Caller<Manage>,
    State(state): State<Arc<AppState>>,
    ValidatedQuery(query): ValidatedQuery<ListQuery>,
) -> Result<Response, Problem> {
    caller.charge(query.limit.into())?;
    let page = state.catalogue.catalogue_markets(query.after.as_deref(), query.limit.into());
    let Page { rows, last, .. } = page.await.map_err(failed)?;
    let markets = rows.iter().map(MarketAnswer::new).collect();
    Ok(json(&MarketsAnswer { markets, next: last.as_deref() }))
}

/// Create or replace a market
///
/// What the body leaves out takes its default. All prices of the market follow at once.
#[utoipa::path(
    put, path = "/api/v1/markets/{location}", tag = "catalogue", params(MarketPath, ConfirmQuery),
    request_body = MarketEditBody,
    responses(
        (status = 200, description = "The market has been replaced", body = MarketAnswer),
        (status = 201, description = "The market has been created", body = MarketAnswer),
        (status = 409, description = "The change must be confirmed", body = Problem, content_type = PROBLEM_JSON),
        (status = 412, description = "The precondition does not hold", body = Problem, content_type = PROBLEM_JSON),
    )
)]
pub(crate) async fn put_market(
    caller: Caller<Manage>,
    State(state): State<Arc<AppState>>,
    ValidatedPath(path): ValidatedPath<MarketPath>,
    ValidatedQuery(query): ValidatedQuery<ConfirmQuery>,
    precondition: EditPrecondition,
    ValidatedJson(MarketBody(fields)): ValidatedJson<MarketBody>,
) -> Result<Response, Problem> {
    let precondition = precondition.or_revision(fields.revision)?;
    let (location, action) = (path.location()?, Action::Put(fields));
    let edit = MarketEdit { location, action, precondition, is_confirmed: query.confirm };
    write(&state, &caller, AuditAction::MarketPut, edit).await
}

/// Change a market
///
/// Changes the terms that the body holds (JSON merge patch, RFC 7396): null removes one.
#[utoipa::path(
    patch, path = "/api/v1/markets/{location}", tag = "catalogue", params(MarketPath, ConfirmQuery),
    request_body = MarketEditBody,
    responses(
        (status = 200, description = "The market has been changed", body = MarketAnswer),
        (status = 404, description = "The market does not exist", body = Problem, content_type = PROBLEM_JSON),
        (status = 409, description = "The change must be confirmed", body = Problem, content_type = PROBLEM_JSON),
        (status = 412, description = "The precondition does not hold", body = Problem, content_type = PROBLEM_JSON),
    )
)]
pub(crate) async fn patch_market(
    caller: Caller<Manage>,
    State(state): State<Arc<AppState>>,
    ValidatedPath(path): ValidatedPath<MarketPath>,
    ValidatedQuery(query): ValidatedQuery<ConfirmQuery>,
    precondition: EditPrecondition,
    ValidatedJson(MarketBody(fields)): ValidatedJson<MarketBody>,
) -> Result<Response, Problem> {
    let precondition = precondition.or_revision(fields.revision)?;
    let (location, action) = (path.location()?, Action::Patch(fields));
    let edit = MarketEdit { location, action, precondition, is_confirmed: query.confirm };
    write(&state, &caller, AuditAction::MarketPatched, edit).await
}

/// Delete a market
///
/// Its location is priced with the market `default` from now on, which cannot be deleted.
#[utoipa::path(
    delete, path = "/api/v1/markets/{location}", tag = "catalogue", params(MarketPath),
    responses(
        (status = 204, description = "The market has been deleted"),
        (status = 404, description = "The market does not exist", body = Problem, content_type = PROBLEM_JSON),
        (status = 409, description = "It is the market `default`", body = Problem, content_type = PROBLEM_JSON),
        (status = 412, description = "The precondition does not hold", body = Problem, content_type = PROBLEM_JSON),
    )
)]
pub(crate) async fn delete_market(
    caller: Caller<Manage>,
    State(state): State<Arc<AppState>>,
    ValidatedPath(path): ValidatedPath<MarketPath>,
    precondition: EditPrecondition,
) -> Result<Response, Problem> {
    let (location, precondition) = (path.location()?, precondition.or_revision(None)?);
    let edit = MarketEdit { location, action: Action::Delete, precondition, is_confirmed: false };
    write(&state, &caller, AuditAction::MarketDeleted, edit).await
}

/// Audit → database → cache → answer.
async fn write(
    state: &AppState,
    caller: &Caller<Manage>,
    audited: AuditAction,
    edit: MarketEdit,
) -> Result<Response, Problem> {
    if let Action::Put(fields) | Action::Patch(fields) = &edit.action
        && fields.location.as_ref().is_some_and(|named| named != edit.location.as_str())
    {
        return Err(Problem::invalid_field("location", "must be that of the path"));
    }
    let audited =
        Audited::begin(state, caller, EDIT_UNITS, audited, |entry| entry.on(edit.location.as_str())).await?;
    let outcome = state.catalogue.edit_market(&edit, &audited.origin).await.map_err(failed)?;
    match outcome.map_err(refused)? {
        Edited::Deleted { version } => {
            audited.store(&[Entry::DeletedMarket(&edit.location, version)]).await;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Edited::Stored { entry, created } => {
            audited.store(&[Entry::Market(&entry.location, &entry.market)]).await;
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            Ok(with_tag(status, entry.revision, &MarketAnswer::new(&entry)))
        }
    }
}
