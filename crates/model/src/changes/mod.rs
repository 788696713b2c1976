//! Changes of the catalogue on their way to the cache: one product, its row of `pending_changes`, its entry.
//!
//! Anyone changes the product by SQL at any time. Drains follow `pending_changes`; a scan recalculates; a read that
//! misses fills the cache. They run side by side with any delay, and each may die after any step. Redis may lose its
//! latest stores to a failover.
//!
//! **Time** is the order of events, with these bounds. The age limit of a read is at most the TTL of any entry, but for
//! the negative entries of fills. So when an entry expires, a read of older data is beyond the age limit. A stored row
//! is kept for the age limit, and then the longest TTL, and then the lag of a replica. So when it is removed, a read of
//! older data is beyond the age limit, and an older entry has expired, also on the replica.

mod state;
mod statements;
mod steps;

use stateright::{Model, Property};

pub use state::{Actor, Entry, Kind, ListPrice, Pending, Read, Row, State, Step};

/// Drains at a time.
const DRAINS: usize = 2;

/// Maximum number of events from outside. Drains, scans and fills begin and die as often as they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Changes of the product by SQL: an insert, an update or a deletion.
    pub writes: u8,
    /// Changes of what list prices are computed with.
    pub terms: u8,
    /// Failovers of Redis.
    pub failovers: u8,
    /// Scans at a time.
    pub scans: u8,
    /// Fills at a time.
    pub fills: u8,
}

/// A rule that makes every change reach the cache, or an assumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// A transaction locks the key before it takes a version.
    LockBeforeVersion,
    /// A change of the base price removes the list price.
    UpdateResetsListPrice,
    /// A list price is recorded only for the version that was read.
    RecordByVersion,
    /// A list price is not replaced by one that was computed with older terms.
    NoOlderTerms,
    /// A list price that is recorded takes a version.
    RecordTakesVersion,
    /// A list price that is recorded leaves a pending row.
    RecordLeavesPending,
    /// A drain selects the pending rows before it reads the product.
    SelectBeforeRead,
    /// A row is marked as stored only if it has the version that was selected or recorded.
    MarkByVersion,
    /// A row is marked as stored only if the cache took the entry or has a newer one.
    MarkOnlyIfStored,
    /// A row is marked with the Redis that was known before the store.
    RedisBeforeStore,
    /// A stored row is kept, and is pending again under another Redis.
    KeepStored,
    /// A stored row is kept until every older entry has expired, also one that a slow reader stored after it.
    KeepUntilExpiry,
    /// A deletion is stored as a negative entry. Without it, the entry is removed.
    NegativeEntry,
    /// An entry is replaced only by an equal or higher version.
    VersionedStore,
    /// What was read longer ago than a negative entry lives is not stored.
    AgeLimit,
    /// The time of a read is taken before the read.
    TimeBeforeRead,
    /// Assumption: the clock of Redis does not go back, neither by itself nor by a failover.
    ClockOnlyAdvances,
    /// Assumption: no entry is evicted before its TTL ends.
    NoEviction,
}

/// The database, Redis and those that carry changes from one to the other.
#[derive(Clone, Copy, Debug)]
pub struct Changes {
    /// Maximum number of events from outside.
    pub budget: Budget,
    /// A protection that is taken away.
    pub without: Option<Protection>,
}

/// The next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A transaction takes its version, before it locks the key.
    TakeVersion,
    /// A transaction that inserts, updates or deletes the product commits.
    Write(Write, bool),
    /// The terms of list prices change.
    ChangeTerms,
    /// A drain, a scan or a fill begins.
    Begin(Kind),
    /// One of them takes its next step.
    Step(usize),
    /// One of them dies.
    Die(usize),
    /// One of them is paused for longer than a negative entry lives.
    Pause(usize),
    /// The entry expires.
    Expire,
    /// The entry is evicted.
    Evict,
    /// The replica catches up.
    Replicate,
    /// The replica is promoted.
    FailOver,
    /// A row that was stored long ago is removed.
    Forget,
}

/// A statement of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Of the product, which is not there.
    Insert,
    /// Of the base price.
    Update,
    /// Of the product.
    Delete,
}

