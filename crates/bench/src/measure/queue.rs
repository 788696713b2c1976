//! The task queue, beside the `XADD`s that the same Redis takes.

use anyhow::Result;
use pricing_harness::measurement::median;
use pricing_harness::queue_throughput::{Load, QueueThroughput};
use serde_json::{Value, json};

use crate::args::Plan;
use crate::measure::progress;
use crate::measure::report::Section;
use crate::measure::table::{Table, number};

/// Rows of the table: what a figure is, and its name in the JSON of a measurement.
const ROWS: [(&str, &str); 8] = [
    ("`XADD`/s of `redis-benchmark -c 50`", "xadds_per_second"),
    ("tasks enqueued/s, 32 producers", "enqueued_per_second"),
    ("the same, for each `XADD`", "enqueued_per_xadd"),
    ("empty tasks ended/s, one worker, 50 at a time", "ended_per_second"),
    ("the same, for each `XADD`", "ended_per_xadd"),
    ("CPU µs of Redis for each run", "redis_us_per_run"),
    ("CPU µs of the worker for each run", "worker_us_per_run"),
    ("µs from enqueueing to the start, idle worker", "start_us"),
];

/// Measures the queue in every turn, each with a Redis of its own.
pub(crate) async fn measure(plan: &Plan) -> Result<Vec<Section>> {
    let mut turns: Vec<Value> = Vec::new();
    for turn in 0..plan.turns {
        progress(&format!("queue: turn {} of {}", turn + 1, plan.turns));
        let load = Load { tasks: plan.tasks, starts: plan.samples as usize };
        turns.push(QueueThroughput::measure(load).await?.to_json());
    }
    let mut table = Table::new(&["measure", "median"]);
    for (title, field) in ROWS {
        let figures = turns.iter().map(|turn| turn[field].as_f64().unwrap_or(f64::NAN));
        table.row([title.to_owned(), number(median(figures))]);
    }
    Ok(vec![Section {
        title: "The queue".to_owned(),
        text: format!(
            "Tasks whose job does nothing, on a Redis with `appendfsync everysec`. Medians of {} turns, {} tasks each.",
            plan.turns, plan.tasks
        ),
        table,
        figures: json!(turns),
    }])
}
