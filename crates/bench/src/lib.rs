//! Measurements of the whole engine: the tables of docs/performance.md.
//!
//! - [`args`]: what is measured, and how much. `cargo xtask bench` has the same arguments and runs this program.
//! - `measure`: the parts.
//! - `floor`: what reads are compared with.
//!
//! Servers, processes and the load come from `pricing-harness`.

pub mod args;

#[cfg(feature = "measure")]
pub mod floor;
#[cfg(feature = "measure")]
mod measure;

#[cfg(feature = "measure")]
pub use measure::run;
