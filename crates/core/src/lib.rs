//! What the three services of the pricing engine share.
//!
//! In reading order: the identifiers and exact [`money`]; [`price`](mod@price), the one pure function
//! that says what something costs; the [`catalogue`] in the database, which is the truth; the
//! [`cache`] in front of it; and what keeps the write path safe: [`events`], [`job`] and [`lock`].
//! The rest is how a process lives: [`connections`] and [`telemetry`]; the [`supervisor`] of its parts and
//! [`shutdown`]; [`http`], how it serves, and [`admin`], what it serves to those who run it.

pub mod ids;
pub mod money;
pub mod price;

pub mod cache;
pub mod catalogue;
pub mod json;

pub mod events;
pub mod job;
pub mod lock;

pub mod admin;
pub mod connections;
pub mod http;
pub mod settings;
pub mod shutdown;
pub mod simulation;
pub mod supervisor;
pub mod telemetry;
