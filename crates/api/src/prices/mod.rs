//! The calls that answer prices.
//!
//! In reading order: [`handlers`], the contract with clients; [`reader`], the read path, and [`plan`], its
//! decisions; the circuit [`breaker`]; on a miss the [`loader`], its
//! [`lookup_permits`] and what it has [`loaded`].

pub(crate) mod handlers;
pub(crate) mod reader;

mod breaker;
mod loaded;
mod loader;
mod lookup_permits;
mod plan;

pub(crate) use loader::STATEMENT_TIMEOUT;
