//! The calls for the history of products and markets.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pricing_core::catalogue::{HistoryFilter, MarketChange, ProductChange};
use pricing_core::clock::rfc3339;
use pricing_core::money::{Amount, Currency, Money};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::{IntoParams, ToSchema};
use validator::Validate;

use super::edits::failed;
use super::markets::MarketPath;
use super::products::{ProductPath, page};
use super::shape::TermsAnswer;
use crate::auth::{Caller, Manage};
use crate::json::json;
use crate::parameters::{ValidatedPath, ValidatedQuery};
use crate::problem::Problem;
use crate::state::AppState;

/// Which changes, in the query.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// Only changes from this time on, RFC 3339.
    #[param(required = false, value_type = Option<String>, format = DateTime)]
    from: Option<String>,
    /// Only changes before this time, RFC 3339.
    #[param(required = false, value_type = Option<String>, format = DateTime)]
    to: Option<String>,
    /// Where to go on: the `next` of the page before.
    #[validate(range(min = 1, message = "must be the `next` of a page"))]
    #[param(required = false, minimum = 1)]
    after: Option<i64>,
    /// Maximum number of changes.
    #[serde(default = "page")]
    #[validate(range(min = 1, max = 500, message = "must be 1 to 500"))]
    #[param(default = 100, minimum = 1, maximum = 500, required = false)]
    limit: u16,
}

impl HistoryQuery {
    fn filter(&self) -> Result<HistoryFilter, Problem> {
        let time = |field: &'static str, text: &Option<String>, default| match text {
            None => Ok(default),
            Some(text) => match OffsetDateTime::parse(text, &Rfc3339) {
                Ok(time) => Ok(i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(default)),
                Err(_) => Err(Problem::invalid_field(field, "must be a time such as 2026-01-31T12:00:00Z")),
            },
        };
        let all = HistoryFilter::default();
        Ok(HistoryFilter {
            from_ms: time("from", &self.from, all.from_ms)?,
            to_ms: time("to", &self.to, all.to_ms)?,
            before_id: self.after.unwrap_or(all.before_id),
            limit: self.limit.into(),
        })
    }
}

/// The history of a product, newest change first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductHistoryAnswer {
    /// The changes.
    changes: Vec<ProductChangeAnswer>,
    /// Where the next page begins; null on the last one.
    #[schema(required = true)]
    next: Option<i64>,
}

/// The history of a market, newest change first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MarketHistoryAnswer {
    /// The changes.
    changes: Vec<MarketChangeAnswer>,
    /// Where the next page begins; null on the last one.
    #[schema(required = true)]
    next: Option<i64>,
}

/// What a change did.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the values of a string")]
pub(crate) enum ChangeKind {
    Created,
    Edited,
    Recalculated,
    Deleted,
    /// The list prices are prices in the market `default`: recorded by an older build.
    MarketPrice,
}

/// A change of what a product's prices are made of.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProductChange)]
pub(crate) struct ProductChangeAnswer {
    /// When, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    changed_at: Option<String>,
    /// What it did.
    #[schema(value_type = ChangeKind)]
    change: String,
    /// Who made it: `key:NAME`, `anonymous`, `task:ID`, `cli:USER`, or `sql` by hand.
    #[schema(example = "key:shop")]
    changed_by: String,
    /// The trace of the change.
    #[schema(required = true)]
    trace_id: Option<String>,
    /// Version of the product after it.
    #[schema(minimum = 1)]
    version: i64,
    /// The amounts before; null when it was created.
    #[schema(required = true)]
    old: Option<AmountsAnswer>,
    /// The amounts after; null when it was deleted.
    #[schema(required = true)]
    new: Option<AmountsAnswer>,
}

/// What prices are made of, in major units of the catalogue's currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Amounts)]
pub(crate) struct AmountsAnswer {
    /// Price before market and membership; null where only list prices were recorded.
    #[schema(value_type = Option<f64>, required = true)]
    base_price: Option<Amount>,
    /// What the recalculation made of it.
    #[schema(value_type = Option<f64>, required = true)]
    list_price: Option<Amount>,
    /// The least that it may cost a customer.
    #[schema(value_type = Option<f64>, required = true)]
    floor: Option<Amount>,
    /// The most that it may cost a customer.
    #[schema(value_type = Option<f64>, required = true)]
    ceiling: Option<Amount>,
}

