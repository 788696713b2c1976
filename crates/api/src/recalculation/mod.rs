//! The calls that start recalculations, and the one that reports on them.

pub(crate) mod market_event;
pub(crate) mod request;
pub(crate) mod task;

mod reason;

/// Detail of the 503 of a write that too few replicas had in time.
const NOT_REPLICATED: &str = "Too few replicas of Redis confirmed the write in time, so its outcome is unknown. The same call may be made again.";
