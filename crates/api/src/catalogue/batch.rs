//! Many edits in one call.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use pricing_core::audit::AuditAction;
use pricing_core::cache::Entry;
use pricing_core::catalogue::{
    Action, CatalogueProduct, EditRefusal, Edited, Object, Precondition, ProductEdit, ProductFields,
};
use pricing_core::ids::ProductId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use validator::{Validate, ValidationError, ValidationErrors};

use super::edits::{Audited, EDIT_UNITS, failed, refused};
use super::precondition::{NO_REVISION, is_revision};
use super::shape::ProductEditBody;
use crate::auth::{Caller, Manage};
use crate::identifier::{Identifier, invalid_id, valid_id};
use crate::json::{ValidatedJson, json};
use crate::problem::Problem;
use crate::state::AppState;

/// What one edit of a batch costs, in units: less than a call of its own.
const UNITS: u32 = 2;
/// Maximum edits of a batch.
const MAX_EDITS: usize = 500;

/// Edits of products.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct BatchRequest {
    /// The edits: of different products, made together; one that is refused does not hinder the others.
    #[schema(value_type = Vec<BatchEdit>, min_items = 1, max_items = 500)]
    edits: Vec<Object<BatchEdit>>,
}

/// One edit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchEdit {
    /// The product.
    #[schema(value_type = Identifier)]
    product_id: String,
    /// What to do with it.
    action: BatchAction,
    /// Its fields, unless it is deleted.
    #[serde(default)]
    #[schema(value_type = Option<ProductEditBody>)]
    fields: Option<Object<ProductFields>>,
    /// The revision that the edit is based on; another one is refused with 412.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 9_007_199_254_740_992_u64)]
    revision: Option<u64>,
}

/// What an edit of a batch does.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BatchAction {
    /// Creates the product, or replaces all its fields.
    Put,
    /// Changes some fields of a product that exists.
    Patch,
    /// Changes some fields, or creates the product with them.
    Upsert,
    /// Deletes the product.
    Delete,
}

impl Validate for BatchRequest {
    fn validate(&self) -> Result<(), ValidationErrors> {
        let mut errors = ValidationErrors::new();
        valid_edits(&self.edits).map_err(|error| {
            errors.add("edits", error);
            errors
        })
    }
}

fn valid_edits(edits: &[Object<BatchEdit>]) -> Result<(), ValidationError> {
    if !(1..=MAX_EDITS).contains(&edits.len()) {
        return Err(ValidationError::new("length").with_message("must hold 1 to 500 items".into()));
    }
    let mut seen = HashSet::new();
    let refuse = |index: usize, message: &dyn std::fmt::Display| {
        Err(ValidationError::new("edits").with_message(format!("item {index} {message}").into()))
    };
    for (index, Object(edit)) in edits.iter().enumerate() {
        if let Err(error) = valid_id(&edit.product_id) {
            return refuse(index, &error.message.unwrap_or(error.code));
        }
        if !seen.insert(&edit.product_id) {
            return refuse(index, &"is of a product that an earlier one is of");
        }
        let named = edit.fields.as_ref().and_then(|Object(fields)| fields.product_id.as_ref());
        if named.is_some_and(|named| *named != edit.product_id) {
            return refuse(index, &"has fields of another product");
        }
        let based_on = edit.fields.as_ref().and_then(|Object(fields)| fields.revision);
        if ![based_on, edit.revision].into_iter().flatten().all(is_revision) {
            return refuse(index, &NO_REVISION);
        }
        if based_on.is_some() && edit.revision.is_some() && based_on != edit.revision {
            return refuse(index, &"names two revisions");
        }
        match (edit.action, &edit.fields) {
            (BatchAction::Delete, Some(_)) => return refuse(index, &"deletes, and has fields"),
            (BatchAction::Put | BatchAction::Patch | BatchAction::Upsert, None) => {
                return refuse(index, &"has no fields");
            }
            _ => {}
        }
    }
    Ok(())
}

