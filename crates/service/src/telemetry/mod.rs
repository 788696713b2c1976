//! Logs, traces and metrics of a process.

mod exporter;
mod line_limit;
mod log_lines;
mod metrics;
mod sampling;
mod span_export;

use std::io::IsTerminal as _;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::task::JoinHandle;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::format;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};
use ulid::Ulid;

use line_limit::{Limited, LineLimits};
use log_lines::{EventsOnly, Form, WithTraceId};

use span_export::CountingProcessor;

pub use exporter::{ExporterError, plaintext};
pub use metrics::{LATENCY_BUCKETS, Metrics};
pub use sampling::{SamplerError, Sampling, with_decision};

/// Time limit of exporting the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// Log level without `RUST_LOG`.
const DEFAULT_FILTER: &str = "info,apalis=warn,apalis_core=warn,sqlx=warn,opentelemetry=warn";

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Spans cannot be exported as the settings say.
    #[error(transparent)]
    Exporter(#[from] ExporterError),
    /// There is no such sampler.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// `RUST_LOG` does not parse.
    #[error("RUST_LOG is no log filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Another subscriber is installed already.
    #[error("logging is set up already")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// The telemetry of a process. It must be [flushed](Telemetry::flush) at the end.
#[must_use = "call flush at the end, or the last spans are lost"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    sampling: Sampling,
    limits: LineLimits,
    /// The periodic report of suppressed lines.
    reports: JoinHandle<()>,
}

/// Who decides whether a trace that begins here is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampledBy {
    /// The SDK, when the first span begins.
    Sdk,
    /// The service, by [`Telemetry::sampling`], before it makes a span: one that begins a trace is recorded.
    Service,
}

/// Starts logs on standard error, as JSON unless that is a terminal, and the export of spans by OTLP/gRPC to
/// `OTEL_EXPORTER_OTLP_ENDPOINT`. Without that setting no span is made. Each log line carries the id of its trace; an unrecorded
/// read has none.
/// Warnings and errors of one kind are limited to a burst of ten lines and one a second after it; every five seconds
/// a line says how many were suppressed.
///
/// A separate thread exports spans in batches: an unreachable or slow exporter costs spans, never time. Must be
/// called inside the Tokio runtime.
///
/// # Errors
///
/// When a setting does not parse.
pub fn start(service: &'static str, sampled_by: SampledBy) -> Result<Telemetry, TelemetryError> {
    let filter = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = EnvFilter::try_new(filter.as_deref().unwrap_or(DEFAULT_FILTER))?;
    let limits = LineLimits::default();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if std::io::stderr().is_terminal() {
        let inner = WithTraceId { inner: format(), form: Form::Text };
        lines.event_format(Limited { inner, limits: limits.clone() }).boxed()
    } else {
        let inner = format().json().flatten_event(true).with_current_span(false).with_span_list(false);
        let inner = WithTraceId { inner, form: Form::Json };
        let format = Limited { inner, limits: limits.clone() };
        lines.fmt_fields(JsonFields::new()).event_format(format).boxed()
    };

    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let sampling = Sampling::from_env()?;
    let provider = exporting_provider(service, sampling, sampled_by)?;
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(service))
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            // Parents are found through tracing's spans: nothing here asks for the context of the thread, which would be
            // set at each poll.
            .with_context_activation(false)
            .with_error_events_to_status(false)
            .with_filter(LevelFilter::INFO)
    });
    let registry = tracing_subscriber::registry();
    match spans {
        Some(spans) => {
            registry.with(lines.with_filter(filter.and(EventsOnly))).with(spans).try_init()?;
        }
        // Global filters, for no span to be made. A filter of the only layer would make none either, but the next
        // event would be lost: a disabled span leaves its mark in the thread until another layer is asked.
        None => {
            registry.with(lines).with(filter).with(filter_fn(|metadata| metadata.is_event())).try_init()?;
        }
    }
    let reports = tokio::spawn(limits.clone().report_periodically());
    Ok(Telemetry { provider, sampling, limits, reports })
}

fn exporting_provider(
    service: &'static str,
    sampling: Sampling,
    sampled_by: SampledBy,
) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let Some(exporter) = exporter::exporter()? else { return Ok(None) };
    let processor = CountingProcessor::new(exporter);
    let provider =
        SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource(service));
    let sampler = match sampled_by {
        SampledBy::Sdk => sampling.sampler(),
        SampledBy::Service => Sampler::ParentBased(Box::new(Sampler::AlwaysOn)),
    };
    Ok(Some(provider.with_sampler(sampler).build()))
}

/// The attributes of this process. `OTEL_RESOURCE_ATTRIBUTES` adds to them or overrides them.
fn resource(service: &'static str) -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", service),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Ulid::generate().to_string()),
        ])
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())])
        .build()
}

impl Telemetry {
    /// Which traces are recorded; `None` if no spans are exported.
    pub fn sampling(&self) -> Option<Sampling> {
        self.provider.is_some().then_some(self.sampling)
    }

    /// Reports the suppressed log lines that are left, and exports the spans that are left, for at most three seconds.
    pub async fn flush(self) {
        self.reports.abort();
        self.limits.report();
        let Some(provider) = self.provider else { return };
        let shutdown = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT));
        if let Ok(Err(error)) = shutdown.await {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}
