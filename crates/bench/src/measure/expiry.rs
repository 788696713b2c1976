//! A product that everybody reads, while its cache entry expires again and again.

use std::time::Duration;

use anyhow::{Result, ensure};
use pricing_harness::api_key;
use pricing_harness::http_load::{Answers, HttpLoad, Pace, Products, Requests};
use pricing_harness::service::{Binary, Service};
use pricing_harness::stack::Stack;
use serde::Serialize;
use serde_json::json;
use tokio::task::spawn_blocking;

use crate::args::Plan;
use crate::measure::catalogue::{DIGITS, Databases, Kind};
use crate::measure::progress;
use crate::measure::report::Section;
use crate::measure::table::{Table, number};

/// Time that an entry is fresh.
const TTL: Duration = Duration::from_secs(2);
/// The product.
const PRODUCT: u32 = 7;
/// Counts the lookups of products.
const LOOKUPS: &str = "pricing_database_lookups_total{kind=\"product\"}";

/// What was seen.
#[derive(Debug, Serialize)]
struct Expiries {
    reads_per_second: f64,
    ttls: f64,
    lookups: f64,
    p50_us: f64,
    p999_us: f64,
    slowest_us: f64,
}

/// Reads one product from two apis at a steady rate, over several times to live of its entry.
pub(crate) async fn measure(plan: &Plan, databases: &mut Databases) -> Result<Vec<Section>> {
    let filled = databases.filled(Kind::Postgres, plan.catalogues[0]).await?;
    let stack = Stack::builder().database(filled).listeners(0).workers(0).set("DEMO_CATALOGUE", false);
    let stack = stack.set("CACHE_TTL_SECONDS", TTL.as_secs()).start().await;
    let other = stack.start_another(Binary::Api).await;
    let apis = [&stack.api, &other];
    progress(&format!("reads of one product, {} a second", plan.rate_of_one_product));
    read(apis, plan, TTL).await?;
    let before = lookups(apis).await;
    let answers = read(apis, plan, plan.ttls * TTL).await?;
    let lookups = lookups(apis).await - before;

    let [mut all, other] = answers;
    let reads_per_second = all.per_second() + other.per_second();
    all.latencies.add(&other.latencies)?;
    let micros = |nanos: u64| nanos as f64 / 1_000.0;
    // The time that the metrics took counts too: nobody reads then, so nothing more than one entry expires in it.
    let measured = Expiries {
        reads_per_second,
        ttls: f64::from(plan.ttls),
        lookups,
        p50_us: micros(all.latencies.value_at_quantile(0.5)),
        p999_us: micros(all.latencies.value_at_quantile(0.999)),
        slowest_us: micros(all.latencies.max()),
    };
    let most = 2.0 * (measured.ttls + 1.0);
    ensure!(lookups <= most, "{lookups} lookups in {} times to live", plan.ttls);
    let mut table =
        Table::new(&["reads/s", "TTLs", "lookups", "lookups/TTL", "P50 µs", "P99.9 µs", "slowest µs"]);
    table.row([
        number(measured.reads_per_second),
        number(measured.ttls),
        number(measured.lookups),
        number(measured.lookups / measured.ttls),
        number(measured.p50_us),
        number(measured.p999_us),
        number(measured.slowest_us),
    ]);
    Ok(vec![Section {
        title: "A product that everybody reads".to_owned(),
        text: format!(
            "Open loop: two apis are asked for the same product at a steady rate altogether, while its entry, and that of \
             its market, are fresh for {} s only. The lookups are those of the product in PostgreSQL, of both apis.",
            TTL.as_secs()
        ),
        table,
        figures: json!(measured),
    }])
}

/// Reads from both apis at once.
async fn read(apis: [&Service; 2], plan: &Plan, time: Duration) -> Result<[Answers; 2]> {
    let pace = Pace::Open { per_second: plan.rate_of_one_product / 2.0 };
    let connections = plan.many_connections / 2;
    let [one, other] = apis.map(Service::address).map(|address| {
        spawn_blocking(move || {
            let mut requests = Requests::prices(Products::new(DIGITS, [PRODUCT]), api_key::get());
            HttpLoad::connect(address, connections)?.run(&mut requests, pace, time)
        })
    });
    Ok([one.await??, other.await??])
}

/// Lookups of products by both apis so far.
async fn lookups(apis: [&Service; 2]) -> f64 {
    apis[0].metric(LOOKUPS).await + apis[1].metric(LOOKUPS).await
}
