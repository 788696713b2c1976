//! Messages that arrive while the queue is full, and may be dropped.
//!
//! A message on the channel asks for a recalculation and is kept nowhere. While the queue is full it may be dropped,
//! if a task that waits is certain to cover it.
//!
//! Left out, because [`protocol`](crate::protocol) has them: pauses, follow-ups, the limit of deliveries.

mod state;

use stateright::{Model, Property};

use state::Place;
pub use state::{Run, State, Step, Task};

/// Workers; each runs one task at a time.
const WORKERS: usize = 2;
/// Entries in the stream of a full queue.
const CAPACITY: usize = 2;

/// Maximum number of events from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Changes of the catalogue, each with a message.
    pub messages: u8,
    /// Tasks that a worker cannot read.
    pub unreadable: u8,
    /// Deaths of workers.
    pub crashes: u8,
    /// Failures of runs, which are retried.
    pub failures: u8,
}

/// A rule that makes a drop safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// A message is dropped only while an entry waits that no worker has read.
    WhileOneWaits,
    /// A drop takes a number.
    TakesNumber,
    /// A drop raises the highest skipped request.
    RaisesSkipped,
    /// A task that cannot be read is replaced, like any that dies, if newer requests were skipped.
    ReplacesUnreadable,
}

/// The queue and its environment.
#[derive(Clone, Copy, Debug)]
pub struct FullQueue {
    /// Maximum number of events from outside.
    pub budget: Budget,
    /// A protection that is taken away.
    pub without: Option<Protection>,
}

/// The next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The catalogue changes, and a message is sent.
    Send,
    /// A task is queued that no worker can read.
    EnqueueUnreadable,
    /// A worker begins a task.
    Begin(u8),
    /// A run takes its next step.
    Step(usize),
    /// A run under the lock fails and releases it.
    Fail(usize),
    /// The worker of a run dies.
    Die(usize),
    /// The lock of a dead worker expires.
    ExpireLock,
}

impl FullQueue {
    /// Whether this protection is in place.
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }

    /// The script that queues a message or drops it.
    fn enqueue_or_drop(&self, state: &mut State) {
        let count = |place| state.tasks.iter().filter(|task| task.place == place).count();
        let (waiting, pending) = (count(Place::Waiting), count(Place::Pending));
        let one_waits = waiting > 0 || !self.has(Protection::WhileOneWaits);
        if waiting + pending < CAPACITY || !one_waits {
            state.enqueue(true);
            return;
        }
        state.dropped = state.database;
        if self.has(Protection::TakesNumber) {
            state.last_request += 1;
        }
        if self.has(Protection::RaisesSkipped) {
            state.skipped = state.last_request;
        }
    }

    /// Carries out the next step of a run. Returns the one after it, `None` when the run is over.
    fn step(&self, state: &mut State, run: Run) -> Option<Step> {
        Some(match run.step {
            Step::Acquire => state.acquire(run.task),
            Step::Note => Step::Read(state.last_request),
            Step::Read(covers) => Step::Write(covers, state.database),
            Step::Write(covers, seen) => {
                state.cache = state.cache.max(seen);
                Step::Release(covers)
            }
            Step::Release(covers) => state.release(covers),
            Step::End => {
                let task = state.remove(run.task)?;
                state.ended = state.ended.max(task.change);
                return None;
            }
            Step::Retry => {
                let task = state.tasks.iter_mut().find(|task| task.number == run.task)?;
                task.place = Place::Delayed;
                return None;
            }
            Step::Forfeit => {
                let is_open = state.skipped > state.covered.max(run.task);
                if is_open && self.has(Protection::ReplacesUnreadable) {
                    Step::Replace
                } else {
                    Step::DeadLetter
                }
            }
            Step::Replace => {
                state.enqueue(true);
                Step::DeadLetter
            }
            Step::DeadLetter => {
                state.remove(run.task);
                return None;
            }
        })
    }
}

impl Model for FullQueue {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { left: self.budget, ..State::default() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let left = state.left;
        if left.messages > 0 {
            actions.push(Action::Send);
        }
        if left.unreadable > 0 {
            actions.push(Action::EnqueueUnreadable);
        }
        if state.runs.len() < WORKERS {
            let may_begin = |task: &&Task| !state.is_run(task.number);
            actions.extend(state.tasks.iter().filter(may_begin).map(|task| Action::Begin(task.number)));
        }
        for (index, run) in state.runs.iter().enumerate() {
            actions.push(Action::Step(index));
            if left.failures > 0 && matches!(run.step, Step::Read(_) | Step::Write(..)) {
                actions.push(Action::Fail(index));
            }
            if left.crashes > 0 {
                actions.push(Action::Die(index));
            }
        }
        if state.lock.is_some_and(|holder| !state.is_run(holder)) {
            actions.push(Action::ExpireLock);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Send => {
                state.left.messages -= 1;
                state.database += 1;
                self.enqueue_or_drop(&mut state);
            }
            Action::EnqueueUnreadable => {
                state.left.unreadable -= 1;
                state.enqueue(false);
            }
            Action::Begin(number) => {
                let task = state.tasks.iter_mut().find(|task| task.number == number)?;
                task.place = Place::Pending;
                let step = if task.is_readable { Step::Acquire } else { Step::Forfeit };
                state.runs.push(Run { task: number, step });
            }
            Action::Step(index) => {
                let run = state.runs.remove(index);
                let step = self.step(&mut state, run);
                state.runs.extend(step.map(|step| Run { step, ..run }));
            }
            Action::Fail(index) => {
                state.left.failures -= 1;
                state.lock = None;
                state.runs[index].step = Step::Retry;
            }
            Action::Die(index) => {
                state.left.crashes -= 1;
                state.runs.remove(index);
            }
            Action::ExpireLock => state.lock = None,
        }
        state.runs.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "when all has ended, every dropped message is in the cache",
                |_, state: &State| !state.is_idle() || state.cache >= state.dropped,
            ),
            Property::always(
                "when all has ended, every task that did not die is in the cache",
                |_, state: &State| !state.is_idle() || state.cache >= state.ended,
            ),
            Property::sometimes(DROPPED, |_, state: &State| state.is_idle() && state.dropped > 0),
            Property::sometimes(BEYOND_CAPACITY, |_, state: &State| {
                state.tasks.iter().filter(|task| task.place != Place::Delayed).count() > CAPACITY
            }),
        ]
    }
}

/// The exploration must reach it.
pub const DROPPED: &str = "a message is dropped";
/// The exploration must reach it.
pub const BEYOND_CAPACITY: &str = "a message is queued beyond capacity";
