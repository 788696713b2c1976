//! The rule for prices, written down in big rationals: slow, and so simple that it can be read against the rule.

use num_bigint::BigInt;
use num_integer::Integer as _;
use num_rational::BigRational;
use pricing_core::money::{Money, Ppm};
use pricing_core::price::{Market, Membership, Product, RoundingMode, Unpriced};

/// What the rule says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) final_price: BigInt,
    pub(crate) base_price: BigInt,
    pub(crate) bounds_conflict: bool,
}

pub(crate) fn price(product: &Product, market: &Market, membership: Membership) -> Result<Answer, Unpriced> {
    let rate = match (market.currency == product.currency, market.exchange_rate) {
        (true, _) => ratio(1, 1),
        (false, Some(rate)) => ratio(rate.e12().into(), 1_000_000_000_000),
        (false, None) => return Err(Unpriced::NoExchangeRate),
    };
    // Major units of the market; a currency with two decimals has 100 minor units.
    let minor_units = ratio(10_i128.pow(market.currency.decimals()), 1);
    let major_units = |money: Money| ratio(money.minor().into(), 10_i128.pow(product.currency.decimals()));
    let in_market = |money: Money| major_units(money) * &rate * &minor_units;
    let factor = |ppm: Ppm| ratio(ppm.get().into(), 1_000_000);

    // 1. Exact.
    let mut exact = in_market(product.list_price()) * factor(market.multiplier);
    if membership == Membership::Prime {
        exact *= ratio(1, 1) - factor(market.member_discount);
    }
    let floor = in_market(product.floor.unwrap_or(Money::base(0).unwrap()));
    let ceiling = product.ceiling.map(in_market);

    // All allowed prices that can matter: around the exact price and the bounds, and the least.
    let allowed = AllowedPrices::new(market);
    let targets = [Some(&exact), Some(&floor), ceiling.as_ref(), Some(&ratio(0, 1))];
    let mut candidates: Vec<BigInt> =
        targets.into_iter().flatten().flat_map(|target| allowed.around(target)).collect();
    candidates.sort();
    candidates.dedup();

    // 2. One rounding.
    let mut price = match exact == ratio(0, 1) {
        true => BigInt::ZERO,
        false => allowed.nearest(&exact, &candidates),
    };

    // 3. The ceiling, then the floor; without an allowed price between them, the first one from the floor.
    let rational = |price: &BigInt| BigRational::from_integer(price.clone());
    let is_below_ceiling =
        |price: &BigInt| ceiling.as_ref().is_none_or(|ceiling| rational(price) <= *ceiling);

    let from_floor = candidates.iter().find(|price| rational(price) >= floor).unwrap().clone();
    if !is_below_ceiling(&price) {
        let fits = |price: &&BigInt| is_below_ceiling(price) && rational(price) >= floor;
        price = candidates.iter().rev().find(fits).unwrap_or(&from_floor).clone();
    }
    if rational(&price) < floor {
        price = from_floor;
    }
    let bounds_conflict = !is_below_ceiling(&price);

    let base_price = in_market(product.base_price);
    let base_price = half_even(&base_price);
    let largest = BigInt::from(10_i128.pow(15) - 1);
    if price > largest || base_price > largest {
        return Err(Unpriced::OutOfRange);
    }
    Ok(Answer { final_price: price, base_price, bounds_conflict })
}

/// `ending + k × increment` for k ≥ 0.
struct AllowedPrices {
    increment: BigInt,
    ending: BigInt,
    mode: RoundingMode,
}

impl AllowedPrices {
    fn new(market: &Market) -> Self {
        Self {
            increment: market.rounding.increment().into(),
            ending: market.rounding.ending().unwrap_or(0).into(),
            mode: market.rounding.mode(),
        }
    }

    /// The allowed prices within three increments of a target, and the least one.
    fn around(&self, target: &BigRational) -> Vec<BigInt> {
        let near = (target / BigRational::from_integer(self.increment.clone())).to_integer();
        let steps = (-3..=3).map(|step| &near + step).filter(|k| *k >= BigInt::ZERO);
        steps.chain([BigInt::ZERO]).map(|k| &self.ending + k * &self.increment).collect()
    }

    /// The candidate that an exact price is rounded to.
    fn nearest(&self, exact: &BigRational, candidates: &[BigInt]) -> BigInt {
        let is_below = |price: &&BigInt| BigRational::from_integer((*price).clone()) <= *exact;
        let is_above = |price: &&BigInt| BigRational::from_integer((*price).clone()) >= *exact;
        let above = candidates.iter().find(is_above).unwrap();
        let Some(below) = candidates.iter().rev().find(is_below) else { return above.clone() };
        let (to_below, to_above) = (exact - below, -(exact - above));
        let is_even = |price: &BigInt| ((price - &self.ending) / &self.increment).is_even();
        let goes_up = match self.mode {
            RoundingMode::Up => true,
            RoundingMode::Down => false,
            RoundingMode::HalfEven => to_above < to_below || (to_above == to_below && is_even(above)),
        };
        if goes_up { above.clone() } else { below.clone() }
    }
}

/// The nearest integer; from the middle the even one.
fn half_even(exact: &BigRational) -> BigInt {
    let (down, up) = (exact.floor().to_integer(), exact.ceil().to_integer());
    let (to_down, to_up) = (exact - &down, -(exact - &up));
    if to_up < to_down || (to_up == to_down && up.is_even()) { up } else { down }
}

fn ratio(numerator: i128, denominator: i128) -> BigRational {
    BigRational::new(numerator.into(), denominator.into())
}
