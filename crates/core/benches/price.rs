//! `price()`: `cargo bench -p pricing-core --bench price`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pricing_core::money::{Currency, ExchangeRate, Money, Ppm};
use pricing_core::price::{Market, Membership, Product, Rounding, RoundingMode, explain, price};

fn money(minor: i64) -> Money {
    Money::base(minor).expect("an amount")
}

fn prices(criterion: &mut Criterion) {
    let product = Product::new(money(5_499), Currency::USD, 7);
    let market = Market::new(Ppm::multiplier(950_000).expect("a multiplier"), Currency::USD, 1);
    criterion.bench_function("price: the seed's formula", |bencher| {
        bencher.iter(|| price(black_box(&product), black_box(&market), Membership::Prime));
    });

    let bounded = Product { floor: Some(money(4_500)), ceiling: Some(money(6_000)), ..product };
    let abroad = Market {
        exchange_rate: ExchangeRate::from_e12(920_000_000_000),
        rounding: Rounding::new(100, RoundingMode::Up, Some(99)).expect("a rounding"),
        currency: Currency::parse("EUR").expect("a currency"),
        ..market
    };
    criterion.bench_function("price: exchange rate, ending, floor and ceiling", |bencher| {
        bencher.iter(|| price(black_box(&bounded), black_box(&abroad), Membership::Prime));
    });
    criterion.bench_function("explain: the same", |bencher| {
        bencher.iter(|| explain(black_box(&bounded), black_box(&abroad), Membership::Prime));
    });
}

criterion_group!(benches, prices);
criterion_main!(benches);
