//! The HTTP service of the pricing engine: prices on the read path, market events and recalculations on the write
//! path.
//!
//! In reading order: `config`, `server` (how the process starts, runs and ends) and `router` (routes and layers).
//! `auth` decides who may call. Then the calls: `prices`, whose `reader` is the read path from top to bottom, and
//! `recalculation`. Around them: `observe`, `catch_panic`, `late_answer`, `request_bounds` and `load_shed`, the layers; `json`
//! and `parameters`, the validated inputs; `problem`, the errors; `metrics` and `openapi`.

mod config;
mod router;
mod server;
mod state;

mod auth;

mod catalogue;
mod prices;
mod recalculation;

mod catch_panic;
mod late_answer;
mod load_shed;
mod observe;
mod read_body;
mod request_bounds;

mod identifier;
mod json;
mod parameters;
mod problem;

mod metrics;
mod openapi;

pub use auth::{AuthError, AuthSettings, KeysCommand};
pub use config::{Command, Config};
pub use metrics::install as install_metrics;
pub use server::{Api, run};
