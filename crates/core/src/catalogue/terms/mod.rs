//! What a shop says about its products and markets: fields, as they come from outside, and terms, which are valid.

mod label;
mod market;
mod object;
mod product;

use std::fmt::Display;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::money::{Amount, Currency, Decimal, DecimalError, Money};

pub use label::{InvalidLabel, Label, Tags};
pub use market::{MarketFields, MarketTerms, RoundingFields, SuspiciousChange};
pub use object::Object;
pub use product::{ProductFields, ProductTerms};

/// A field that is refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {message}")]
pub struct FieldError {
    /// Its name.
    pub field: &'static str,
    /// What is wrong with it, to be read behind its name.
    pub message: String,
}

/// A field from outside: `None` says nothing, `Some(None)` that there is no value, as in a merge patch (RFC 7396).
pub type Field<T> = Option<Option<T>>;

/// A number from outside: what was written is judged when its field is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(Result<Decimal, DecimalError>);

impl Number {
    /// The number that a text is, or why it is none.
    pub fn parse(text: &str) -> Self {
        Self(text.parse())
    }

    /// The number that something prints as.
    fn of(printed: &impl Display) -> Self {
        Self::parse(&printed.to_string())
    }

    /// Why it is no number, if it is none.
    pub(super) fn error(self) -> Option<DecimalError> {
        self.0.err()
    }
}

impl From<Decimal> for Number {
    fn from(number: Decimal) -> Self {
        Self(Ok(number))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(Box::<RawValue>::deserialize(deserializer)?.get()))
    }
}

/// As it was written, up to zeros without a meaning; nothing if it was no number.
impl Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |number| number.fmt(f))
    }
}

/// A number serializes as it was written, up to zeros without a meaning; what is no number does not serialize.
impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = self.0.map_err(serde::ser::Error::custom)?;
        let text = RawValue::from_string(number.to_string()).map_err(serde::ser::Error::custom)?;
        text.serialize(serializer)
    }
}

/// Deserializes a field that is there, also as `null`.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Field<T>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Deserializes a field that is there and holds an object, or `null`.
fn present_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Field<T>, D::Error> {
    Ok(present::<Object<T>, D>(deserializer)?.map(|object| object.map(|Object(fields)| fields)))
}

/// Collects what is wrong, field by field.
#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn add(&mut self, field: &'static str, message: impl Display) {
        self.0.push(FieldError { field, message: message.to_string() });
    }

    /// The new value of a field that has no default: what `parse` makes of it, or the value before.
    fn optional<T, U, E: Display>(
        &mut self,
        name: &'static str,
        field: Field<T>,
        before: Option<U>,
        parse: impl FnOnce(T) -> Result<U, E>,
    ) -> Option<U> {
        let Some(value) = field else { return before };
        value.and_then(|value| parse(value).map_err(|error| self.add(name, error)).ok())
    }

    /// The new value of a field that holds a number.
    fn number<U>(
        &mut self,
        name: &'static str,
        field: Field<Number>,
        before: Option<U>,
        parse: impl FnOnce(Decimal) -> Result<U, DecimalError>,
    ) -> Option<U> {
        self.optional(name, field, before, |Number(number)| parse(number?))
    }

    /// The new value of a field that holds an amount.
    fn amount(
        &mut self,
        name: &'static str,
        field: Field<Number>,
        before: Option<Money>,
        currency: Currency,
    ) -> Option<Money> {
        self.number(name, field, before, |number| Amount::base(number, currency).map(|amount| amount.money))
    }
}
