//! The metrics of the listener.

use anyhow::Context as _;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use pricing_service::telemetry::{LATENCY_BUCKETS, Metrics};

const EVENTS: &str = "pricing_events_received_total";
const ENQUEUE_SECONDS: &str = "pricing_event_enqueue_seconds";
const BACKLOG: &str = "pricing_event_backlog";
const RECONNECTS: &str = "pricing_listener_reconnects_total";

/// Installs the recorder and describes the metrics.
///
/// # Errors
///
/// When a recorder is installed already.
pub fn install() -> anyhow::Result<Metrics> {
    let metrics = Metrics::install(&[(ENQUEUE_SECONDS, LATENCY_BUCKETS)]).context("metrics")?;
    describe_counter!(EVENTS, "Market events seen, by way; those not new had become jobs before");
    describe_histogram!(ENQUEUE_SECONDS, Unit::Seconds, "Time to make an event a job");
    describe_gauge!(BACKLOG, "Events in the log that are not jobs yet");
    describe_counter!(RECONNECTS, "Connections to Redis that broke, by way");
    Ok(metrics)
}

pub(crate) fn event(way: &'static str, new: bool, seconds: f64) {
    counter!(EVENTS, "way" => way, "new" => if new { "true" } else { "false" }).increment(1);
    histogram!(ENQUEUE_SECONDS).record(seconds);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
pub(crate) fn backlog(events: u64) {
    gauge!(BACKLOG).set(events as f64);
}

pub(crate) fn reconnect(way: &'static str) {
    counter!(RECONNECTS, "way" => way).increment(1);
}
