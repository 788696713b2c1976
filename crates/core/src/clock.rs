//! Times as whole milliseconds.

use std::time::Duration;

/// A duration in milliseconds.
///
/// # Panics
///
/// When it is longer than 500 million years.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("invariant: a duration fits 64 bits of milliseconds")
}

/// Milliseconds since 1970 by the clock of this host. For reports only: no decision depends on it.
pub fn now_ms() -> i64 {
    let now = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    i64::try_from(now).expect("invariant: the clock shows a year before 9999")
}
