//! The read path under load, beside the floor.
//!
//! In reading order: the [`order`] in which products are asked for; one [`server`] of a table, the floor or an api; a
//! [`group`] of servers that are loaded in turns; the parts, each of one or two groups.

mod collector;
mod group;
mod instructions;
mod order;
mod server;

use anyhow::Result;

use crate::args::Plan;
use crate::measure::catalogue::{Databases, Kind};
use crate::measure::progress;
use crate::measure::report::Section;
use group::{Group, Rate, Row};
use server::{ApiVariant, Tracing, Variant, Workload};

pub(crate) use instructions::instructions;

/// Share of its maximum rate that a server is loaded with in the open loop.
const STEADY: f64 = 0.7;
/// Products of a batch.
const BATCH: usize = 50;

const FLOOR: Variant = Variant { name: "floor", api: None };

/// An api that serves hits, with its near-cache or without.
fn hits(name: &'static str, near_cache: bool) -> Variant {
    Variant::api(name, ApiVariant { near_cache, ..ApiVariant::default() })
}

/// Cached reads at several numbers of connections.
pub(crate) async fn cached(plan: &Plan) -> Result<Vec<Section>> {
    let mut group = Group::start(&[FLOOR, hits("near-cache", true), hits("Redis", false)], plan).await?;
    let mut rows = Vec::new();
    for connections in &plan.connections {
        progress(&format!("reads: {connections} connections"));
        rows.extend(group.measure(*connections, Rate::Maximum, plan).await?);
    }
    Ok(vec![group::section(
        "Cached reads",
        "Closed loop: `POST /api/v1/price` for the products of the demo catalogue, all in the cache.",
        &rows,
        plan,
    )])
}

/// Keys and tracing, each beside the api without.
pub(crate) async fn features(plan: &Plan) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    for (cache, near_cache) in [("near-cache", true), ("Redis", false)] {
        progress(&format!("features: {cache}"));
        let plain = ApiVariant { near_cache, ..ApiVariant::default() };
        let variants = [
            Variant::api("plain", plain),
            Variant::api("with a key", ApiVariant { has_key: true, ..plain }),
            Variant::api("1 % of reads traced", ApiVariant { tracing: Tracing::Share(0.01), ..plain }),
            Variant::api("all reads traced", ApiVariant { tracing: Tracing::Share(1.0), ..plain }),
        ];
        let mut group = Group::start(&variants, plan).await?;
        let rows = group.measure(plan.many_connections, Rate::Maximum, plan).await?;
        sections.push(group::section(
            &format!("Keys and tracing: hits, {cache}"),
            "Closed loop, as above. The collector takes the spans and drops them, on the same cores.",
            &rows,
            plan,
        ));
    }
    Ok(sections)
}

/// Misses, a mixed load and batches.
pub(crate) async fn workloads(plan: &Plan, databases: &mut Databases) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    let products = plan.products();
    for kind in Kind::BOTH {
        let database = databases.filled(kind, products).await?;
        progress(&format!("workloads: misses and a mixed load on {}", kind.name()));
        let api = |name, workload| {
            Variant::api(name, ApiVariant { workload, ..ApiVariant::default() }).on(database.url())
        };
        let variants =
            [FLOOR, api("miss", Workload::Miss { products }), api("mixed", Workload::Mixed { products })];
        let mut group = Group::start(&variants, plan).await?;
        let rows = group.measure(plan.many_connections, Rate::Maximum, plan).await?;
        sections.push(group::section(
            &format!("Misses and a mixed load on {}", kind.name()),
            &format!(
                "Closed loop, a catalogue of {products} products. Miss: each read asks for another product, and Redis is \
                 emptied before each measurement. Mixed: products by Zipf's law (exponent 1), TTL of 60 s, after {} s of the \
                 same load.",
                plan.mixed_warm_up.as_secs()
            ),
            &rows,
            plan,
        ));
    }
    progress("workloads: batches");
    for (cache, near_cache) in [("near-cache", true), ("Redis", false)] {
        let single = ApiVariant { near_cache, ..ApiVariant::default() };
        let batch = ApiVariant { workload: Workload::Batch { size: BATCH }, ..single };
        let variants = [Variant::api("single reads", single), Variant::api("batches of 50", batch)];
        let mut group = Group::start(&variants, plan).await?;
        let rows = group.measure(plan.many_connections, Rate::Maximum, plan).await?;
        sections.push(group::section(
            &format!("Batches: hits, {cache}"),
            "Closed loop, hits. Rates and CPU time are those of one price; latencies are those of one call.",
            &rows,
            plan,
        ));
    }
    Ok(sections)
}

/// Latencies at a steady rate.
pub(crate) async fn open_loop(plan: &Plan) -> Result<Vec<Section>> {
    let mut rows: Vec<Row> = Vec::new();
    for (name, near_cache) in [("near-cache", true), ("Redis", false)] {
        let mut group = Group::start(&[FLOOR, hits(name, near_cache)], plan).await?;
        progress(&format!("open-loop: the maximum rate, {name}"));
        let at_most = group.measure(plan.many_connections, Rate::Maximum, plan).await?;
        let maximum = at_most.last().map_or(0.0, |api| api.median(|sample| sample.figures.per_second));
        let rate = (maximum * STEADY).round();
        progress(&format!("open-loop: {rate} requests/s, {name}"));
        rows.extend(group.measure(plan.many_connections, Rate::Steady(rate), plan).await?);
    }
    Ok(vec![group::section(
        "Latency at a steady rate",
        "Open loop: requests are due at a constant rate, 70 % of what the api below answers in a closed loop, whether answers \
         come or not. A latency begins when its request is due, so a stall counts for all that it delays.",
        &rows,
        plan,
    )])
}
