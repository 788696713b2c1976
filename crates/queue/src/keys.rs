//! The names of a queue's keys. All share one hash tag, so they live in one slot of a Redis Cluster.

/// The keys of one queue.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// Stream of the tasks that are ready or running; an entry holds the task's id.
    pub(crate) stream: String,
    /// Sorted set of the tasks that wait to be retried, by the time they are due.
    pub(crate) delayed: String,
    /// Sorted set of the dead tasks, by the time they died.
    pub(crate) dead: String,
    /// Counter: the number of the latest request.
    pub(crate) numbers: String,
    /// Put before a task's id: the hash that is its record.
    pub(crate) task: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str, queue: &str) -> Self {
        let key = |name: &str| format!("{prefix}queue:{{{queue}}}:{name}");
        Self {
            stream: key("stream"),
            delayed: key("delayed"),
            dead: key("dead"),
            numbers: key("numbers"),
            task: key("task:"),
        }
    }

    pub(crate) fn record(&self, id: &str) -> String {
        format!("{}{id}", self.task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_queue_share_one_hash_tag() {
        let keys = Keys::new("pricing:", "recalculate");
        let record = keys.record("01J");
        for key in [&keys.stream, &keys.delayed, &keys.dead, &keys.numbers, &record] {
            assert!(key.starts_with("pricing:queue:{recalculate}:"), "{key}");
        }
    }
}
