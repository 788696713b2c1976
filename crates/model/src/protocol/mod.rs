//! The lock, the sequence of requests and the tasks of the queue.
//!
//! A change of the catalogue and the request for it are one action. The later a change, the fewer scans see it, so
//! this is the worst case of a request that is made some time after its change.
//!
//! A script that begins or ends several tasks treats each as if it were the only one: it is the actions of its tasks in a
//! row, and every other order of them is explored as well.
//!
//! A run that lost its lease or the lock may notice at any moment, or never: only the scripts limit what it can
//! still do.

mod properties;
mod run;
mod scripts;
mod state;

use stateright::{Model, Property};

pub use properties::Sometimes;
pub use state::{Failure, Origin, Run, Scan, State, Status, Step, Task, Token};

/// Workers; each runs one task at a time.
const WORKERS: usize = 3;
/// Retries of one task, fewer than in the queue.
const MAX_RETRIES: u8 = 1;
/// Deliveries of one task without a run that ends, one less than in the queue.
const MAX_DELIVERIES: u8 = 2;

/// Maximum number of events from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Changes of the catalogue, each with a request.
    pub requests: u8,
    /// Deaths of workers.
    pub crashes: u8,
    /// Pauses of living workers beyond the visibility timeout, or beyond the TTL of the lock.
    pub pauses: u8,
    /// Failures of runs, transient or permanent.
    pub failures: u8,
}

/// A rule that makes the protocol safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// A cache entry is replaced only by an equal or higher version.
    VersionedWrites,
    /// The request that a scan covers is noted before the catalogue is read.
    LastRequestNotedFirst,
    /// Only the current lease of a task may take the lock.
    FencedAcquire,
    /// A run leaves a free lock alone only if every request is covered that was ever skipped.
    SkippedWatermark,
    /// A run takes over the lock of an earlier attempt of its task.
    OwnLockTakeover,
    /// A run does that even if its own request is covered.
    OwnLockBeforeCovered,
    /// The lock is released only under the token of the run that holds it, beside its lease.
    OwnToken,
    /// The lock is released only if no newer request has arrived since the scan started.
    ReleaseOnlyIfCovered,
    /// A run that scans no more enqueues a follow-up for the requests that are left.
    FollowUp,
    /// The follow-up takes the lock over if the run has not released it yet.
    FollowUpTakeover,
    /// A task that dies releases the lock.
    ForfeitFreesLock,
    /// A follow-up that dies releases the lock of the run that enqueued it.
    FollowUpForfeit,
    /// Only the current lease of a task forfeits.
    FencedForfeit,
    /// A task that dies is replaced if newer requests were skipped trusting it.
    ForfeitReplaces,
    /// Only the current lease acknowledges a run.
    LeaseAtAck,
}

/// The protocol and its environment.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// Maximum number of events from outside.
    pub budget: Budget,
    /// Maximum number of scans of one run. It leaves the rest to a follow-up. The worker makes three.
    pub max_scans: u8,
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
    /// A run fails instead and releases the lock.
    Fail(usize, Failure),
    /// A run fails instead and does not release the lock, because Redis is away or the job panics. Or it does not
    /// dead-letter its task, and starts to do so again.
    Break(usize, Failure),
    /// A run under the lock notices that it lost the lock or its lease, and fails.
    NoticeLoss(usize),
    /// The worker of a run dies, or a run that lost its lease is dropped.
    Vanish(usize),
    /// The lock expires: its holder is dead or paused.
    ExpireLock,
}

impl Protocol {
    /// Whether this protection is in place.
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }

    /// Maps states that differ only in what cannot matter any more to one state.
    fn tidy(&self, state: &mut State) {
        for mut run in std::mem::take(&mut state.runs) {
            if let Some(step) = self.certain_step(state, &run) {
                run.step = step;
                state.runs.push(run);
            }
        }
        state.runs.sort_unstable();
        if state.skipped <= state.covered {
            state.skipped = 0;
        }
        state.forget_tasks();
    }
}

impl Model for Protocol {
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
            let abandoned = |task: &&Task| left.pauses > 0 || !state.is_run(task.number);
            let begun = state.tasks.iter().filter(|task| task.is_open()).filter(abandoned);
            actions.extend(begun.map(|task| Action::Begin(task.number)));
        }
        for (index, run) in state.runs.iter().enumerate() {
            actions.push(Action::Step(index));
            if left.crashes > 0 || !run.current {
                actions.push(Action::Vanish(index));
            }
            let holds = state.lock == Some(run.token);
            if run.step.is_under_lock() && !(holds && run.current) {
                actions.push(Action::NoticeLoss(index));
            }
            match run.step {
                _ if left.failures == 0 => {}
                Step::Abandon(_) | Step::Retry | Step::Forfeit => {}
                Step::Replace | Step::DeadLetter => actions.push(Action::Break(index, Failure::Permanent)),
                _ => {
                    let failures = [Failure::Transient, Failure::Permanent];
                    actions.extend(failures.map(|failure| Action::Fail(index, failure)));
                    actions.extend(
                        failures.map(|failure| Action::Break(index, failure)).iter().filter(|_| holds),
                    );
                }
            }
        }
        if state.lock.is_some_and(|holder| left.pauses > 0 || !state.lives(holder)) {
            actions.push(Action::ExpireLock);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Request => {
                state.left.requests -= 1;
                state.database += 1;
                Self::enqueue(&mut state, Origin::Request);
            }
            Action::Begin(number) => {
                state.left.pauses -= u8::from(state.is_run(number));
                let (token, exhausted, may_run) = Self::begin(&mut state, number)?;
                let step = if may_run { Step::Acquire } else { Step::Forfeit };
                state.runs.push(Run { token, current: true, exhausted, step });
            }
            Action::Step(index) => {
                let run = state.runs.remove(index);
                if let Some(step) = self.step(&mut state, &run) {
                    // The run's own script may have taken the lease from it.
                    state.runs.push(Run { step, ..run });
                }
            }
            Action::Fail(index, failure) => {
                state.left.failures -= 1;
                state.runs[index].step = Step::Abandon(failure);
            }
            Action::Break(index, failure) => {
                state.left.failures -= 1;
                state.runs[index].step = run::after(failure);
            }
            Action::NoticeLoss(index) => state.runs[index].step = Step::Retry,
            Action::Vanish(index) => {
                let run = state.runs.remove(index);
                state.left.crashes -= u8::from(run.current);
            }
            Action::ExpireLock => {
                let holder = state.lock.take()?;
                state.left.pauses -= u8::from(state.lives(holder));
            }
        }
        self.tidy(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
