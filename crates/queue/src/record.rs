//! The record that a queue keeps of a task.

use std::collections::HashMap;

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Waiting for a worker.
    Queued,
    /// A worker is at it.
    Running,
    /// Failed for a while; waiting to be tried again.
    Retrying,
    /// Done.
    Succeeded,
    /// Failed for good; in the dead list, from where it can be replayed.
    Dead,
}

impl TaskState {
    /// The state's name, as it stands in Redis.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let states = [Self::Queued, Self::Running, Self::Retrying, Self::Succeeded, Self::Dead];
        states.into_iter().find(|state| state.as_str() == name)
    }
}

/// How much of a task is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

/// The fields of a record as they are in Redis, where anybody may have written bytes that are no text.
pub(crate) type Fields = HashMap<Vec<u8>, Vec<u8>>;

/// What is known of a task. Times are milliseconds since 1970 by the clock of Redis.
///
/// A record is kept while its task is alive or dead, and for a day after it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// The task.
    pub id: String,
    /// Number of its request: later requests have higher numbers.
    pub number: u64,
    /// Where it is in its life.
    pub state: TaskState,
    /// Runs begun.
    pub attempts: u32,
    /// Retries after a transient failure.
    pub retries: u32,
    /// What to do, as it was enqueued.
    pub payload: String,
    /// How much is done.
    pub progress: Option<Progress>,
    /// What a successful run returned, as JSON.
    pub result: Option<String>,
    /// Why the latest failed run failed.
    pub error: Option<String>,
    /// W3C `traceparent` of whoever enqueued it.
    pub traceparent: Option<String>,
    /// When it was enqueued.
    pub created_at_ms: i64,
    /// When it last became ready to run.
    pub ready_at_ms: i64,
    /// When its latest run began.
    pub started_at_ms: Option<i64>,
    /// When it succeeded or died.
    pub finished_at_ms: Option<i64>,
}

impl TaskRecord {
    /// Reads the record of task `id`, `None` when there is none. What is no text in it is replaced, so that
    /// a payload that is damaged fails to decode like any other.
    pub(crate) fn from_fields(id: &str, fields: Fields) -> Option<Self> {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let mut hash: HashMap<String, String> =
            fields.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        let number = |hash: &HashMap<String, String>, field: &str| hash.get(field)?.parse::<i64>().ok();
        let count = |field: &str| number(&hash, field).and_then(|count| u64::try_from(count).ok());
        let small = |field: &str| count(field).and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
        let progress = count("done").zip(count("total")).map(|(done, total)| Progress { done, total });
        Some(Self {
            id: id.to_owned(),
            number: count("number")?,
            state: TaskState::parse(hash.get("state")?)?,
            attempts: small("attempts"),
            retries: small("retries"),
            progress,
            created_at_ms: number(&hash, "created_at")?,
            ready_at_ms: number(&hash, "ready_at")?,
            started_at_ms: number(&hash, "started_at"),
            finished_at_ms: number(&hash, "finished_at"),
            payload: hash.remove("payload")?,
            result: hash.remove("result"),
            error: hash.remove("error"),
            traceparent: hash.remove("traceparent"),
        })
    }

    /// The id of the trace that the task belongs to, in hexadecimal.
    pub fn trace_id(&self) -> Option<&str> {
        self.traceparent.as_deref()?.split('-').nth(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&str, &str)]) -> Fields {
        fields.iter().map(|(field, value)| (field.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_record_reads_what_is_there() {
        let known = [
            ("number", "7"),
            ("state", "running"),
            ("attempts", "2"),
            ("payload", "p"),
            ("created_at", "1"),
            ("ready_at", "2"),
            ("started_at", "3"),
            ("done", "4"),
            ("total", "9"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ];
        let record = TaskRecord::from_fields("x", fields(&known)).unwrap();
        assert_eq!((record.number, record.state, record.attempts), (7, TaskState::Running, 2));
        assert_eq!(record.progress, Some(Progress { done: 4, total: 9 }));
        assert_eq!(record.trace_id(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!((record.finished_at_ms, record.result), (None, None));
    }

    #[test]
    fn bytes_that_are_no_text_leave_a_record_that_can_fail() {
        let known = [("number", "7"), ("state", "queued"), ("created_at", "1"), ("ready_at", "2")];
        let mut fields = fields(&known);
        fields.insert(b"payload".to_vec(), vec![0xff, b'x']);
        let record = TaskRecord::from_fields("x", fields).unwrap();
        assert_eq!(record.payload, "\u{fffd}x");
    }

    #[test]
    fn no_hash_is_no_record() {
        assert_eq!(TaskRecord::from_fields("x", Fields::new()), None);
    }
}
