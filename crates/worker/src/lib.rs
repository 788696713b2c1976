//! The slow write path: runs recalculations, one at a time over all workers.
//!
//! `job` is the function that apalis runs for each task. It calls the `coordinator`, which takes the [`lock`] and
//! has the catalogue scanned (`scan`). `follow` brings single changes of the catalogue to the cache, without any task.
//! `run` connects them to the queue and to Redis.

mod job;

mod coordinator;
mod follow;
pub mod lock;
mod scan;

mod outcome;

mod audit;
mod catalogue;
mod cli;
mod config;
mod metrics;
mod prune;
mod run;
mod secrets;

pub use audit::AuditArgs;
pub use catalogue::{ExportArgs, Format, HistoryArgs, ImportArgs};
pub use cli::{Cli, Command, TasksCommand};
pub use config::Config;
pub use metrics::install as install_metrics;
pub use run::{Worker, run};
pub use secrets::SecretsArgs;
