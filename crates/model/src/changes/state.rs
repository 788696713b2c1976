//! The state of the database, of Redis and of those that carry changes from one to the other.

use super::Budget;

/// The state that the next action depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The last version that the sequence gave.
    pub sequence: u8,
    /// The version of the last change of the product that was committed, also of a deletion.
    pub committed: u8,
    /// A version that was taken before the key was locked.
    pub taken: Option<u8>,
    /// The product.
    pub row: Option<Row>,
    /// What list prices are computed with.
    pub terms: u8,
    /// The product's row in `pending_changes`.
    pub pending: Option<Pending>,
    /// The row in `pending_changes` for the range of ids of a scan's batch.
    pub range: Option<Pending>,
    /// Which Redis is the primary: its `master_replid`.
    pub redis: u8,
    /// The product's entry in the cache.
    pub entry: Option<Entry>,
    /// The entry on the replica, which may lag behind.
    pub replica: Option<Entry>,
    /// Drains, scans and fills under way. Sorted, because their order does not matter.
    pub actors: Vec<Actor>,
    /// Whether a list price was ever replaced by one of older terms.
    pub went_back: bool,
    /// The events that are left.
    pub left: Budget,
}

/// A row of the table of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    /// Of the last change.
    pub version: u8,
    /// The base price, named after the version that set it.
    pub base: u8,
    /// `None` is `NULL`: the base price.
    pub list_price: Option<ListPrice>,
}

/// What a list price was computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListPrice {
    /// The base price.
    pub base: u8,
    /// The terms.
    pub terms: u8,
}

/// A row of `pending_changes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pending {
    /// Of the change.
    pub version: u8,
    /// The Redis that the change was stored on.
    pub stored_on: Option<u8>,
}

/// An entry in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its version.
    pub version: u8,
    /// `None` is a negative entry.
    pub product: Option<Row>,
    /// Whether its TTL is shorter than the age limit: a fill found no product.
    pub is_brief: bool,
}

/// A drain, a scan or a fill under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Actor {
    /// What it is.
    pub kind: Kind,
    /// Its next step.
    pub step: Step,
    /// Whether it began longer ago than a negative entry lives.
    pub is_late: bool,
    /// The Redis that it knew when it began.
    pub redis: u8,
    /// The terms that it computes with.
    pub terms: u8,
    /// The version of the product's pending row that it selected or wrote. Of a fill, the version that it saw in the
    /// cache.
    pub selected: Option<u8>,
    /// The version of the range's pending row that it selected or wrote.
    pub range: Option<u8>,
    /// What it read, `None` before.
    pub read: Option<Read>,
}

/// What was read from the table of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Read {
    /// The version of the last change that was committed then.
    pub as_of: u8,
    /// The product.
    pub row: Option<Row>,
}

/// Who carries a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Follows `pending_changes`.
    Drain,
    /// Recalculates all products.
    Scan,
    /// Follows a read that missed.
    Fill,
}

/// The next step of an actor: a statement of the database, or a script of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// A drain selects pending rows.
    Select,
    /// Reads the product.
    Read,
    /// Records the list price.
    Record,
    /// Stores the entry.
    Store,
    /// Marks the pending rows as stored.
    Mark,
}

impl State {
    /// The state before anything has happened: a product that the cache does not hold.
    pub(super) fn new(left: Budget) -> Self {
        Self {
            sequence: 1,
            committed: 1,
            taken: None,
            row: Some(Row { version: 1, base: 1, list_price: Some(ListPrice { base: 1, terms: 0 }) }),
            terms: 0,
            pending: None,
            range: None,
            redis: 0,
            entry: None,
            replica: None,
            actors: Vec::new(),
            went_back: false,
            left,
        }
    }

    /// Numbers the versions anew, from 1: only their order matters.
    pub(super) fn renumber(&mut self) {
        let mut used = 0_u64;
        self.versions(|version| used |= 1 << *version);
        let numbered = |version: u8| (used & ((2 << version) - 2)).count_ones() as u8;
        self.versions(|version| *version = numbered(*version));
        self.sequence = (used & !1).count_ones() as u8;
    }

    /// Visits all versions.
    fn versions(&mut self, mut visit: impl FnMut(&mut u8)) {
        visit(&mut self.committed);
        self.taken.iter_mut().for_each(&mut visit);
        self.row.iter_mut().for_each(|row| row.versions(&mut visit));
        self.pending.iter_mut().chain(&mut self.range).for_each(|row| visit(&mut row.version));
        for entry in self.entry.iter_mut().chain(&mut self.replica) {
            visit(&mut entry.version);
            entry.product.iter_mut().for_each(|row| row.versions(&mut visit));
        }
        for actor in &mut self.actors {
            actor.selected.iter_mut().chain(&mut actor.range).for_each(&mut visit);
            if let Some(read) = &mut actor.read {
                visit(&mut read.as_of);
                read.row.iter_mut().for_each(|row| row.versions(&mut visit));
            }
        }
    }

    /// A new version from the sequence.
    pub(super) fn next_version(&mut self) -> u8 {
        self.sequence += 1;
        self.sequence
    }

    /// Whether a change is pending: not stored, or stored on another Redis.
    pub(super) fn is_due(&self) -> bool {
        self.pending_rows().any(|row| row.is_due(self.redis))
    }

    /// The rows of `pending_changes`.
    pub(super) fn pending_rows(&self) -> impl Iterator<Item = Pending> {
        self.pending.into_iter().chain(self.range)
    }

    /// Whether an entry shows what is in the database.
    pub(super) fn is_up_to_date(&self, entry: Entry) -> bool {
        entry.product == self.row
    }
}

impl Row {
    /// Visits its versions.
    fn versions(&mut self, mut visit: impl FnMut(&mut u8)) {
        visit(&mut self.version);
        visit(&mut self.base);
        self.list_price.iter_mut().for_each(|list_price| visit(&mut list_price.base));
    }
}

impl Actor {
    /// Clears what it does not need any more.
    pub(super) fn tidy(&mut self) {
        if self.kind == Kind::Fill || self.step >= Step::Store {
            self.terms = 0;
        }
        if self.kind == Kind::Fill {
            self.redis = 0;
            // Only a negative entry of a fill needs the version that it saw.
            self.selected = self.selected.filter(|_| self.read.is_none_or(|read| read.row.is_none()));
        }
        if self.step == Step::Mark {
            (self.read, self.is_late) = (None, false);
        }
    }
}

impl Pending {
    /// A row for a change that was made just now.
    pub(super) fn new(version: u8) -> Self {
        Self { version, stored_on: None }
    }

    /// Whether the change is to be stored on this Redis.
    pub(super) fn is_due(self, redis: u8) -> bool {
        self.stored_on != Some(redis)
    }
}
