//! The calls that start recalculations, and those that report on their tasks and replay them.

pub(crate) mod market_event;
pub(crate) mod request;
pub(crate) mod task;
pub(crate) mod tasks;

mod reason;

/// Detail of the 503 of a write that too few replicas had in time.
const NOT_REPLICATED: &str = "Too few replicas of Redis confirmed the write in time, so its outcome is \
                              unknown. The same call may be made again.";
