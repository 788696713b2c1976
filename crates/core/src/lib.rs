//! What pricing is, shared by the three services of the engine.
//!
//! In reading order: the identifiers and exact [`money`]; [`price`](mod@price), the one pure function
//! that says what something costs; the [`catalogue`] in the database, which is the truth; the
//! [`cache`] in front of it; market [`events`] and the recalculation [`job`]. Below these: [`redis`] connections,
//! [`settings`], [`trace`] contexts and error [`causes`](mod@causes).

#![warn(missing_docs)]

pub mod ids;
pub mod money;
pub mod price;

pub mod cache;
pub mod catalogue;

pub mod events;
pub mod job;
pub mod recalculation_queue;

pub mod causes;
pub mod clock;
pub mod redis;
pub mod settings;
pub mod simulation;
pub mod trace;
