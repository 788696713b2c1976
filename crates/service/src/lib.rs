//! The life of a process of the pricing engine.
//!
//! In reading order: [`telemetry`] starts logs, traces and metrics; [`shutdown`] listens for the signals that end a
//! process; the [`supervisor`] runs its parts; [`http`] serves requests and drains, for as many
//! connections as [`open_files`] allow; [`health`] reports the state of the
//! process, and [`admin`] serves health and metrics; [`exit`] prints the error of a process that failed.

#![warn(missing_docs)]

pub mod telemetry;

pub mod panics;
pub mod shutdown;
pub mod supervisor;

pub mod admin;
pub mod health;
pub mod http;
pub mod open_files;
mod snapshot;

pub mod exit;
