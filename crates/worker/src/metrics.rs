//! The metrics of the worker.

use std::time::Duration;

use anyhow::Context as _;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use pricing_queue::{Depths, QueueOptions};
use pricing_service::telemetry::Metrics;

const RECALCULATIONS: &str = "pricing_recalculations_total";
const DURATION: &str = "pricing_recalculation_duration_seconds";
const PRODUCTS: &str = "pricing_products_recalculated_total";
const EVENT_TO_PRICE: &str = "pricing_event_to_price_seconds";
const QUEUE_WAIT: &str = "pricing_queue_wait_seconds";
const QUEUE_DEPTH: &str = "pricing_queue_depth";
const QUEUE_FILL: &str = "pricing_queue_fill_ratio";
const FAILURES: &str = "pricing_task_failures_total";
const RETRIES: &str = "pricing_task_retries_total";
const DEAD: &str = "pricing_tasks_dead_total";
const CHANGE_TO_PRICE: &str = "pricing_change_to_price_seconds";
const ROWS_SKIPPED: &str = "pricing_rows_skipped_total";
const LOCK: &str = "pricing_lock_requests_total";
const LOCK_LOST: &str = "pricing_lock_lost_total";

/// Buckets in seconds for what takes up to minutes.
const SLOW_BUCKETS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0,
    300.0, 600.0,
];

/// Installs the recorder and describes the metrics.
pub fn install() -> anyhow::Result<Metrics> {
    let metrics = Metrics::install(&[
        (DURATION, SLOW_BUCKETS),
        (EVENT_TO_PRICE, SLOW_BUCKETS),
        (CHANGE_TO_PRICE, SLOW_BUCKETS),
        (QUEUE_WAIT, SLOW_BUCKETS),
    ])
    .context("metrics")?;
    describe_counter!(RECALCULATIONS, "Runs that ended, by outcome");
    describe_histogram!(DURATION, Unit::Seconds, "Time of a run, by outcome");
    describe_counter!(PRODUCTS, "Products recalculated");
    describe_histogram!(
        EVENT_TO_PRICE,
        Unit::Seconds,
        "Time from a request to its prices, by the clocks of two hosts"
    );
    describe_histogram!(
        CHANGE_TO_PRICE,
        Unit::Seconds,
        "Time from a change of the catalogue to its cache entry, by the clocks of two hosts"
    );
    describe_counter!(ROWS_SKIPPED, "Rows that a recalculation skipped, by reason");
    describe_histogram!(QUEUE_WAIT, Unit::Seconds, "Time a task was ready before its run began");
    describe_gauge!(QUEUE_DEPTH, "Tasks, by state");
    describe_gauge!(
        QUEUE_FILL,
        "Share of its capacity that a list holds: at 1 the stream refuses tasks, and dead drops its oldest"
    );
    describe_counter!(FAILURES, "Runs that failed, by whether a retry may succeed");
    describe_counter!(RETRIES, "Runs that failed and are retried");
    describe_counter!(DEAD, "Tasks that were dead-lettered");
    describe_counter!(LOCK, "Requests for the recalculation lock, by answer");
    describe_counter!(LOCK_LOST, "Runs that ended because the lock was lost");
    Ok(metrics)
}

pub(crate) fn run_started(queue_wait: Duration) {
    histogram!(QUEUE_WAIT).record(queue_wait);
}

pub(crate) fn run_ended(outcome: &'static str, took: Duration) {
    counter!(RECALCULATIONS, "outcome" => outcome).increment(1);
    histogram!(DURATION, "outcome" => outcome).record(took);
}

pub(crate) fn run_failed(is_transient: bool) {
    let kind = if is_transient { "transient" } else { "permanent" };
    counter!(FAILURES, "kind" => kind).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a histogram takes doubles")]
pub(crate) fn event_to_price(millis: i64) {
    histogram!(EVENT_TO_PRICE).record(millis.max(0) as f64 / 1e3);
}

#[expect(clippy::cast_precision_loss, reason = "a histogram takes doubles")]
pub(crate) fn change_to_price(millis: i64) {
    histogram!(CHANGE_TO_PRICE).record(millis.max(0) as f64 / 1e3);
}

pub(crate) fn rows_skipped(reason: &'static str, count: u64) {
    counter!(ROWS_SKIPPED, "reason" => reason).increment(count);
}

pub(crate) fn products(count: u64) {
    counter!(PRODUCTS).increment(count);
}

pub(crate) fn retry() {
    counter!(RETRIES).increment(1);
}

pub(crate) fn dead() {
    counter!(DEAD).increment(1);
}

pub(crate) fn lock_requested(answer: &'static str) {
    counter!(LOCK, "answer" => answer).increment(1);
}

pub(crate) fn lock_lost() {
    counter!(LOCK_LOST).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
pub(crate) fn depths(depths: Depths, options: &QueueOptions) {
    let states = [
        ("queued", depths.queued),
        ("running", depths.running),
        ("retrying", depths.retrying),
        ("dead", depths.dead),
    ];
    for (state, depth) in states {
        gauge!(QUEUE_DEPTH, "state" => state).set(depth as f64);
    }
    gauge!(QUEUE_FILL, "list" => "stream").set(depths.bytes as f64 / options.capacity_bytes as f64);
    gauge!(QUEUE_FILL, "list" => "dead").set(depths.dead as f64 / options.dead_capacity as f64);
}
