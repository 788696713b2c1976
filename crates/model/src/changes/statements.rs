//! The statements of the database, the script `store.lua`, and what time does.

use super::state::{Actor, Entry, Kind, ListPrice, Pending, Read, Row, State};
use super::{Changes, Protection, Write};

impl Changes {
    /// A transaction of anyone, with its triggers.
    pub(super) fn write(&self, state: &mut State, write: Write, taken: bool) {
        state.left.writes -= 1;
        let taken = if taken { state.taken.take() } else { None };
        let version = taken.unwrap_or_else(|| state.next_version());
        let list_price = state.row.and_then(|row| row.list_price);
        let list_price = list_price.filter(|_| !self.has(Protection::UpdateResetsListPrice));
        state.row = match write {
            Write::Insert => Some(Row { version, base: version, list_price: None }),
            Write::Update => Some(Row { version, base: version, list_price }),
            Write::Delete => None,
        };
        state.committed = version;
        state.pending = Some(Pending::new(version));
    }

    /// The statement that records a list price, if there is a new one.
    pub(super) fn record(&self, state: &mut State, actor: &mut Actor) {
        let Some(Read { row: Some(read), .. }) = actor.read else { return };
        let computed = ListPrice { base: read.base, terms: actor.terms };
        let Some(row) = state.row else { return };
        let is_unchanged = row.version == read.version || !self.has(Protection::RecordByVersion);
        let recorded = row.list_price.map_or(0, |list_price| list_price.terms);
        let is_older = computed.terms < recorded;
        if !is_unchanged
            || row.list_price == Some(computed)
            || (is_older && self.has(Protection::NoOlderTerms))
        {
            return;
        }
        state.went_back |= is_older;
        let version =
            if self.has(Protection::RecordTakesVersion) { state.next_version() } else { row.version };
        let row = Row { version, list_price: Some(computed), ..row };
        state.row = Some(row);
        state.committed = version;
        actor.read = Some(Read { as_of: version, row: Some(row) });
        if self.has(Protection::RecordLeavesPending) {
            let pending = Some(Pending::new(version));
            if actor.kind == Kind::Scan {
                (state.range, actor.range) = (pending, Some(version));
            } else {
                (state.pending, actor.selected) = (pending, Some(version));
            }
        }
    }

    /// `store.lua`. Returns whether the entry that is there is not older than what the actor has.
    pub(super) fn store(&self, state: &mut State, actor: &Actor) -> bool {
        let read = actor.read.expect("invariant: an actor stores after its read");
        if actor.is_late && self.has(Protection::AgeLimit) {
            return false;
        }
        let version = match (read.row, actor.kind) {
            (Some(row), _) => row.version,
            (None, Kind::Fill) => actor.selected.unwrap_or(0),
            // A range names no product that is gone.
            (None, _) => match actor.selected {
                Some(version) => version,
                None => return true,
            },
        };
        let is_newer = state.entry.is_some_and(|entry| entry.version > version);
        if read.row.is_none() && actor.kind == Kind::Drain && !self.has(Protection::NegativeEntry) {
            state.entry = state.entry.filter(|_| is_newer);
        } else if !is_newer || !self.has(Protection::VersionedStore) {
            let is_brief = read.row.is_none() && actor.kind == Kind::Fill;
            state.entry = Some(Entry { version, product: read.row, is_brief });
        }
        true
    }

    /// The statement that marks what a drain or a scan stored.
    pub(super) fn mark(&self, state: &mut State, actor: &Actor) {
        let redis = if self.has(Protection::RedisBeforeStore) { actor.redis } else { state.redis };
        let mark = |row: &mut Option<Pending>, selected: Option<u8>| {
            let (Some(pending), Some(selected)) = (row.as_mut(), selected) else { return };
            if pending.version == selected || !self.has(Protection::MarkByVersion) {
                pending.stored_on = Some(redis);
                if !self.has(Protection::KeepStored) {
                    *row = None;
                }
            }
        };
        mark(&mut state.pending, actor.selected);
        mark(&mut state.range, actor.range);
    }

    /// The entry expires. Who read older data than it held began longer ago than its TTL. What a replica holds that
    /// is older than a product's entry has expired too; a negative entry lives for a shorter time.
    pub(super) fn expire(&self, state: &mut State) {
        let Some(entry) = state.entry.take() else { return };
        if entry.product.is_some() || state.replica == Some(entry) {
            state.replica = None;
        }
        if !entry.is_brief {
            self.pass(state, entry.version);
        }
    }

    /// Rows that were stored long ago are removed. Reads from before are beyond the age limit, and entries from before
    /// have expired.
    pub(super) fn forget(&self, state: &mut State) {
        let stored: Vec<Pending> = state.pending_rows().filter(|row| row.stored_on.is_some()).collect();
        for row in stored {
            let is_alive = |entry: &Entry| entry.version >= row.version;
            if self.has(Protection::KeepUntilExpiry) {
                state.entry = state.entry.filter(is_alive);
                state.replica = state.replica.filter(is_alive);
            }
            self.pass(state, row.version);
        }
        state.pending = state.pending.filter(|row| row.stored_on.is_none());
        state.range = state.range.filter(|row| row.stored_on.is_none());
    }

    /// An entry's TTL has passed since this version was stored.
    fn pass(&self, state: &mut State, version: u8) {
        if self.has(Protection::TimeBeforeRead) {
            let is_older = |actor: &&mut Actor| actor.read.is_some_and(|read| read.as_of < version);
            state.actors.iter_mut().filter(is_older).for_each(|actor| actor.is_late = true);
        }
    }
}
