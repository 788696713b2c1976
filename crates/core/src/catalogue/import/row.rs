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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::Number;
    use super::*;

    #[test]
    fn a_row_needs_a_key_and_no_revision() {
        let fields = |json| serde_json::from_str::<ProductFields>(json).unwrap();
        let refused = |json| ImportRow::product(1, fields(json), Currency::USD).unwrap_err()[0].field;
        assert_eq!(refused(r#"{"base_price":1}"#), "product_id");
        assert_eq!(refused(r#"{"product_id":"a b"}"#), "product_id");
        assert_eq!(refused(r#"{"product_id":"P-1","revision":1}"#), "revision");
        assert_eq!(refused(r#"{"product_id":"P-1","base_price":null}"#), "base_price");
        assert_eq!(refused(r#"{"product_id":"P-1","floor":2,"ceiling":1}"#), "floor");
    }

    fn number() -> impl Strategy<Value = Option<Option<Number>>> {
        let text = prop_oneof![
            "[0-9]{1,12}(\\.[0-9]{1,4})?",
            "[0-9]{1,38}",
            "0\\.[0-9]{1,37}",
            "[0-9]{1,4}e-?[0-9]{1,2}"
        ];
        proptest::option::of(proptest::option::of(text.prop_map(|text| Number::parse(&text))))
    }

    proptest! {
        #[test]
        fn what_is_staged_is_what_was_read(
            base_price in number(), cost in number(), category in ".{0,8}", tags in prop::collection::vec(".{0,8}", 0..4),
            multiplier in number(), exchange_rate in number(), mode in ".{0,8}",
        ) {
            let fields = ProductFields {
                product_id: Some("P-1".to_owned()),
                base_price,
                cost,
                category: Some(Some(category)),
                tags: Some(Some(tags)),
                ..ProductFields::default()
            };
            if let Ok(row) = ImportRow::product(1, fields.clone(), Currency::USD) {
                prop_assert_eq!(serde_json::from_str::<ProductFields>(&row.fields).unwrap(), fields);
                prop_assert!(row.fields.chars().all(|c| c >= ' '), "COPY takes it as one line");
            }
            let rounding = super::super::super::RoundingFields { mode: Some(Some(mode.clone())), ..Default::default() };
            let fields = MarketFields {
                location: Some("NY".to_owned()),
                multiplier,
                exchange_rate,
                currency: Some(Some(mode)),
                rounding: Some(Some(rounding)),
                ..MarketFields::default()
            };
            if let Ok(row) = ImportRow::market(1, fields.clone()) {
                prop_assert_eq!(serde_json::from_str::<MarketFields>(&row.fields).unwrap(), fields);
                prop_assert!(row.fields.chars().all(|c| c >= ' '), "COPY takes it as one line");
            }
        }
    }
}
