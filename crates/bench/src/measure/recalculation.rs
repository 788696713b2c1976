//! Recalculations of whole catalogues.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pricing_harness::measurement::median;
use pricing_harness::process::peak_memory;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::poll;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::args::Plan;
use crate::measure::catalogue::{Databases, Kind, spoil_list_prices};
use crate::measure::progress;
use crate::measure::report::Section;
use crate::measure::table::{Table, mebibytes, number};

/// Longest that one recalculation may take.
const DEADLINE: Duration = Duration::from_secs(600);

/// The recalculations of one catalogue.
#[derive(Debug, Serialize)]
struct Recalculations {
    products: u32,
    database: Kind,
    /// Seconds of each, with no list price changed.
    unchanged: Vec<f64>,
    /// Seconds of each, with every list price changed.
    changed: Vec<f64>,
    /// Of the worker, in bytes.
    peak_memory: Option<u64>,
}

/// Recalculates each catalogue on both databases.
pub(crate) async fn measure(plan: &Plan, databases: &mut Databases) -> Result<Vec<Section>> {
    let mut measured = Vec::new();
    for products in &plan.catalogues {
        for kind in Kind::BOTH {
            measured.push(recalculations(*products, kind, plan.recalculations, databases).await?);
        }
    }
    let head = [
        "products",
        "database",
        "nothing changed, s",
        "products/s",
        "all changed, s",
        "products/s",
        "peak memory",
    ];
    let mut table = Table::new(&head);
    for Recalculations { products, database, unchanged, changed, peak_memory } in &measured {
        let (unchanged, changed) = (median(unchanged.iter().copied()), median(changed.iter().copied()));
        let per_second = |seconds| number(f64::from(*products) / seconds);
        table.row([
            number(f64::from(*products)),
            database.name().to_owned(),
            number(unchanged),
            per_second(unchanged),
            number(changed),
            per_second(changed),
            mebibytes(*peak_memory),
        ]);
    }
    Ok(vec![Section {
        title: "Recalculation".to_owned(),
        text: format!(
            "`started_at` to `finished_at` of the task, medians of {} each; the worker, its Redis, the database and an idle \
             api share the machine. \"All changed\": each list price was another one before. The peak memory is the \
             worker's.",
            plan.recalculations
        ),
        table,
        figures: json!(measured),
    }])
}

async fn recalculations(
    products: u32,
    database: Kind,
    rounds: u32,
    databases: &mut Databases,
) -> Result<Recalculations> {
    let filled = databases.filled(database, products).await?;
    let stack = Stack::builder().database(filled).listeners(0).set("DEMO_CATALOGUE", false).start().await;
    progress(&format!("{}: recalculating {products} products", database.name()));
    // The first one records a list price for each product, so that nothing changes in the next.
    recalculate(&stack).await?;
    let (mut unchanged, mut changed) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        unchanged.push(seconds(&recalculate(&stack).await?, products, 0)?);
    }
    for _ in 0..rounds {
        spoil_list_prices(&stack.database).await;
        changed.push(seconds(&recalculate(&stack).await?, products, products)?);
    }
    let peak_memory = stack.workers.first().and_then(|worker| peak_memory(worker.id()));
    Ok(Recalculations { products, database, unchanged, changed, peak_memory })
}

/// Recalculates everything; returns the record of the task.
pub(crate) async fn recalculate(stack: &Stack) -> Result<Value> {
    let id = stack.recalculate().await;
    let ended = poll(DEADLINE, async || {
        stack.task(&id).await.filter(|task| matches!(task["state"].as_str(), Some("succeeded" | "dead")))
    });
    ended.await.with_context(|| format!("a recalculation did not end within {DEADLINE:?}"))
}

/// How long a recalculation took, which must have recalculated and changed so many products.
fn seconds(task: &Value, products: u32, changed: u32) -> Result<f64> {
    let result = &task["result"];
    let is_complete = result["updated_count"] == json!(products) && result["changed_count"] == json!(changed);
    ensure!(is_complete, "{products} products and {changed} changes were expected: {task}");
    let time = |field: &str| {
        let text = task[field].as_str().with_context(|| format!("the task has no {field}: {task}"))?;
        OffsetDateTime::parse(text, &Rfc3339).with_context(|| format!("{field}: {text}"))
    };
    Ok((time("finished_at")? - time("started_at")?).as_seconds_f64())
}
