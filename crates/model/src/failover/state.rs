//! The state of Redis, its replica and the workers.

use super::Budget;

/// The state that the next action depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Version of the catalogue: changes so far.
    pub database: u8,
    /// The primary.
    pub redis: Redis,
    /// The replica: the primary at an earlier moment.
    pub replica: Redis,
    /// Sorted: it does not matter which worker is which.
    pub runs: Vec<Run>,
    /// Whether a request was ever skipped because of a lock that a failover left behind.
    pub is_delayed: bool,
    /// The events that are left.
    pub left: Budget,
}

/// What Redis holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Redis {
    /// Version of the catalogue that the cache shows.
    pub cache: u8,
    /// The number of the latest request.
    pub last_request: u8,
    /// The highest request that an ended scan covers.
    pub covered: u8,
    /// The highest request that was skipped because the lock was held.
    pub skipped: u8,
    /// The lock.
    pub lock: Option<Holder>,
    /// In the order of their numbers.
    pub tasks: Vec<Task>,
}

/// A lease: the random text that names a run, and the Redis that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// The random text.
    pub nonce: u8,
    /// The Redis.
    pub given: Given,
}

/// Which Redis gave a lease or a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Given {
    /// The primary.
    Here,
    /// An earlier primary.
    Elsewhere,
}

/// The value of the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The id of the task.
    pub task: u8,
    /// The lease of the run.
    pub nonce: u8,
    /// The Redis that gave it.
    pub given: Given,
}

/// The record of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// Its id. A number may be given again after a failover, an id is not.
    pub id: u8,
    /// Number of its request.
    pub number: u8,
    /// Version of the catalogue that it was asked for after.
    pub change: u8,
    /// How it stands.
    pub status: Status,
}

/// The status of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Waits for a run, its first or another.
    Ready,
    /// A run has its lease. The worker may be dead.
    Running(Lease),
    /// Its run ended, with a scan or without.
    Ended,
}

/// A run of a task, in one of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    /// The id of the task.
    pub task: u8,
    /// Its lease.
    pub lease: Lease,
    /// Its next step.
    pub step: Step,
}

/// The next step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// `acquire.lua`.
    Acquire,
    /// Reads `last_request`: what the scan will cover.
    Note,
    /// The statements that read the catalogue.
    Read(u8),
    /// `store.lua` with what was read.
    Write(u8, u8),
    /// `release.lua`, if covered.
    Release(u8),
    /// `ack.lua` of a run that scanned or was skipped.
    End,
    /// `ack.lua` of a run that lost the lock.
    Retry,
}

impl State {
    /// The state before anything has happened.
    pub(super) fn new(left: Budget) -> Self {
        let (redis, replica) = (Redis::default(), Redis::default());
        Self { database: 0, redis, replica, runs: Vec::new(), is_delayed: false, left }
    }

    /// An id that no task has or had.
    pub(super) fn new_id(&self) -> u8 {
        let tasks = self.redis.tasks.iter().chain(&self.replica.tasks).map(|task| task.id);
        tasks.chain(self.runs.iter().map(|run| run.task)).max().map_or(0, |id| id + 1)
    }

    /// A lease that no run has or had.
    pub(super) fn new_lease(&self) -> Lease {
        let redises = [&self.redis, &self.replica];
        let leases = redises.into_iter().flat_map(Redis::nonces);
        let nonce =
            leases.chain(self.runs.iter().map(|run| run.lease.nonce)).max().map_or(0, |nonce| nonce + 1);
        Lease { nonce, given: Given::Here }
    }

    /// Whether a run has the lease of its task, and on the Redis that gave it.
    pub(super) fn is_current(&self, run: &Run) -> bool {
        run.lease.given == Given::Here && self.redis.lease(run.task) == Some(run.lease)
    }

    /// Whether a living run renews the lease of this task.
    pub(super) fn is_run(&self, task: &Task) -> bool {
        self.runs.iter().any(|run| run.task == task.id && self.is_current(run))
    }

    /// Whether the run that holds the lock lives, and renews it on the Redis that gave it.
    pub(super) fn lives(&self, holder: Holder) -> bool {
        let renews = |step| matches!(step, Step::Note | Step::Read(_) | Step::Write(..) | Step::Release(_));
        let is_holder =
            |run: &Run| run.task == holder.task && run.lease.nonce == holder.nonce && renews(run.step);
        holder.given == Given::Here && self.runs.iter().any(is_holder)
    }

