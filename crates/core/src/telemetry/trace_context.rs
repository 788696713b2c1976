//! Carrying a trace from process to process as a W3C `traceparent`.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";
/// Length of a `traceparent` of version 00: 2 + 32 + 16 + 2 hexadecimal digits and three hyphens.
const TRACEPARENT_LEN: usize = 55;

/// The `traceparent` of the current span, `None` when nothing is traced.
pub fn current_traceparent() -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// Makes `span` a child of the remote span that `traceparent` names. Call it before the span is entered; a
/// `traceparent` that does not parse starts a new trace.
pub fn continue_trace(span: &Span, traceparent: Option<&str>) {
    if let Some(parent) = traceparent.and_then(remote) {
        // Fails only for a span that is not recorded at all, which then has nothing to continue.
        let _ = span.set_parent(parent);
    }
}

/// Links `span` to the remote span that `traceparent` names: related, but not its parent.
pub fn link_trace(span: &Span, traceparent: &str) {
    if let Some(other) = remote(traceparent) {
        span.add_link(other.span().span_context().clone());
    }
}

fn remote(traceparent: &str) -> Option<opentelemetry::Context> {
    if traceparent.len() != TRACEPARENT_LEN {
        return None; // the propagator would fill up short ids
    }
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    context.span().span_context().is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_w3c_traceparent_is_a_remote_parent() {
        assert!(remote("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").is_some());
        for bad in ["", "x", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf9-00f0-01"] {
            assert!(remote(bad).is_none(), "{bad:?}");
        }
    }
}
