//! Exact amounts: integers in the smallest unit, never a binary fraction.
//!
//! Floats appear only where JSON demands a number, and only as the double nearest to an amount of at
//! most 15 significant digits, which prints as exactly that amount.

use serde::{Serialize, Serializer};

/// An amount of money in minor units (cents). Every currency here has two decimal places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// The largest base price: 9,999,999,999.99.
    pub const MAX_BASE: Self = Self(999_999_999_999);

    /// A base price from minor units, `None` when negative or above [`Money::MAX_BASE`].
    pub const fn base(minor: i64) -> Option<Self> {
        if minor < 0 || minor > Self::MAX_BASE.0 { None } else { Some(Self(minor)) }
    }

    /// An amount computed from validated factors, which bound it.
    pub(crate) const fn from_minor(minor: i64) -> Self {
        Self(minor)
    }

    /// The amount in minor units.
    pub const fn minor(self) -> i64 {
        self.0
    }

    /// The amount in major units, as the nearest double. For output only.
    #[expect(clippy::cast_precision_loss, reason = "amounts stay below 2^53 minor units")]
    pub fn as_major(self) -> f64 {
        self.0 as f64 / 100.0
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_major())
    }
}

/// A dimensionless factor in parts per million: `950_000` is 0.95.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ppm(i64);

impl Ppm {
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

    /// The factor in parts per million.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl Serialize for Ppm {
    #[expect(clippy::cast_precision_loss, reason = "factors stay below 2^53")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1e6)
    }
}

/// An ISO 4217 currency code: three upper-case letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// US dollars, the currency of the demo catalogue.
    pub const USD: Self = Self(*b"USD");

    /// Parses a code, `None` when it is not three upper-case letters.
    pub fn parse(code: &str) -> Option<Self> {
        let code: [u8; 3] = code.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_uppercase).then_some(Self(code))
    }

    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("invariant: a code is ASCII letters")
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_amount_prints_as_itself(minor in 0..=Money::MAX_BASE.minor() * 100) {
            let json = sonic_rs::to_string(&Money::from_minor(minor)).unwrap();
            let (major, fraction) = json.split_once('.').unwrap();
            prop_assert_eq!(format!("{major}{fraction:0<2}").parse::<i64>().unwrap(), minor);
        }
    }

    #[test]
    fn only_amounts_in_range_are_base_prices() {
        assert_eq!(Money::base(-1), None);
        assert_eq!(Money::base(0).map(Money::minor), Some(0));
        assert_eq!(Money::base(Money::MAX_BASE.minor() + 1), None);
    }

    #[test]
    fn a_currency_is_three_upper_case_letters() {
        assert_eq!(Currency::parse("USD"), Some(Currency::USD));
        for bad in ["", "usd", "US", "USDT", "U D", "€"] {
            assert_eq!(Currency::parse(bad), None, "{bad:?}");
        }
    }
}
