//! Client spans around calls to Redis.

use tracing::field::Empty;
use tracing::{Instrument as _, info_span};

use crate::error::QueueError;

/// Awaits a call inside a client span. `name` starts with the command. A failed call marks the span.
pub(crate) async fn client_span<T>(
    name: &'static str,
    call: impl Future<Output = Result<T, QueueError>>,
) -> Result<T, QueueError> {
    let command = name.split_once(' ').map_or(name, |(command, _)| command);
    let span = info_span!(
        "redis",
        otel.name = name,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = "redis",
        db.operation.name = command,
        error.type = Empty,
    );
    let result = call.instrument(span.clone()).await;
    if let Err(error) = &result {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", error_type(error));
    }
    result
}

/// The class of an error, for the attribute `error.type`.
fn error_type(error: &QueueError) -> &str {
    match error {
        QueueError::Pool(_) => "pool_timed_out",
        QueueError::Redis(error) => match error.code() {
            Some(code) => code,
            None if error.is_timeout() => "timeout",
            None if error.is_connection_refusal() => "connection_refused",
            None if error.is_io_error() => "connection_failed",
            None => "redis",
        },
        _ => "_OTHER",
    }
}
