//! What a shop says about a market.

use serde::{Deserialize, Serialize};

use super::{Errors, Field, FieldError, Number, present, present_object};
use crate::ids::Location;
use crate::money::{Amount, Currency, Decimal, ExchangeRate, Money, Ppm};
use crate::price::{Market, Rounding, RoundingMode};

/// The largest change of a multiplier or rate that needs no confirmation, in per cent.
const MAX_CHANGE_PERCENT: u128 = 20;

/// The fields of a market as they come from outside.
///
/// They replace all fields of a market, or change some: see [`MarketTerms::parse`] and [`MarketTerms::patched`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MarketFields {
    /// Its location, for those who want to say it twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The revision that an edit is based on, for those who do not say it otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Factor on every list price.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub multiplier: Field<Number>,
    /// Share of the price that members save.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub member_discount: Field<Number>,
    /// Currency of its prices; that of the catalogue if there is none.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub currency: Field<String>,
    /// Units of its currency for one unit of the catalogue's.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub exchange_rate: Field<Number>,
    /// The prices that it allows.
    #[serde(deserialize_with = "present_object", skip_serializing_if = "Option::is_none")]
    pub rounding: Field<RoundingFields>,
}

/// The prices that a market allows, in major units of its currency.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoundingFields {
    /// Distance of two neighbouring prices; the currency's minor unit if there is none.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub increment: Field<Number>,
    /// `half-even`, which is the default, `up` or `down`.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub mode: Field<String>,
    /// The least price, such as 0.99.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub ending: Field<Number>,
}

/// What holds of a market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarketTerms {
    /// Factor on every list price.
    pub multiplier: Ppm,
    /// Share of the price that members save.
    pub member_discount: Ppm,
    /// Currency of its prices.
    pub currency: Currency,
    /// Units of its currency for one unit of the catalogue's; `None` if it is the catalogue's, or if nobody has said it:
    /// then the market has no prices.
    pub exchange_rate: Option<ExchangeRate>,
    /// The prices that it allows.
    pub rounding: Rounding,
}

/// A change of terms that may be a slip: one that moves all prices of a market by more than a fifth in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field} {old} -> {new}: such a change must be confirmed")]
pub struct SuspiciousChange {
    /// The field.
    pub field: &'static str,
    /// Its value before.
    pub old: String,
    /// Its value after.
    pub new: String,
}

impl MarketFields {
    /// All fields of a market with these terms.
    pub fn of(location: &Location, terms: &MarketTerms) -> Self {
        let MarketTerms { multiplier, member_discount, currency, exchange_rate, rounding } = terms;
        let amount = |minor: u32| {
            let money = Money::base(i64::from(minor)).expect("invariant: an increment is an amount");
            Some(Number::of(&Amount { money, currency: *currency }))
        };
        Self {
            location: Some(location.to_string()),
            revision: None,
            multiplier: Some(Some(Number::of(multiplier))),
            member_discount: Some(Some(Number::of(member_discount))),
            currency: Some(Some(currency.to_string())),
            exchange_rate: Some(exchange_rate.as_ref().map(Number::of)),
            rounding: Some(Some(RoundingFields {
                increment: Some(amount(rounding.increment())),
                mode: Some(Some(rounding.mode().as_str().to_owned())),
                ending: Some(rounding.ending().and_then(amount)),
            })),
        }
    }

    /// The numbers among the fields, by name.
    pub(in super::super) fn numbers(&self) -> [(&'static str, Field<Number>); 5] {
        let rounding = self.rounding.as_ref().and_then(Option::as_ref);
        [
            ("multiplier", self.multiplier),
            ("member_discount", self.member_discount),
            ("exchange_rate", self.exchange_rate),
            ("rounding.increment", rounding.and_then(|rounding| rounding.increment)),
            ("rounding.ending", rounding.and_then(|rounding| rounding.ending)),
        ]
    }
}

impl MarketTerms {
    /// The terms of a market that has these fields and no others. `catalogue` is the catalogue's currency.
    ///
    /// # Errors
    ///
    /// All fields that are wrong.
    pub fn parse(fields: MarketFields, catalogue: Currency) -> Result<Self, Vec<FieldError>> {
        Self::merged(None, fields, catalogue)
    }

    /// These terms with the fields changed that are there.
    ///
    /// # Errors
    ///
    /// All fields that are wrong.
    pub fn patched(&self, fields: MarketFields, catalogue: Currency) -> Result<Self, Vec<FieldError>> {
        Self::merged(Some(self), fields, catalogue)
    }

