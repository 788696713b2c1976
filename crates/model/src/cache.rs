//! The writers of one cache entry and of one list price.
//!
//! Each change of the catalogue is followed by a scan. A scan may be delayed for any time and run beside others, as a
//! scan that lost the lock does. A read that misses the entry fills it.
//!
//! **What versions cannot prevent**: Redis loses the version with the entry. A writer that read before an
//! eviction may store old data after it, which stays until it expires. [`Entry::excused`] marks these entries;
//! every other entry must be up to date.

use stateright::{Model, Property};

/// Maximum number of events from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Changes of the product or of the market, each with a scan.
    pub changes: u8,
    /// Reads that missed.
    pub fills: u8,
    /// Evictions or expiries of the entry.
    pub evictions: u8,
}

/// A rule that makes the writers safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// An entry is replaced only by an equal or higher version.
    VersionedStore,
    /// A list price is recorded only for the product that was read.
    UnchangedProduct,
    /// A list price is recorded only if no newer market was applied.
    NoOlderMarket,
}

/// The writers and their environment.
#[derive(Clone, Copy, Debug)]
pub struct Writers {
    /// Maximum number of events from outside.
    pub budget: Budget,
    /// A protection that is taken away.
    pub without: Option<Protection>,
}

/// The state that the next action depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The versions in the database.
    pub catalogue: Versions,
    /// The versions that the recorded list price was computed from.
    pub listed: Versions,
    /// The product's entry in the cache.
    pub entry: Option<Entry>,
    /// The highest version that was ever in the cache.
    pub highest: u8,
    /// Whether an entry, or a list price, was ever replaced by an older one.
    pub went_back: (bool, bool),
    /// Sorted, because their order does not matter.
    pub writers: Vec<Writer>,
    /// The events that are left.
    pub left: Budget,
}

/// Versions of the product and of the market.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Versions {
    /// Of the product.
    pub product: u8,
    /// Of the default market.
    pub market: u8,
}

/// The entry in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its version.
    pub version: u8,
    /// Whether it was read before an eviction and stored after it.
    pub excused: bool,
}

/// A scan or a fill under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Writer {
    /// Its next step.
    pub step: Step,
    /// The versions that it has read.
    pub read: Versions,
    /// Whether the entry was evicted since it read.
    pub evicted_since: bool,
}

/// The next step of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// A scan reads the market.
    ReadMarket,
    /// A scan reads the product.
    ReadProduct,
    /// A scan records the list price in the database.
    Record,
    /// A fill reads the product.
    Load,
    /// Either stores the product's entry, by `store.lua`.
    Store,
}

/// The next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The product changes, and a scan starts.
    ChangeProduct,
    /// The market changes, and a scan starts.
    ChangeMarket,
    /// A read misses.
    Miss,
    /// The entry is evicted, expires or is discarded as corrupt.
    Evict,
    /// A writer takes its next step.
    Step(usize),
}

impl State {
    fn begin(&mut self, step: Step) {
        self.writers.push(Writer { step, read: Versions::default(), evicted_since: false });
    }

    fn is_idle(&self) -> bool {
        self.writers.is_empty()
    }
}

impl Writers {
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }

    /// Carries out the next step of a writer. Returns the writer, `None` when it is done.
    fn step(&self, state: &mut State, mut writer: Writer) -> Option<Writer> {
        writer.step = match writer.step {
            Step::ReadMarket => {
                writer.read.market = state.catalogue.market;
                Step::ReadProduct
            }
            Step::ReadProduct => {
                writer.read.product = state.catalogue.product;
                Step::Record
            }
            Step::Load => {
                writer.read.product = state.catalogue.product;
                Step::Store
            }
            Step::Record => {
                self.record(state, writer.read);
                writer.read.market = 0; // not needed any more
                Step::Store
            }
            Step::Store => {
                self.store(state, &writer);
                return None;
            }
        };
        Some(writer)
    }

    /// The statement that records a list price.
    fn record(&self, state: &mut State, read: Versions) {
        let (catalogue, listed) = (state.catalogue, state.listed);
        let unchanged = read.product == catalogue.product || !self.has(Protection::UnchangedProduct);
        let no_older = read.market >= listed.market || !self.has(Protection::NoOlderMarket);
        if unchanged && no_older {
            state.went_back.1 |= read.product < listed.product || read.market < listed.market;
            state.listed = read;
        }
    }

    /// `store.lua`.
    fn store(&self, state: &mut State, writer: &Writer) {
        let (version, excused) = (writer.read.product, writer.evicted_since);
        let newer = state.entry.is_some_and(|entry| entry.version > version);
        if !newer || !self.has(Protection::VersionedStore) {
            state.went_back.0 |= newer;
            state.entry = Some(Entry { version, excused });
            state.highest = state.highest.max(version);
        }
    }
}

impl Model for Writers {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let (catalogue, listed, writers) = (Versions::default(), Versions::default(), Vec::new());
        let went_back = (false, false);
        vec![State { catalogue, listed, entry: None, highest: 0, went_back, writers, left: self.budget }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.left.changes > 0 {
            actions.extend([Action::ChangeProduct, Action::ChangeMarket]);
        }
        if state.left.fills > 0 {
            actions.push(Action::Miss);
        }
        if state.left.evictions > 0 && state.entry.is_some() {
            actions.push(Action::Evict);
        }
        actions.extend((0..state.writers.len()).map(Action::Step));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::ChangeProduct => {
                state.left.changes -= 1;
                state.catalogue.product += 1;
                state.begin(Step::ReadMarket);
            }
            Action::ChangeMarket => {
                state.left.changes -= 1;
                state.catalogue.market += 1;
                state.begin(Step::ReadMarket);
            }
            Action::Miss => {
                state.left.fills -= 1;
                state.begin(Step::Load);
            }
            Action::Evict => {
                state.left.evictions -= 1;
                state.entry = None;
                let has_read = |writer: &&mut Writer| matches!(writer.step, Step::Record | Step::Store);
                state.writers.iter_mut().filter(has_read).for_each(|writer| writer.evicted_since = true);
            }
            Action::Step(index) => {
                let writer = state.writers.remove(index);
                let next = self.step(&mut state, writer);
                state.writers.extend(next);
            }
        }
        state.writers.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("an entry is never replaced by an older one", |_, state: &State| {
                !state.went_back.0
            }),
            Property::always("a list price is never replaced by an older one", |_, state: &State| {
                !state.went_back.1
            }),
            Property::always("an older entry is back only across an eviction", |_, state: &State| {
                state.entry.is_none_or(|entry| entry.version >= state.highest || entry.excused)
            }),
            Property::always("when all has ended, an entry is up to date or excused", |_, state: &State| {
                let right = |entry: Entry| entry.version == state.catalogue.product || entry.excused;
                !state.is_idle() || state.entry.is_none_or(right)
            }),
            Property::always("when all has ended, the list price is up to date", |_, state: &State| {
                !state.is_idle() || state.listed == state.catalogue
            }),
            Property::sometimes(OLD_AFTER_EVICTION, |_, state: &State| {
                state.is_idle() && state.entry.is_some_and(|entry| entry.version < state.catalogue.product)
            }),
        ]
    }
}

/// The documented limit. The exploration must reach it.
pub const OLD_AFTER_EVICTION: &str = "an old entry is stored after an eviction";
