//! Inputs of prices: over all that is allowed, and small ones.

use pricing_core::money::{Currency, ExchangeRate, Money, Ppm};
use pricing_core::price::{Market, Membership, Product, Rounding, RoundingMode};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

type Inputs = (Product, Market, Membership);

/// Every product, market and membership within the stated bounds, with their edges.
pub(crate) fn big_inputs() -> impl Strategy<Value = Inputs> {
    let amount = || {
        let max = Money::MAX_BASE.minor();
        let minor = prop_oneof![0..=max, 0..=1_000_000_i64, select(vec![0, 1, max - 1, max])];
        minor.prop_map(|minor| Money::base(minor).unwrap())
    };
    let multiplier = prop_oneof![
        0..=Ppm::MAX_MULTIPLIER.get(),
        0..=2_000_000_i64,
        select(vec![0, 1, Ppm::ONE.get(), Ppm::MAX_MULTIPLIER.get()]),
    ];
    let rounding = (1..=Rounding::MAX_INCREMENT, mode(), option::of(0..Rounding::MAX_INCREMENT));
    let rounding = prop_oneof![
        rounding.prop_map(|(increment, mode, ending)| rounded(increment, mode, ending)),
        Just(Rounding::default()),
        mode().prop_map(|mode| rounded(100, mode, Some(99))),
        mode().prop_map(|mode| rounded(5, mode, None)),
    ];
    inputs(amount().boxed(), multiplier.boxed(), rate().boxed(), rounding.boxed())
}

/// Amounts up to 60 minor units; increments and endings of their size.
pub(crate) fn small_inputs() -> impl Strategy<Value = Inputs> {
    let amount = (0..60_i64).prop_map(|minor| Money::base(minor).unwrap());
    let multiplier = select(vec![0, 500_000, 950_000, 1_000_000, 1_500_000, 2_000_000]);
    let rate = select(vec![500_000_000_000, 1_000_000_000_000, 2_500_000_000_000]);
    let rate = rate.prop_map(|e12| ExchangeRate::from_e12(e12).unwrap());
    let rounding = (1..40_i64, mode(), option::of(0..40_i64))
        .prop_map(|(increment, mode, ending)| rounded(increment, mode, ending));
    inputs(amount.boxed(), multiplier.boxed(), rate.boxed(), rounding.boxed())
}

fn inputs(
    amount: BoxedStrategy<Money>,
    multiplier: BoxedStrategy<i64>,
    rate: BoxedStrategy<ExchangeRate>,
    rounding: BoxedStrategy<Rounding>,
) -> impl Strategy<Value = Inputs> {
    let bound = || option::of(amount.clone());
    let product = (amount.clone(), bound(), bound(), bound(), currency()).prop_map(
        |(base_price, list_price, floor, ceiling, currency)| Product {
            list_price,
            floor,
            ceiling,
            ..Product::new(base_price, currency, 1)
        },
    );
    let discount = prop_oneof![Just(50_000), 0..=Ppm::ONE.get(), select(vec![0, Ppm::ONE.get()])];
    let market = (multiplier, discount, currency(), rate, rounding).prop_map(
        |(ppm, discount, currency, rate, rounding)| Market {
            member_discount: Ppm::rate(discount).unwrap(),
            exchange_rate: Some(rate),
            rounding,
            ..Market::new(Ppm::multiplier(ppm).unwrap(), currency, 1)
        },
    );
    (product, market, select(vec![Membership::Standard, Membership::Prime]))
}

fn currency() -> impl Strategy<Value = Currency> {
    select(vec!["JPY", "USD", "EUR", "KWD"]).prop_map(|code| Currency::parse(code).unwrap())
}

fn mode() -> impl Strategy<Value = RoundingMode> {
    select(vec![RoundingMode::HalfEven, RoundingMode::Up, RoundingMode::Down])
}

fn rate() -> impl Strategy<Value = ExchangeRate> {
    let digits = prop_oneof![1..=999_999_999_u64, 1..=1_000_u64, select(vec![1, 1_000_000, 999_999_999])];
    (digits, 0..4_u32).prop_filter_map("more decimals than a rate of its size", |(digits, thousands)| {
        ExchangeRate::from_e12(digits * 1_000_u64.pow(thousands))
    })
}

/// A rounding with the ending made less than the increment.
fn rounded(increment: i64, mode: RoundingMode, ending: Option<i64>) -> Rounding {
    Rounding::new(increment, mode, ending.map(|ending| ending % increment)).unwrap()
}
