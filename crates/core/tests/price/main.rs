//! What `price` promises, for every input within the stated bounds.

#![expect(clippy::unwrap_used, reason = "where a test unwraps, the panic is the report")]

mod examples;
mod explanation;
mod inputs;
mod oracle;

use inputs::{big_inputs, small_inputs};
use pricing_core::money::{Amount, Currency, Decimal, Money, Ppm};
use pricing_core::price::{Market, Membership, PriceDetail, Product, Unpriced, price};
use proptest::prelude::*;

/// The final price in minor units; `None` for one above the largest amount.
fn final_minor(product: &Product, market: &Market, membership: Membership) -> Option<i64> {
    match price(product, market, membership) {
        Ok(detail) => Some(detail.final_price.minor()),
        Err(Unpriced::OutOfRange) => None,
        Err(error) => panic!("{error}: {product:?} {market:?}"),
    }
}

/// Orders prices; one that is too large is above all others.
fn rank(price: Option<i64>) -> i64 {
    price.unwrap_or(i64::MAX)
}

fn agrees_with_the_oracle(
    product: &Product,
    market: &Market,
    membership: Membership,
) -> Result<(), TestCaseError> {
    let answered = price(product, market, membership);
    let expected = oracle::price(product, market, membership);
    let answered = answered.map(|detail| oracle::Answer {
        final_price: detail.final_price.minor().into(),
        base_price: detail.base_price.minor().into(),
        bounds_conflict: detail.bounds_conflict,
    });
    prop_assert_eq!(answered, expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_price_equals_the_oracles((product, market, membership) in big_inputs()) {
        agrees_with_the_oracle(&product, &market, membership)?;
    }

    /// Amounts of a few minor units meet increments, endings and bounds of the same size.
    #[test]
    fn a_small_price_equals_the_oracles((product, market, membership) in small_inputs()) {
        agrees_with_the_oracle(&product, &market, membership)?;
    }

    #[test]
    fn a_price_is_one_that_the_market_allows((product, market, membership) in small_inputs()) {
        let Ok(PriceDetail { final_price, .. }) = price(&product, &market, membership) else { return Ok(()) };
        let (increment, ending) = (market.rounding.increment(), market.rounding.ending().unwrap_or(0));
        let minor = final_price.minor();
        prop_assert!(minor >= 0);
        prop_assert!(minor == 0 || minor % i64::from(increment) == i64::from(ending), "{}", minor);
    }

    #[test]
    fn a_member_never_pays_more((product, market, _) in prop_oneof![big_inputs(), small_inputs()]) {
        let [member, other] =
            [Membership::Prime, Membership::Standard].map(|who| rank(final_minor(&product, &market, who)));
        prop_assert!(member <= other, "{} {}", member, other);
    }

    #[test]
    fn a_higher_list_price_never_costs_less(
        (product, market, membership) in prop_oneof![big_inputs(), small_inputs()],
        lower in 0..=Money::MAX_BASE.minor(),
    ) {
        let lower = lower.min(product.list_price().minor());
        let cheaper = Product { list_price: Some(Money::base(lower).unwrap()), ..product };
        let [lower, higher] =
            [cheaper, product].map(|product| rank(final_minor(&product, &market, membership)));
        prop_assert!(lower <= higher, "{} {}", lower, higher);
    }

    #[test]
    fn the_list_price_one_below_never_costs_more((product, market, membership) in small_inputs()) {
        let one_less = Money::base(product.list_price().minor() - 1);
        let Some(one_less) = one_less else { return Ok(()) };
        let cheaper = Product { list_price: Some(one_less), ..product };
        let [lower, higher] =
            [cheaper, product].map(|product| rank(final_minor(&product, &market, membership)));
        prop_assert!(lower <= higher, "{} {}", lower, higher);
    }

    #[test]
    fn a_price_prints_as_itself((product, market, membership) in big_inputs()) {
        let Ok(PriceDetail { final_price, currency, .. }) = price(&product, &market, membership) else {
            return Ok(());
        };
        let json = sonic_rs::to_string(&Amount { money: final_price, currency }).unwrap();
        let minor = format!("{json}e{}", currency.decimals()).parse::<Decimal>().unwrap().to_string();
        prop_assert_eq!(minor, final_price.minor().to_string(), "{}", json);
    }

    /// The seed: `round(base × multiplier × (1 − discount), 2)`, exact, half to even.
    #[test]
    fn the_seeds_formula_is_the_simplest_case(
        minor in 0..=Money::MAX_BASE.minor(), ppm in 0..=Ppm::MAX_MULTIPLIER.get(),
    ) {
        let product = Product::new(Money::base(minor).unwrap(), Currency::USD, 1);
        let market = Market::new(Ppm::multiplier(ppm).unwrap(), Currency::USD, 1);
        for (membership, paid) in [(Membership::Standard, 100), (Membership::Prime, 95)] {
            let (exact, unit) = (i128::from(minor) * i128::from(ppm) * paid, 100_000_000);
            let rounded = i128::from(final_minor(&product, &market, membership).unwrap());
            let twice_off = 2 * (exact - rounded * unit).abs();
            prop_assert!(twice_off < unit || (twice_off == unit && rounded % 2 == 0));
        }
    }
}

#[test]
fn the_largest_inputs_overflow_nothing() {
    use pricing_core::money::ExchangeRate;

    let most = Some(Money::MAX_BASE);
    for (from, to) in [("JPY", "KWD"), ("KWD", "JPY"), ("USD", "EUR"), ("USD", "USD")] {
        for e12 in [1, 999_999_999, 999_999_999_000, 999_999_999_000_000, 1_000_000_000_000_000_000] {
            let currency = Currency::parse(from).unwrap();
            let product = Product {
                list_price: most,
                floor: most,
                ceiling: most,
                ..Product::new(Money::MAX_BASE, currency, 1)
            };
            let market = Market {
                exchange_rate: ExchangeRate::from_e12(e12),
                ..Market::new(Ppm::MAX_MULTIPLIER, Currency::parse(to).unwrap(), 1)
            };
            for membership in [Membership::Standard, Membership::Prime] {
                agrees_with_the_oracle(&product, &market, membership).unwrap();
            }
        }
    }
}
