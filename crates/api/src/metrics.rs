//! Every metric of this binary.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::BuildError;
use pricing_core::cache::Cached;
use pricing_core::events::LOG_CAPACITY;
use pricing_service::telemetry::{LATENCY_BUCKETS, Metrics};

const REQUEST_DURATION: &str = "http_request_duration_seconds";
const CACHE_RESULTS: &str = "pricing_cache_results_total";
const FILL_FAILURES: &str = "pricing_cache_fill_failures_total";
const PRICE_AGE: &str = "pricing_price_age_seconds";
const DATABASE_LOOKUPS: &str = "pricing_database_lookups_total";
const DEGRADED: &str = "pricing_degraded";
const SHED: &str = "pricing_requests_shed_total";
const EVENT_LOG_FILL: &str = "pricing_event_log_fill_ratio";
const DEGRADED_READS: &str = "pricing_degraded_reads_total";
const EVENTS_PUBLISHED: &str = "pricing_events_published_total";
const TASKS_ENQUEUED: &str = "pricing_tasks_enqueued_total";

/// Buckets for the age of a price, in seconds: up to its time to live and its spare time.
const AGE_BUCKETS: &[f64] = &[1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 70.0, 120.0, 300.0, 500.0, 700.0];

/// Installs the recorder and describes the metrics. Once per process, before a [`Service`](crate::Service)
/// is made.
///
/// # Errors
///
/// When a recorder is installed already.
pub fn install() -> Result<Metrics, BuildError> {
    let metrics = Metrics::install(&[(REQUEST_DURATION, LATENCY_BUCKETS), (PRICE_AGE, AGE_BUCKETS)])?;
    describe_histogram!(REQUEST_DURATION, Unit::Seconds, "Time to answer a request, by matched route");
    describe_counter!(CACHE_RESULTS, "What the cache said of an entry that a read asked for");
    describe_counter!(FILL_FAILURES, "Misses whose value could not be written to the cache");
    describe_histogram!(PRICE_AGE, Unit::Seconds, "Age of the cached product that a price was made of");
    describe_counter!(
        DEGRADED_READS,
        "Reads that did without Redis, or were served older data for want of the database"
    );
    describe_counter!(DATABASE_LOOKUPS, "Lookups in the database, each for all the reads that shared it");
    describe_gauge!(DEGRADED, "1 while reads do without Redis or the database because it failed");
    describe_counter!(SHED, "Requests refused because MAX_CONCURRENT_REQUESTS were under way");
    describe_gauge!(
        EVENT_LOG_FILL,
        "Share of its capacity that the event log held after the last event: at 1 it refuses events"
    );
    describe_counter!(EVENTS_PUBLISHED, "Market events published");
    describe_counter!(TASKS_ENQUEUED, "Recalculations enqueued on request");
    Ok(metrics)
}

/// Records how long a request took. The labels must come from closed sets.
pub fn request_answered(method: &'static str, endpoint: String, status: u16, duration: Duration) {
    let labels =
        [("method", method.into()), ("endpoint", endpoint.into()), ("status", status.to_string().into())]
            .map(|(name, value): (&'static str, metrics::SharedString)| metrics::Label::new(name, value));
    histogram!(REQUEST_DURATION, labels.to_vec()).record(duration);
}

/// Counts a market event, with which the log holds so many that are not jobs yet.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
pub fn event_published(backlog: u64) {
    counter!(EVENTS_PUBLISHED).increment(1);
    gauge!(EVENT_LOG_FILL).set(backlog as f64 / LOG_CAPACITY as f64);
}

/// Counts a request that was refused for want of room.
pub fn request_shed() {
    counter!(SHED).increment(1);
}

/// The gauge of what is missing: `redis` or `database`.
pub fn degraded(missing: &'static str) -> Gauge {
    gauge!(DEGRADED, "missing" => missing)
}

/// The counter of lookups of one kind.
pub fn database_lookups(of: &'static str) -> Counter {
    counter!(DATABASE_LOOKUPS, "of" => of)
}

/// Counts a recalculation.
pub fn task_enqueued() {
    counter!(TASKS_ENQUEUED).increment(1);
}

/// The metrics of the read path, looked up once.
pub struct ReadMetrics {
    /// What the cache said of products.
    pub product: CacheResults,
    /// What the cache said of markets.
    pub market: CacheResults,
    /// Fills that failed.
    pub fill_failures: Counter,
    /// Reads without Redis.
    pub without_redis: Counter,
    /// Reads without the database.
    pub without_database: Counter,
    age: Histogram,
}

impl ReadMetrics {
    /// The metrics of the installed recorder; of none when none is installed.
    pub fn new() -> Self {
        Self {
            product: CacheResults::of("product"),
            market: CacheResults::of("market"),
            fill_failures: counter!(FILL_FAILURES),
            without_redis: counter!(DEGRADED_READS, "missing" => "redis"),
            without_database: counter!(DEGRADED_READS, "missing" => "database"),
            age: histogram!(PRICE_AGE),
        }
    }

    /// Records that a price was made of this cached product.
    pub fn served<T>(&self, product: &Cached<T>) {
        if let Cached::Fresh { age, .. } | Cached::Stale { age, .. } = product {
            self.age.record(*age);
        }
    }
}

impl Default for ReadMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// What the cache said of entries of one kind.
pub struct CacheResults {
    fresh: Counter,
    stale: Counter,
    unknown: Counter,
    absent: Counter,
    corrupt: Counter,
    error: Counter,
}

impl CacheResults {
    fn of(entry: &'static str) -> Self {
        let result = |result: &'static str| counter!(CACHE_RESULTS, "entry" => entry, "result" => result);
        Self {
            fresh: result("fresh"),
            stale: result("stale"),
            unknown: result("unknown"),
            absent: result("absent"),
            corrupt: result("corrupt"),
            error: result("error"),
        }
    }

    /// Counts an answer of the cache.
    pub fn count<T>(&self, cached: &Cached<T>) {
        let counter = match cached {
            Cached::Fresh { .. } => &self.fresh,
            Cached::Stale { .. } => &self.stale,
            Cached::Unknown => &self.unknown,
            Cached::Absent => &self.absent,
            Cached::Corrupt => &self.corrupt,
        };
        counter.increment(1);
    }

    /// Counts entries that the cache was not there to say anything of.
    pub fn count_errors(&self, entries: usize) {
        self.error.increment(entries as u64);
    }
}