    fn merged(
        before: Option<&Self>,
        fields: MarketFields,
        catalogue: Currency,
    ) -> Result<Self, Vec<FieldError>> {
        let mut errors = Errors::default();
        let is_priced =
            before.is_some() && fields.multiplier.is_none() || matches!(fields.multiplier, Some(Some(_)));
        if !is_priced {
            errors.add("multiplier", "is required");
        }
        let multiplier = before.map(|terms| terms.multiplier);
        let multiplier = errors.number("multiplier", fields.multiplier, multiplier, Ppm::parse_multiplier);
        let member_discount = before.map(|terms| terms.member_discount);
        let member_discount =
            errors.number("member_discount", fields.member_discount, member_discount, Ppm::parse_rate);
        let currency = before.map(|terms| terms.currency);
        let currency = errors
            .optional("currency", fields.currency, currency, |code| Currency::parse(&code))
            .unwrap_or(catalogue);
        let exchange_rate = before.and_then(|terms| terms.exchange_rate);
        let exchange_rate =
            errors.number("exchange_rate", fields.exchange_rate, exchange_rate, ExchangeRate::parse);
        let exchange_rate = match exchange_rate {
            Some(rate) if currency == catalogue && rate != ExchangeRate::ONE => {
                errors.add(
                    "exchange_rate",
                    format!("must be 1, for {currency} is the catalogue's currency too"),
                );
                None
            }
            _ if currency == catalogue => None,
            rate => rate,
        };
        let rounding = rounding(&mut errors, before, fields.rounding, currency);
        match (multiplier, rounding) {
            (Some(multiplier), Some(rounding)) if errors.0.is_empty() => {
                let member_discount = member_discount.unwrap_or(Market::DEFAULT_MEMBER_DISCOUNT);
                Ok(Self { multiplier, member_discount, currency, exchange_rate, rounding })
            }
            _ => Err(errors.0),
        }
    }

    /// What must be confirmed before these terms become `new`: another currency, or a multiplier or rate that changes by
    /// more than a fifth. A rate of 0.0108 for 1.08 is worse than any discount, because it moves floors as well.
    pub fn suspicious_change(&self, new: &Self) -> Option<SuspiciousChange> {
        let change = |field, old: &dyn ToString, new: &dyn ToString| {
            Some(SuspiciousChange { field, old: old.to_string(), new: new.to_string() })
        };
        if self.currency != new.currency {
            return change("currency", &self.currency, &new.currency);
        }
        if is_large(self.multiplier.get().unsigned_abs(), new.multiplier.get().unsigned_abs()) {
            return change("multiplier", &self.multiplier, &new.multiplier);
        }
        match (self.exchange_rate, new.exchange_rate) {
            (Some(old), Some(new)) if is_large(old.e12(), new.e12()) => change("exchange_rate", &old, &new),
            _ => None,
        }
    }

