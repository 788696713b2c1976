//! The domain of the pricing engine: what its three services share.
//!
//! A price is computed from a [`Product`](price::Product), a [`Market`](price::Market) and the customer's
//! membership by one pure function, [`price()`](price::price). Products and markets live in the database, the
//! [`catalogue`]; copies of them live in Redis, the [`cache`]. A reader asks the cache first and the catalogue on
//! a miss. After a change of the catalogue its author publishes a market event: it goes to the log of [`events`],
//! the listener makes it a task in the [`RecalculationQueue`](recalculation::RecalculationQueue), and the worker's job
//! reads the catalogue and fills the cache.
//!
//! In reading order:
//!
//! - [`ids`] and [`money`]: identifiers, exact amounts and factors; [`price`](mod@price): the price function.
//! - [`catalogue`]: products, markets and the history of list prices in PostgreSQL or SQLite.
//! - [`audit`]: who did what, in the same database.
//! - [`cache`]: entries of products and markets in Redis, each with a version that only grows.
//! - [`events`]: the durable log of market events and the envelope they travel in.
//! - [`recalculation`]: the payload of a task, and its one producer; [`failure`]: why a task failed; [`replay`] of dead
//!   ones, with the audit.
//! - Below these: [`redis`] connections, [`settings`] that may be secrets, [`certificates`] of TLS, [`plaintext`]
//!   connections to warn of, [`simulation`] of slowness, [`trace`] contexts and client spans, [`causes`](mod@causes)
//!   of errors, and the [`clock`].

#![warn(missing_docs)]

pub mod ids;
pub mod money;
pub mod price;

pub mod audit;
pub mod cache;
pub mod catalogue;

pub mod events;
pub mod failure;
pub mod recalculation;
pub mod replay;

pub mod causes;
pub mod certificates;
pub mod clock;
pub mod plaintext;
pub mod redis;
pub mod settings;
pub mod simulation;
pub mod trace;
