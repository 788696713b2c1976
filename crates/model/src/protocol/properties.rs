//! What must always hold, and what the exploration must reach.

use stateright::Property;

use super::state::{Origin, Run, State, Status, Step, Task};
use super::{MAX_DELIVERIES, Protocol};

/// What the exploration must reach, or it would prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sometimes {
    /// A run is skipped because the lock is held.
    Skipped,
    /// A run scans again, because requests were made meanwhile.
    ScannedAgain,
    /// A run finds the lock of an earlier attempt of its task.
    OwnLock,
    /// A run leaves requests to a follow-up.
    FollowUp,
    /// A follow-up finds the lock of the run that queued it.
    FollowUpEarly,
    /// A dead task is replaced.
    Replaced,
    /// A task is delivered too often.
    Poisoned,
    /// A run that was taken over is about to forfeit while its successor holds the lock.
    LateForfeit,
    /// All ends, and a request is lost with a task that died.
    DiedWithHolder,
}

impl Sometimes {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Skipped,
        Self::ScannedAgain,
        Self::OwnLock,
        Self::FollowUp,
        Self::FollowUpEarly,
        Self::Replaced,
        Self::Poisoned,
        Self::LateForfeit,
        Self::DiedWithHolder,
    ];

    /// The name under which the checker reports it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Skipped => "a run is skipped",
            Self::ScannedAgain => "a run scans again",
            Self::OwnLock => "a run finds the lock of its own earlier attempt",
            Self::FollowUp => "a follow-up is queued",
            Self::FollowUpEarly => "a follow-up finds the lock of its holder",
            Self::Replaced => "a dead task is replaced",
            Self::Poisoned => "a task is delivered too often",
            Self::LateForfeit => "a run that was taken over would forfeit the lock of its successor",
            Self::DiedWithHolder => "a request dies with the task that it trusted",
        }
    }

    fn condition(self) -> fn(&Protocol, &State) -> bool {
        match self {
            Self::Skipped => |_, state| state.runs.iter().any(|run| matches!(run.step, Step::Skip(Some(_)))),
            Self::ScannedAgain => |_, state| state.runs.iter().any(|run| run.step == Step::Note(2)),
            Self::OwnLock => |_, state| {
                let own = |run: &Run| state.lock.is_some_and(|holder| holder.task == run.token.task);
                state.runs.iter().any(|run| run.step == Step::Acquire && run.current && own(run))
            },
            Self::FollowUp => {
                |_, state| state.tasks.iter().any(|task| matches!(task.origin, Origin::FollowUp(_)))
            }
            Self::FollowUpEarly => |_, state| {
                let origin = |run: &Run| state.task(run.token.task).map(|task| task.origin);
                let early =
                    |run: &Run| state.lock.is_some() && origin(run) == state.lock.map(Origin::FollowUp);
                state.runs.iter().any(|run| run.step == Step::Acquire && early(run))
            },
            Self::Replaced => {
                |_, state| state.tasks.iter().any(|task| matches!(task.origin, Origin::Replacement(_)))
            }
            Self::Poisoned => |_, state| state.tasks.iter().any(|task| task.deliveries > MAX_DELIVERIES),
            Self::LateForfeit => |_, state| {
                let held = |run: &Run| {
                    state.lock.is_some_and(|holder| holder.task == run.token.task && state.lives(holder))
                };
                state.runs.iter().any(|run| run.step == Step::Forfeit && !run.current && held(run))
            },
            Self::DiedWithHolder => |_, state| {
                let lost = |task: &Task| task.status != Status::Dead && !state.shows(task);
                state.is_idle() && state.tasks.iter().any(lost)
            },
        }
    }
}

pub(super) fn all() -> Vec<Property<Protocol>> {
    let reached = Sometimes::ALL.map(|what| Property::sometimes(what.name(), what.condition()));
    always().into_iter().chain(reached).collect()
}

fn always() -> Vec<Property<Protocol>> {
    vec![
        Property::always("the cache never goes back", |_, state: &State| !state.went_back),
        Property::always("no run frees the lock of its successor", |_, state: &State| !state.robbed),
        Property::always("what is recorded as covered is in the cache", |_, state: &State| {
            let shown = state.tasks.iter().all(|task| task.number > state.covered || state.shows(task));
            state.covered <= state.last_request && shown
        }),
        Property::always("the holder of the lock is retried if it fails", |_, state: &State| {
            let is_open = |number| state.tasks.iter().any(|task| task.number == number && task.is_open());
            state.lock.is_none_or(|holder| is_open(holder.task))
        }),
        Property::always("two scan at a time only after a pause", |model: &Protocol, state: &State| {
            let scans =
                |step| matches!(step, Step::Note(_) | Step::Read(_) | Step::Write(..) | Step::Release(_));
            let pauses = model.budget.pauses - state.left.pauses;
            state.runs.iter().filter(|run| scans(run.step)).count() <= 1 + usize::from(pauses)
        }),
        Property::always("when all has ended, no request is lost", |_, state: &State| {
            let met = |task| state.shows(task) || state.died_with_its_holder(task);
            !state.is_idle() || state.tasks.iter().filter(|task| task.status != Status::Dead).all(met)
        }),
        Property::always("when all has ended well, the cache is up to date", |_, state: &State| {
            !state.is_idle() || state.died || state.cache == state.database
        }),
    ]
}
