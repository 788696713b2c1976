//! Faults, one test each, in as many rounds as `FAULT_ROUNDS` says: run them with `cargo xtask faults`.
//!
//! After each round nothing that was acknowledged may be lost, and no price may be stale.

mod catalogue;
mod named_worker;
mod records;

mod backlog;
mod changes;
#[cfg(target_os = "linux")]
mod clocks;
mod edits;
mod failover;
mod frozen;
mod full;
mod limits;
mod listener;
mod misses;
mod near;
mod outages;
mod payloads;
mod poison;
mod redis;
mod restarts;
mod retries;
mod worker;
