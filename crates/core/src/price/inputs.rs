//! What a price is made of.

use super::Rounding;
use crate::money::{Currency, ExchangeRate, Money, Ppm};

/// The pricing inputs of a product. All amounts are in the catalogue's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Price that the shop has set.
    pub base_price: Money,
    /// Price that the last recalculation made of it, if it is another one; see [`Product::list_price`].
    pub list_price: Option<Money>,
    /// The least that it may cost.
    pub floor: Option<Money>,
    /// The most that it may cost, unless that is below the floor.
    pub ceiling: Option<Money>,
    /// The catalogue's currency.
    pub currency: Currency,
    /// Version: from 1, greater with every change of the product, also if it was deleted in between.
    pub version: u64,
}

impl Product {
    /// A product with a base price only.
    pub const fn new(base_price: Money, currency: Currency, version: u64) -> Self {
        Self { base_price, list_price: None, floor: None, ceiling: None, currency, version }
    }

    /// The price before market and membership: the recalculated one, or else the base price.
    pub fn list_price(&self) -> Money {
        self.list_price.unwrap_or(self.base_price)
    }
}

/// The terms of a market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Market {
    /// Factor on every list price in this market.
    pub multiplier: Ppm,
    /// Share of the price that members save.
    pub member_discount: Ppm,
    /// Currency of its prices.
    pub currency: Currency,
    /// Units of its currency for one unit of the catalogue's. Without meaning when they are the same.
    pub exchange_rate: Option<ExchangeRate>,
    /// The prices that it allows.
    pub rounding: Rounding,
    /// Version: from 1, greater with every change of the market, also if it was deleted in between.
    pub version: u64,
}

impl Market {
    /// The members' discount of a market that says nothing else: five per cent.
    pub const DEFAULT_MEMBER_DISCOUNT: Ppm = Ppm::rate(50_000).expect("within 0 … 1");

    /// A market with a multiplier, and defaults for its other terms.
    pub const fn new(multiplier: Ppm, currency: Currency, version: u64) -> Self {
        Self {
            multiplier,
            member_discount: Self::DEFAULT_MEMBER_DISCOUNT,
            currency,
            exchange_rate: None,
            rounding: Rounding::MINOR_UNIT,
            version,
        }
    }
}

/// Membership of a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// Pays the market's price.
    Standard,
    /// Pays the market's price less [`Market::member_discount`].
    Prime,
}