    /// The market with these terms.
    pub fn market(&self, version: u64) -> Market {
        let Self { multiplier, member_discount, currency, exchange_rate, rounding } = *self;
        Market { multiplier, member_discount, currency, exchange_rate, rounding, version }
    }
}

impl From<&Market> for MarketTerms {
    fn from(market: &Market) -> Self {
        let Market { multiplier, member_discount, currency, exchange_rate, rounding, version: _ } = *market;
        Self { multiplier, member_discount, currency, exchange_rate, rounding }
    }
}

/// Whether a factor changes by more than [`MAX_CHANGE_PERCENT`].
fn is_large(old: u64, new: u64) -> bool {
    u128::from(old.abs_diff(new)) * 100 > u128::from(old) * MAX_CHANGE_PERCENT
}

/// The rounding of a market. What is kept from before keeps its value in major units, also in another currency.
fn rounding(
    errors: &mut Errors,
    before: Option<&MarketTerms>,
    fields: Field<RoundingFields>,
    currency: Currency,
) -> Option<Rounding> {
    let before = before.filter(|_| !matches!(fields, Some(None)));
    let fields = fields.flatten().unwrap_or_default();
    let major = |minor: u32, terms: &MarketTerms| {
        let money = Money::base(i64::from(minor)).expect("invariant: an increment is an amount");
        let text = Amount { money, currency: terms.currency }.to_string();
        text.parse::<Decimal>().expect("invariant: an amount prints as a number")
    };
    // The least increment of a currency stays the least.
    let increment = before.filter(|terms| terms.rounding.increment() > 1);
    let increment = increment.map(|terms| major(terms.rounding.increment(), terms));
    let ending = before.and_then(|terms| Some(major(terms.rounding.ending()?, terms)));
    let errors_before = errors.0.len();
    let mut minor = |name, field: Field<Number>, before: Option<Decimal>| {
        let field = field.unwrap_or(before.map(Number::from));
        errors.amount(name, Some(field), None, currency).map(Money::minor)
    };
    let increment = minor("rounding.increment", fields.increment, increment).unwrap_or(1);
    let ending = minor("rounding.ending", fields.ending, ending);
    let mode = before.map(|terms| terms.rounding.mode());
    let parse = |name: String| RoundingMode::parse(&name).ok_or("must be half-even, up or down");
    let mode = errors.optional("rounding.mode", fields.mode, mode, parse).unwrap_or(RoundingMode::HalfEven);
    let rounding = Rounding::new(increment, mode, ending);
    if rounding.is_none() && errors.0.len() == errors_before {
        errors.add("rounding", "must have an increment of 1 to 999,999 minor units, and an ending below it");
    }
    rounding
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> MarketFields {
        serde_json::from_str(json).unwrap()
    }

    fn parse(json: &str) -> Result<MarketTerms, Vec<FieldError>> {
        MarketTerms::parse(fields(json), Currency::USD)
    }

    fn errors(json: &str) -> String {
        let errors = parse(json).unwrap_err();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    const EUR: &str = r#"{"multiplier":0.95,"currency":"EUR","exchange_rate":1.08,"rounding":{"increment":1,"ending":0.99}}"#;

    #[test]
    fn a_market_with_a_multiplier_has_defaults_for_the_rest() {
        let terms = parse(r#"{"multiplier":0.95}"#).unwrap();
        assert_eq!(terms.market(7), Market::new(terms.multiplier, Currency::USD, 7));
        assert_eq!(parse(r#"{"multiplier":0.95,"currency":"USD","exchange_rate":1}"#).unwrap(), terms);
    }

    #[test]
    fn fields_are_read_in_the_markets_currency() {
        let terms = parse(EUR).unwrap();
        assert_eq!(terms.exchange_rate.unwrap().e12(), 1_080_000_000_000);
        assert_eq!((terms.rounding.increment(), terms.rounding.ending()), (100, Some(99)));
        let yen = r#"{"multiplier":1,"currency":"JPY","exchange_rate":150,"rounding":{"increment":0.5}}"#;
        assert_eq!(errors(yen), "rounding.increment may have 0 decimals, for that is what JPY has");
    }

    #[test]
    fn what_a_patch_does_not_name_keeps_its_value() {
        let before = parse(EUR).unwrap();
        let patched = |json| before.patched(fields(json), Currency::USD).unwrap();
        assert_eq!(patched("{}"), before);
        assert_eq!(patched(r#"{"rounding":null}"#).rounding, Rounding::default());
        let ending = patched(r#"{"rounding":{"ending":0.95}}"#);
        assert_eq!((ending.rounding.increment(), ending.rounding.ending()), (100, Some(95)));
        let dinars = patched(r#"{"currency":"KWD"}"#);
        assert_eq!((dinars.rounding.increment(), dinars.rounding.ending()), (1_000, Some(990)));
        let back = before.patched(fields(r#"{"currency":null}"#), Currency::USD).unwrap_err();
        assert_eq!(back[0].to_string(), "exchange_rate must be 1, for USD is the catalogue's currency too");
    }

    #[test]
    fn fields_have_names_and_no_order() {
        for json in [r#"{"multiplier":1,"rounding":[1,"up",0]}"#, r#"{"multiplier":1,"rounding":"up"}"#] {
            let error = serde_json::from_str::<MarketFields>(json).unwrap_err();
            assert!(error.to_string().contains("expected an object"), "{error}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let all = errors(
            r#"{"multiplier":101,"member_discount":2,"currency":"XXX","exchange_rate":0,"rounding":{"mode":"near"}}"#,
        );
        for name in ["multiplier", "member_discount", "currency", "exchange_rate", "rounding.mode"] {
            assert!(all.contains(name), "{name}: {all}");
        }
        let ending = errors(r#"{"multiplier":1,"rounding":{"increment":0.5,"ending":0.99}}"#);
        assert!(ending.starts_with("rounding must have"), "{ending}");
    }

    #[test]
    fn a_change_of_more_than_a_fifth_is_suspicious() {
        let before = parse(EUR).unwrap();
        let change = |json| before.suspicious_change(&before.patched(fields(json), Currency::USD).unwrap());
        assert_eq!(change(r#"{"exchange_rate":1.296}"#), None, "a fifth");
        assert_eq!(change(r#"{"exchange_rate":0.864}"#), None);
        let slip = change(r#"{"exchange_rate":0.0108}"#).unwrap();
        assert_eq!((slip.field, &*slip.old, &*slip.new), ("exchange_rate", "1.08", "0.0108"));
        assert_eq!(change(r#"{"multiplier":1.1401}"#).unwrap().field, "multiplier");
        assert_eq!(change(r#"{"currency":"CHF"}"#).unwrap().field, "currency");
        assert_eq!(change(r#"{"member_discount":1}"#), None);
        assert_eq!(change(r#"{"exchange_rate":null}"#), None, "no price is no wrong price");
        let free = parse(r#"{"multiplier":0}"#).unwrap();
        assert!(free.suspicious_change(&before).is_some());
    }
}
