//! The global lock: recalculations that are asked for at the same time do the work once.

use anyhow::{Result, bail, ensure};
use serde::Deserialize;

use crate::validate::report::{Finding, passed};
use crate::validate::stack::{Stack, Task};

/// How many pairs of requests are sent until two of them are seen to meet: on an idle stack a recalculation may
/// be over before the second request arrives, and both are right to update then. Where others use the stack,
/// a recalculation of theirs may cover both, and they are right to be skipped.
const PAIRS: usize = 20;

/// The answer to a request for a recalculation.
#[derive(Deserialize)]
struct Queued {
    task_id: String,
}

/// Of two requests at the same time both succeed, one updates, and one is skipped.
pub(crate) async fn exclusive(stack: &Stack) -> Result<Finding> {
    for pair in 1..=PAIRS {
        let tasks = pair_of_tasks(stack).await?;
        let with = |status: &str| tasks.iter().filter(|task| task.status() == status).count();
        match (with("updated"), with("skipped")) {
            (1, 1) => return passed(format!("1 updated, 1 skipped (pair {pair})")),
            (updated, skipped) => ensure!(updated + skipped == 2, "{updated} updated, {skipped} skipped"),
        }
    }
    bail!("of {PAIRS} pairs of requests none was one updated and one skipped")
}

/// Sends two requests at the same time and returns their finished tasks.
async fn pair_of_tasks(stack: &Stack) -> Result<[Task; 2]> {
    let request = async || stack.http().post("/api/v1/recalculate", None).await?.json::<Queued>();
    let (one, other) = tokio::try_join!(request(), request())?;
    Ok([stack.finished_task(&one.task_id).await?, stack.finished_task(&other.task_id).await?])
}
