//! What the tests of several processes need beyond the harness.
//!
//! [`rounds`] repeats a fault and reports what came of it; [`raw_http`] sends requests that no client would send;
//! [`read_load`] is clients that ask for prices all the time; a [`balancer`] stands in front of several processes of
//! the api; a [`flood`] attacks it; an [`otlp_receiver`] collects spans.
//!
//! The tests are run by `cargo xtask test`, which builds the binaries, sees to it that `redis-server` is in `PATH` and
//! sets `TEST_POSTGRES_URL`.

pub mod balancer;
pub mod flood;
pub mod otlp_receiver;
pub mod raw_http;
pub mod read_load;
pub mod rounds;
