//! Rows of an import: what can be checked of one without the database.

use super::super::{FieldError, MarketFields, ProductFields, ProductTerms, SuspiciousChange, Tags};
use crate::ids::{InvalidId, Location, ProductId};
use crate::money::{Currency, Money};

/// A row that may be staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRow {
    /// Line of the file.
    pub(super) line: u64,
    /// Product id or location.
    pub(super) key: String,
    /// Its fields as a JSON object.
    pub(super) fields: String,
}

/// A row that was refused when it was merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    /// Line of the file.
    pub line: u64,
    /// Why.
    pub refusal: RowRefusal,
}

/// Why a row cannot be merged with what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowRefusal {
    /// Fields are wrong.
    Fields(Vec<FieldError>),
    /// The change must be confirmed.
    Suspicious(SuspiciousChange),
    /// The stored row holds an invalid value.
    Stored(String),
}

impl ImportRow {
    /// A row of a product, checked as far as it can be without what is stored.
    ///
    /// # Errors
    ///
    /// All fields that are wrong.
    pub fn product(line: u64, fields: ProductFields, currency: Currency) -> Result<Self, Vec<FieldError>> {
        let key = key("product_id", fields.product_id.as_deref(), ProductId::parse)?;
        refuse_revision(fields.revision)?;
        let any = ProductTerms {
            base_price: Money::MAX_BASE,
            cost: None,
            floor: None,
            ceiling: None,
            category: None,
            tags: Tags::default(),
        };
        any.patched(fields.clone(), currency)?;
        Ok(Self {
            line,
            key,
            fields: serde_json::to_string(&fields).expect("invariant: its numbers were parsed"),
        })
    }

    /// A row of a market, checked as far as it can be without what is stored.
    ///
    /// # Errors
    ///
    /// All fields that are wrong.
    pub fn market(line: u64, fields: MarketFields) -> Result<Self, Vec<FieldError>> {
        let key = key("location", fields.location.as_deref(), Location::parse)?;
        refuse_revision(fields.revision)?;
        let wrong = |(field, number): (_, Option<Option<super::super::Number>>)| {
            Some(FieldError { field, message: number??.error()?.to_string() })
        };
        let errors: Vec<_> = fields.numbers().into_iter().filter_map(wrong).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            line,
            key,
            fields: serde_json::to_string(&fields).expect("invariant: its numbers were parsed"),
        })
    }
}

fn key<'t, T>(
    field: &'static str,
    text: Option<&'t str>,
    parse: impl FnOnce(&'t str) -> Result<T, InvalidId>,
) -> Result<String, Vec<FieldError>> {
    let error = |message| vec![FieldError { field, message }];
    let text = text.filter(|text| !text.is_empty()).ok_or_else(|| error("is required".to_owned()))?;
    parse(text).map_err(|invalid| error(invalid.to_string()))?;
    Ok(text.to_owned())
}

fn refuse_revision(revision: Option<u64>) -> Result<(), Vec<FieldError>> {
    let message = || "is not checked by an import: leave it out".to_owned();
    revision.map_or(Ok(()), |_| Err(vec![FieldError { field: "revision", message: message() }]))
}
