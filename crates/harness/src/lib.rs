//! Servers and processes, started and stopped: for tests, for measurements and for `cargo xtask`.
//!
//! In reading order:
//!
//! - [`waiting`] for conditions, the only place that sleeps; [`ports`]; [`packages`] of the system; one child
//!   [`process`]; the [`interrupt`] that ends a command with all its processes;
//! - the servers that the services depend on: [`redis_server`], [`postgres`] and [`databases`], and the
//!   [`certificates`] of their TLS;
//! - one [`service`], and the whole [`stack`];
//! - faults: a [`clock`] that jumps, and a [`proxy`] that breaks connections;
//! - [`load`], clients that remember what was acknowledged to them;
//! - measurements of the api: [`http_load`], closed loops and open ones; [`measurement`] of servers in turns; [`side`],
//!   an api that is measured beside others; and [`callgrind`], which counts instructions;
//! - with the feature `engine`: `cache_entry`, behind the cache; `replicated`, a primary and its replica; `queue_bench`, a queue with workers in the
//!   test's process, and `queue_throughput`, how fast it is; `settled`, which finds what a fault left behind.
//!
//! A server or process belongs to the test or command that started it and ends with it, so all tests can run at once.

pub mod waiting;

pub mod interrupt;
pub mod packages;
pub mod ports;
pub mod process;

pub mod certificates;
pub mod databases;
pub mod postgres;
pub mod redis_server;

pub mod api_key;
pub mod clock;
pub mod proxy;

pub mod service;
pub mod stack;

pub mod load;

pub mod http_load;
pub mod measurement;

pub mod side;

pub mod callgrind;

#[cfg(feature = "engine")]
pub mod cache_entry;
#[cfg(feature = "engine")]
pub mod replicated;

#[cfg(feature = "engine")]
pub mod edits;
#[cfg(feature = "engine")]
pub mod queue_bench;
#[cfg(feature = "engine")]
pub mod queue_throughput;
#[cfg(feature = "engine")]
pub mod settled;
