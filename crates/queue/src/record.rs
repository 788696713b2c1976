//! The record that a queue keeps of a task.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr;

use crate::error::QueueError;

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Waiting for a worker.
    Queued,
    /// Being run.
    Running,
    /// Failed with a transient error; waiting for its retry.
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
}

impl FromStr for TaskState {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let states = [Self::Queued, Self::Running, Self::Retrying, Self::Succeeded, Self::Dead];
        states.into_iter().find(|state| state.as_str() == name).ok_or(())
    }
}

/// The progress of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in total.
    pub total: u64,
}

/// The fields of a record as Redis holds them. Anybody may have written bytes that are not UTF-8.
pub(crate) type Fields = HashMap<Vec<u8>, Vec<u8>>;

/// The fields that `begin.lua` returns, in its order.
const BEGUN: [&str; 9] = [
    "number",
    "attempts",
    "retries",
    "payload",
    "error",
    "traceparent",
    "created_at",
    "ready_at",
    "started_at",
];

/// The record of a task. Times are milliseconds since 1970 by the clock of Redis.
///
/// A record is kept while its task is alive or dead, and for
/// [`QueueOptions::retention`](crate::QueueOptions::retention) after it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// The id of the task.
    pub id: String,
    /// The number of its request. Later requests have higher numbers.
    pub number: u64,
    /// Its state.
    pub state: TaskState,
    /// Number of runs begun.
    pub attempts: u32,
    /// Number of retries after transient failures.
    pub retries: u32,
    /// The argument of the job, as it was enqueued.
    pub payload: String,
    /// The progress of its run.
    pub progress: Option<Progress>,
    /// The result of its successful run, as JSON.
    pub result: Option<String>,
    /// The error of its latest failed run.
    pub error: Option<String>,
    /// W3C `traceparent` of the span that enqueued it.
    pub traceparent: Option<String>,
    /// When it was enqueued.
    pub created_at_ms: i64,
    /// When it was last made ready to run.
    pub ready_at_ms: i64,
    /// When its latest run began.
    pub started_at_ms: Option<i64>,
    /// When it succeeded or died.
    pub finished_at_ms: Option<i64>,
}

impl TaskRecord {
    /// Parses the record of task `id`. Bytes that are not UTF-8 are replaced, so a payload that is damaged
    /// fails to decode in the job like any other.
    ///
    /// # Errors
    ///
    /// When a field is missing that every record has, or does not parse.
    pub(crate) fn parse(id: &str, fields: Fields) -> Result<Self, QueueError> {
        Self::read(id, fields.into_iter().map(|(name, value)| (text(name).into(), value)))
    }

    /// Parses the record of a run that begins, as `begin.lua` returns it for task `id`.
    ///
    /// # Errors
    ///
    /// As [`TaskRecord::parse`].
    pub(crate) fn begun(id: &str, fields: Vec<Option<Vec<u8>>>) -> Result<Self, QueueError> {
        let fields = BEGUN.into_iter().zip(fields).filter_map(|(name, value)| Some((name.into(), value?)));
        let running = TaskState::Running.as_str().as_bytes().to_vec();
        Self::read(id, fields.chain([("state".into(), running)]))
    }

    fn read(
        id: &str,
        fields: impl Iterator<Item = (Cow<'static, str>, Vec<u8>)>,
    ) -> Result<Self, QueueError> {
        let record = Parser { id, fields: fields.map(|(name, value)| (name, text(value))).collect() };
        let done: Option<u64> = record.optional("done")?;
        let total = record.optional("total")?;
        Ok(Self {
            id: id.to_owned(),
            number: record.required("number")?,
            state: record.required("state")?,
            attempts: record.required("attempts")?,
            retries: record.required("retries")?,
            payload: record.required("payload")?,
            progress: done.zip(total).map(|(done, total)| Progress { done, total }),
            result: record.optional("result")?,
            error: record.optional("error")?,
            traceparent: record.optional("traceparent")?,
            created_at_ms: record.required("created_at")?,
            ready_at_ms: record.required("ready_at")?,
            started_at_ms: record.optional("started_at")?,
            finished_at_ms: record.optional("finished_at")?,
        })
    }

    /// The id of the trace that the task belongs to, in hexadecimal.
    pub fn trace_id(&self) -> Option<&str> {
        self.traceparent.as_deref()?.split('-').nth(1)
    }
}

/// Bytes as text; those that are not UTF-8 are replaced.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

struct Parser<'a> {
    id: &'a str,
    fields: HashMap<Cow<'static, str>, String>,
}

impl Parser<'_> {
    fn optional<T: FromStr>(&self, field: &'static str) -> Result<Option<T>, QueueError> {
        let Some(value) = self.fields.get(field) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| self.damaged(field))
    }

    fn required<T: FromStr>(&self, field: &'static str) -> Result<T, QueueError> {
        self.optional(field)?.ok_or_else(|| self.damaged(field))
    }

    fn damaged(&self, field: &'static str) -> QueueError {
        QueueError::Record { id: self.id.to_owned(), field }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUED: [(&str, &str); 7] = [
        ("number", "7"),
        ("state", "queued"),
        ("attempts", "0"),
        ("retries", "0"),
        ("payload", "p"),
        ("created_at", "1"),
        ("ready_at", "2"),
    ];

    /// The fields of a queued task, and others that may replace them.
    fn fields(others: &[(&str, &str)]) -> Fields {
        let all = QUEUED.iter().chain(others);
        all.map(|(field, value)| (field.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_record_reads_what_is_there() {
        let running = [
            ("state", "running"),
            ("attempts", "2"),
            ("started_at", "3"),
            ("done", "4"),
            ("total", "9"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ];
        let record = TaskRecord::parse("x", fields(&running)).unwrap();
        assert_eq!((record.number, record.state, record.attempts), (7, TaskState::Running, 2));
        assert_eq!(record.progress, Some(Progress { done: 4, total: 9 }));
        assert_eq!(record.trace_id(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!((record.finished_at_ms, record.result), (None, None));
    }

    #[test]
    fn a_payload_that_is_not_utf_8_leaves_a_record_that_can_fail() {
        let mut fields = fields(&[]);
        fields.insert(b"payload".to_vec(), vec![0xff, b'x']);
        let record = TaskRecord::parse("x", fields).unwrap();
        assert_eq!(record.payload, "\u{fffd}x");
    }

    #[test]
    fn a_damaged_record_is_an_error_that_names_the_field() {
        let damaged = |fields: Fields| TaskRecord::parse("x", fields).unwrap_err().to_string();
        for (field, _) in QUEUED {
            let mut fields = fields(&[]);
            fields.remove(field.as_bytes());
            assert_eq!(damaged(fields), format!("the record of task x is damaged: field `{field}`"));
        }
        for field in [("retries", "-1"), ("attempts", "many"), ("state", "asleep"), ("started_at", "now")] {
            assert!(damaged(fields(&[field])).contains(field.0), "{field:?}");
        }
    }
}
