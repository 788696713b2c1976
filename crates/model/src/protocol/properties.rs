//! What must always hold, and what must be seen to happen.

use stateright::Property;

use super::state::{Life, Origin, State, Step};
use super::{MAX_DELIVERIES, Protocol};

/// What the exploration must come across, lest it prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sometimes {
    /// A run is skipped because the lock is held.
    Skipped,
    /// A run scans again, because requests were made meanwhile.
    ScannedAgain,
    /// A run finds the lock of an earlier attempt of its own.
    OwnLock,
    /// A run leaves requests to a follow-up.
    FollowUp,
    /// A follow-up finds the lock of the run that queued it.
    FollowUpEarly,
    /// A dead task is replaced.
    Replaced,
    /// A task is delivered too often.
    Poisoned,
    /// All ends, and something is lost with a task that died.
    DiedWithHolder,
}

/// The name under which the checker reports it.
pub fn sometimes(what: Sometimes) -> &'static str {
    match what {
        Sometimes::Skipped => "a run is skipped",
        Sometimes::ScannedAgain => "a run scans again",
        Sometimes::OwnLock => "a run finds the lock of its own dead attempt",
        Sometimes::FollowUp => "a follow-up is queued",
        Sometimes::FollowUpEarly => "a follow-up finds the lock of its holder",
        Sometimes::Replaced => "a dead task is replaced",
        Sometimes::Poisoned => "a task is delivered too often",
        Sometimes::DiedWithHolder => "a request dies with the task that it trusted",
    }
}

type Properties = Vec<Property<Protocol>>;

pub(super) fn all() -> Properties {
    let mut all = always();
    all.extend(reached());
    all
}

fn always() -> Properties {
    vec![
        Property::always("the cache never goes back", |_, state: &State| !state.went_back),
        Property::always("what is recorded as covered is in the cache", |_, state: &State| {
            let shown = state.tasks.iter().all(|task| task.number > state.covered || state.shows(task));
            state.covered <= state.given && shown
        }),
        Property::always("the holder of the lock is tried again if it fails", |_, state: &State| {
            let is_open = |number| state.tasks.iter().any(|task| task.number == number && task.is_open());
            state.lock.is_none_or(|holder| is_open(holder.task))
        }),
        Property::always("when all has ended, no request is lost", |_, state: &State| {
            let met = |task| state.shows(task) || state.died_with_its_holder(task);
            !state.is_settled() || state.tasks.iter().filter(|task| task.life != Life::Dead).all(met)
        }),
        Property::always("when all has ended well, the cache is up to date", |_, state: &State| {
            !state.is_settled() || state.died || state.cache == state.database
        }),
    ]
}

fn reached() -> Properties {
    vec![
        Property::sometimes(sometimes(Sometimes::Skipped), |_, state: &State| {
            state.runs.iter().any(|run| matches!(run.step, Step::Skip(Some(_))))
        }),
        Property::sometimes(sometimes(Sometimes::ScannedAgain), |_, state: &State| {
            state.runs.iter().any(|run| matches!(run.step, Step::Note(2)))
        }),
        Property::sometimes(sometimes(Sometimes::OwnLock), |_, state: &State| {
            state.runs.iter().any(|run| {
                let own = state.lock.is_some_and(|holder| holder.task == run.token.task);
                run.step == Step::Acquire && run.current && own
            })
        }),
        Property::sometimes(sometimes(Sometimes::FollowUp), |_, state: &State| {
            state.tasks.iter().any(|task| matches!(task.origin, Origin::FollowUp(_)))
        }),
        Property::sometimes(sometimes(Sometimes::FollowUpEarly), |_, state: &State| {
            state.runs.iter().any(|run| {
                let origin = state.task(run.token.task).map(|task| task.origin);
                run.step == Step::Acquire
                    && state.lock.is_some()
                    && origin == state.lock.map(Origin::FollowUp)
            })
        }),
        Property::sometimes(sometimes(Sometimes::Replaced), |_, state: &State| {
            state.tasks.iter().any(|task| matches!(task.origin, Origin::Replacement(_)))
        }),
        Property::sometimes(sometimes(Sometimes::Poisoned), |_, state: &State| {
            state.tasks.iter().any(|task| task.deliveries > MAX_DELIVERIES)
        }),
        Property::sometimes(sometimes(Sometimes::DiedWithHolder), |_, state: &State| {
            state.is_settled() && state.tasks.iter().any(|task| task.life != Life::Dead && !state.shows(task))
        }),
    ]
}
