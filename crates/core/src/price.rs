//! The price function: pure, and the same in every process.

use serde::Serialize;

use crate::money::{Currency, Money, Ppm};

/// The pricing inputs of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Price before market and membership.
    pub base_price: Money,
    /// Currency of all its prices.
    pub currency: Currency,
    /// Version: from 1, greater with every change of the product, also if it was deleted in between.
    pub version: u64,
}

/// The pricing inputs of a market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Market {
    /// Factor on every base price in this market.
    pub multiplier: Ppm,
    /// Version: from 1, greater with every change of the market, also if it was deleted in between.
    pub version: u64,
}

/// Membership of a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// Pays the market's price.
    Standard,
    /// Pays the market's price less [`Policy::prime_discount`].
    Prime,
}

/// The rules of the shop. They apply to every product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Discount of prime members.
    pub prime_discount: Ppm,
}

impl Default for Policy {
    /// Five per cent for prime members.
    fn default() -> Self {
        Self { prime_discount: const { Ppm::rate(50_000).expect("within 0 … 1") } }
    }
}

/// A price and the inputs that a customer sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PriceDetail {
    /// Amount the customer pays.
    pub final_price: Money,
    /// Price of the product before market and membership.
    pub base_price: Money,
    /// Share of the market's price that membership saves.
    pub discount_rate: Ppm,
    /// Currency of both prices.
    pub currency: Currency,
    /// Version of the product that was priced.
    pub version: u64,
}

/// Prices a product for one customer: `base × market multiplier × (1 − discount)`, rounded once, to two
/// decimal places.
///
/// The arithmetic is exact; a result half way between two cents goes to the even one, as Python's
/// `round` does. For validated inputs it cannot overflow: at most 10¹² × 10⁸ × 10⁶ = 10²⁶.
///
/// # Panics
///
/// When a price overflows, which validated inputs rule out.
pub fn price(product: &Product, market: &Market, membership: Membership, policy: &Policy) -> PriceDetail {
    let discount_rate = match membership {
        Membership::Standard => const { Ppm::rate(0).expect("within 0 … 1") },
        Membership::Prime => policy.prime_discount,
    };
    let keeps = Ppm::ONE.get() - discount_rate.get();
    let scaled =
        i128::from(product.base_price.minor()) * i128::from(market.multiplier.get()) * i128::from(keeps);
    PriceDetail {
        final_price: Money::from_minor(divide_half_even(scaled, 1_000_000_000_000)),
        base_price: product.base_price,
        discount_rate,
        currency: product.currency,
        version: product.version,
    }
}

/// Divides a non-negative number, rounding half to even.
fn divide_half_even(dividend: i128, divisor: i128) -> i64 {
    let (quotient, remainder) = (dividend / divisor, dividend % divisor);
    let round_up = match (remainder * 2).cmp(&divisor) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => quotient % 2 == 1,
        std::cmp::Ordering::Greater => true,
    };
    i64::try_from(quotient + i128::from(round_up)).expect("invariant: validated factors bound a price")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn product(minor: i64) -> Product {
        Product { base_price: Money::base(minor).unwrap(), currency: Currency::USD, version: 7 }
    }

    fn market(ppm: i64) -> Market {
        Market { multiplier: Ppm::multiplier(ppm).unwrap(), version: 1 }
    }

    fn final_minor(minor: i64, ppm: i64, membership: Membership) -> i64 {
        price(&product(minor), &market(ppm), membership, &Policy::default()).final_price.minor()
    }

    #[test]
    fn the_seeds_formula_is_the_simplest_case() {
        let detail = price(&product(5_499), &market(950_000), Membership::Prime, &Policy::default());
        assert_eq!(detail.final_price.minor(), 4_963); // 54.99 × 0.95 × 0.95 = 49.628475
        assert_eq!(detail.discount_rate.get(), 50_000);
        assert_eq!((detail.base_price.minor(), detail.version), (5_499, 7));
        assert_eq!(final_minor(5_499, 950_000, Membership::Standard), 5_224); // 52.2405
    }

    #[test]
    fn a_half_cent_goes_to_the_even_cent() {
        assert_eq!(final_minor(1, 500_000, Membership::Standard), 0);
        assert_eq!(final_minor(3, 500_000, Membership::Standard), 2);
        assert_eq!(final_minor(5, 500_000, Membership::Standard), 2);
    }

    #[test]
    fn the_largest_inputs_are_priced_exactly() {
        let max = Money::MAX_BASE.minor();
        assert_eq!(final_minor(max, Ppm::MAX_MULTIPLIER.get(), Membership::Standard), max * 100);
    }

    proptest! {
        #[test]
        fn rounding_moves_a_price_by_half_a_cent_at_most(
            minor in 0..=Money::MAX_BASE.minor(), ppm in 0..=Ppm::MAX_MULTIPLIER.get(),
        ) {
            let exact = i128::from(minor) * i128::from(ppm);
            let rounded = i128::from(final_minor(minor, ppm, Membership::Standard)) * 1_000_000;
            prop_assert!((exact - rounded).abs() * 2 <= 1_000_000);
        }

        #[test]
        fn a_prime_member_never_pays_more(
            minor in 0..=Money::MAX_BASE.minor(), ppm in 0..=Ppm::MAX_MULTIPLIER.get(),
        ) {
            prop_assert!(final_minor(minor, ppm, Membership::Prime) <= final_minor(minor, ppm, Membership::Standard));
        }

        #[test]
        fn a_higher_base_price_never_costs_less(
            minor in 0..Money::MAX_BASE.minor(), ppm in 0..=Ppm::MAX_MULTIPLIER.get(),
        ) {
            prop_assert!(final_minor(minor, ppm, Membership::Prime) <= final_minor(minor + 1, ppm, Membership::Prime));
        }
    }
}
