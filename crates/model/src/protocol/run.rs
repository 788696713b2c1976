//! The steps of a run.

use super::scripts::{Acquire, Release};
use super::state::{Failure, Origin, Run, Scan, State, Status, Step};
use super::{Protection, Protocol};

impl Protocol {
    /// Carries out the next step of a run. Returns the one after it, `None` when the run is over.
    pub(super) fn step(&self, state: &mut State, run: &Run) -> Option<Step> {
        Some(match run.step {
            Step::Acquire => match self.acquire(state, run) {
                Acquire::Acquired => self.start_scan(1),
                Acquire::HeldByAnother(by) => Step::Skip(Some(by)),
                Acquire::Covered(holder) => Step::Skip(holder),
                Acquire::Superseded => Step::Retry,
            },
            Step::Note(nth) => Step::Read(Scan { nth, covers: state.last_request }),
            Step::Read(scan) => Step::Write(scan, state.database),
            Step::Write(scan, seen) => {
                if seen >= state.cache || !self.has(Protection::VersionedWrites) {
                    state.went_back |= seen < state.cache;
                    state.cache = seen;
                }
                let covers = if self.has(Protection::LastRequestNotedFirst) {
                    scan.covers
                } else {
                    state.last_request
                };
                Step::Release(Scan { covers, ..scan })
            }
            Step::Release(scan) => match self.release(state, run, scan.covers, false) {
                Release::Released => Step::Succeed,
                Release::NewerRequests if scan.nth < self.max_scans => self.start_scan(scan.nth + 1),
                Release::NewerRequests => Step::FollowUp(scan.covers),
                Release::Lost => Step::Retry,
            },
            Step::FollowUp(covers) => {
                if self.has(Protection::FollowUp) {
                    Self::enqueue(state, Origin::FollowUp(run.token));
                }
                Step::ReleaseAnyway(covers)
            }
            Step::ReleaseAnyway(covers) => {
                self.release(state, run, covers, true);
                Step::Succeed
            }
            Step::Abandon(failure) => {
                self.abandon(state, run);
                after(failure)
            }
            Step::Succeed => {
                self.end(state, run, Status::Updated);
                return None;
            }
            Step::Skip(holder) => {
                self.end(state, run, Status::Skipped(holder));
                return None;
            }
            Step::Retry => {
                self.retry(state, run);
                return None;
            }
            Step::Forfeit if self.forfeit(state, run) => Step::Replace,
            Step::Forfeit => Step::DeadLetter,
            Step::Replace => {
                Self::enqueue(state, Origin::Replacement(run.token));
                Step::DeadLetter
            }
            Step::DeadLetter => {
                self.end(state, run, Status::Dead);
                return None;
            }
        })
    }

    /// A scan first notes the request that it covers; without that protection it does so after its write.
    fn start_scan(&self, nth: u8) -> Step {
        if self.has(Protection::LastRequestNotedFirst) {
            Step::Note(nth)
        } else {
            Step::Read(Scan { nth, covers: 0 })
        }
    }

    /// The step that a run reaches with certainty and without a change of the shared state. So a state is the same
    /// whether or not the run has noticed a loss. `None` when the run is over.
    pub(super) fn certain_step(&self, state: &State, run: &Run) -> Option<Step> {
        let mut step = run.step;
        let lost = !self.holds(state, run);
        let fenced = !run.current && self.has(Protection::LeaseAtAck);
        loop {
            step = match step {
                Step::Acquire if !run.current && self.has(Protection::FencedAcquire) => Step::Retry,
                Step::Release(_) if lost => Step::Retry,
                Step::Abandon(failure) if lost => after(failure),
                Step::Retry if run.exhausted => Step::Forfeit,
                Step::Succeed | Step::Skip(_) | Step::Retry | Step::DeadLetter if fenced => return None,
                // The request that it would cover does not matter any more.
                Step::Note(_) if lost => return Some(Step::Note(0)),
                Step::Read(_) if lost => return Some(Step::Read(Scan::default())),
                Step::Write(_, seen) if lost => return Some(Step::Write(Scan::default(), seen)),
                Step::FollowUp(_) if lost => return Some(Step::FollowUp(0)),
                Step::ReleaseAnyway(_) if lost => return Some(Step::ReleaseAnyway(0)),
                step => return Some(step),
            };
        }
    }
}

/// The step after a failure, when the run does not hold the lock any more.
pub(super) fn after(failure: Failure) -> Step {
    match failure {
        Failure::Transient => Step::Retry,
        Failure::Permanent => Step::Forfeit,
    }
}
