//! Workers that are known by the names under which Redis knows them, so that a test can hit the one that
//! runs a task.

use std::time::Duration;

use pricing_harness::service::{Binary, Service};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(30);

/// A worker and its name.
pub(crate) struct NamedWorker {
    name: String,
    /// The process.
    pub(crate) service: Service,
}

impl NamedWorker {
    /// Starts a worker, whose name is in its log.
    pub(crate) async fn start(stack: &Stack) -> Self {
        let service = stack.start_another(Binary::Worker).await;
        let name = eventually(DEADLINE, "the worker to say its name", async || {
            let log = service.log();
            let said = log.lines().find(|line| line.contains("waiting for tasks"))?;
            let said: Value = serde_json::from_str(said).ok()?;
            said["worker"].as_str().map(str::to_owned)
        })
        .await;
        Self { name, service }
    }

    /// Whether a lease is one of this worker's.
    pub(crate) fn holds(&self, lease: &str) -> bool {
        lease.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with(':'))
    }
}

/// Waits until a task is being run; returns which of `workers` runs it, `None` when it has ended already.
pub(crate) async fn runner(stack: &Stack, workers: &[NamedWorker], id: &String) -> Option<usize> {
    eventually(DEADLINE, "the task to be begun", async || {
        let record = stack.records(std::slice::from_ref(id)).await.pop().flatten()?;
        match record.get("lease") {
            Some(lease) => Some(workers.iter().position(|worker| worker.holds(lease))),
            None => (record["state"] == "succeeded").then_some(None),
        }
    })
    .await
}
