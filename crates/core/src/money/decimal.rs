//! Decimal numbers as they were written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Currency;

/// Most digits of a number.
const MAX_DIGITS: usize = 38;
/// Most decimals of a number.
const MAX_DECIMALS: u32 = 30;

/// A decimal number, exactly as written in JSON or CSV: `54.99` is 5499 × 10⁻², whatever the nearest double is.
///
/// From JSON it deserializes with `serde_json` only, which hands the text of a number over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    /// All digits as one integer, without trailing zeros behind the point.
    digits: u128,
    decimals: u32,
}

/// Why a number is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// The text is no number.
    #[error("must be a number such as 54.99, with a decimal point and no separators")]
    NotANumber,
    /// The number has more digits than anything here has.
    #[error("has too many digits")]
    TooManyDigits,
    /// The number is below zero.
    #[error("must not be negative")]
    Negative,
    /// The number has more decimals than its unit.
    #[error("may have {0} decimals")]
    Decimals(u32),
    /// The amount has more decimals than its currency.
    #[error("may have {} decimals, for that is what {} has", .0.decimals(), .0.as_str())]
    CurrencyDecimals(Currency),
    /// The number is above its bound.
    #[error("must be at most {0}")]
    TooLarge(Decimal),
    /// The number is below its bound.
    #[error("must be at least {0}")]
    TooSmall(Decimal),
    /// The exchange rate is not as precise as it may be.
    #[error("may have 3 decimals from 1000, 6 from 1, 9 from 0.001 and 12 below")]
    RateDecimals,
}

impl Decimal {
    /// The number `digits` × 10^−`decimals`.
    pub(crate) fn new(mut digits: u128, mut decimals: u32) -> Self {
        while decimals > 0 && digits.is_multiple_of(10) {
            (digits, decimals) = (digits / 10, decimals - 1);
        }
        Self { digits, decimals }
    }

    /// The number in units of 10^−`decimals`, `None` if it has more decimals than that.
    pub(crate) fn scaled(self, decimals: u32) -> Option<u128> {
        let missing = decimals.checked_sub(self.decimals)?;
        // What overflows is above every bound.
        Some(self.digits.saturating_mul(10_u128.saturating_pow(missing)))
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    /// Parses a number in the syntax of JSON; zeros in front are allowed.
    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let (unsigned, is_negative) = match text.strip_prefix('-') {
            Some(unsigned) => (unsigned, true),
            None => (text, false),
        };
        let number = parse(unsigned)?;
        match is_negative && number.digits > 0 {
            true => Err(DecimalError::Negative),
            false => Ok(number),
        }
    }
}

fn parse(text: &str) -> Result<Decimal, DecimalError> {
    let (significand, exponent) = match text.split_once(['e', 'E']) {
        Some((significand, exponent)) => (significand, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match significand.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (significand, None),
    };
    let exponent_digits = exponent.map(|exponent| exponent.strip_prefix(['-', '+']).unwrap_or(exponent));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !fraction.is_none_or(are_digits) || !exponent_digits.is_none_or(are_digits) {
        return Err(DecimalError::NotANumber);
    }
    in_digits(whole, fraction.unwrap_or_default(), exponent.unwrap_or("0")).ok_or(DecimalError::TooManyDigits)
}

/// The number of these digits; `None` if it has too many.
fn in_digits(whole: &str, fraction: &str, exponent: &str) -> Option<Decimal> {
    if whole.len() + fraction.len() > MAX_DIGITS {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    if digits == 0 {
        return Some(Decimal::new(0, 0));
    }
    let exponent: i32 = exponent.parse().ok()?;
    let decimals = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    let number = match u32::try_from(decimals) {
        Ok(decimals) => Decimal::new(digits, decimals),
        Err(_) => Decimal::new(digits.checked_mul(10_u128.checked_pow(decimals.unsigned_abs())?)?, 0),
    };
    (number.decimals <= MAX_DECIMALS).then_some(number)
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10_u128.pow(self.decimals);
        write!(f, "{}", self.digits / unit)?;
        match usize::try_from(self.decimals) {
            Ok(width) if width > 0 => write!(f, ".{:0width$}", self.digits % unit),
            _ => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Box::<RawValue>::deserialize(deserializer)?;
        number.get().parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn printed(text: &str) -> Option<String> {
        text.parse::<Decimal>().ok().map(|number| number.to_string())
    }

    #[test]
    fn a_number_is_read_as_it_is_written() {
        for (text, number) in [
            ("0", "0"),
            ("-0", "0"),
            ("0.000", "0"),
            ("0e999999", "0"),
            ("54.99", "54.99"),
            ("54.990", "54.99"),
            ("0054.99", "54.99"),
            ("5499e-2", "54.99"),
            ("5.499E+1", "54.99"),
            ("1e3", "1000"),
            ("0.000000000001", "0.000000000001"),
            ("54.990000000000001", "54.990000000000001"),
        ] {
            assert_eq!(printed(text).as_deref(), Some(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", "-", ".", "1.", ".5", "+1", "--1", "1,000", "54,99", "1 000", " 1", "1 ", "0x10", "1e", "e1",
            "1e1.5", "1e--1", "NaN", "inf", "1_000", "$5", "€5", "5 USD", "１",
        ] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError::NotANumber), "{text:?}");
        }
        for text in ["1e99", "1e-99", "1e9999999999", &"9".repeat(39), &"0".repeat(1_000)] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError::TooManyDigits), "{text}");
        }
        assert_eq!("-0.01".parse::<Decimal>(), Err(DecimalError::Negative));
    }

    #[test]
    fn json_gives_the_digits_of_a_number() {
        #[derive(Deserialize)]
        struct Edit {
            base_price: Decimal,
            floor: Option<Decimal>,
        }
        let edit: Edit =
            serde_json::from_str(r#"{"base_price": 54.990000000000001, "floor": null}"#).unwrap();
        assert_eq!(edit.base_price.to_string(), "54.990000000000001");
        assert_eq!(edit.floor, None);
        for wrong in [r#""54.99""#, "-1", "null", "true", "[1]"] {
            let json = format!(r#"{{"base_price": {wrong}}}"#);
            assert!(serde_json::from_str::<Edit>(&json).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_number_reads_back(digits in 0..u128::from(u64::MAX), decimals in 0..MAX_DECIMALS) {
            let number = Decimal::new(digits, decimals);
            prop_assert_eq!(number.to_string().parse::<Decimal>(), Ok(number));
        }

        #[test]
        fn no_text_ends_the_process(text in r"[-+.0-9eE]{0,50}") {
            let _ = text.parse::<Decimal>();
        }
    }
}
