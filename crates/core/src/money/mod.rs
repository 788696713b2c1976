//! Exact amounts and factors: integers, never a binary fraction.
//!
//! Floats appear only where JSON demands a number, and only as the double nearest to a number of at most 15
//! significant digits, which prints as exactly that number. What comes in is read as the [`Decimal`] that was written.

mod amount;
mod currency;
mod decimal;
mod exchange_rate;
mod factor;

pub use amount::Amount;
pub use currency::{Currency, CurrencyError};
pub use decimal::{Decimal, DecimalError};
pub use exchange_rate::ExchangeRate;
pub use factor::Ppm;

/// An amount of money in the minor units of some currency, such as cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// The largest base price, list price, cost, floor or ceiling: 10¹² − 1 minor units.
    pub const MAX_BASE: Self = Self(999_999_999_999);
    /// The largest final price: 10¹⁵ − 1 minor units. Its 15 digits print exactly as a double.
    pub const MAX: Self = Self(999_999_999_999_999);

    /// A base price, list price, cost, floor or ceiling from minor units, `None` when negative or above
    /// [`Money::MAX_BASE`].
    pub const fn base(minor: i64) -> Option<Self> {
        if minor < 0 || minor > Self::MAX_BASE.0 { None } else { Some(Self(minor)) }
    }

    /// A computed amount, `None` above [`Money::MAX`].
    pub(crate) fn computed(minor: u128) -> Option<Self> {
        i64::try_from(minor).ok().map(Self).filter(|money| *money <= Self::MAX)
    }

    /// The amount in minor units.
    pub const fn minor(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_amounts_in_range_are_base_prices() {
        assert_eq!(Money::base(-1), None);
        assert_eq!(Money::base(0).map(Money::minor), Some(0));
        assert_eq!(Money::base(Money::MAX_BASE.minor()), Some(Money::MAX_BASE));
        assert_eq!(Money::base(Money::MAX_BASE.minor() + 1), None);
    }

    #[test]
    fn a_computed_amount_is_never_saturated() {
        assert_eq!(Money::computed(999_999_999_999_999), Some(Money::MAX));
        assert_eq!(Money::computed(1_000_000_000_000_000), None);
        assert_eq!(Money::computed(u128::MAX), None);
    }
}
