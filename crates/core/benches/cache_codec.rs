//! The codec of cache entries: `cargo bench -p pricing-core --bench cache_codec`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pricing_core::cache::codec::{decode_market, decode_product, encode_market, encode_product};

const VERSION: &[u8] = b"907";
const PRODUCT: &[u8] = br#"[5499,5499,1000,9000,"USD"]"#;
const MARKET: &[u8] = br#"[950000,50000,"EUR",920000000000,100,1,99]"#;

fn codec(criterion: &mut Criterion) {
    let product = decode_product(VERSION, PRODUCT).expect("the data of a product");
    let market = decode_market(VERSION, MARKET).expect("the data of a market");
    criterion.bench_function("decode a product", |bencher| {
        bencher.iter(|| decode_product(black_box(VERSION), black_box(PRODUCT)));
    });
    criterion.bench_function("decode a market", |bencher| {
        bencher.iter(|| decode_market(black_box(VERSION), black_box(MARKET)));
    });
    criterion.bench_function("encode a product", |bencher| {
        bencher.iter(|| encode_product(black_box(&product)));
    });
    criterion.bench_function("encode a market", |bencher| bencher.iter(|| encode_market(black_box(&market))));
}

criterion_group!(benches, codec);
criterion_main!(benches);
