//! The calls that manage the catalogue.
//!
//! A call that changes something first leaves a row in the audit, then edits the database, then stores what it made in the
//! cache, and then answers: **its own caller reads the new price at once**, and everybody else within a second, because the
//! database has noted the change for the workers. With Redis away the edit is kept and the workers store it later.

pub(crate) mod batch;
mod edits;
pub(crate) mod history;
pub(crate) mod markets;
mod precondition;
pub(crate) mod products;
pub(crate) mod shape;
