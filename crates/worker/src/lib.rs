//! The slow write path: runs recalculation jobs, one at a time over all workers.
//!
//! [`job`] is what apalis runs for each task; [`recalculate`] is the work under the lock, and [`scan`] one
//! pass over the catalogue. [`run`] wires them to the queue.

pub mod job;
pub mod lock;
pub mod recalculate;
pub mod scan;

pub mod config;
pub mod metrics;
mod run;
pub mod tasks;

pub use run::{Worker, run};