/// A change of a market's terms.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketChange)]
pub(crate) struct MarketChangeAnswer {
    /// When, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    changed_at: Option<String>,
    /// What it did.
    #[schema(value_type = ChangeKind)]
    change: String,
    /// Who made it, as for products.
    #[schema(example = "key:shop")]
    changed_by: String,
    /// The trace of the change.
    #[schema(required = true)]
    trace_id: Option<String>,
    /// Version of the market after it.
    #[schema(minimum = 1)]
    version: i64,
    /// The terms before; null when it was created.
    #[schema(required = true)]
    old: Option<TermsAnswer>,
    /// The terms after; null when it was deleted.
    #[schema(required = true)]
    new: Option<TermsAnswer>,
}

/// Read a product's history
///
/// What it cost when, newest change first, and what changed it. A product that was deleted keeps its history.
#[utoipa::path(
    get, path = "/api/v1/products/{product_id}/history", tag = "catalogue", params(ProductPath, HistoryQuery),
    responses((status = 200, description = "A page of changes", body = ProductHistoryAnswer))
)]
pub(crate) async fn product_history(
    caller: Caller<Manage>,
    State(state): State<Arc<AppState>>,
    ValidatedPath(path): ValidatedPath<ProductPath>,
    ValidatedQuery(query): ValidatedQuery<HistoryQuery>,
) -> Result<Response, Problem> {
    caller.charge(query.limit.into())?;
    let filter = query.filter()?;
    let changes = state.catalogue.product_history(&path.id()?, &filter).await.map_err(failed)?;
    let currency = state.catalogue.currency().map_err(failed)?;
    let next = next(&filter, changes.last().map(|change| change.id), changes.len());
    let changes = changes.into_iter().map(|change| product_change(change, currency)).collect();
    Ok(json(&ProductHistoryAnswer { changes, next }))
}

/// Read a market's history
///
/// The terms of a market when, newest change first, and who changed them.
#[utoipa::path(
    get, path = "/api/v1/markets/{location}/history", tag = "catalogue", params(MarketPath, HistoryQuery),
    responses((status = 200, description = "A page of changes", body = MarketHistoryAnswer))
)]
pub(crate) async fn market_history(
    caller: Caller<Manage>,
    State(state): State<Arc<AppState>>,
    ValidatedPath(path): ValidatedPath<MarketPath>,
    ValidatedQuery(query): ValidatedQuery<HistoryQuery>,
) -> Result<Response, Problem> {
    caller.charge(query.limit.into())?;
    let filter = query.filter()?;
    let changes = state.catalogue.market_history(&path.location()?, &filter).await.map_err(failed)?;
    let next = next(&filter, changes.last().map(|change| change.id), changes.len());
    let changes = changes.into_iter().map(market_change).collect();
    Ok(json(&MarketHistoryAnswer { changes, next }))
}

fn next(filter: &HistoryFilter, last: Option<i64>, read: usize) -> Option<i64> {
    last.filter(|_| read == filter.limit as usize)
}

fn product_change(change: ProductChange, currency: Currency) -> ProductChangeAnswer {
    let amount = |minor: Option<i64>| {
        let money = minor.and_then(Money::base)?;
        Some(Amount { money, currency })
    };
    let amounts = |[base, list, floor, ceiling]: [Option<i64>; 4]| {
        base.or(list)?;
        let base_price = amount(base);
        Some(AmountsAnswer {
            base_price,
            list_price: amount(list).or(base_price),
            floor: amount(floor),
            ceiling: amount(ceiling),
        })
    };
    let old = [
        change.old_base_price_minor,
        change.old_list_price_minor,
        change.old_floor_minor,
        change.old_ceiling_minor,
    ];
    let new = [change.base_price_minor, change.list_price_minor, change.floor_minor, change.ceiling_minor];
    ProductChangeAnswer {
        changed_at: rfc3339(change.changed_at_ms),
        change: change.change,
        changed_by: change.changed_by,
        trace_id: change.trace_id,
        version: change.version,
        old: amounts(old),
        new: amounts(new),
    }
}

fn market_change(change: MarketChange) -> MarketChangeAnswer {
    MarketChangeAnswer {
        changed_at: rfc3339(change.changed_at_ms),
        change: change.change,
        changed_by: change.changed_by,
        trace_id: change.trace_id,
        version: change.version,
        old: change.old.as_ref().map(TermsAnswer::new),
        new: change.new.as_ref().map(TermsAnswer::new),
    }
}
