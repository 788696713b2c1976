//! Servers and processes, started and stopped: for tests, for measurements and for `cargo xtask`.
//!
//! In reading order: [`waiting`] for conditions, the only place that sleeps; [`ports`]; [`packages`] of the system;
//! one child [`process`]; the servers that the services depend on, [`redis_server`], [`postgres`] and [`databases`];
//! one [`service`]; the whole [`stack`]. Faults are made with a [`clock`] that jumps and a [`proxy`] that breaks
//! connections. [`load`] goes on whatever happens and remembers what was acknowledged, [`throughput`] measures cached
//! reads of the api, [`side`] is one of two binaries that are compared so, and [`callgrind`] counts its instructions. With the feature `engine`: `queue_bench`, a queue and its workers in the test's process, and `settled`,
//! which finds what a fault left behind.
//!
//! Whatever is started belongs to whoever started it and ends with it, so all tests can run at once.

pub mod waiting;

pub mod packages;
pub mod ports;
pub mod process;

pub mod databases;
pub mod postgres;
pub mod redis_server;

pub mod clock;
pub mod proxy;

pub mod service;
pub mod stack;

pub mod load;

pub mod throughput;

pub mod side;

pub mod callgrind;

#[cfg(feature = "engine")]
pub mod queue_bench;
#[cfg(feature = "engine")]
pub mod settled;
