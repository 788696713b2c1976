//! The calls for products.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use pricing_core::audit::AuditAction;
use pricing_core::cache::Entry;
use pricing_core::catalogue::{Action, Edited, Label, Page, Precondition, ProductEdit, ProductFields};
use pricing_core::ids::ProductId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use validator::Validate;

use super::edits::{Audited, EDIT_UNITS, failed, refused};
use super::precondition::EditPrecondition;
use super::shape::{ProductAnswer, ProductBody, ProductEditBody, unless_known, with_tag};
use crate::auth::{Caller, Manage};
use crate::identifier::{Identifier, invalid_id, valid_id};
use crate::json::{ValidatedJson, json};
use crate::parameters::{ValidatedPath, ValidatedQuery};
use crate::problem::{PROBLEM_JSON, Problem};
use crate::state::AppState;

/// The product, in the path.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ProductPath {
    /// The product.
    #[validate(custom(function = valid_id))]
    #[param(value_type = Identifier)]
    product_id: String,
}

impl ProductPath {
    pub(super) fn id(self) -> Result<ProductId, Problem> {
        ProductId::parse(self.product_id).map_err(invalid_id("product_id"))
    }
}

/// Which products, in the query.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only those of this category.
    #[param(required = false, min_length = 1, max_length = 64)]
    category: Option<String>,
    /// Where to go on: the `next` of the page before.
    #[validate(custom(function = valid_id))]
    #[param(required = false, value_type = Option<Identifier>)]
    after: Option<String>,
    /// Maximum number of products.
    #[serde(default = "page")]
    #[validate(range(min = 1, max = 500, message = "must be 1 to 500"))]
    #[param(default = 100, minimum = 1, maximum = 500, required = false)]
    limit: u16,
}

pub(super) fn page() -> u16 {
    100
}

/// Products, in the order of their ids.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductsAnswer<'a> {
    /// The products.
    products: Vec<ProductAnswer<'a>>,
    /// Where the next page begins; null on the last one.
    #[schema(required = true, value_type = Option<Identifier>)]
    next: Option<&'a str>,
}

/// Get a product
///
/// Gets a product as the shop has it. Its `ETag` is its revision.
#[utoipa::path(
    get, path = "/api/v1/products/{product_id}", tag = "catalogue", params(ProductPath),
    responses(
        (status = 200, description = "The product", body = ProductAnswer),
        (status = 304, description = "It still has the revision of `If-None-Match`"),
        (status = 404, description = "The product does not exist", body = Problem, content_type = PROBLEM_JSON),
    )
)]
pub(crate) async fn product(
    _caller: Caller<Manage>,
    State(state): State<Arc<AppState>>,
    ValidatedPath(path): ValidatedPath<ProductPath>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = path.id()?;
    let product = state.catalogue.catalogue_product(&id).await.map_err(failed)?;
    let product = product.ok_or_else(|| Problem::not_found("The product does not exist."))?;
    let currency = state.catalogue.currency().map_err(failed)?;
    Ok(unless_known(&headers, product.revision, &ProductAnswer::new(&product, currency)))
}

/// List products
///
/// Lists products page by page, all or those of a category.
#[utoipa::path(
    get, path = "/api/v1/products", tag = "catalogue", params(ListQuery),
    responses((status = 200, description = "A page of products", body = ProductsAnswer))
)]
pub(crate) async fn products(
    caller: Caller<Manage>,
    State(state): State<Arc<AppState>>,
    ValidatedQuery(query): ValidatedQuery<ListQuery>,
) -> Result<Response, Problem> {
    caller.charge(query.limit.into())?;
    let invalid =
        |error: pricing_core::catalogue::InvalidLabel| Problem::invalid_field("category", error.to_string());
    let category = query.category.map(Label::parse).transpose().map_err(invalid)?;
    let page =
        state.catalogue.catalogue_products(category.as_ref(), query.after.as_deref(), query.limit.into());
    let Page { rows, last, .. } = page.await.map_err(failed)?;
    let currency = state.catalogue.currency().map_err(failed)?;
    let products = rows.iter().map(|product| ProductAnswer::new(product, currency)).collect();
    Ok(json(&ProductsAnswer { products, next: last.as_deref() }))
}

