//! Exchange rates.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Decimal, DecimalError};

/// Decimals in which rates are stored.
const DECIMALS: u32 = 12;

/// Units of one currency for one unit of another: an exact decimal from 10⁻¹² to 10⁶.
///
/// A rate has 12 decimals below 0.001, nine below 1, six below 1,000, and three from there. So its digits make an integer
/// of at most 10⁹, which bounds what a price is computed in. It serializes as a JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExchangeRate {
    mantissa: u32,
    decimals: u8,
}

impl ExchangeRate {
    /// One for one.
    pub const ONE: Self = Self { mantissa: 1_000_000, decimals: 6 };
    /// The largest rate, in units of 10⁻¹².
    const MAX_E12: u64 = 1_000_000_000_000_000_000;

    /// A rate in units of 10⁻¹², as databases and caches hold it. `None` when it is zero, above 10⁶, or has more decimals
    /// than a rate of its size.
    pub fn from_e12(e12: u64) -> Option<Self> {
        let (decimals, unit) = match e12 {
            1..1_000_000_000 => (12, 1),
            1_000_000_000..1_000_000_000_000 => (9, 1_000),
            1_000_000_000_000..1_000_000_000_000_000 => (6, 1_000_000),
            1_000_000_000_000_000..=Self::MAX_E12 => (3, 1_000_000_000),
            _ => return None,
        };
        let mantissa = e12.is_multiple_of(unit).then_some(e12 / unit)?;
        Some(Self { mantissa: u32::try_from(mantissa).ok()?, decimals })
    }

    /// The rate in units of 10⁻¹².
    pub fn e12(self) -> u64 {
        u64::from(self.mantissa) * 10_u64.pow(DECIMALS - self.decimals())
    }

    /// A rate as it was written.
    ///
    /// # Errors
    ///
    /// When it is zero, above 10⁶, or has more decimals than a rate of its size.
    pub fn parse(number: Decimal) -> Result<Self, DecimalError> {
        let e12 = number.scaled(DECIMALS).ok_or(DecimalError::RateDecimals)?;
        match u64::try_from(e12) {
            Ok(0) => Err(DecimalError::TooSmall(Decimal::new(1, DECIMALS))),
            Ok(e12 @ 1..=Self::MAX_E12) => Self::from_e12(e12).ok_or(DecimalError::RateDecimals),
            _ => Err(DecimalError::TooLarge(Decimal::new(u128::from(Self::MAX_E12), DECIMALS))),
        }
    }

    /// The digits: the rate is `mantissa` × 10^−[`decimals`](Self::decimals).
    pub(crate) fn mantissa(self) -> u32 {
        self.mantissa
    }

    /// The decimals of the mantissa.
    pub(crate) fn decimals(self) -> u32 {
        u32::from(self.decimals)
    }
}

impl fmt::Display for ExchangeRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal::new(u128::from(self.mantissa), self.decimals()).fmt(f)
    }
}

impl Serialize for ExchangeRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.mantissa) / 10_f64.powi(i32::from(self.decimals)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<u64, String> {
        let rate = ExchangeRate::parse(text.parse().unwrap());
        rate.map(ExchangeRate::e12).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rate_has_as_many_decimals_as_its_size_allows() {
        assert_eq!(parse("1"), Ok(ExchangeRate::ONE.e12()));
        assert_eq!(parse("1.08"), Ok(1_080_000_000_000));
        assert_eq!(parse("0.000000000001"), Ok(1));
        assert_eq!(parse("0.000999999999"), Ok(999_999_999));
        assert_eq!(parse("0.999999999"), Ok(999_999_999_000));
        assert_eq!(parse("999.999999"), Ok(999_999_999_000_000));
        assert_eq!(parse("999999.999"), Ok(999_999_999_000_000_000));
        assert_eq!(parse("1000000"), Ok(1_000_000_000_000_000_000));
        for text in ["0.0010000001", "1.0000001", "1000.0001", "0.0000000000001"] {
            let message = "may have 3 decimals from 1000, 6 from 1, 9 from 0.001 and 12 below";
            assert_eq!(parse(text), Err(message.to_owned()), "{text}");
        }
        assert_eq!(parse("0"), Err("must be at least 0.000000000001".to_owned()));
        assert_eq!(parse("1000000.001"), Err("must be at most 1000000".to_owned()));
        assert_eq!(parse("1e37"), Err("must be at most 1000000".to_owned()));
    }

    #[test]
    fn a_stored_rate_that_breaks_the_rule_is_none() {
        for e12 in [0, 1_000_000_001, 1_000_000_000_001, 1_000_000_000_000_000_001, u64::MAX] {
            assert_eq!(ExchangeRate::from_e12(e12), None, "{e12}");
        }
    }

    proptest! {
        #[test]
        fn every_rate_prints_as_itself(mantissa in 1..=1_000_000_000_u64, unit in 0..4_u32) {
            let e12 = mantissa * 1_000_u64.pow(unit);
            let Some(rate) = ExchangeRate::from_e12(e12) else { return Ok(()) };
            prop_assert_eq!(rate.e12(), e12);
            for text in [rate.to_string(), sonic_rs::to_string(&rate).unwrap()] {
                prop_assert_eq!(ExchangeRate::parse(text.parse().unwrap()), Ok(rate), "{}", text);
            }
        }
    }
}
