//! The steps of a price.

use super::exact::{Conversion, Exact};
use super::{Market, Membership, PriceDetail, Product, Rounding, Unpriced};
use crate::money::{Money, Ppm};

/// What each step has made of a price, in minor units of the market's currency.
pub(super) struct Steps {
    pub(super) conversion: Conversion,
    pub(super) discount_rate: Ppm,
    /// `list price × multiplier × exchange rate × (1 − discount)`.
    pub(super) exact: Exact,
    /// The allowed price that it was rounded to.
    pub(super) rounded: u128,
    /// The price after the ceiling.
    pub(super) below_ceiling: u128,
    /// The price after the floor, which is the final one.
    pub(super) above_floor: u128,
    /// Whether the final price is above the ceiling.
    pub(super) bounds_conflict: bool,
}

impl Steps {
    /// Makes the steps. Always inlined, so that a price without an explanation stores no step.
    ///
    /// # Errors
    ///
    /// When the market lacks an exchange rate.
    #[inline(always)]
    pub(super) fn new(product: &Product, market: &Market, membership: Membership) -> Result<Self, Unpriced> {
        let discount_rate = match membership {
            Membership::Standard => Ppm::ZERO,
            Membership::Prime => market.member_discount,
        };
        let conversion = Conversion::new(product.currency, market)?;
        let exact = conversion.price(product.list_price(), market.multiplier, discount_rate);
        let rounded = market.rounding.round(exact);
        // Prices are whole minor units, so one is above the ceiling exactly if it is above the ceiling rounded down.
        let ceiling = product.ceiling.map(|ceiling| conversion.convert(ceiling).floor());
        let below_ceiling = match ceiling {
            Some(ceiling) if rounded > ceiling => {
                market.rounding.at_or_below(ceiling).unwrap_or_else(|| market.rounding.at_or_above(0))
            }
            _ => rounded,
        };
        let floor = product.floor.map(|floor| conversion.convert(floor).ceil());
        let above_floor = match floor {
            Some(floor) if below_ceiling < floor => market.rounding.at_or_above(floor),
            _ => below_ceiling,
        };
        let bounds_conflict = ceiling.is_some_and(|ceiling| above_floor > ceiling);
        Ok(Self { conversion, discount_rate, exact, rounded, below_ceiling, above_floor, bounds_conflict })
    }

    /// The price that they lead to.
    ///
    /// # Errors
    ///
    /// When an amount is too large.
    #[inline(always)]
    pub(super) fn detail(&self, product: &Product, market: &Market) -> Result<PriceDetail, Unpriced> {
        let base_price = Rounding::MINOR_UNIT.round(self.conversion.convert(product.base_price));
        Ok(PriceDetail {
            final_price: Money::computed(self.above_floor).ok_or(Unpriced::OutOfRange)?,
            base_price: Money::computed(base_price).ok_or(Unpriced::OutOfRange)?,
            discount_rate: self.discount_rate,
            currency: market.currency,
            version: product.version,
            market_version: market.version,
            bounds_conflict: self.bounds_conflict,
        })
    }
}
