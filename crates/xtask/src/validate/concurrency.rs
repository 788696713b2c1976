//! The global lock: recalculations that are asked for at the same time do the work once.

use std::thread;

use anyhow::{Result, anyhow, bail, ensure};
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
pub(crate) fn exclusive(stack: &Stack) -> Result<Finding> {
    for pair in 1..=PAIRS {
        let tasks = burst(stack, 2)?;
        let with = |status: &str| tasks.iter().filter(|task| task.status() == status).count();
        match (with("updated"), with("skipped")) {
            (1, 1) => return passed(format!("1 updated, 1 skipped (pair {pair})")),
            (updated, skipped) => ensure!(updated + skipped == 2, "{updated} updated, {skipped} skipped"),
        }
    }
    bail!("of {PAIRS} pairs of requests none was one updated and one skipped")
}

/// Sends `count` requests from as many threads and returns their finished tasks.
fn burst(stack: &Stack, count: usize) -> Result<Vec<Task>> {
    let request = || stack.http().post_empty("/api/v1/recalculate")?.json::<Queued>();
    let queued: Vec<Result<Queued>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(request)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a request panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    queued.into_iter().map(|queued| stack.finished_task(&queued?.task_id)).collect()
}
