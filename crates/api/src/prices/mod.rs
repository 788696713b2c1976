//! The calls that answer prices.
//!
//! In reading order: [`handlers`], the contract with clients, with the [`explanation`] of a price and the [`validator`] of
//! an answer that the client has; [`reader`], the read path, and [`plan`], its
//! decisions; the circuit [`breaker`]; on a miss the [`loader`] and what it
//! has [`loaded`]. [`slots`] bound how much of this is under way; a
//! [`batch_slot`] is one for a large batch.

pub(crate) mod handlers;
pub(crate) mod reader;

mod batch_slot;
mod breaker;
mod early_refresh;
mod explanation;
mod loaded;
mod loader;
mod plan;
mod slots;
mod validator;

pub(crate) use loader::STATEMENT_TIMEOUT;
