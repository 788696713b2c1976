//! The harness of the end-to-end tests: real servers and the real binaries, started and stopped by tests.
//!
//! In reading order: [`waiting`] for conditions, the only place that sleeps; [`ports`]; the servers that
//! the services depend on, [`redis_server`] and [`databases`]; [`otlp_receiver`], which collects their
//! spans; one [`process`] of a service; and the whole [`stack`]. Tests of faults use more: a [`clock`] that jumps,
//! a [`proxy`] that breaks connections, a [`load`] that goes on whatever happens, [`rounds`] in which a fault is
//! repeated, and [`settled`], which finds what it left behind. Requests that no client would send are bytes in
//! [`raw_http`], and [`openapi`] makes and judges them. [`read_load`] is clients that ask for prices all the time;
//! a [`balancer`] stands in front of several processes of the api.
//!
//! Whatever a test starts belongs to it alone and ends with it, so all tests can run at once. They are run
//! by `cargo xtask test`, which builds the binaries, sees to it that `redis-server` is in `PATH` and sets
//! `TEST_POSTGRES_URL`.

pub mod waiting;

pub mod balancer;
pub mod clock;
pub mod ports;
pub mod proxy;
pub mod raw_http;
pub mod read_load;

pub mod openapi;

pub mod databases;
pub mod queue_bench;
pub mod redis_server;

pub mod otlp_receiver;

pub mod process;
pub mod stack;

pub mod load;
pub mod rounds;
pub mod settled;
