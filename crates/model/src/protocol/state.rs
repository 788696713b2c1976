//! The state of Redis, the database and the workers.

use super::Budget;

/// The state that the next action depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Version of the catalogue: changes so far.
    pub database: u8,
    /// Version that the cache shows.
    pub cache: u8,
    /// Whether the cache was ever overwritten with something older.
    pub went_back: bool,
    /// Whether a run that was taken over ever released the lock of its successor.
    pub robbed: bool,
    /// Key `last_request`: the number of the latest request.
    pub last_request: u8,
    /// Key `recalculate_covered`: the highest request that an ended scan covers.
    pub covered: u8,
    /// Key `recalculate_skipped`: the highest request that was skipped because the lock was held.
    pub skipped: u8,
    /// Key `recalculate_global_lock`.
    pub lock: Option<Token>,
    /// In the order of their numbers.
    pub tasks: Vec<Task>,
    /// Sorted: it does not matter which worker is which.
    pub runs: Vec<Run>,
    /// Whether a task ever died.
    pub died: bool,
    /// What may still go wrong.
    pub left: Budget,
}

/// The value of the lock. No attempt asks for the lock twice, so it needs no nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    /// Number of the task.
    pub task: u8,
    /// Which attempt of it.
    pub attempt: u8,
}

/// The record of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// Number of its request, which names it.
    pub number: u8,
    /// Version of the catalogue that it was asked for after.
    pub change: u8,
    /// Who queued it.
    pub origin: Origin,
    /// How it stands.
    pub status: Status,
    /// Runs begun.
    pub attempts: u8,
    /// Runs begun since it was last made ready.
    pub deliveries: u8,
    /// Retries after a failure.
    pub retries: u8,
}

/// Who enqueued a task. For all but requests it is the task's id, so the task is enqueued once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A change of the catalogue.
    Request,
    /// A holder of the lock that leaves requests uncovered.
    FollowUp(Token),
    /// An attempt that failed for good.
    Replacement(Token),
}

/// The status of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Waits for a run, its first or another.
    Ready,
    /// A run has its lease. The worker may be dead.
    Running,
    /// Its run scanned.
    Updated,
    /// Its run was skipped; with the number of the task that held the lock then, if any did.
    Skipped(Option<u8>),
    /// Failed for good.
    Dead,
}

/// A run of a task, in one of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    /// Its value for the lock.
    pub token: Token,
    /// Whether its lease is the current one. It is not after the task was taken over.
    pub current: bool,
    /// Whether the task had no retries left when the run began.
    pub exhausted: bool,
    /// Its next step.
    pub step: Step,
}

/// The next step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// `acquire.lua`.
    Acquire,
    /// `GET last_request`: what the scan will cover.
    Note(u8),
    /// The statements that read the catalogue.
    Read(Scan),
    /// `store.lua` with what was read.
    Write(Scan, u8),
    /// `release.lua`, if covered.
    Release(Scan),
    /// `enqueue.lua` for what the last scan left.
    FollowUp(u8),
    /// `release.lua`, anyway.
    ReleaseAnyway(u8),
    /// `abandon.lua`, after a failure.
    Abandon(Failure),
    /// `ack.lua` after a scan.
    Succeed,
    /// `ack.lua` of a run that was skipped, with the task that held the lock.
    Skip(Option<u8>),
    /// `ack.lua` with a retry.
    Retry,
    /// `forfeit.lua`.
    Forfeit,
    /// `enqueue.lua` in place of the task that dies.
    Replace,
    /// `ack.lua` of a task that dies.
    DeadLetter,
}

impl Step {
    /// Whether a run at this step believes that it holds the lock, and renews it.
    pub(super) fn is_under_lock(self) -> bool {
        let scans = matches!(self, Self::Note(_) | Self::Read(_) | Self::Write(..) | Self::Release(_));
        scans || matches!(self, Self::FollowUp(_) | Self::ReleaseAnyway(_))
    }
}

/// A scan under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scan {
    /// Its number in the run, from 1.
    pub nth: u8,
    /// The highest request that it covers.
    pub covers: u8,
}

/// How a run fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// A retry may succeed.
    Transient,
    /// No retry can succeed.
    Permanent,
}

