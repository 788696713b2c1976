//! What a shop says about a product.

use serde::{Deserialize, Serialize};

use super::{Errors, Field, FieldError, Label, Number, Tags, present};
use crate::ids::ProductId;
use crate::money::{Amount, Currency, Money};

/// The fields of a product as they come from outside. Amounts are in major units of the catalogue's currency.
///
/// They replace all fields of a product, or change some: see [`ProductTerms::parse`] and [`ProductTerms::patched`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProductFields {
    /// Its id, for those who want to say it twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_id: Option<String>,
    /// The catalogue's currency, for those who want it checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The revision that an edit is based on, for those who do not say it otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Price before market and membership.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub base_price: Field<Number>,
    /// What the product costs the shop.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub cost: Field<Number>,
    /// The least that it may cost a customer.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub floor: Field<Number>,
    /// The most that it may cost a customer.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub ceiling: Field<Number>,
    /// Its category.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub category: Field<String>,
    /// Its tags.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub tags: Field<Vec<String>>,
}

/// What holds of a product: its amounts lie within their bounds, and its floor is not above its ceiling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductTerms {
    /// Price before market and membership.
    pub base_price: Money,
    /// What the product costs the shop.
    pub cost: Option<Money>,
    /// The least that it may cost a customer.
    pub floor: Option<Money>,
    /// The most that it may cost a customer.
    pub ceiling: Option<Money>,
    /// Its category.
    pub category: Option<Label>,
    /// Its tags.
    pub tags: Tags,
}

impl ProductFields {
    /// All fields of a product with these terms, in the catalogue's currency.
    pub fn of(id: &ProductId, terms: &ProductTerms, currency: Currency) -> Self {
        let amount = |money| Number::of(&Amount { money, currency });
        Self {
            product_id: Some(id.to_string()),
            currency: Some(currency.to_string()),
            revision: None,
            base_price: Some(Some(amount(terms.base_price))),
            cost: Some(terms.cost.map(amount)),
            floor: Some(terms.floor.map(amount)),
            ceiling: Some(terms.ceiling.map(amount)),
            category: Some(terms.category.as_ref().map(|label| label.as_str().to_owned())),
            tags: Some(Some(terms.tags.iter().map(str::to_owned).collect())),
        }
    }
}

impl ProductTerms {
    /// The terms of a product that has these fields and no others.
    ///
    /// # Errors
    ///
    /// All fields that are wrong.
    pub fn parse(fields: ProductFields, currency: Currency) -> Result<Self, Vec<FieldError>> {
        Self::merged(None, fields, currency)
    }

    /// These terms with the fields changed that are there. `currency` is the catalogue's.
    ///
    /// # Errors
    ///
    /// All fields that are wrong.
    pub fn patched(&self, fields: ProductFields, currency: Currency) -> Result<Self, Vec<FieldError>> {
        Self::merged(Some(self), fields, currency)
    }

    fn merged(
        before: Option<&Self>,
        fields: ProductFields,
        currency: Currency,
    ) -> Result<Self, Vec<FieldError>> {
        let mut errors = Errors::default();
        if fields.currency.is_some_and(|code| code != currency.as_str()) {
            errors.add("currency", format!("must be that of the catalogue, {currency}"));
        }
        let is_priced =
            before.is_some() && fields.base_price.is_none() || matches!(fields.base_price, Some(Some(_)));
        if !is_priced {
            errors.add("base_price", "is required");
        }
        let base_price =
            errors.amount("base_price", fields.base_price, before.map(|terms| terms.base_price), currency);
        let cost = errors.amount("cost", fields.cost, before.and_then(|terms| terms.cost), currency);
        let floor = errors.amount("floor", fields.floor, before.and_then(|terms| terms.floor), currency);
        let ceiling =
            errors.amount("ceiling", fields.ceiling, before.and_then(|terms| terms.ceiling), currency);
        if let (Some(low), Some(high)) = (floor, ceiling)
            && low > high
        {
            let [low, high] = [low, high].map(|money| Amount { money, currency });
            errors.add("floor", format!("must not be above the ceiling: {low} > {high}"));
        }
        let category = before.and_then(|terms| terms.category.clone());
        let category = errors.optional("category", fields.category, category, Label::parse);
        let tags = before.map(|terms| terms.tags.clone());
        let tags = errors.optional("tags", fields.tags, tags, Tags::parse).unwrap_or_default();
        match base_price {
            Some(base_price) if errors.0.is_empty() => {
                Ok(Self { base_price, cost, floor, ceiling, category, tags })
            }
            _ => Err(errors.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> ProductFields {
        serde_json::from_str(json).unwrap()
    }

    fn parse(json: &str) -> Result<ProductTerms, Vec<FieldError>> {
        ProductTerms::parse(fields(json), Currency::USD)
    }

    fn errors(json: &str) -> String {
        let errors = parse(json).unwrap_err();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn absent_keeps_null_removes_and_a_value_replaces() {
        let before =
            parse(r#"{"base_price":10,"floor":5,"ceiling":20,"category":"shoes","tags":["a"]}"#).unwrap();
        let after =
            before.patched(fields(r#"{"floor":null,"ceiling":15.50,"tags":null}"#), Currency::USD).unwrap();
        assert_eq!((after.floor, after.ceiling.map(Money::minor)), (None, Some(1_550)));
        assert_eq!((&after.base_price, &after.category), (&before.base_price, &before.category));
        assert_eq!(after.tags, Tags::default());
        assert_eq!(before.patched(fields("{}"), Currency::USD).unwrap(), before);
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert_eq!(errors("{}"), "base_price is required");
        assert_eq!(errors(r#"{"base_price":null}"#), "base_price is required");
        let all =
            errors(r#"{"base_price":1.234,"cost":10000000000,"currency":"EUR","category":"","tags":["\n"]}"#);
        for name in [
            "base_price may have 2 decimals",
            "cost must be at most",
            "currency must be",
            "category must have",
            "tags must hold",
        ] {
            assert!(all.contains(name), "{name}: {all}");
        }
        assert_eq!(
            errors(r#"{"base_price":1,"floor":2,"ceiling":1.99}"#),
            "floor must not be above the ceiling: 2.00 > 1.99"
        );
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        let error = serde_json::from_str::<ProductFields>(r#"{"base_price":1,"flor":2}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `flor`"), "{error}");
    }
}
