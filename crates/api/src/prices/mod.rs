//! The calls that answer prices.
//!
//! In reading order: [`handlers`] and the [`shape`] of what they take and answer, the contract with clients, with the
//! [`explanation`] of a price and the [`validator`] of an answer that the client has; [`reader`], the read path, [`plan`],
//! its decisions, and the [`quote`] that is made of its inputs; the circuit [`breaker`]; the [`miss`], with the [`loader`]
//! and what it has [`loaded`]; [`early_refresh`], which spares a hot entry the miss. [`slots`] bound how much of this is under way; a
//! [`batch_slot`] is one for a large batch.

pub(crate) mod handlers;
pub(crate) mod reader;

mod batch_slot;
mod breaker;
mod early_refresh;
mod explanation;
mod loaded;
mod loader;
mod miss;
mod plan;
mod quote;
mod shape;
mod slots;
mod validator;

pub(crate) use loader::STATEMENT_TIMEOUT;
#[cfg(test)]
pub(crate) use shape::MAX_PRODUCTS;
