//! The price function: pure, and the same in every process. docs/pricing.md explains it with examples.
//!
//! In reading order: `inputs`; the `steps` of a price, in `exact` amounts and with the `rounding` of a market; and the
//! `explanation` of a price, which keeps what each step has made.

mod exact;
mod explanation;
mod inputs;
mod rounding;
mod steps;

use crate::money::{Currency, Money, Ppm};
use steps::Steps;

pub use explanation::{Bound, Explanation, explain};
pub use inputs::{Market, Membership, Product};
pub use rounding::{Rounding, RoundingMode};

/// A price and the inputs that a customer sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceDetail {
    /// Amount the customer pays.
    pub final_price: Money,
    /// The product's base price in the market's currency.
    pub base_price: Money,
    /// Share of the market's price that membership saves.
    pub discount_rate: Ppm,
    /// Currency of both prices.
    pub currency: Currency,
    /// Version of the product that was priced.
    pub version: u64,
    /// Version of the market that priced it.
    pub market_version: u64,
    /// Whether the market allows no price between floor and ceiling, so the price is above the ceiling.
    pub bounds_conflict: bool,
}

/// Why a product has no price in a market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unpriced {
    /// The market has another currency than the catalogue, and no exchange rate.
    #[error("the market has another currency than the catalogue, and no exchange rate")]
    NoExchangeRate,
    /// The final price, or the base price in the market's currency, is above [`Money::MAX`].
    #[error("the price is above the largest amount, {} minor units", Money::MAX.minor())]
    OutOfRange,
}

impl Unpriced {
    /// Its name in answers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoExchangeRate => "no_exchange_rate",
            Self::OutOfRange => "out_of_range",
        }
    }
}

/// Prices a product for one customer.
///
/// 1. `list price × multiplier × exchange rate`, `× (1 − discount)` for members: exact.
/// 2. Rounded once, to a price that the market allows.
/// 3. The ceiling, then the floor, in the market's currency: a price above the ceiling becomes the greatest allowed one
///    below it, then a price below the floor the least allowed one above it. The floor is last and wins.
///
/// # Errors
///
/// When the market lacks an exchange rate, or an amount is too large. No price is a guess, and none is saturated.
pub fn price(product: &Product, market: &Market, membership: Membership) -> Result<PriceDetail, Unpriced> {
    Steps::new(product, market, membership)?.detail(product, market)
}

/// The list price that a recalculation gives a product: with the seed's formula, its base price.
pub fn recalculated_list_price(product: &Product) -> Money {
    product.base_price
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::ExchangeRate;

    fn money(minor: i64) -> Money {
        Money::base(minor).unwrap()
    }

    fn product(minor: i64) -> Product {
        Product::new(money(minor), Currency::USD, 7)
    }

    fn market(ppm: i64) -> Market {
        Market::new(Ppm::multiplier(ppm).unwrap(), Currency::USD, 1)
    }

    fn final_minor(product: &Product, market: &Market) -> i64 {
        price(product, market, Membership::Standard).unwrap().final_price.minor()
    }

    #[test]
    fn the_seeds_formula_is_the_simplest_case() {
        let (product, market) = (product(5_499), market(950_000));
        let detail = price(&product, &market, Membership::Prime).unwrap();
        assert_eq!(detail.final_price.minor(), 4_963); // 54.99 × 0.95 × 0.95 = 49.628475
        assert_eq!(detail.discount_rate.get(), 50_000);
        assert_eq!((detail.base_price.minor(), detail.version), (5_499, 7));
        assert_eq!(final_minor(&product, &market), 5_224); // 52.2405
    }

    #[test]
    fn a_half_cent_goes_to_the_even_cent() {
        for (minor, half) in [(1, 0), (3, 2), (5, 2)] {
            assert_eq!(final_minor(&product(minor), &market(500_000)), half);
        }
    }

    #[test]
    fn a_list_price_takes_the_place_of_the_base_price() {
        let product = Product { list_price: Some(money(6_000)), ..product(5_000) };
        let detail = price(&product, &market(1_000_000), Membership::Standard).unwrap();
        assert_eq!((detail.final_price.minor(), detail.base_price.minor()), (6_000, 5_000));
    }

    #[test]
    fn another_currency_needs_a_rate() {
        let market = Market { currency: Currency::parse("JPY").unwrap(), ..market(1_000_000) };
        assert_eq!(price(&product(5_499), &market, Membership::Standard), Err(Unpriced::NoExchangeRate));
        let rate = ExchangeRate::parse("150.25".parse().unwrap()).unwrap();
        let market = Market { exchange_rate: Some(rate), ..market };
        let detail = price(&product(5_499), &market, Membership::Standard).unwrap();
        assert_eq!((detail.final_price.minor(), detail.base_price.minor()), (8_262, 8_262)); // 8262.2475
        assert_eq!(detail.currency.as_str(), "JPY");
    }

    #[test]
    fn the_floor_wins_over_the_ceiling() {
        let bounds = |floor, ceiling| Product {
            floor: Some(money(floor)),
            ceiling: Some(money(ceiling)),
            ..product(5_000)
        };
        for (floor, ceiling, expected, conflict) in [
            (1_000, 9_000, 5_000, false),
            (1_000, 4_000, 4_000, false),
            (6_000, 9_000, 6_000, false),
            (6_000, 6_000, 6_000, false),
            (6_000, 4_000, 6_000, true),
        ] {
            let detail = price(&bounds(floor, ceiling), &market(1_000_000), Membership::Standard).unwrap();
            assert_eq!((detail.final_price.minor(), detail.bounds_conflict), (expected, conflict));
        }
    }

    #[test]
    fn an_amount_beyond_the_bounds_is_refused_and_a_ceiling_brings_one_back() {
        let most = Money::MAX_BASE.minor();
        assert_eq!(final_minor(&product(most), &market(Ppm::MAX_MULTIPLIER.get())), most * 100);
        let dear = Market {
            currency: Currency::parse("KWD").unwrap(),
            exchange_rate: ExchangeRate::from_e12(1_000_000_000_000_000_000),
            ..market(Ppm::MAX_MULTIPLIER.get())
        };
        assert_eq!(price(&product(most), &dear, Membership::Standard), Err(Unpriced::OutOfRange));
        let bounded = Product { list_price: Some(Money::MAX_BASE), ceiling: Some(money(100)), ..product(1) };
        assert_eq!(final_minor(&bounded, &dear), 1_000_000_000); // 1.00 × 10⁶ in fils
    }
}
