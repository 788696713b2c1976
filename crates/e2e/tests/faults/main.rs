//! Faults, one test each, in as many rounds as `FAULT_ROUNDS` says: run them with `cargo xtask faults`.
//!
//! After each round nothing that was acknowledged may be lost, and no price may be stale.

mod listener;
mod misses;
mod openapi;
mod outages;
mod restarts;