    /// Whether no task is open and no run goes on.
    pub(super) fn is_idle(&self) -> bool {
        self.runs.is_empty() && !self.redis.tasks.iter().any(Task::is_open)
    }

    /// The replica becomes the primary. It gave none of the leases.
    pub(super) fn promote(&mut self) {
        self.redis = self.replica.clone();
        self.redis.disown();
        self.replica = self.redis.clone();
        self.runs.iter_mut().for_each(|run| run.lease.given = Given::Elsewhere);
    }

    /// Maps states that differ only in what cannot matter any more to one state. A lease that another Redis gave may
    /// be worth nothing.
    pub(super) fn tidy(&mut self, is_worthless: bool) {
        if self.left.failovers == 0 {
            self.replica = Redis::default();
        }
        self.redis.end_leases(|lease| is_worthless && lease.given == Given::Elsewhere);
        self.replica.end_leases(|_| is_worthless);
        for redis in [&mut self.redis, &mut self.replica] {
            redis.end_leases(|lease| self.runs.iter().all(|run| run.lease.nonce != lease.nonce));
            redis.forget_tasks(&self.runs);
        }
        self.renumber();
        self.runs.sort_unstable();
    }

    /// Numbers ids and leases anew, from 0: only which are equal matters.
    fn renumber(&mut self) {
        let (mut ids, mut nonces) = (0_u32, 0_u32);
        self.names(|id| ids |= 1 << *id, |nonce| nonces |= 1 << *nonce);
        let rank = |used: u32, name: u8| (used & ((1 << name) - 1)).count_ones() as u8;
        self.names(|id| *id = rank(ids, *id), |nonce| *nonce = rank(nonces, *nonce));
    }

    /// Visits all ids and the random texts of all leases.
    fn names(&mut self, mut id: impl FnMut(&mut u8), mut nonce: impl FnMut(&mut u8)) {
        for redis in [&mut self.redis, &mut self.replica] {
            for task in &mut redis.tasks {
                id(&mut task.id);
                if let Status::Running(lease) = &mut task.status {
                    nonce(&mut lease.nonce);
                }
            }
            if let Some(holder) = &mut redis.lock {
                id(&mut holder.task);
                nonce(&mut holder.nonce);
            }
        }
        for run in &mut self.runs {
            id(&mut run.task);
            nonce(&mut run.lease.nonce);
        }
    }
}

impl Redis {
    /// The task of this id.
    pub(super) fn task(&self, id: u8) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// [`Redis::task`], mutable.
    pub(super) fn task_mut(&mut self, id: u8) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.id == id)
    }

    /// The lease of the current run of a task.
    pub(super) fn lease(&self, id: u8) -> Option<Lease> {
        match self.task(id)?.status {
            Status::Running(lease) => Some(lease),
            Status::Ready | Status::Ended => None,
        }
    }

    /// The random texts of all leases.
    fn nonces(&self) -> impl Iterator<Item = u8> {
        let leases = self.tasks.iter().filter_map(|task| self.lease(task.id)).map(|lease| lease.nonce);
        leases.chain(self.lock.map(|holder| holder.nonce))
    }

    /// Another Redis gave all leases and the lock.
    fn disown(&mut self) {
        for task in &mut self.tasks {
            if let Status::Running(lease) = &mut task.status {
                lease.given = Given::Elsewhere;
            }
        }
        self.lock.iter_mut().for_each(|holder| holder.given = Given::Elsewhere);
    }

    /// A task whose run can do nothing more is like one that waits.
    fn end_leases(&mut self, is_over: impl Fn(Lease) -> bool) {
        for task in &mut self.tasks {
            if matches!(task.status, Status::Running(lease) if is_over(lease)) {
                task.status = Status::Ready;
            }
        }
    }

    /// Drops tasks that have ended, are in the cache, and that nothing can ask for any more.
    fn forget_tasks(&mut self, runs: &[Run]) {
        let (cache, lock) = (self.cache, self.lock);
        let is_asked_for =
            |id: u8| runs.iter().any(|run| run.task == id) || lock.is_some_and(|holder| holder.task == id);
        self.tasks.retain(|task| task.is_open() || task.change > cache || is_asked_for(task.id));
    }
}

impl Task {
    /// Whether it will be run, or is.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.status, Status::Ended)
    }
}
