//! The records of tasks, and waiting for what they say.

use std::collections::HashMap;
use std::time::Duration;

use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use redis::AsyncCommands as _;

const DEADLINE: Duration = Duration::from_secs(60);

/// The fields of a record.
pub(crate) type Record = HashMap<String, String>;

/// The record of a task.
pub(crate) async fn record(stack: &Stack, id: &str) -> Option<Record> {
    stack.records(&[id.to_owned()]).await.pop().flatten()
}

/// Waits until an attempt has failed.
pub(crate) async fn failed(stack: &Stack, id: &str, attempt: u32) -> Record {
    eventually(DEADLINE, &format!("attempt {attempt} to fail"), async || {
        let record = record(stack, id).await?;
        let ended =
            record["attempts"] == attempt.to_string() && ["retrying", "dead"].contains(&&*record["state"]);
        ended.then_some(record)
    })
    .await
}

/// Waits until an attempt has been begun.
pub(crate) async fn begun(stack: &Stack, id: &str, attempt: u32) -> Record {
    eventually(DEADLINE, &format!("attempt {attempt} to begin"), async || {
        record(stack, id).await.filter(|record| record["attempts"] == attempt.to_string())
    })
    .await
}

/// When a task that waits is due, in ms by the clock of Redis.
pub(crate) async fn due(stack: &Stack, id: &str) -> u64 {
    let delayed = stack.redis.key("queue:{recalculate}:delayed");
    let due: Option<f64> = stack.redis.connection().await.zscore(delayed, id).await.expect("Redis answers");
    due.expect("the task waits") as u64
}

/// A field that is a number.
pub(crate) fn number(record: &Record, field: &str) -> u64 {
    record[field].parse().expect("a number")
}
