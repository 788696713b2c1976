//! Requests made from the service's own description, good ones and bad ones, and their answers checked
//! against it.
//!
//! In reading order: [`document`], the description; [`request`], a request as bytes; [`sample`], values
//! that a schema allows; [`body_damage`] and [`head_damage`], what can be wrong with a request;
//! [`generator`], which puts a request together; [`expectation`], what the description says of it; and
//! [`verdict`], whether its answer is that.

pub mod document;

pub mod request;
pub mod sample;

pub mod body_damage;
pub mod generator;
pub mod head_damage;

pub mod expectation;
pub mod verdict;
