//! Exact amounts, and the conversion between currencies.

use super::{Market, Unpriced};
use crate::money::{Currency, Decimal, Money, Ppm};

/// Decimals of a factor in parts per million.
const PPM_DECIMALS: u32 = 6;
/// Powers of ten, up to the denominator of a price: 6 decimals of the multiplier, 6 of the discount, 12 of the exchange
/// rate, and 3 between the currencies.
const POWERS: [u128; 28] = {
    let mut powers = [1; 28];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// The factor between minor units of the catalogue's currency and minor units of a market's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conversion(Exact);

impl Conversion {
    /// The conversion from the catalogue's currency. Within one currency the factor is 1, whatever the market says.
    pub(super) fn new(from: Currency, market: &Market) -> Result<Self, Unpriced> {
        if market.currency == from {
            return Ok(Self(Exact::whole(1)));
        }
        let rate = market.exchange_rate.ok_or(Unpriced::NoExchangeRate)?;
        let (from, to) = (from.decimals(), market.currency.decimals());
        Ok(Self(Exact {
            numerator: u128::from(rate.mantissa()) * POWERS[to.saturating_sub(from) as usize],
            decimals: rate.decimals() + from.saturating_sub(to),
        }))
    }

    /// An amount of the catalogue in the market's currency.
    pub(super) fn convert(self, money: Money) -> Exact {
        let Self(factor) = self;
        Exact { numerator: unsigned(money.minor()) * factor.numerator, decimals: factor.decimals }
    }

    /// `list_price × multiplier × (1 − discount)` in the market's currency. Its numerator is at most 10¹² of the price
    /// × 10⁸ of the multiplier × 10⁶ of the share that is paid × 10⁹ of the rate × 10³ between the currencies: 10³⁸,
    /// which is less than 2¹²⁷.
    pub(super) fn price(self, list_price: Money, multiplier: Ppm, discount: Ppm) -> Exact {
        let Exact { numerator, decimals } = self.convert(list_price);
        let factors = unsigned(multiplier.get()) * unsigned(Ppm::ONE.get() - discount.get());
        Exact { numerator: numerator * factors, decimals: decimals + 2 * PPM_DECIMALS }
    }
}

fn unsigned(amount: i64) -> u128 {
    u128::from(u64::try_from(amount).expect("invariant: amounts and factors are not negative"))
}

/// An exact amount in minor units: `numerator / 10^decimals`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exact {
    numerator: u128,
    decimals: u32,
}

/// An amount in minor units, split at the point: `whole + fraction / unit`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    pub(super) whole: u128,
    pub(super) fraction: u128,
    pub(super) unit: u128,
}

impl Exact {
    /// Whole minor units.
    pub(super) const fn whole(minor: u128) -> Self {
        Self { numerator: minor, decimals: 0 }
    }

    /// The amount in major units of its currency.
    pub(super) fn in_major_units(self, currency: Currency) -> Decimal {
        Decimal::new(self.numerator, self.decimals + currency.decimals())
    }

    pub(super) fn split(self) -> Split {
        if self.decimals == 0 {
            return Split { whole: self.numerator, fraction: 0, unit: 1 };
        }
        let unit = POWERS[self.decimals as usize];
        let (whole, fraction) = divide(self.numerator, unit);
        Split { whole, fraction, unit }
    }

    /// The greatest whole number of minor units that is not above the amount.
    pub(super) fn floor(self) -> u128 {
        self.split().whole
    }

    /// The least whole number of minor units that is not below the amount.
    pub(super) fn ceil(self) -> u128 {
        let Split { whole, fraction, .. } = self.split();
        whole + u128::from(fraction > 0)
    }
}

/// Quotient and remainder. A division of 128 bits takes several times as long as one of 64, which most prices fit in.
pub(super) fn divide(dividend: u128, divisor: u128) -> (u128, u128) {
    match (u64::try_from(dividend), u64::try_from(divisor)) {
        (Ok(dividend), Ok(divisor)) => ((dividend / divisor).into(), (dividend % divisor).into()),
        _ => (dividend / divisor, dividend % divisor),
    }
}
