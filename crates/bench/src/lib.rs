//! Measurements of the whole engine: the tables of docs/performance.md.
//!
//! In reading order:
//!
//! - [`args`]: what is measured, and how much. `cargo xtask bench` has the same arguments and runs this program.
//! - `report`: sections, each a `table` and its figures; `machine`, that they are from.
//! - `reads`: the api under load beside the floor, a bare axum handler.
//! - Parts that measure the write path on the `catalogue` of either database: `imports`, `recalculation`, hits in
//!   `contention` with it, `changes` and `events`; and the `queue` alone.
//!
//! Servers, processes and the load come from `pricing-harness`.

pub mod args;

#[cfg(feature = "measure")]
mod catalogue;
#[cfg(feature = "measure")]
mod changes;
#[cfg(feature = "measure")]
mod contention;
#[cfg(feature = "measure")]
mod events;
#[cfg(feature = "measure")]
mod imports;
#[cfg(feature = "measure")]
mod machine;
#[cfg(feature = "measure")]
mod queue;
#[cfg(feature = "measure")]
mod reads;
#[cfg(feature = "measure")]
mod recalculation;
#[cfg(feature = "measure")]
mod report;
#[cfg(feature = "measure")]
mod run;
#[cfg(feature = "measure")]
mod table;

#[cfg(feature = "measure")]
pub use run::run;
