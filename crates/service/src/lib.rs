//! How a process of the pricing engine lives.
//!
//! In reading order: [`telemetry`], logs, traces and metrics of a process; [`shutdown`], the signals that end it;
//! the [`supervisor`] of its parts; the [`http`] server; [`admin`], the health and metrics routes.

#![warn(missing_docs)]

pub mod telemetry;

pub mod panics;
pub mod shutdown;
pub mod supervisor;

pub mod admin;
pub mod http;
