//! Market events on their way from the log to the queue, on a Redis that loses its latest writes to a failover.
//!
//! A listener reads an entry of the log, enqueues a task under the id of its event, and removes the entry. The old
//! listener may still be at it when another has taken over its entries. The replica has what the primary had at some
//! earlier moment. An event that the promoted Redis lacks was lost; every other event must become a task.

use stateright::{Model, Property};

/// Listeners.
const LISTENERS: usize = 2;

/// Maximum number of events from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Events that are published.
    pub events: u8,
    /// Promotions of the replica.
    pub failovers: u8,
}

/// A rule that makes a listener safe, or an assumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// The task is enqueued and the entry removed in one script.
    OneScript,
    /// Assumption: the id of an entry, a time of Redis, is not given again after a failover.
    UniqueEntries,
}

/// The listeners and their environment.
#[derive(Clone, Copy, Debug)]
pub struct EventLog {
    /// Maximum number of events from outside.
    pub budget: Budget,
    /// A protection that is taken away.
    pub without: Option<Protection>,
}

/// The state that the next action depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// Events published so far. The event's id is its number.
    pub published: u8,
    /// The primary.
    pub redis: Redis,
    /// The replica: the primary at an earlier moment.
    pub replica: Redis,
    /// Sorted: it does not matter which listener is which.
    pub listeners: Vec<Listener>,
    /// The events that are left.
    pub left: Budget,
}

/// What Redis holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Redis {
    /// The events that were ever in its log.
    pub published: Vec<u8>,
    /// The entries of the log.
    pub log: Vec<Entry>,
    /// The id of the last entry.
    pub last_entry: u8,
    /// The events that have a task, or had one. Its id is the event's.
    pub tasks: Vec<u8>,
}

/// An entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// Its id.
    pub id: u8,
    /// The event that it holds.
    pub event: u8,
}

/// A listener with an entry that it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listener {
    /// What it has read.
    pub entry: Entry,
    /// Whether it has enqueued the task and not removed the entry.
    pub has_enqueued: bool,
}

/// The next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An event is published.
    Publish,
    /// A listener reads an entry of the log. Another may have read it before.
    Read(usize),
    /// A listener takes its next step.
    Step(usize),
    /// A listener dies.
    Die(usize),
    /// The replica catches up.
    Replicate,
    /// The replica is promoted.
    Promote,
}

impl Redis {
    /// The script that enqueues a task, unless its id is known.
    fn enqueue(&mut self, event: u8) {
        if !self.tasks.contains(&event) {
            self.tasks.push(event);
            self.tasks.sort_unstable();
        }
    }

    /// The script that removes an entry.
    fn remove(&mut self, id: u8) {
        self.log.retain(|entry| entry.id != id);
    }
}

impl EventLog {
    /// Whether this protection is in place.
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }
}

impl Model for EventLog {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { left: self.budget, ..State::default() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.left.events > 0 {
            actions.push(Action::Publish);
        }
        if state.listeners.len() < LISTENERS {
            actions.extend((0..state.redis.log.len()).map(Action::Read));
        }
        for listener in 0..state.listeners.len() {
            actions.extend([Action::Step(listener), Action::Die(listener)]);
        }
        if state.left.failovers > 0 {
            actions.extend([Action::Replicate, Action::Promote]);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Publish => {
                state.left.events -= 1;
                state.published += 1;
                let event = state.published;
                let redis = &mut state.redis;
                redis.last_entry =
                    if self.has(Protection::UniqueEntries) { event } else { redis.last_entry + 1 };
                redis.log.push(Entry { id: redis.last_entry, event });
                redis.published.push(event);
            }
            Action::Read(index) => {
                state.listeners.push(Listener { entry: state.redis.log[index], has_enqueued: false });
            }
            Action::Step(index) => {
                let Listener { entry, has_enqueued } = state.listeners.remove(index);
                if !has_enqueued {
                    state.redis.enqueue(entry.event);
                }
                if has_enqueued || self.has(Protection::OneScript) {
                    state.redis.remove(entry.id);
                } else {
                    state.listeners.push(Listener { entry, has_enqueued: true });
                }
            }
            Action::Die(index) => drop(state.listeners.remove(index)),
            Action::Replicate => state.replica = state.redis.clone(),
            Action::Promote => {
                state.left.failovers -= 1;
                state.redis = state.replica.clone();
            }
        }
        state.listeners.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("every event is in the log or has a task", |_, state: &State| {
                let Redis { published, log, tasks, .. } = &state.redis;
                let is_kept = |event| tasks.contains(event) || log.iter().any(|entry| entry.event == *event);
                published.iter().all(is_kept)
            }),
            Property::sometimes(LOST, |_, state: &State| {
                state.redis.published.len() < usize::from(state.published)
            }),
        ]
    }
}

/// The documented limit. The exploration must reach it.
pub const LOST: &str = "an event is lost by a failover";
