//! Factors without a dimension.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Decimal, DecimalError};

/// Decimals of a factor.
const DECIMALS: u32 = 6;

/// A dimensionless factor in parts per million: `950_000` is 0.95.
///
/// It serializes as a JSON number, `0.95`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ppm(i64);

impl Ppm {
    /// The factor zero.
    pub const ZERO: Self = Self(0);
    /// The factor one.
    pub const ONE: Self = Self(1_000_000);
    /// The largest market multiplier: one hundred.
    pub const MAX_MULTIPLIER: Self = Self(100_000_000);

    /// A market multiplier, `None` when negative or above [`Ppm::MAX_MULTIPLIER`].
    pub const fn multiplier(ppm: i64) -> Option<Self> {
        if ppm < 0 || ppm > Self::MAX_MULTIPLIER.0 { None } else { Some(Self(ppm)) }
    }

    /// A discount rate, `None` outside 0 … 1.
    pub const fn rate(ppm: i64) -> Option<Self> {
        if ppm < 0 || ppm > Self::ONE.0 { None } else { Some(Self(ppm)) }
    }

    /// A market multiplier as it was written.
    ///
    /// # Errors
    ///
    /// When it has more than 6 decimals or is above [`Ppm::MAX_MULTIPLIER`].
    pub fn parse_multiplier(number: Decimal) -> Result<Self, DecimalError> {
        Self::at_most(Self::MAX_MULTIPLIER, number)
    }

    /// A discount rate as it was written.
    ///
    /// # Errors
    ///
    /// When it has more than 6 decimals or is above 1.
    pub fn parse_rate(number: Decimal) -> Result<Self, DecimalError> {
        Self::at_most(Self::ONE, number)
    }

    fn at_most(max: Self, number: Decimal) -> Result<Self, DecimalError> {
        let ppm = number.scaled(DECIMALS).ok_or(DecimalError::Decimals(DECIMALS))?;
        let factor = i64::try_from(ppm).ok().map(Self).filter(|factor| *factor <= max);
        factor.ok_or_else(|| DecimalError::TooLarge(max.to_decimal()))
    }

    /// The factor in parts per million.
    pub const fn get(self) -> i64 {
        self.0
    }

    fn to_decimal(self) -> Decimal {
        Decimal::new(u128::from(self.0.unsigned_abs()), DECIMALS)
    }
}

impl fmt::Display for Ppm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_decimal().fmt(f)
    }
}

impl Serialize for Ppm {
    #[expect(clippy::cast_precision_loss, reason = "factors stay below 2^53")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_factor_has_six_decimals_and_a_bound() {
        let parse = |text: &str| {
            let number = text.parse().unwrap();
            [Ppm::parse_rate(number), Ppm::parse_multiplier(number)]
                .map(|parsed| parsed.map(Ppm::get).map_err(|error| error.to_string()))
        };
        assert_eq!(parse("0.95"), [Ok(950_000), Ok(950_000)]);
        assert_eq!(parse("1.000001"), [Err("must be at most 1".to_owned()), Ok(1_000_001)]);
        assert_eq!(parse("100.5")[1], Err("must be at most 100".to_owned()));
        assert_eq!(parse("1e30")[1], Err("must be at most 100".to_owned()));
        assert_eq!(parse("0.0000001")[0], Err("may have 6 decimals".to_owned()));
    }

    proptest! {
        #[test]
        fn every_factor_prints_as_itself(ppm in 0..=Ppm::MAX_MULTIPLIER.get()) {
            let factor = Ppm::multiplier(ppm).unwrap();
            for text in [factor.to_string(), sonic_rs::to_string(&factor).unwrap()] {
                prop_assert_eq!(Ppm::parse_multiplier(text.parse().unwrap()), Ok(factor));
            }
        }
    }
}
