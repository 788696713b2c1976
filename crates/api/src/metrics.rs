//! The metrics of the api.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::Method;
use metrics::{Counter, Gauge, Histogram, SharedString, Unit};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::BuildError;
use pricing_core::cache::{Cached, NEAR_AGE};
use pricing_core::events::LOG_CAPACITY;
use pricing_core::price::{Market, PriceDetail, Product, Unpriced};
use pricing_service::telemetry::{LATENCY_BUCKETS, Metrics};

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

/// The known request methods; any other shares the last label.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"];

/// The durations of the requests of one route.
pub(crate) struct RequestMetrics {
    route: SharedString,
    /// Of the answers with status 200, by method. Resolved at the first one.
    succeeded: [OnceLock<Histogram>; METHODS.len()],
}

impl RequestMetrics {
    pub(crate) fn new(route: String) -> Self {
        Self { route: SharedString::from_shared(route.into()), succeeded: Default::default() }
    }

    pub(crate) fn route(&self) -> &str {
        &self.route
    }

    /// The index of a method's label.
    pub(crate) fn method(method: &Method) -> usize {
        METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
    }

    /// Records an answer.
    pub(crate) fn answered(&self, method: usize, status: u16, duration: Duration) {
        match status {
            200 => self.succeeded[method].get_or_init(|| self.histogram(method, 200)).record(duration),
            status => self.histogram(method, status).record(duration),
        }
    }

    fn histogram(&self, method: usize, status: u16) -> Histogram {
        let (method, status) = (METHODS[method], status.to_string());
        histogram!(REQUEST_DURATION, "method" => method, "endpoint" => self.route.clone(), "status" => status)
    }
}

/// Counts a market event of a caller, with which the log holds so many that are not jobs yet.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
pub(crate) fn event_published(caller: Option<&str>, backlog: u64) {
    counter!(EVENTS_PUBLISHED, "caller" => caller_label(caller)).increment(1);
    gauge!(EVENT_LOG_FILL).set(backlog as f64 / LOG_CAPACITY as f64);
}

/// What there is too much of when a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shed {
    /// Concurrent requests.
    Requests,
    /// Large bodies in memory.
    LargeBodies,
    /// Lookups in the database.
    Lookups,
    /// Large batches.
    Batches,
}

/// Counts a request that was refused because of the load.
pub(crate) fn request_shed(shed: Shed) {
    let reason = match shed {
        Shed::Requests => "requests",
        Shed::LargeBodies => "large_bodies",
        Shed::Lookups => "lookups",
        Shed::Batches => "batches",
    };
    counter!(SHED, "reason" => reason).increment(1);
}

/// Why a request is refused before it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It has no key.
    WithoutKey,
    /// Its key is not known.
    UnknownKey,
    /// Its key does not allow it.
    Role,
    /// A browser makes it for a page of another origin.
    Foreign,
    /// Without keys, it names its host by a name that may be anybody's.
    Host,
    /// The calls of its key cost too much.
    KeyLimit,
    /// The calls from its address cost too much.
    AddressLimit,
}

/// Counts a request that is refused before it is served.
pub(crate) fn request_refused(reason: Refused) {
    let reason = match reason {
        Refused::WithoutKey => "no_key",
        Refused::UnknownKey => "unknown_key",
        Refused::Role => "role",
        Refused::Foreign => "foreign_origin",
        Refused::Host => "foreign_host",
        Refused::KeyLimit => "key_limit",
        Refused::AddressLimit => "address_limit",
    };
    counter!(REFUSED, "reason" => reason).increment(1);
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

/// The label of a caller: the names in a file of keys are a closed set.
fn caller_label(caller: Option<&str>) -> String {
    caller.unwrap_or("anonymous").to_owned()
}

/// What a read depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dependency {
    Redis,
    Database,
}

impl Dependency {
    /// The label's value.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Database => "database",
        }
    }
}

/// The gauge of a dependency's breaker.
pub(crate) fn degraded(dependency: Dependency) -> Gauge {
    gauge!(DEGRADED, "dependency" => dependency.as_str())
}

/// The counter of lookups of one kind: `product` or `market`.
pub(crate) fn database_lookups(kind: &'static str) -> Counter {
    counter!(DATABASE_LOOKUPS, "kind" => kind)
}

/// Counts a recalculation that a caller requested.
pub(crate) fn task_enqueued(caller: Option<&str>) {
    counter!(TASKS_ENQUEUED, "caller" => caller_label(caller)).increment(1);
}

/// The metrics of the read path, resolved once.
pub(crate) struct ReadMetrics {
    product: CacheResults,
    market: CacheResults,
    /// Fills that failed.
    pub(crate) fill_failures: Counter,
    without_redis: Counter,
    /// Reads that were served stale entries because the database failed.
    pub(crate) without_database: Counter,
    /// Age of the cached product that a price was made of.
    pub(crate) age: Histogram,
    without_rate: Counter,
    out_of_range: Counter,
    bounds_conflicts: Counter,
}

impl ReadMetrics {
    /// The metrics of the installed recorder; of none when none is installed.
    pub(crate) fn new() -> Self {
        let unpriced = |reason: Unpriced| counter!(UNPRICED, "reason" => reason.as_str());
        Self {
            product: CacheResults::of("product"),
            market: CacheResults::of("market"),
            fill_failures: counter!(FILL_FAILURES),
            without_redis: counter!(DEGRADED_READS, "dependency" => Dependency::Redis.as_str()),
            without_database: counter!(DEGRADED_READS, "dependency" => Dependency::Database.as_str()),
            age: histogram!(PRICE_AGE),
            without_rate: unpriced(Unpriced::NoExchangeRate),
            out_of_range: unpriced(Unpriced::OutOfRange),
            bounds_conflicts: counter!(BOUNDS_CONFLICTS),
        }
    }

    /// Counts the cache's answer to a read.
    pub(crate) fn count(&self, products: &[Cached<Product>], market: &Cached<Market>) {
        products.iter().for_each(|product| self.product.count(product));
        self.market.count(market);
    }

    /// Counts what needs attention about a price.
    pub(crate) fn count_price(&self, priced: Result<&PriceDetail, &Unpriced>) {
        match priced {
            Ok(detail) if detail.bounds_conflict => self.bounds_conflicts.increment(1),
            Ok(_) => {}
            Err(Unpriced::NoExchangeRate) => self.without_rate.increment(1),
            Err(Unpriced::OutOfRange) => self.out_of_range.increment(1),
        }
    }

    /// Counts a read that Redis did not answer.
    pub(crate) fn count_outage(&self, products: usize) {
        self.product.error.increment(products as u64);
        self.market.error.increment(1);
        self.without_redis.increment(1);
    }
}

/// Entries of one kind, by what the cache held.
struct CacheResults {
    fresh: Counter,
    stale: Counter,
    negative: Counter,
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
            negative: result("negative"),
            absent: result("absent"),
            corrupt: result("corrupt"),
            error: result("error"),
        }
    }

    fn count<T>(&self, cached: &Cached<T>) {
        let counter = match cached {
            Cached::Fresh { .. } => &self.fresh,
            Cached::Stale { .. } => &self.stale,
            Cached::Negative => &self.negative,
            Cached::Absent => &self.absent,
            Cached::Corrupt => &self.corrupt,
        };
        counter.increment(1);
    }
}
