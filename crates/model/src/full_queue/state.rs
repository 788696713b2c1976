//! The state of the model, and what the scripts make of it.

use super::Budget;

/// The state that the next action depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// Version of the catalogue: changes so far.
    pub database: u8,
    /// Version that the cache shows.
    pub cache: u8,
    /// Version of the catalogue that the last dropped message was sent after.
    pub dropped: u8,
    /// The number of the latest request.
    pub last_request: u8,
    /// The highest request that an ended scan covers.
    pub covered: u8,
    /// The highest request that was skipped or dropped.
    pub skipped: u8,
    /// The number of the task that holds the lock.
    pub lock: Option<u8>,
    /// In the order of their numbers, without those that have ended.
    pub tasks: Vec<Task>,
    /// Sorted: it does not matter which worker is which.
    pub runs: Vec<Run>,
    /// Version of the catalogue that the last task was queued after that ended, and did not die.
    pub ended: u8,
    /// The events that are left.
    pub left: Budget,
}

/// The record of a task that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// Number of its request.
    pub number: u8,
    /// Version of the catalogue that it was queued after.
    pub change: u8,
    /// Whether a worker can read it.
    pub is_readable: bool,
    /// Where it is.
    pub place: Place,
}

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the stream, read by no worker.
    Waiting,
    /// In the stream, read by a worker, which may be dead.
    Pending,
    /// Waits for its retry outside the stream.
    Delayed,
}

/// A run of a task, in one of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    /// The number of the task.
    pub task: u8,
    /// Its next step.
    pub step: Step,
}

/// The next step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// `acquire.lua`.
    Acquire,
    /// Reads `last_request`: what the scan will cover.
    Note,
    /// The statements that read the catalogue.
    Read(u8),
    /// `store.lua` with what was read.
    Write(u8, u8),
    /// `release.lua`, if covered.
    Release(u8),
    /// `ack.lua` of a run that scanned or was skipped.
    End,
    /// `ack.lua` of a run that failed and has released the lock.
    Retry,
    /// `forfeit.lua` of a task that cannot be read.
    Forfeit,
    /// `enqueue.lua` in place of the task that dies.
    Replace,
    /// `ack.lua` of a task that dies.
    DeadLetter,
}

impl State {
    pub(super) fn is_run(&self, number: u8) -> bool {
        self.runs.iter().any(|run| run.task == number)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn enqueue(&mut self, is_readable: bool) {
        self.last_request += 1;
        let (number, change) = (self.last_request, self.database);
        self.tasks.push(Task { number, change, is_readable, place: Place::Waiting });
    }

    pub(super) fn remove(&mut self, number: u8) -> Option<Task> {
        let index = self.tasks.iter().position(|task| task.number == number)?;
        Some(self.tasks.remove(index))
    }

    /// `acquire.lua`.
    pub(super) fn acquire(&mut self, request: u8) -> Step {
        match self.lock {
            None if self.covered >= request.max(self.skipped) => return Step::End,
            Some(holder) if holder != request => {
                if self.covered < request {
                    self.skipped = self.skipped.max(request);
                }
                return Step::End;
            }
            _ => self.lock = Some(request),
        }
        Step::Note
    }

    /// `release.lua` of the holder: nobody is paused, so the lock expires only when its holder is dead.
    pub(super) fn release(&mut self, covers: u8) -> Step {
        self.covered = self.covered.max(covers);
        if self.last_request > covers {
            return Step::Note;
        }
        self.lock = None;
        Step::End
    }
}
