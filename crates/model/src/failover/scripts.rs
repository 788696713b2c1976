//! The steps of a run, and the scripts of Redis, each as one function under the name of its file.

use super::state::{Given, Holder, Redis, Run, State, Status, Step, Task};
use super::{Failover, Protection};

impl Failover {
    /// Carries out the next step of a run. Returns the one after it, `None` when the run is over.
    pub(super) fn step(&self, state: &mut State, run: Run) -> Option<Step> {
        match run.step {
            Step::Acquire => self.acquire(state, run),
            Step::Note => Some(Step::Read(state.redis.last_request)),
            Step::Read(covers) => Some(Step::Write(covers, state.database)),
            Step::Write(covers, seen) => {
                state.redis.cache = state.redis.cache.max(seen);
                Some(Step::Release(covers))
            }
            Step::Release(covers) => Some(self.release(&mut state.redis, run, covers)),
            Step::End => {
                self.ack(&mut state.redis, run, Status::Ended);
                None
            }
            Step::Retry => {
                self.ack(&mut state.redis, run, Status::Ready);
                None
            }
        }
    }

    /// Whether a run may act on this Redis.
    fn is_current(&self, redis: &Redis, run: Run) -> bool {
        let is_same = run.lease.given == Given::Here || !self.has(Protection::AckOnSameRedis);
        is_same && redis.lease(run.task).is_some_and(|lease| lease.nonce == run.lease.nonce)
    }

    /// The step that a run reaches with certainty and without a change of the shared state, `None` when it is over.
    pub(super) fn certain_step(&self, state: &State, run: Run) -> Option<Step> {
        let has_lease = self.is_current(&state.redis, run);
        let has_lock = state.redis.lock.is_some_and(|holder| self.is_holder(holder, run));
        let mut step = run.step;
        loop {
            step = match step {
                Step::Acquire | Step::End | Step::Retry if !has_lease => return None,
                Step::Release(_) if !has_lock => Step::Retry,
                Step::Write(_, seen) if !has_lock && seen <= state.redis.cache => Step::Retry,
                // The request that it would cover does not matter any more.
                Step::Write(_, seen) if !has_lock => return Some(Step::Write(0, seen)),
                Step::Note | Step::Read(_) if !has_lock => return Some(Step::Read(0)),
                step => return Some(step),
            };
        }
    }

    fn acquire(&self, state: &mut State, run: Run) -> Option<Step> {
        let redis = &mut state.redis;
        if !self.is_current(redis, run) {
            return None;
        }
        let request = redis.task(run.task)?.number;
        let token = Holder { task: run.task, nonce: run.lease.nonce, given: Given::Here };
        match redis.lock.filter(|holder| !self.is_free(*holder)) {
            None if redis.covered >= request.max(redis.skipped) => return Some(Step::End),
            Some(holder) if holder.task != run.task => {
                if redis.covered < request {
                    state.is_delayed |= holder.given == Given::Elsewhere;
                    redis.skipped = redis.skipped.max(request);
                }
                return Some(Step::End);
            }
            _ => redis.lock = Some(token),
        }
        Some(Step::Note)
    }

    fn release(&self, redis: &mut Redis, run: Run, covers: u8) -> Step {
        if !redis.lock.is_some_and(|holder| self.is_holder(holder, run)) {
            return Step::Retry;
        }
        redis.covered = redis.covered.max(covers);
        if redis.last_request > covers {
            return Step::Note;
        }
        redis.lock = None;
        Step::End
    }

    /// Whether the lock has the token of this run.
    fn is_holder(&self, holder: Holder, run: Run) -> bool {
        let is_same = holder.given == Given::Here || !self.has(Protection::ReleaseOnSameRedis);
        is_same && holder.task == run.task && holder.nonce == run.lease.nonce
    }

    fn ack(&self, redis: &mut Redis, run: Run, status: Status) {
        if self.is_current(redis, run)
            && let Some(task) = redis.task_mut(run.task)
        {
            task.status = status;
        }
    }
}

impl Redis {
    pub(super) fn enqueue(&mut self, id: u8, change: u8) {
        self.last_request += 1;
        let (number, status) = (self.last_request, Status::Ready);
        self.tasks.push(Task { id, number, change, status });
    }
}
