//! Pages of tasks by their state.

use std::str::FromStr;

use redis::AsyncCommands as _;
use redis::streams::StreamRangeReply;
use serde::Deserialize;

use crate::error::QueueError;
use crate::queue::Queue;
use crate::record::{Fields, TaskRecord, TaskState};

/// Most tasks of a page.
pub const MAX_PAGE: usize = 1_000;
/// Length of the longest cursor, in bytes: a time in milliseconds, a colon and the id of a task.
pub const MAX_CURSOR: usize = 96;

/// A state whose tasks can be listed. Tasks that succeeded are in no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListedState {
    /// Waiting for a worker.
    Queued,
    /// Being run.
    Running,
    /// Waiting for a retry.
    Retrying,
    /// In the dead list.
    Dead,
}

impl ListedState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Queued, Self::Running, Self::Retrying, Self::Dead];

    /// The state's name.
    pub fn as_str(self) -> &'static str {
        TaskState::from(self).as_str()
    }
}

impl From<ListedState> for TaskState {
    fn from(state: ListedState) -> Self {
        match state {
            ListedState::Queued => Self::Queued,
            ListedState::Running => Self::Running,
            ListedState::Retrying => Self::Retrying,
            ListedState::Dead => Self::Dead,
        }
    }
}

impl FromStr for ListedState {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == name).ok_or(())
    }
}

/// Some tasks of one state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Their records.
    pub tasks: Vec<TaskRecord>,
    /// The cursor of the next page; `None` on the last one. A page may be shorter than asked for and not the last.
    pub next: Option<String>,
}

/// The place of a task in a sorted set: its score, then its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    score: u64,
    id: String,
}

impl Place {
    fn parse(cursor: &str) -> Result<Self, QueueError> {
        let (score, id) = cursor.split_once(':').ok_or(QueueError::Cursor)?;
        Ok(Self { score: score.parse().map_err(|_| QueueError::Cursor)?, id: id.to_owned() })
    }

    fn cursor(&self) -> String {
        format!("{}:{}", self.score, self.id)
    }
}

impl Queue {
    /// At most `limit` tasks of `state`, and never more than [`MAX_PAGE`], that come after the cursor of another page:
    /// dead ones from the latest death on; those that wait for a retry from the last one due; queued and running ones
    /// in the order in which they were made ready.
    ///
    /// A cursor names a place, so it stays good when tasks leave the list, as by [`Queue::replay`]. A record that is
    /// damaged is left out, and logged.
    ///
    /// # Errors
    ///
    /// When the cursor is none of this state, or Redis is away.
    pub async fn list(
        &self,
        state: ListedState,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, QueueError> {
        if after.is_some_and(|cursor| cursor.len() > MAX_CURSOR) {
            return Err(QueueError::Cursor);
        }
        let (keys, limit) = (&self.store.keys, limit.clamp(1, MAX_PAGE));
        let (ids, next) = match state {
            ListedState::Dead => self.of_sorted_set(&keys.dead, after, limit).await?,
            ListedState::Retrying => self.of_sorted_set(&keys.delayed, after, limit).await?,
            ListedState::Queued | ListedState::Running => self.of_stream(after, limit).await?,
        };
        let mut tasks = self.records(&ids).await?;
        tasks.retain(|task| task.state == state.into());
        Ok(Page { tasks, next })
    }

    /// Ids of a sorted set after a place, from the highest score on. Equal scores go by id.
    async fn of_sorted_set(
        &self,
        key: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<String>, Option<String>), QueueError> {
        let after = after.map(Place::parse).transpose()?;
        let highest = after.as_ref().map_or("+inf".to_owned(), |place| place.score.to_string());
        let (mut places, mut read) = (Vec::<Place>::new(), 0);
        // Of the score of `after` all are read again, because the set has no range by score and id.
        while places.len() <= limit {
            let step = limit + 1;
            let page: Vec<(String, f64)> = self
                .store
                .commands
                .clone()
                .zrevrangebyscore_limit_withscores(key, &highest, "-inf", read, step as isize)
                .await?;
            let is_last = page.len() < step;
            read += isize::try_from(page.len()).unwrap_or(isize::MAX);
            let page = page.into_iter().map(|(id, score)| Place { score: score as u64, id });
            places.extend(page.filter(|place| after.as_ref().is_none_or(|after| place < after)));
            if is_last {
                break;
            }
        }
        let has_more = places.len() > limit;
        places.truncate(limit);
        let next = places.last().filter(|_| has_more).map(Place::cursor);
        Ok((places.into_iter().map(|place| place.id).collect(), next))
    }

    /// Ids of the stream after an entry.
    async fn of_stream(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<String>, Option<String>), QueueError> {
        let from = after.map_or(Ok("-".to_owned()), entry_after)?;
        let mut redis = self.store.commands.clone();
        let page: StreamRangeReply =
            redis.xrange_count(&self.store.keys.stream, from, "+", limit + 1).await?;
        let next = page.ids.get(limit).and(page.ids.get(limit - 1)).map(|entry| entry.id.clone());
        let ids = page.ids.iter().take(limit).filter_map(|entry| entry.get("task")).collect();
        Ok((ids, next))
    }

    /// The records of tasks, without those that have none.
    async fn records(&self, ids: &[String]) -> Result<Vec<TaskRecord>, QueueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for id in ids {
            pipe.hgetall(self.store.keys.record(id));
        }
        let records: Vec<Fields> = pipe.query_async(&mut self.store.commands.clone()).await?;
        let records = ids.iter().zip(records).filter(|(_, fields)| !fields.is_empty());
        let parse = |(id, fields): (&String, Fields)| match TaskRecord::parse(id, fields) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::error!(task_id = id, %error, "damaged record left out of a list");
                None
            }
        };
        Ok(records.filter_map(parse).collect())
    }
}

/// The start of a range after the entry that a cursor names.
fn entry_after(cursor: &str) -> Result<String, QueueError> {
    let (ms, sequence) = cursor.split_once('-').ok_or(QueueError::Cursor)?;
    let is_number = |text: &str| text.parse::<u64>().is_ok();
    if is_number(ms) && is_number(sequence) { Ok(format!("({cursor}")) } else { Err(QueueError::Cursor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_any_other_text_is_refused() {
        let place = Place { score: 1_795_375_221_123, id: "instead-of.7".to_owned() };
        assert_eq!(Place::parse(&place.cursor()).unwrap(), place);
        assert!(place.cursor().len() + 64 < MAX_CURSOR + place.id.len(), "the longest id fits");
        for other in ["", "7", "x:1", "-1:a", "1.5:a"] {
            assert!(matches!(Place::parse(other), Err(QueueError::Cursor)), "{other}");
        }
        assert_eq!(entry_after("12-3").unwrap(), "(12-3");
        for other in ["", "-", "12", "12-", "a-3", "12-3\r\n"] {
            assert!(matches!(entry_after(other), Err(QueueError::Cursor)), "{other}");
        }
    }
}
