//! Hits while recalculations rewrite every cache entry.

use std::time::Duration;

use anyhow::{Result, ensure};
use pricing_harness::api_key;
use pricing_harness::http_load::{Client, Pace, Products, Requests};
use pricing_harness::measurement::{self, Figures, Load, Measured, median};
use pricing_harness::service::{Binary, Service};
use pricing_harness::stack::Stack;
use serde::Serialize;
use serde_json::json;

use crate::args::Plan;
use crate::measure::catalogue::{DIGITS, Databases, Kind};
use crate::measure::progress;
use crate::measure::recalculation::recalculate;
use crate::measure::report::Section;
use crate::measure::table::{Table, number, ratio};

/// Products that are asked for.
const READ_PRODUCTS: std::ops::Range<u32> = 0..900;
/// Largest catalogue that is recalculated.
const MAX_PRODUCTS: u32 = 100_000;

/// The hits of one api.
#[derive(Debug, Serialize)]
struct Hits {
    api: &'static str,
    turns: Vec<Figures>,
}

/// Reads from two apis in turns, with and without a near-cache, at a steady rate.
pub(crate) async fn measure(plan: &Plan, databases: &mut Databases) -> Result<Vec<Section>> {
    let products = plan.products().min(MAX_PRODUCTS);
    let filled = databases.filled(Kind::Postgres, products).await?;
    let stack = Stack::builder().database(filled).listeners(0).set("DEMO_CATALOGUE", false).start().await;
    let mut environment = stack.environment(Binary::Api);
    environment.insert("NEAR_CACHE_MB".to_owned(), "0".to_owned());
    let without = Service::start(Binary::Api, &environment).await;
    let apis = [("near-cache off", &without), ("near-cache", &stack.api)];
    recalculate(&stack).await?;

    let mut measured = apis.map(|(api, _)| Hits { api, turns: Vec::new() });
    for turn in 0..plan.turns as usize {
        progress(&format!("hits during recalculations: turn {} of {}", turn + 1, plan.turns));
        for place in measurement::order(turn, apis.len()) {
            measured[place].turns.push(hits(&stack, apis[place].1, plan).await?);
        }
    }
    let head = ["api", "prices/s", "CPU µs/price", "P50 µs", "P95 µs", "P99 µs", "ratio", "P99.9 µs"];
    let mut table = Table::new(&head);
    for Hits { api, turns } in &measured {
        let figure = |figure: fn(&Figures) -> f64| number(median(turns.iter().map(figure)));
        let [.., p99, _] = measurement::ratios(turns, &measured[0].turns);
        table.row([
            (*api).to_owned(),
            figure(|all| all.per_second),
            figure(|all| all.cpu_us),
            figure(|all| all.p50_us),
            figure(|all| all.p95_us),
            figure(|all| all.p99_us),
            ratio(p99),
            figure(|all| all.p999_us),
        ]);
    }
    Ok(vec![Section {
        title: "Hits while everything is recalculated".to_owned(),
        text: format!(
            "Open loop on {} connections, while one recalculation of {} products follows the other on PostgreSQL, on the same \
             cores. Medians of {} turns.",
            plan.many_connections,
            number(f64::from(products)),
            plan.turns
        ),
        table,
        figures: json!(measured),
    }])
}

/// Loads one api while recalculations run.
async fn hits(stack: &Stack, api: &Service, plan: &Plan) -> Result<Figures> {
    let requests = || Requests::prices(Products::new(DIGITS, READ_PRODUCTS), api_key::get());
    let (address, process) = (api.address(), api.id());
    let (mut fill, mut requests) = (Client::connect(address, requests())?, requests());
    let load = Load {
        connections: plan.many_connections,
        pace: Pace::Open { per_second: plan.rate_during_recalculation },
        warm_up: Duration::ZERO,
        time: plan.time,
    };
    let mut load = tokio::task::spawn_blocking(move || {
        for _ in READ_PRODUCTS {
            fill.read()?;
        }
        measurement::measure(address, &[process], &load, &mut requests)
    });
    let Measured { answers, cpu } = loop {
        tokio::select! {
            measured = &mut load => break measured??,
            recalculated = recalculate(stack) => ensure!(recalculated?["state"] == "succeeded", "a recalculation failed"),
        }
    };
    Ok(Figures::new(&answers, cpu[0]))
}
