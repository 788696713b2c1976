//! The HTTP service of the pricing engine: prices on the fast path, market events and recalculations on
//! the slow one.
//!
//! In reading order: [`config`] and [`state`], what a process is made of; [`server`], how it runs and
//! ends; [`router`], its routes and what every request passes through, and [`load`], how many at a time
//! and for how long. Then the calls themselves:
//! [`prices`], whose [`read`](prices::read) module is the read path from top to bottom, and
//! [`recalculation`]. The rest is the edge: request [`body`] and [`parameters`], the [`problem`] documents
//! that errors are answered with, what is [observed](observe), [`metrics`] and the [`openapi`] document.

pub mod config;
pub mod server;
pub mod state;

pub mod load;
pub mod router;

pub mod prices;
pub mod recalculation;

pub mod body;
pub mod identifier;
pub mod parameters;
pub mod problem;

pub mod metrics;
pub mod observe;
pub mod openapi;

pub use server::{Service, run};
