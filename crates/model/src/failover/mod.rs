//! The lock and its requests on a Redis that loses its latest writes to a failover, while the workers live on.
//!
//! The replica has what the primary had at some earlier moment. A failover makes that the state of Redis. A client
//! that still writes to the old primary is a client that wrote before the failover: either way its writes are lost.
//! A request that was lost so is not missed; every other request must be covered.
//!
//! Left out, because [`protocol`](crate::protocol) has them: failures of runs, follow-ups and dead tasks.

mod scripts;
mod state;

use stateright::{Model, Property};

use state::Given;
pub use state::{Holder, Redis, Run, State, Status, Step, Task};

/// Workers; each runs one task at a time.
const WORKERS: usize = 2;

/// Maximum number of events from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Changes of the catalogue, each with a request.
    pub requests: u8,
    /// Deaths of workers.
    pub crashes: u8,
    /// Pauses of living workers beyond the visibility timeout, or beyond the TTL of the lock.
    pub pauses: u8,
    /// Promotions of the replica.
    pub failovers: u8,
}

/// A rule that makes the protocol safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// A run releases the lock, and covers requests, only on the Redis that gave it the lock.
    ReleaseOnSameRedis,
    /// A run ends its task only on the Redis that gave its lease.
    AckOnSameRedis,
    /// A lock that another Redis gave is free.
    OtherLockIsFree,
}

/// The protocol and its environment.
#[derive(Clone, Copy, Debug)]
pub struct Failover {
    /// Maximum number of events from outside.
    pub budget: Budget,
    /// A protection that is taken away.
    pub without: Option<Protection>,
}

/// The next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The catalogue changes, and a recalculation is requested.
    Request,
    /// A worker begins a task that waits, or takes over a task of another worker.
    Begin(u8),
    /// A run takes its next step.
    Step(usize),
    /// The worker of a run dies, or a run that lost its lease is dropped.
    Vanish(usize),
    /// The lock expires: its holder is dead or paused.
    ExpireLock,
    /// The replica catches up.
    Replicate,
    /// The replica is promoted.
    Promote,
}

impl Failover {
    /// Whether this protection is in place.
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }

    /// Maps states that differ only in what cannot matter any more to one state.
    fn tidy(&self, state: &mut State) {
        for mut run in std::mem::take(&mut state.runs) {
            if let Some(step) = self.certain_step(state, run) {
                run.step = step;
                state.runs.push(run);
            }
        }
        state.tidy(self.has(Protection::AckOnSameRedis));
    }

    /// Whether a run may acquire the lock although it is there.
    fn is_free(&self, lock: Holder) -> bool {
        lock.given == Given::Elsewhere && self.has(Protection::OtherLockIsFree)
    }
}

impl Model for Failover {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.budget)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let left = state.left;
        if left.requests > 0 {
            actions.push(Action::Request);
        }
        if state.runs.len() < WORKERS {
            let may_begin = |task: &&Task| task.is_open() && (left.pauses > 0 || !state.is_run(task));
            actions.extend(state.redis.tasks.iter().filter(may_begin).map(|task| Action::Begin(task.id)));
        }
        for (index, run) in state.runs.iter().enumerate() {
            actions.push(Action::Step(index));
            if left.crashes > 0 || !state.is_current(run) {
                actions.push(Action::Vanish(index));
            }
        }
        if state.redis.lock.is_some_and(|holder| left.pauses > 0 || !state.lives(holder)) {
            actions.push(Action::ExpireLock);
        }
        if left.failovers > 0 {
            actions.push(Action::Promote);
            if state.replica != state.redis {
                actions.push(Action::Replicate);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Request => {
                state.left.requests -= 1;
                state.database += 1;
                let id = state.new_id();
                state.redis.enqueue(id, state.database);
            }
            Action::Begin(id) => {
                let lease = state.new_lease();
                let is_run = state.redis.tasks.iter().any(|task| task.id == id && state.is_run(task));
                state.left.pauses -= u8::from(is_run);
                state.redis.task_mut(id)?.status = Status::Running(lease);
                state.runs.push(Run { task: id, lease, step: Step::Acquire });
            }
            Action::Step(index) => {
                let run = state.runs.remove(index);
                let step = self.step(&mut state, run);
                state.runs.extend(step.map(|step| Run { step, ..run }));
            }
            Action::Vanish(index) => {
                let run = state.runs.remove(index);
                state.left.crashes -= u8::from(last.is_current(&run));
            }
            Action::ExpireLock => {
                let holder = state.redis.lock.take()?;
                state.left.pauses -= u8::from(state.lives(holder));
            }
            Action::Replicate => state.replica = state.redis.clone(),
            Action::Promote => {
                state.left.failovers -= 1;
                state.promote();
            }
        }
        self.tidy(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("when all has ended, every request is in the cache", |_, state: &State| {
                !state.is_idle() || state.redis.tasks.iter().all(|task| state.redis.cache >= task.change)
            }),
            Property::always("what is recorded as covered is in the cache", |_, state: &State| {
                let Redis { covered, cache, last_request, ref tasks, .. } = state.redis;
                covered <= last_request
                    && tasks.iter().all(|task| task.number > covered || cache >= task.change)
            }),
            Property::always(
                "the holder of the lock is retried if it fails",
                |model: &Failover, state: &State| {
                    let is_open = |holder: Holder| state.redis.task(holder.task).is_some_and(Task::is_open);
                    state.redis.lock.is_none_or(|holder| model.is_free(holder) || is_open(holder))
                },
            ),
            Property::always("no lock that was left behind delays a request", |_, state: &State| {
                !state.is_delayed
            }),
            Property::sometimes(LOST, |_, state: &State| {
                let made = |change: u8| state.redis.tasks.iter().any(|task| task.change >= change);
                state.is_idle() && state.redis.cache < state.database && !made(state.database)
            }),
            Property::sometimes(LEFT_BEHIND, |_, state: &State| {
                state
                    .redis
                    .lock
                    .is_some_and(|holder| holder.given == Given::Elsewhere && !state.lives(holder))
            }),
        ]
    }
}

/// The documented limit. The exploration must reach it.
pub const LOST: &str = "a request is lost by a failover";
/// The exploration must reach it.
pub const LEFT_BEHIND: &str = "a lock is left behind by a failover";
