//! The calls that start recalculations, and the one that reports on them.

pub(crate) mod market_event;
pub(crate) mod request;
pub(crate) mod task;

mod reason;