impl Changes {
    /// Whether this protection is in place.
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }

    /// Maps states that differ only in what cannot matter any more to one state.
    fn tidy(&self, state: &mut State) {
        let ends = [Protection::AgeLimit, Protection::MarkOnlyIfStored, Protection::ClockOnlyAdvances];
        if ends.into_iter().all(|protection| self.has(protection)) {
            state.actors.retain(|actor| !(actor.is_late && actor.step == Step::Store));
        }
        state.actors.iter_mut().for_each(Actor::tidy);
        state.actors.sort_unstable();
        if state.left.failovers == 0 {
            state.replica = None;
        }
        state.renumber();
    }
}

impl Model for Changes {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.budget)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let left = state.left;
        if left.writes > 0 {
            let writes: &[Write] =
                if state.row.is_some() { &[Write::Update, Write::Delete] } else { &[Write::Insert] };
            actions.extend(writes.iter().map(|write| Action::Write(*write, false)));
            if state.taken.is_some() {
                actions.extend(writes.iter().map(|write| Action::Write(*write, true)));
            } else if !self.has(Protection::LockBeforeVersion) {
                actions.push(Action::TakeVersion);
            }
        }
        if left.terms > 0 {
            actions.push(Action::ChangeTerms);
        }
        let count = |kind| state.actors.iter().filter(|actor| actor.kind == kind).count();
        if count(Kind::Drain) < DRAINS && state.is_due() {
            actions.push(Action::Begin(Kind::Drain));
        }
        if count(Kind::Scan) < usize::from(left.scans) {
            actions.push(Action::Begin(Kind::Scan));
        }
        if count(Kind::Fill) < usize::from(left.fills) {
            actions.push(Action::Begin(Kind::Fill));
        }
        for (index, actor) in state.actors.iter().enumerate() {
            actions.extend([Action::Step(index), Action::Die(index)]);
            if actor.read.is_some() && !actor.is_late && self.has(Protection::TimeBeforeRead) {
                actions.push(Action::Pause(index));
            }
        }
        if state.entry.is_some() {
            actions.push(Action::Expire);
            if !self.has(Protection::NoEviction) {
                actions.push(Action::Evict);
            }
        }
        if left.failovers > 0 {
            actions.push(Action::FailOver);
            if state.replica != state.entry {
                actions.push(Action::Replicate);
            }
        }
        if state.pending_rows().any(|row| row.stored_on.is_some()) {
            actions.push(Action::Forget);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::TakeVersion => state.taken = Some(state.next_version()),
            Action::Write(write, taken) => self.write(&mut state, write, taken),
            Action::ChangeTerms => {
                state.left.terms -= 1;
                state.terms += 1;
            }
            Action::Begin(kind) => {
                let actor = self.begin(&state, kind);
                state.actors.push(actor);
            }
            Action::Step(index) => {
                let actor = state.actors.remove(index);
                let next = self.step(&mut state, actor);
                state.actors.extend(next);
            }
            Action::Die(index) => drop(state.actors.remove(index)),
            Action::Pause(index) => state.actors[index].is_late = true,
            Action::Expire => self.expire(&mut state),
            Action::Evict => state.entry = None,
            Action::Replicate => state.replica = state.entry,
            Action::FailOver => {
                state.left.failovers -= 1;
                state.redis += 1;
                state.entry = state.replica;
                if !self.has(Protection::ClockOnlyAdvances) {
                    state.actors.iter_mut().for_each(|actor| actor.is_late = false);
                }
            }
            Action::Forget => self.forget(&mut state),
        }
        self.tidy(&mut state);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("an entry is up to date unless a change is pending", |_, state: &State| {
                state.is_due() || state.entry.is_none_or(|entry| state.is_up_to_date(entry))
            }),
            Property::always("a drain alone brings the cache up to date", |model: &Changes, state| {
                let state = model.drain(state);
                !state.is_due() && state.entry.is_none_or(|entry| state.is_up_to_date(entry))
            }),
            Property::always("a list price is of the base price beside it", |_, state: &State| {
                let is_right = |row: Row| row.list_price.is_none_or(|list_price| list_price.base == row.base);
                state.row.is_none_or(is_right)
            }),
            Property::always("a list price is never replaced by one of older terms", |_, state: &State| {
                !state.went_back
            }),
            Property::sometimes(PENDING_AGAIN, |_, state: &State| {
                state.pending_rows().any(|row| row.stored_on.is_some_and(|redis| redis != state.redis))
            }),
        ]
    }
}

/// The exploration reaches it if Redis may fail over.
pub const PENDING_AGAIN: &str = "a change that was stored is pending again";
