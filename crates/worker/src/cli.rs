//! The command line: the settings of a worker, and what the program does besides running jobs.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use pricing_core::causes::printable;
use pricing_core::clock::rfc3339;
use pricing_core::replay::{Replayed, replay};
use pricing_queue::{ListedState, QueueError, TaskRecord};
use pricing_service::admin;

use crate::audit::{AuditArgs, replaying};
use crate::catalogue::{ExportArgs, HistoryArgs, ImportArgs};
use crate::config::Config;
use crate::secrets::SecretsArgs;

/// Runs recalculations: one at a time over all workers, each at least once, retried when it fails.
#[derive(Debug, Clone, clap::Parser)]
#[command(version)]
pub struct Cli {
    /// Command to run instead of a worker
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub config: Config,
}

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Exit with 0 when the worker on this host is ready
    Healthcheck,
    /// List, show and replay dead tasks
    #[command(subcommand)]
    Tasks(TasksCommand),
    /// Print the audit, newest row first: time, caller, address, action, subject, trace id and detail
    Audit(AuditArgs),
    Import(ImportArgs),
    Export(ExportArgs),
    History(HistoryArgs),
    /// Make the passwords of a composed system that are missing, and write the files that its services read
    Secrets(SecretsArgs),
}

#[derive(Debug, Clone, clap::Subcommand)]
pub enum TasksCommand {
    /// List the tasks of a state: dead ones from the latest on
    List {
        #[arg(long, value_parser = listed_state(), default_value = ListedState::Dead.as_str())]
        state: ListedState,
        /// Maximum number of tasks
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
        limit: u16,
        /// Where to go on: the cursor that the page before ended with
        #[arg(long)]
        after: Option<String>,
    },
    /// Show the record of a task, dead or not
    Show {
        /// Id of the task
        id: String,
    },
    /// Put a dead task back in the queue, with all its retries. Leaves a row in the audit
    Replay {
        /// Id of the task
        id: String,
    },
}

impl Command {
    /// # Errors
    ///
    /// When the worker is not ready, Redis or the database is away or the task does not exist.
    pub async fn run(&self, config: &Config) -> Result<ExitCode> {
        match self {
            Self::Healthcheck => admin::check_health(config.metrics_addr)?,
            Self::Tasks(command) => command.run(config).await?,
            Self::Audit(arguments) => arguments.run(&config.audit()?).await?,
            Self::Import(arguments) => return arguments.run(&config.database).await,
            Self::Export(arguments) => return arguments.run(&config.database).await,
            Self::History(arguments) => arguments.run(&config.database).await?,
            Self::Secrets(arguments) => arguments.run(&config.redis.redis_prefix)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl TasksCommand {
    #[expect(clippy::print_stdout, reason = "the answer of a command line")]
    async fn run(&self, config: &Config) -> Result<()> {
        let recalculations = config.recalculations()?;
        let queue = recalculations.queue();
        match self {
            Self::List { state, limit, after } => {
                let page = queue.list(*state, after.as_deref(), usize::from(*limit)).await?;
                for task in page.tasks {
                    let error = task.error.as_deref().unwrap_or("-");
                    println!("{}  {} attempts  {}", printable(&task.id), task.attempts, printable(error));
                }
                if let Some(next) = page.next {
                    println!("more: --after {}", printable(&next));
                }
                if *state == ListedState::Dead {
                    println!("{} dead", queue.depths().await?.dead);
                }
            }
            Self::Show { id } => match queue.task(id).await? {
                Some(task) => print!("{}", shown(&task)),
                None => bail!("there is no task {id}; tasks that succeeded are kept for a day"),
            },
            Self::Replay { id } => match replay(queue, &config.audit()?, replaying(), id).await? {
                Replayed::Queued => println!("{} is queued again", printable(id)),
                Replayed::NotDead | Replayed::Unknown => {
                    bail!("task {id} is not dead; list the dead ones with `pricing-worker tasks list`")
                }
            },
        }
        Ok(())
    }
}

fn shown(task: &TaskRecord) -> String {
    let time = |millis: Option<i64>| millis.and_then(rfc3339).unwrap_or_else(|| "-".to_owned());
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let progress = task.progress.map_or_else(|| "-".to_owned(), |at| format!("{} of {}", at.done, at.total));
    let lines = [
        ("task", task.id.clone()),
        ("state", task.state.as_str().to_owned()),
        ("number", task.number.to_string()),
        ("attempts", task.attempts.to_string()),
        ("progress", progress),
        ("result", text(&task.result)),
        ("error", text(&task.error)),
        ("trace", task.trace_id().unwrap_or("-").to_owned()),
        ("created", time(Some(task.created_at_ms))),
        ("started", time(task.started_at_ms)),
        ("finished", time(task.finished_at_ms)),
        ("payload", task.payload.clone()),
    ];
    lines.iter().map(|(name, value)| format!("{name:<9} {}\n", printable(value))).collect()
}

/// The name of a state that has a list.
fn listed_state() -> impl TypedValueParser<Value = ListedState> {
    let names = PossibleValuesParser::new(ListedState::ALL.map(ListedState::as_str));
    names.try_map(|name| name.parse().map_err(|()| QueueError::Bounds("state")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
