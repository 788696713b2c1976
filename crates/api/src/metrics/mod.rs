//! The metrics of the api: their names and what they tell; those of [`requests`] and of [`reads`] are recorded there.

mod reads;
mod requests;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::BuildError;
use pricing_core::cache::NEAR_AGE;
use pricing_core::events::LOG_CAPACITY;
use pricing_service::telemetry::{LATENCY_BUCKETS, Metrics};

pub(crate) use reads::{Dependency, ReadMetrics, database_lookups, degraded};
pub(crate) use requests::{Refused, RequestMetrics, Shed, request_refused, request_shed};

const REQUEST_DURATION: &str = "http_request_duration_seconds";
const CACHE_RESULTS: &str = "pricing_cache_results_total";
const FILL_FAILURES: &str = "pricing_cache_fill_failures_total";
const PRICE_AGE: &str = "pricing_price_age_seconds";
const UNPRICED: &str = "pricing_unpriced_total";
const BOUNDS_CONFLICTS: &str = "pricing_bounds_conflicts_total";
const DATABASE_LOOKUPS: &str = "pricing_database_lookups_total";
const DEGRADED: &str = "pricing_degraded";
const SHED: &str = "pricing_requests_shed_total";
const REFUSED: &str = "pricing_requests_refused_total";
const API_KEYS: &str = "pricing_api_keys";
const KEY_FILE_VALID: &str = "pricing_api_keys_file_valid";
const AUDIT_FAILURES: &str = "pricing_audit_failures_total";
const EVENT_LOG_FILL: &str = "pricing_event_log_fill_ratio";
const DEGRADED_READS: &str = "pricing_degraded_reads_total";
const EVENTS_PUBLISHED: &str = "pricing_events_published_total";
const TASKS_ENQUEUED: &str = "pricing_tasks_enqueued_total";

/// Buckets for the age of a price, in seconds, up to the fresh and the stale TTL.
const AGE_BUCKETS: &[f64] = &[1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 70.0, 120.0, 300.0, 500.0, 700.0];

/// Buckets for the time that an entry was kept in the process, in seconds.
const NEAR_AGE_BUCKETS: &[f64] = &[0.01, 0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0];

/// Installs the recorder and describes the metrics. Once per process, before an [`Api`](crate::Api)
/// is made.
///
/// # Errors
///
/// When a recorder is installed already.
pub fn install() -> Result<Metrics, BuildError> {
    let metrics = Metrics::install(&[
        (REQUEST_DURATION, LATENCY_BUCKETS),
        (PRICE_AGE, AGE_BUCKETS),
        (NEAR_AGE, NEAR_AGE_BUCKETS),
    ])?;
    describe_histogram!(REQUEST_DURATION, Unit::Seconds, "Time to answer a request, by matched route");
    describe_counter!(CACHE_RESULTS, "Entries that reads asked the cache for, by what it held");
    describe_counter!(FILL_FAILURES, "Misses whose value could not be written to the cache");
    describe_histogram!(PRICE_AGE, Unit::Seconds, "Age of the cached product that a price was made of");
    describe_counter!(UNPRICED, "Products that were asked for and have no price in the market, by reason");
    describe_counter!(
        BOUNDS_CONFLICTS,
        "Prices above the ceiling, because the market allows none between floor and ceiling"
    );
    describe_counter!(DEGRADED_READS, "Reads that went on without a dependency that failed");
    describe_counter!(DATABASE_LOOKUPS, "Lookups in the database, each for all reads that shared it");
    describe_gauge!(DEGRADED, "1 while the circuit breaker of a dependency is open");
    describe_counter!(SHED, "Requests refused because of the load, by what there was too much of");
    describe_counter!(REFUSED, "Requests refused before they were served, by reason");
    describe_counter!(AUDIT_FAILURES, "Rows of the audit that could not be written");
    describe_gauge!(API_KEYS, "Keys in use");
    describe_gauge!(KEY_FILE_VALID, "0 while API_KEYS_FILE cannot be used and the keys of before stay");
    describe_gauge!(
        EVENT_LOG_FILL,
        "Share of its capacity that the event log held after the last event: at 1 it refuses events"
    );
    describe_counter!(EVENTS_PUBLISHED, "Market events published, by the name of the caller's key");
    describe_counter!(TASKS_ENQUEUED, "Recalculations enqueued on request, by the name of the caller's key");
    Ok(metrics)
}

/// Counts a market event of a caller, with which the log holds so many that are not jobs yet.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
pub(crate) fn event_published(caller: Option<&str>, backlog: u64) {
    counter!(EVENTS_PUBLISHED, "caller" => caller_label(caller)).increment(1);
    gauge!(EVENT_LOG_FILL).set(backlog as f64 / LOG_CAPACITY as f64);
}

/// Counts a recalculation that a caller requested.
pub(crate) fn task_enqueued(caller: Option<&str>) {
    counter!(TASKS_ENQUEUED, "caller" => caller_label(caller)).increment(1);
}

/// The label of a caller: the names in a file of keys are a closed set.
fn caller_label(caller: Option<&str>) -> String {
    caller.unwrap_or("anonymous").to_owned()
}

/// Counts a row of the audit that could not be written.
pub(crate) fn audit_failed() {
    counter!(AUDIT_FAILURES).increment(1);
}

/// Sets the number of keys in use.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
pub(crate) fn api_keys(number: usize) {
    gauge!(API_KEYS).set(number as f64);
}

/// Notes whether the file of keys can be used.
pub(crate) fn key_file_is_valid(is_valid: bool) {
    gauge!(KEY_FILE_VALID).set(f64::from(u8::from(is_valid)));
}
