//! The metrics of the listener.

use std::time::Duration;

use anyhow::Context as _;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use pricing_service::telemetry::{LATENCY_BUCKETS, Metrics};

use crate::source::Source;

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
    describe_counter!(EVENTS, "Market events received, by source and outcome");
    describe_histogram!(ENQUEUE_SECONDS, Unit::Seconds, "Time to enqueue the task of an event");
    describe_gauge!(BACKLOG, "Events in the log that have no task yet");
    describe_counter!(RECONNECTS, "Connections to Redis that broke, by source");
    Ok(metrics)
}

pub(crate) fn event(source: Source, outcome: &'static str) {
    counter!(EVENTS, "source" => source.as_str(), "outcome" => outcome).increment(1);
}

pub(crate) fn enqueued_in(duration: Duration) {
    histogram!(ENQUEUE_SECONDS).record(duration);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
pub(crate) fn backlog(events: u64) {
    gauge!(BACKLOG).set(events as f64);
}

pub(crate) fn reconnect(source: Source) {
    counter!(RECONNECTS, "source" => source.as_str()).increment(1);
}