/// Create or replace a product
///
/// What the body leaves out is removed. The price is served as soon as this is answered, by every api within a second.
#[utoipa::path(
    put, path = "/api/v1/products/{product_id}", tag = "catalogue", params(ProductPath),
    request_body = ProductEditBody,
    responses(
        (status = 200, description = "The product has been replaced", body = ProductAnswer),
        (status = 201, description = "The product has been created", body = ProductAnswer),
        (status = 412, description = "The precondition does not hold", body = Problem, content_type = PROBLEM_JSON),
    )
)]
pub(crate) async fn put_product(
    caller: Caller<Manage>,
    State(state): State<Arc<AppState>>,
    ValidatedPath(path): ValidatedPath<ProductPath>,
    precondition: EditPrecondition,
    ValidatedJson(ProductBody(fields)): ValidatedJson<ProductBody>,
) -> Result<Response, Problem> {
    let (id, precondition) = (path.id()?, precondition.or_revision(fields.revision)?);
    write(&state, &caller, id, AuditAction::ProductPut, Action::Put(fields), precondition).await
}

/// Change a product
///
/// Changes the fields that the body holds (JSON merge patch, RFC 7396): null removes one.
#[utoipa::path(
    patch, path = "/api/v1/products/{product_id}", tag = "catalogue", params(ProductPath),
    request_body = ProductEditBody,
    responses(
        (status = 200, description = "The product has been changed", body = ProductAnswer),
        (status = 404, description = "The product does not exist", body = Problem, content_type = PROBLEM_JSON),
        (status = 412, description = "The precondition does not hold", body = Problem, content_type = PROBLEM_JSON),
    )
)]
pub(crate) async fn patch_product(
    caller: Caller<Manage>,
    State(state): State<Arc<AppState>>,
    ValidatedPath(path): ValidatedPath<ProductPath>,
    precondition: EditPrecondition,
    ValidatedJson(ProductBody(fields)): ValidatedJson<ProductBody>,
) -> Result<Response, Problem> {
    let (id, precondition) = (path.id()?, precondition.or_revision(fields.revision)?);
    write(&state, &caller, id, AuditAction::ProductPatched, Action::Patch(fields), precondition).await
}

/// Delete a product
///
/// It is gone as soon as this is answered; its history stays.
#[utoipa::path(
    delete, path = "/api/v1/products/{product_id}", tag = "catalogue", params(ProductPath),
    responses(
        (status = 204, description = "The product has been deleted"),
        (status = 404, description = "The product does not exist", body = Problem, content_type = PROBLEM_JSON),
        (status = 412, description = "The precondition does not hold", body = Problem, content_type = PROBLEM_JSON),
    )
)]
pub(crate) async fn delete_product(
    caller: Caller<Manage>,
    State(state): State<Arc<AppState>>,
    ValidatedPath(path): ValidatedPath<ProductPath>,
    precondition: EditPrecondition,
) -> Result<Response, Problem> {
    let (id, precondition) = (path.id()?, precondition.or_revision(None)?);
    write(&state, &caller, id, AuditAction::ProductDeleted, Action::Delete, precondition).await
}

/// Audit → database → cache → answer.
async fn write(
    state: &AppState,
    caller: &Caller<Manage>,
    id: ProductId,
    audited: AuditAction,
    action: Action<ProductFields>,
    precondition: Precondition,
) -> Result<Response, Problem> {
    if let Action::Put(fields) | Action::Patch(fields) = &action
        && fields.product_id.as_ref().is_some_and(|named| named != id.as_str())
    {
        return Err(Problem::invalid_field("product_id", "must be that of the path"));
    }
    let currency = state.catalogue.currency().map_err(failed)?;
    let audited = Audited::begin(state, caller, EDIT_UNITS, audited, |entry| entry.on(id.as_str())).await?;
    let edits = [ProductEdit { id, action, precondition }];
    let mut outcomes = state.catalogue.edit_products(&edits, &audited.origin).await.map_err(failed)?;
    let outcome = outcomes.pop().expect("invariant: each edit has an outcome");
    match outcome.map_err(refused)? {
        Edited::Deleted { version } => {
            audited.store(&[Entry::DeletedProduct(&edits[0].id, version)]).await;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Edited::Stored { entry, created } => {
            audited.store(&[Entry::Product(&entry.id, &entry.product(currency))]).await;
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            Ok(with_tag(status, entry.revision, &ProductAnswer::new(&entry, currency)))
        }
    }
}