impl State {
    /// The state before anything has happened.
    pub(super) fn new(left: Budget) -> Self {
        Self {
            database: 0,
            cache: 0,
            went_back: false,
            robbed: false,
            last_request: 0,
            covered: 0,
            skipped: 0,
            lock: None,
            tasks: Vec::new(),
            runs: Vec::new(),
            died: false,
            left,
        }
    }

    /// The task of this number. It is kept for as long as anything can ask for it.
    pub(super) fn task(&self, number: u8) -> Option<&Task> {
        self.tasks.iter().find(|task| task.number == number)
    }

    /// Whether this task was queued by the holder of the lock.
    pub(super) fn is_follow_up(&self, number: u8, holder: Token) -> bool {
        self.task(number).is_some_and(|task| task.origin == Origin::FollowUp(holder))
    }

    /// [`State::task`], mutable.
    pub(super) fn task_mut(&mut self, number: u8) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.number == number)
    }

    /// Whether a living run has the lease of this task.
    pub(super) fn is_run(&self, number: u8) -> bool {
        self.runs.iter().any(|run| run.current && run.token.task == number)
    }

    /// Takes the lease from every run of this task.
    pub(super) fn revoke_lease(&mut self, number: u8) {
        let runs = self.runs.iter_mut().filter(|run| run.token.task == number);
        runs.for_each(|run| run.current = false);
    }

    /// Whether the run that acquired the lock under this token lives. It renews the lock unless it is paused or has
    /// lost its lease.
    pub(super) fn lives(&self, holder: Token) -> bool {
        self.runs.iter().any(|run| run.token == holder && run.current && run.step.is_under_lock())
    }

    /// Drops tasks that have ended and that nothing can ask for any more. Kept are those that are not met yet
    /// and, with any that is kept, the one that it trusted and those that it queued.
    pub(super) fn forget_tasks(&mut self) {
        let mut kept = 0_u32;
        let bit = |number: u8| 1_u32 << number;
        for task in &self.tasks {
            let lost = matches!(task.status, Status::Skipped(_)) && !self.shows(task);
            let runs = || {
                let trusted = |step| step == Step::Skip(Some(task.number));
                self.runs.iter().any(|run| run.token.task == task.number || trusted(run.step))
            };
            let holds = self.lock.is_some_and(|holder| holder.task == task.number);
            if task.is_open() || lost || holds || runs() {
                kept |= bit(task.number);
            }
        }
        loop {
            let mut next = kept;
            for task in &self.tasks {
                match task.status {
                    Status::Skipped(Some(holder)) if kept & bit(task.number) != 0 => next |= bit(holder),
                    _ => {}
                }
                if task.parent().is_some_and(|parent| kept & bit(parent) != 0) {
                    next |= bit(task.number);
                }
            }
            if next == kept {
                break;
            }
            kept = next;
        }
        self.tasks.retain(|task| kept & bit(task.number) != 0);
    }

    /// Whether no task is open and no run goes on.
    pub fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.tasks.iter().all(|task| !task.is_open())
    }

    /// Whether the cache shows the change that a task was asked for after.
    pub(super) fn shows(&self, task: &Task) -> bool {
        self.cache >= task.change
    }

    /// Whether a skipped task is lost by what is documented: it trusted a holder, maybe by way of others, that
    /// died with a number above its own.
    pub(super) fn died_with_its_holder(&self, lost: &Task) -> bool {
        let mut trusted = vec![lost.number];
        let mut next = 0;
        while let Some(number) = trusted.get(next).copied() {
            next += 1;
            let heirs =
                self.tasks.iter().filter(|heir| heir.parent() == Some(number)).map(|heir| heir.number);
            let heirs = heirs.filter(|_| number != lost.number);
            let holder = match self.task(number).map(|task| task.status) {
                Some(Status::Dead) if number > lost.number => return true,
                Some(Status::Skipped(holder)) => holder,
                _ => None,
            };
            let found: Vec<u8> = heirs.chain(holder).filter(|number| !trusted.contains(number)).collect();
            trusted.extend(found);
        }
        false
    }
}

impl Task {
    /// Whether it will be run, or is.
    pub fn is_open(&self) -> bool {
        matches!(self.status, Status::Ready | Status::Running)
    }

    /// The task that queued this one.
    pub(super) fn parent(&self) -> Option<u8> {
        match self.origin {
            Origin::Request => None,
            Origin::FollowUp(by) | Origin::Replacement(by) => Some(by.task),
        }
    }
}