impl BatchEdit {
    fn edit(self) -> Result<ProductEdit, Problem> {
        let fields = self.fields.map(|Object(fields)| fields).unwrap_or_default();
        let revision = self.revision.or(fields.revision);
        let action = match self.action {
            BatchAction::Put => Action::Put(fields),
            BatchAction::Patch => Action::Patch(fields),
            BatchAction::Upsert => Action::Upsert(fields),
            BatchAction::Delete => Action::Delete,
        };
        Ok(ProductEdit {
            id: ProductId::parse(self.product_id).map_err(invalid_id("edits"))?,
            action,
            precondition: revision.map_or(Precondition::None, Precondition::Revision),
        })
    }
}

/// What became of the edits, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchAnswer<'a> {
    /// A result for each edit.
    results: Vec<BatchResult<'a>>,
}

/// What became of an edit.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchResult<'a> {
    /// The product.
    #[schema(value_type = Identifier)]
    product_id: &'a str,
    /// The status that a call of its own would have been answered with: 200 changed, 201 created, 204 deleted, or a refusal.
    #[schema(minimum = 200, maximum = 499, example = 200)]
    status: u16,
    /// The revision of the product now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    revision: Option<u64>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    problem: Option<Problem>,
}

/// Edit many products
///
/// Makes up to 500 edits in one transaction. Each has a result; those that are refused change nothing.
#[utoipa::path(
    post, path = "/api/v1/products/batch", tag = "catalogue", request_body = BatchRequest,
    responses((status = 200, description = "A result for each edit", body = BatchAnswer))
)]
pub(crate) async fn edit_products(
    caller: Caller<Manage>,
    State(state): State<Arc<AppState>>,
    ValidatedJson(request): ValidatedJson<BatchRequest>,
) -> Result<Response, Problem> {
    let edits = request.edits.into_iter().map(|Object(edit)| edit.edit()).collect::<Result<Vec<_>, _>>()?;
    let units = EDIT_UNITS.max(UNITS * u32::try_from(edits.len()).unwrap_or(u32::MAX));
    let _permits = state.permits.acquire_for_batch(edits.len())?;
    let ids = edits.iter().map(|edit| edit.id.as_str()).collect::<Vec<_>>().join(" ");
    let detail = format!("{} products: {ids}", edits.len());
    let audited = Audited::begin(&state, &caller, units, AuditAction::ProductsEdited, |entry| {
        entry.with_detail(&detail)
    });
    let audited = audited.await?;
    let outcomes = state.catalogue.edit_products(&edits, &audited.origin).await.map_err(failed)?;
    let currency = state.catalogue.currency().map_err(failed)?;
    let stored = edits.iter().zip(&outcomes).filter_map(|(edit, outcome)| match outcome {
        Ok(Edited::Stored { entry, .. }) => Some((&edit.id, Ok(entry.product(currency)))),
        Ok(Edited::Deleted { version }) => Some((&edit.id, Err(*version))),
        Err(_) => None,
    });
    let stored: Vec<_> = stored.collect();
    let entries = stored.iter().map(|(id, stored)| match stored {
        Ok(product) => Entry::Product(id, product),
        Err(version) => Entry::DeletedProduct(id, *version),
    });
    audited.store(&entries.collect::<Vec<_>>()).await;
    let results = edits.iter().zip(outcomes).map(|(edit, outcome)| result(edit, outcome)).collect();
    Ok(json(&BatchAnswer { results }))
}

fn result(edit: &ProductEdit, outcome: Result<Edited<CatalogueProduct>, EditRefusal>) -> BatchResult<'_> {
    let (status, revision, problem) = match outcome {
        Ok(Edited::Stored { entry, created: true }) => {
            (StatusCode::CREATED.as_u16(), Some(entry.revision), None)
        }
        Ok(Edited::Stored { entry, created: false }) => (StatusCode::OK.as_u16(), Some(entry.revision), None),
        Ok(Edited::Deleted { .. }) => (StatusCode::NO_CONTENT.as_u16(), None, None),
        Err(refusal) => {
            let problem = refused(refusal);
            (problem.status().as_u16(), None, Some(problem))
        }
    };
    BatchResult { product_id: edit.id.as_str(), status, revision, problem }
}
