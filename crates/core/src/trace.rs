//! Spans of calls to Redis and the database, and traces that continue in another process.

use std::borrow::Cow;
use std::error::Error;
use std::iter::successors;

use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use redis::RedisError;
use tracing::{Instrument as _, Span, field, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::causes::causes;

/// Attribute of a span that must not be exported. See [`discard`].
pub const DISCARDED: &str = "pricing.discarded";

/// Awaits a call to another system inside its client span. A failed call marks the span, see [`mark_failed`].
/// A call that is dropped, as by a time limit around it, has `error.type` `cancelled`.
///
/// Without an exporter no span exists and this costs nothing.
///
/// # Errors
///
/// The error of `call`.
pub async fn client_call<T, E: Error + 'static>(
    span: Span,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    if span.is_disabled() {
        return call.await;
    }
    let cancelled = MarkCancelled(&span);
    let answer = call.instrument(span.clone()).await;
    std::mem::forget(cancelled);
    if let Err(error) = &answer {
        mark_failed(&span, error);
    }
    answer
}

/// Marks the span of a call that is dropped before it ends.
struct MarkCancelled<'s>(&'s Span);

impl Drop for MarkCancelled<'_> {
    fn drop(&mut self) {
        self.0.set_attribute("error.type", "cancelled");
        self.0.set_status(Status::error("cancelled before it ended"));
    }
}

/// Awaits a call to Redis inside a client span. `name` starts with the command, such as `MGET price inputs`.
///
/// # Errors
///
/// The error of `call`.
pub async fn redis_call<T, E: Error + 'static>(
    name: &'static str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    client_call(redis_span(name), call).await
}

/// The client span of a call to Redis. `name` starts with the command, such as `MGET price inputs`. There is none outside
/// of a span: a call is no trace of its own.
pub fn redis_span(name: &'static str) -> Span {
    if Span::current().is_disabled() {
        return Span::none();
    }
    info_span!(
        "redis",
        otel.name = name,
        otel.kind = "client",
        db.system.name = "redis",
        db.operation.name = name.split_once(' ').map_or(name, |(command, _)| command),
        pricing.pool_wait_ms = field::Empty,
    )
}

/// Sets the status of a span to error, and `error.type`. The error's causes are the status text.
pub fn mark_failed(span: &Span, error: &(dyn Error + 'static)) {
    if !span.is_disabled() {
        span.set_attribute("error.type", error_type(error).into_owned());
        span.set_status(Status::error(causes(error).to_string()));
    }
}

/// The class of an error for `error.type`: the code of Redis or of the database, `timeout` or the kind of
/// failure of a connection, else `_OTHER`.
fn error_type<'e>(error: &'e (dyn Error + 'static)) -> Cow<'e, str> {
    let known = successors(Some(error), |&error| error.source()).find_map(|error| {
        if let Some(error) = error.downcast_ref::<RedisError>() {
            return Some(match error.code() {
                Some(code) => Cow::Borrowed(code),
                None if error.is_timeout() => "timeout".into(),
                None if error.is_connection_refusal() => "connection_refused".into(),
                None if error.is_io_error() => "connection_failed".into(),
                None => "redis".into(),
            });
        }
        if error.is::<deadpool_redis::PoolError>() && error.source().is_none() {
            return Some("pool_timed_out".into());
        }
        if error.is::<tokio::time::error::Elapsed>() {
            return Some("timeout".into());
        }
        Some(match error.downcast_ref::<sqlx::Error>()? {
            sqlx::Error::Database(error) => error.code().unwrap_or("database".into()),
            sqlx::Error::Io(_) => "connection_failed".into(),
            sqlx::Error::PoolTimedOut => "pool_timed_out".into(),
            sqlx::Error::PoolClosed => "pool_closed".into(),
            _ => "database".into(),
        })
    });
    known.unwrap_or("_OTHER".into())
}

/// A count as a span attribute. An unsigned number would be recorded as text.
pub fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Keeps a span from being exported. Its ids stay valid, so it can be made before it is known to be needed:
/// a message must name the span that published it, and only the reply tells whether it was published.
pub fn discard(span: &Span) {
    if !span.is_disabled() {
        span.set_attribute(DISCARDED, true);
    }
}

/// The `traceparent` of the current span, `None` without one.
pub fn current_traceparent() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    let flags = span.trace_flags() & TraceFlags::SAMPLED;
    span.is_valid().then(|| format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()))
}

