//! The scripts of Redis, each as one function under the name of its file.

use super::state::{Origin, Run, State, Status, Task, Token};
use super::{MAX_DELIVERIES, Protection, Protocol};

/// The reply of `acquire.lua`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acquire {
    Acquired,
    /// With the task that holds the lock.
    HeldByAnother(u8),
    /// With the task that holds the lock, if one does.
    Covered(Option<u8>),
    Superseded,
}

/// The reply of `release.lua`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    Released,
    NewerRequests,
    Lost,
}

impl Protocol {
    pub(super) fn acquire(&self, state: &mut State, run: &Run) -> Acquire {
        if !run.current && self.has(Protection::FencedAcquire) {
            return Acquire::Superseded;
        }
        let asked = run.token.task;
        let Some(holder) = state.lock else {
            let skipped = if self.has(Protection::SkippedWatermark) { state.skipped } else { 0 };
            if state.covered >= asked.max(skipped) {
                return Acquire::Covered(None);
            }
            state.lock = Some(run.token);
            return Acquire::Acquired;
        };
        let covered = state.covered >= asked;
        if covered && !self.has(Protection::OwnLockBeforeCovered) {
            return Acquire::Covered(Some(holder.task));
        }
        let own = holder.task == asked && self.has(Protection::OwnLockTakeover);
        let follow_up = state.is_follow_up(asked, holder);
        if own || (follow_up && self.has(Protection::FollowUpTakeover)) {
            state.lock = Some(run.token);
            return Acquire::Acquired;
        }
        if covered {
            return Acquire::Covered(Some(holder.task));
        }
        state.skipped = state.skipped.max(asked);
        Acquire::HeldByAnother(holder.task)
    }

    pub(super) fn release(&self, state: &mut State, run: &Run, covers: u8, anyway: bool) -> Release {
        if !self.holds(state, run) {
            return Release::Lost;
        }
        state.covered = state.covered.max(covers);
        if !anyway && state.last_request > covers && self.has(Protection::ReleaseOnlyIfCovered) {
            return Release::NewerRequests;
        }
        state.lock = None;
        Release::Released
    }

    pub(super) fn abandon(&self, state: &mut State, run: &Run) {
        if self.holds(state, run) {
            state.lock = None;
        }
    }

    /// What release, renew and abandon check first: the lease of the run and its token.
    pub(super) fn holds(&self, state: &State, run: &Run) -> bool {
        run.current && (state.lock == Some(run.token) || !self.has(Protection::OwnToken))
    }

    /// Whether a new request must take the place of the task.
    pub(super) fn forfeit(&self, state: &mut State, run: &Run) -> bool {
        if !run.current && self.has(Protection::FencedForfeit) {
            return false;
        }
        if let Some(holder) = state.lock {
            let own = holder.task == run.token.task && self.has(Protection::ForfeitFreesLock);
            let follow_up = state.is_follow_up(run.token.task, holder);
            if own || (follow_up && self.has(Protection::FollowUpForfeit)) {
                state.robbed |= !run.current && state.lives(holder);
                state.lock = None;
            }
        }
        self.has(Protection::ForfeitReplaces) && state.skipped > state.covered.max(run.token.task)
    }

    /// Enqueues a task, unless its id is known.
    pub(super) fn enqueue(state: &mut State, origin: Origin) {
        if origin != Origin::Request && state.tasks.iter().any(|task| task.origin == origin) {
            return;
        }
        state.last_request += 1;
        state.tasks.push(Task {
            number: state.last_request,
            change: state.database,
            origin,
            status: Status::Ready,
            attempts: 0,
            deliveries: 0,
            retries: 0,
        });
    }

    /// Gives a new lease to a run of a task. Returns its token, whether the task has no retries left, and
    /// whether it may run: not if the task was delivered too often.
    pub(super) fn begin(state: &mut State, number: u8) -> Option<(Token, bool, bool)> {
        state.revoke_lease(number);
        let task = state.task_mut(number)?;
        task.status = Status::Running;
        task.deliveries += 1;
        let may_run = task.deliveries <= MAX_DELIVERIES;
        task.attempts += u8::from(may_run);
        let token = Token { task: number, attempt: task.attempts };
        Some((token, task.retries >= super::MAX_RETRIES, may_run))
    }

    /// `ack.lua` of a run that succeeds or dies: ends the task if the run's lease is current.
    pub(super) fn end(&self, state: &mut State, run: &Run, status: Status) {
        if !run.current && self.has(Protection::LeaseAtAck) {
            return;
        }
        state.revoke_lease(run.token.task);
        if let Some(task) = state.task_mut(run.token.task) {
            (task.status, task.attempts, task.deliveries, task.retries) = (status, 0, 0, 0);
            state.died |= status == Status::Dead;
        }
    }

    /// `ack.lua` with a retry, and the `promote.lua` after it, which may come at any time.
    pub(super) fn retry(&self, state: &mut State, run: &Run) {
        if !run.current && self.has(Protection::LeaseAtAck) {
            return;
        }
        state.revoke_lease(run.token.task);
        if let Some(task) = state.task_mut(run.token.task) {
            (task.status, task.deliveries) = (Status::Ready, 0);
            task.retries += 1;
        }
    }
}
