//! The global lock: recalculations that are asked for at the same time do the work once.

use std::thread;

use anyhow::{Result, anyhow, bail};
use serde::Deserialize;

use crate::validate::report::{Finding, passed};
use crate::validate::stack::{Stack, Task};

/// How many requests are sent at once, in turn, until two of them are seen to meet: on an idle stack a
/// recalculation may be over before the second request arrives, and both are right to update then. Where
/// others use the stack, a recalculation of theirs may cover all of them, and they are right to be skipped.
const BURSTS: [usize; 4] = [2, 5, 10, 20];

/// The answer to a request for a recalculation.
#[derive(Deserialize)]
struct Queued {
    task_id: String,
}

/// Of requests at the same time all succeed, at least one updates, and at least one is skipped.
pub(crate) fn exclusive(stack: &Stack) -> Result<Finding> {
    for count in BURSTS {
        let tasks = burst(stack, count)?;
        let with = |status: &str| tasks.iter().filter(|task| task.status() == status).count();
        let (updated, skipped) = (with("updated"), with("skipped"));
        let figure = format!("{count} at once: {updated} updated, {skipped} skipped");
        if updated + skipped != count {
            bail!("{figure}");
        }
        if updated > 0 && skipped > 0 {
            return passed(figure);
        }
    }
    bail!("{BURSTS:?} requests at once were never both updated and skipped")
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
