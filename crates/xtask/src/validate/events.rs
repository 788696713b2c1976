//! The event-driven flow: API, listener, worker.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::validate::report::{Finding, passed};
use crate::validate::stack::{Stack, Task};

/// The promise: the median time from a queued job to its start on an idle stack.
const START_LIMIT_MS: f64 = 20.0;
const JOBS: usize = 5;

/// The answer to a published event.
#[derive(Deserialize)]
struct Published {
    status: String,
    channel: String,
    event_id: String,
    task_id: String,
}

/// A published event is followed to the task that it caused, which updates the catalogue; hands the task on.
///
/// Where others use the stack, a recalculation of theirs may cover this one: it is then published once more.
pub(crate) async fn update(stack: &Stack) -> Result<Finding<Task>> {
    for _ in 0..2 {
        let task = stack.finished_task(&publish(stack).await?).await?;
        if task.status() == "updated" {
            let count = task.result.as_ref().and_then(|result| result.updated_count);
            let count = count.context("the result has no updated_count")?;
            let milliseconds = milliseconds(&task, &task.finished_at)?;
            let figure = format!("updated_count={count} {milliseconds:.0} ms from request to end");
            return Ok(Finding { figure, value: task });
        }
    }
    bail!("the task was skipped twice: is another recalculation running all the time?")
}

async fn publish(stack: &Stack) -> Result<String> {
    let published: Published = stack.http().post("/api/v1/publish-market-event", None).await?.json()?;
    ensure!(published.status == "Event published", "status is {:?}", published.status);
    ensure!(published.channel == "market_events", "channel is {:?}", published.channel);
    ensure!(
        published.task_id == published.event_id,
        "task_id {} is not event_id {}",
        published.task_id,
        published.event_id
    );
    Ok(published.task_id)
}

/// Jobs that nothing else waits for start at once: the median time from request to start.
pub(crate) async fn start(stack: &Stack) -> Result<Finding> {
    let mut waits = Vec::with_capacity(JOBS);
    for _ in 0..JOBS {
        let task = stack.finished_task(&publish(stack).await?).await?;
        waits.push(milliseconds(&task, &task.started_at)?);
    }
    waits.sort_unstable_by(f64::total_cmp);
    let figure = format!("p50 {:.0} ms, slowest {:.0} ms, of {JOBS} jobs", waits[JOBS / 2], waits[JOBS - 1]);
    ensure!(waits[JOBS / 2] < START_LIMIT_MS, "{figure}");
    passed(figure)
}

/// From the creation of a task until `end`.
fn milliseconds(task: &Task, end: &Option<String>) -> Result<f64> {
    let end = end.as_ref().context("the finished task lacks started_at or finished_at")?;
    let parse = |text: &str| {
        OffsetDateTime::parse(text, &Rfc3339).with_context(|| format!("{text:?} is not an RFC 3339 time"))
    };
    Ok((parse(end)? - parse(&task.created_at)?).as_seconds_f64() * 1000.0)
}
