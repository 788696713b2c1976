//! From a market event to the recalculated price.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pricing_harness::api_key;
use pricing_harness::measurement::{median, quantile};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::pause;
use serde::Serialize;
use serde_json::json;

use crate::args::Plan;
use crate::measure::catalogue::{Databases, Kind, spoil_list_prices};
use crate::measure::changes::price;
use crate::measure::progress;
use crate::measure::report::Section;
use crate::measure::table::{Table, number};

/// The last product of the demo catalogue, which a recalculation reaches last.
const LAST_PRODUCT: &str = "P-999";
/// Longest until an event is followed by a new price.
const DEADLINE: Duration = Duration::from_secs(30);
/// Time between two looks at the price.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// The events on one database.
#[derive(Debug, Serialize)]
struct Events {
    database: Kind,
    /// Milliseconds until the last product was served with its recalculated price.
    served_ms: Vec<f64>,
}

/// Publishes events, one after the other.
pub(crate) async fn measure(plan: &Plan, databases: &mut Databases) -> Result<Vec<Section>> {
    let mut measured = Vec::new();
    for database in Kind::BOTH {
        let stack = Stack::builder().database(databases.empty(database).await?).start().await;
        progress(&format!("{}: {} events", database.name(), plan.samples));
        let mut served_ms = Vec::new();
        for _ in 0..plan.samples {
            served_ms.push(follow(&stack).await?.as_secs_f64() * 1e3);
        }
        measured.push(Events { database, served_ms });
    }
    let mut table = Table::new(&["database", "median ms", "P99 ms", "slowest ms"]);
    for Events { database, served_ms } in &measured {
        let figures = || served_ms.iter().copied();
        table.row([
            database.name().to_owned(),
            number(median(figures())),
            number(quantile(figures(), 0.99)),
            number(quantile(figures(), 1.0)),
        ]);
    }
    Ok(vec![Section {
        title: "From an event to the served price".to_owned(),
        text: format!(
            "{} market events, one after the other, with the demo catalogue of 900 products, all of whose list prices \
             change: from sending `POST /api/v1/publish-market-event` to the first answer with the last product's new version.",
            plan.samples
        ),
        table,
        figures: json!(measured),
    }])
}

/// Publishes one event; returns how long it took until the last product had a new version.
async fn follow(stack: &Stack) -> Result<Duration> {
    let http = api_key::client();
    let version = async || {
        let price = price(&http, &stack.api, LAST_PRODUCT).await?;
        price["version"].as_u64().with_context(|| format!("a price has no version: {price}"))
    };
    let before = version().await?;
    spoil_list_prices(&stack.database).await;
    let began = Instant::now();
    let task = stack.publish().await;
    while version().await? == before {
        ensure!(began.elapsed() < DEADLINE, "an event was not followed within {DEADLINE:?}");
        pause(BETWEEN_LOOKS).await;
    }
    let served = began.elapsed();
    // The next event finds an idle engine.
    stack.wait_for_task(&task).await;
    Ok(served)
}
