//! Why a price is what it is.

use super::exact::Exact;
use super::steps::Steps;
use super::{Market, Membership, PriceDetail, Product, Unpriced};
use crate::money::{Decimal, ExchangeRate, Money};

/// A price, what it was made of, and what each step of [`price()`](super::price) has made.
///
/// The amounts of steps are exact, in major units of the market's currency. They may have more digits than a
/// [`Money`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// The product that was priced.
    pub product: Product,
    /// The market that priced it.
    pub market: Market,
    /// The exchange rate that was applied: 1 in the catalogue's currency.
    pub exchange_rate: ExchangeRate,
    /// `list price × multiplier × exchange rate × (1 − discount)`, before rounding.
    pub exact_price: Decimal,
    /// The allowed price that it was rounded to.
    pub rounded_price: Decimal,
    /// What the ceiling did, if the product has one.
    pub ceiling: Option<Bound>,
    /// What the floor did, if the product has one.
    pub floor: Option<Bound>,
    /// The price.
    pub detail: PriceDetail,
}

/// What a ceiling or floor did to a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The bound in the market's currency.
    pub amount: Decimal,
    /// Whether it moved the price.
    pub moved: bool,
    /// The price after it.
    pub price: Decimal,
}

/// Prices a product for one customer by the steps of [`price()`](super::price), and explains the price.
///
/// # Errors
///
/// When [`price()`](super::price) fails.
pub fn explain(product: &Product, market: &Market, membership: Membership) -> Result<Explanation, Unpriced> {
    let steps = Steps::new(product, market, membership)?;
    let major = |exact: Exact| exact.in_major_units(market.currency);
    let bound = |bound: Money, before: u128, after: u128| Bound {
        amount: major(steps.conversion.convert(bound)),
        moved: before != after,
        price: major(Exact::whole(after)),
    };
    let rate = market.exchange_rate.filter(|_| market.currency != product.currency);
    Ok(Explanation {
        product: *product,
        market: *market,
        exchange_rate: rate.unwrap_or(ExchangeRate::ONE),
        exact_price: major(steps.exact),
        rounded_price: major(Exact::whole(steps.rounded)),
        ceiling: product.ceiling.map(|ceiling| bound(ceiling, steps.rounded, steps.below_ceiling)),
        floor: product.floor.map(|floor| bound(floor, steps.below_ceiling, steps.above_floor)),
        detail: steps.detail(product, market)?,
    })
}
