//! What `explain` promises: the price of `price`, and steps that lead to it.

use num_bigint::BigInt;
use num_rational::BigRational;
use pricing_core::money::{Amount, Currency, Decimal, ExchangeRate, Money, Ppm};
use pricing_core::price::{Bound, Market, Membership, Product, Rounding, RoundingMode, explain, price};
use proptest::prelude::*;

use crate::inputs::{big_inputs, small_inputs};

/// The number that a text says.
fn rational(text: impl ToString) -> BigRational {
    let text = text.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits: BigInt = format!("{whole}{fraction}").parse().unwrap();
    BigRational::new(digits, BigInt::from(10).pow(fraction.len() as u32))
}

fn money(money: Money, currency: Currency) -> BigRational {
    rational(Amount { money, currency })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn an_explained_price_is_the_price(
        (product, market, membership) in prop_oneof![big_inputs(), small_inputs()],
    ) {
        let explained = explain(&product, &market, membership);
        prop_assert_eq!(
            explained.map(|explanation| explanation.detail),
            price(&product, &market, membership)
        );
    }

    #[test]
    fn the_steps_lead_from_the_inputs_to_the_price(
        (product, market, membership) in prop_oneof![big_inputs(), small_inputs()],
    ) {
        let Ok(explained) = explain(&product, &market, membership) else { return Ok(()) };
        prop_assert_eq!((explained.product, explained.market), (product, market));
        let (from, to) = (product.currency, market.currency);
        let rate = match from == to {
            true => ExchangeRate::ONE,
            false => market.exchange_rate.unwrap(),
        };
        prop_assert_eq!(explained.exchange_rate, rate);
        let in_market = |amount| money(amount, from) * rational(rate);
        let paid = rational(1) - rational(explained.detail.discount_rate);
        let exact = in_market(product.list_price()) * rational(market.multiplier) * paid;
        prop_assert_eq!(rational(explained.exact_price), exact);

        let mut last = explained.rounded_price;
        for (bound, of_product) in [(explained.ceiling, product.ceiling), (explained.floor, product.floor)] {
            prop_assert_eq!(bound.map(|bound| rational(bound.amount)), of_product.map(in_market));
            let Some(Bound { moved, price, .. }) = bound else { continue };
            prop_assert_eq!(moved, price != last);
            last = price;
        }
        prop_assert_eq!(rational(last), money(explained.detail.final_price, to));
    }
}

#[test]
fn each_step_is_told_with_its_result() {
    let eur = Currency::parse("EUR").unwrap();
    let base = |minor| Money::base(minor).unwrap();
    let product = Product {
        list_price: Some(base(5_499)),
        floor: Some(base(4_500)),
        ceiling: Some(base(6_000)),
        ..Product::new(base(5_000), Currency::USD, 7)
    };
    let rate = ExchangeRate::parse("0.92".parse().unwrap()).unwrap();
    let market = Market {
        exchange_rate: Some(rate),
        rounding: Rounding::new(100, RoundingMode::HalfEven, Some(99)).unwrap(),
        ..Market::new(Ppm::multiplier(1_500_000).unwrap(), eur, 12)
    };
    let number = |text: &str| text.parse::<Decimal>().unwrap();

    let dear = explain(&product, &market, Membership::Prime).unwrap();
    assert_eq!((dear.exact_price, dear.rounded_price), (number("72.091890"), number("71.99")));
    let ceiling = Bound { amount: number("55.2"), moved: true, price: number("54.99") };
    let floor = Bound { amount: number("41.4"), moved: false, price: number("54.99") };
    assert_eq!((dear.ceiling, dear.floor), (Some(ceiling), Some(floor)));
    assert_eq!((dear.detail.version, dear.detail.market_version), (7, 12));

    let cheap = Market { multiplier: Ppm::multiplier(800_000).unwrap(), ..market };
    let cheap = explain(&product, &cheap, Membership::Prime).unwrap();
    assert_eq!((cheap.exact_price, cheap.rounded_price), (number("38.449008"), number("37.99")));
    let ceiling = Bound { amount: number("55.2"), moved: false, price: number("37.99") };
    let floor = Bound { amount: number("41.4"), moved: true, price: number("41.99") };
    assert_eq!((cheap.ceiling, cheap.floor), (Some(ceiling), Some(floor)));
}