/// Makes `span` a child of the remote span of `traceparent`. It must be called before the span is entered. An
/// invalid `traceparent` starts a new trace.
pub fn continue_trace(span: &Span, traceparent: Option<&str>) {
    if let Some(parent) = traceparent.and_then(parse_traceparent) {
        set_remote_parent(span, parent);
    }
}

/// Makes `span` a child of a span of another process. It must be called before the span is entered.
pub fn set_remote_parent(span: &Span, parent: SpanContext) {
    // Fails only for a span that is not recorded, which has no trace to continue.
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent));
}

/// A context of a trace that nobody records: its spans are not either, and log lines and messages name it.
pub fn unrecorded_trace() -> SpanContext {
    let (trace, span) = (TraceId::from(rand::random::<u128>() | 1), SpanId::from(rand::random::<u64>() | 1));
    SpanContext::new(trace, span, TraceFlags::NOT_SAMPLED, true, TraceState::NONE)
}

/// Links `span` to the remote span of `traceparent`, which is related but not its parent.
pub fn link_trace(span: &Span, traceparent: &str) {
    if let Some(other) = parse_traceparent(traceparent) {
        span.add_link(other);
    }
}

/// The id of the current trace, `None` without one.
pub fn current_trace_id() -> Option<String> {
    current_traceparent().and_then(|traceparent| traceparent.split('-').nth(1).map(str::to_owned))
}

/// Parses a `traceparent` of version 00 (W3C Trace Context, section 3.2); `None` when it is not valid.
pub fn parse_traceparent(traceparent: &str) -> Option<SpanContext> {
    let mut fields = traceparent.split('-');
    let mut field = |length| {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        fields.next().filter(|field| field.len() == length && field.bytes().all(hex))
    };
    let (version, trace, span, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
    if version != "00" || fields.next().is_some() {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE)).filter(SpanContext::is_valid)
}

#[cfg(test)]
pub(crate) mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// The spans that `traced` made.
    pub(crate) async fn spans(traced: impl Future) -> Vec<SpanData> {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let layer = layer.with_context_activation(false); // as the services
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        traced.instrument(info_span!("test")).await;
        let spans = exporter.get_finished_spans().unwrap();
        spans.into_iter().filter(|span| span.name != "test").collect()
    }

    pub(crate) fn attribute(span: &SpanData, key: &str) -> Option<String> {
        let attribute = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
        attribute.map(|attribute| attribute.value.to_string())
    }

    #[tokio::test]
    async fn a_failed_call_marks_its_span_and_a_good_one_does_not() {
        let refused = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        let spans = spans(async {
            redis_call("MGET price inputs", async { Ok::<_, RedisError>(()) }).await.unwrap();
            redis_call("PING", async { Err::<(), _>(refused) }).await.unwrap_err();
        })
        .await;
        let [good, bad] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&*good.name, good.status.clone()), ("MGET price inputs", Status::Unset));
        assert_eq!(attribute(good, "db.operation.name").as_deref(), Some("MGET"));
        assert_eq!(attribute(good, "error.type"), None);
        assert!(matches!(bad.status, Status::Error { .. }));
        assert_eq!(attribute(bad, "error.type").as_deref(), Some("connection_refused"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_dropped_is_cancelled() {
        let spans = spans(async {
            let silent = redis_call("PING", std::future::pending::<Result<(), RedisError>>());
            tokio::time::timeout(std::time::Duration::from_secs(2), silent).await.unwrap_err();
        })
        .await;
        assert_eq!(attribute(&spans[0], "error.type").as_deref(), Some("cancelled"));
        assert!(matches!(spans[0].status, Status::Error { .. }));
    }

    #[test]
    fn the_class_of_an_error_is_that_of_its_first_known_cause() {
        let pool = crate::catalogue::CatalogueError::Database(sqlx::Error::PoolTimedOut);
        assert_eq!(error_type(&pool), "pool_timed_out");
        let unknown = std::io::Error::other("?");
        assert_eq!(error_type(&unknown), "_OTHER");
    }

    #[test]
    fn only_a_w3c_traceparent_is_a_remote_parent() {
        let parent = parse_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert!(parent.is_sampled() && parent.is_remote());
        assert_eq!(parent.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(
            !parse_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
                .unwrap()
                .is_sampled()
        );
        for bad in [
            "",
            "x",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf9-00f0-01",
        ] {
            assert!(parse_traceparent(bad).is_none(), "{bad:?}");
        }
    }
}
