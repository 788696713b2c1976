//! `pricing-worker tasks`: looking after dead tasks.

use anyhow::{Result, bail};
use pricing_queue::{Queue, TaskRecord};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What can be done about tasks.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum TasksCommand {
    /// List the dead tasks, the latest first
    List {
        /// Most tasks to list
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
    },
    /// Show all that is known of a task, dead or not
    Show {
        /// Id of the task
        id: String,
    },
    /// Put a dead task back in the queue, with all its retries
    Replay {
        /// Id of the task
        id: String,
    },
}

/// Carries a command out and prints what came of it.
///
/// # Errors
///
/// When Redis is away or there is no such task.
#[expect(clippy::print_stdout, reason = "the answer of a command line")]
pub async fn run(command: &TasksCommand, queue: &Queue) -> Result<()> {
    match command {
        TasksCommand::List { limit } => {
            let dead = queue.dead(usize::from(*limit)).await?;
            dead.iter().for_each(|task| {
                println!(
                    "{}  {} attempts  {}",
                    task.id,
                    task.attempts,
                    task.error.as_deref().unwrap_or("-").escape_debug()
                );
            });
            println!("{} dead", queue.depths().await?.dead);
        }
        TasksCommand::Show { id } => match queue.task(id).await? {
            Some(task) => print!("{}", shown(&task)),
            None => bail!("there is no task {id}; tasks that succeeded are kept for a day"),
        },
        TasksCommand::Replay { id } => {
            if !queue.replay(id).await? {
                bail!("task {id} is not dead; list the dead ones with `pricing-worker tasks list`");
            }
            println!("{id} is queued again");
        }
    }
    Ok(())
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
        ("error", text(&task.error).escape_debug().to_string()),
        ("trace", task.trace_id().unwrap_or("-").to_owned()),
        ("created", time(Some(task.created_at_ms))),
        ("started", time(task.started_at_ms)),
        ("finished", time(task.finished_at_ms)),
        ("payload", task.payload.clone()),
    ];
    lines.iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect()
}

/// Milliseconds since 1970 in RFC 3339.
fn rfc3339(millis: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()?;
    time.format(&Rfc3339).ok()
}
