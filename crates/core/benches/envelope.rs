//! The envelope of market events: `cargo bench -p pricing-core --bench envelope`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pricing_core::events::MarketEvent;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const FROM_OUTSIDE: &[u8] = br#"{"specversion":"1.0","id":"order 17","source":"erp","type":"price.cut","data":{"reason":"competitor cut prices"}}"#;

fn envelope(criterion: &mut Criterion) {
    let event = MarketEvent::new("competitor cut prices", Some(TRACEPARENT.to_owned()));
    let text = event.encode();
    criterion.bench_function("encode an event", |bencher| bencher.iter(|| black_box(&event).encode()));
    criterion.bench_function("decode an event of ours", |bencher| {
        bencher.iter(|| MarketEvent::decode(black_box(text.as_bytes())));
    });
    criterion.bench_function("decode an event from outside", |bencher| {
        bencher.iter(|| MarketEvent::decode(black_box(FROM_OUTSIDE)));
    });
    criterion.bench_function("decode a text that is no envelope", |bencher| {
        bencher.iter(|| MarketEvent::decode(black_box(b"Recalculate_Triggered_v1")));
    });
}

criterion_group!(benches, envelope);
criterion_main!(benches);
