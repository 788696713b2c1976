//! Times as whole milliseconds.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

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
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    i64::try_from(now).expect("invariant: the clock shows a year before 9999")
}

/// Milliseconds since 1970 in RFC 3339, in UTC; `None` outside the years 0 to 9999.
pub fn rfc3339(millis: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()?;
    time.format(&Rfc3339).ok()
}
