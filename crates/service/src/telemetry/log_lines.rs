//! The form of log lines.

use std::fmt;

use pricing_core::trace::current_trace_id;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

/// The form of a line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Json,
    Text,
}

/// Appends the id of the current trace to each line of another format.
///
/// The id comes from the current span's context and not from fields of spans: formatting those of every span would cost
/// more than a read of a price.
pub(super) struct WithTraceId<F> {
    pub(super) inner: F,
    pub(super) form: Form,
}

impl<S, N, F> FormatEvent<S, N> for WithTraceId<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end();
        match (current_trace_id(), self.form, line.strip_suffix('}')) {
            (Some(trace), Form::Json, Some(open)) => writeln!(writer, r#"{open},"trace_id":"{trace}"}}"#),
            (Some(trace), Form::Text, _) => writeln!(writer, "{line} trace_id={trace}"),
            _ => writeln!(writer, "{line}"),
        }
    }
}

/// Accepts events and no spans, so that a span without another subscriber is never made.
pub(super) struct EventsOnly;

impl<S> Filter<S> for EventsOnly {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        metadata.is_event()
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() { Interest::always() } else { Interest::never() }
    }
}
