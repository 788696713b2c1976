//! One key in the near-cache of one process, beside Redis and its invalidations.
//!
//! The process reads on the connection that Redis invalidates on (*tracked*), and on a second one, which has its writes
//! as well. A reply that was read from a connection may be handled at any time later. Redis sends an invalidation at the
//! end of a turn of its event loop, so **the reply to a later command of the same turn comes before it**. After a
//! failover the old primary goes on answering, and each connection may lead to either server.
//!
//! Checked, in any order of events:
//!
//! - Once all invalidations were applied, no entry is older than the tracked server has it.
//! - No hit is older than what this process has served before, whoever served it, or stored before. Both are promised
//!   among versions of one server: what one server gave may be unknown to the other one ([`BACK_BETWEEN_SERVERS`]).
//!
//! Left out: time. An entry is outdated for as long as its invalidation takes ([`OUTDATED`]). Versions of one server only
//! grow: if Redis evicts an entry, it loses the version with it, which [`cache`](crate::cache) is about. A deletion is a
//! version like any other. Another key of the shard matters only because its refusals may take the place of those of this
//! key.

mod reads;
mod state;

use stateright::{Model, Property};

pub use state::{Connection, Entry, Item, Reader, State, Step};

/// Maximum number of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Reads that the near-cache has no entry for.
    pub misses: u8,
    /// Writes of other processes.
    pub writes: u8,
    /// Writes of this process.
    pub own_writes: u8,
    /// Ends of the tracked connection.
    pub ends: u8,
    /// Evictions from the near-cache.
    pub evictions: u8,
    /// Expiries in the near-cache.
    pub expiries: u8,
    /// Times that there are more refusals than are remembered.
    pub overflows: u8,
    /// Promotions of a replica.
    pub failovers: u8,
}

/// A rule that makes the near-cache coherent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// An invalidation refuses the replies of reads that began before it.
    InvalidationRefuses,
    /// A read begins, as far as that is concerned, before it is sent.
    TicketBeforeRead,
    /// And before it learns which connection is tracked.
    TicketBeforeConnection,
    /// The end of the tracked connection drops the entry.
    DropAtEnd,
    /// A reply of the second connection is kept only if it comes from the server that is tracked.
    SameServer,
    /// A reply replaces no newer version.
    NoOlderVersion,
    /// A newer version drops an older one also if it is not kept itself.
    NewerVersionDrops,
    /// If it is not kept, older replies of reads that began before are refused.
    NewerVersionRefuses,
    /// Both hold also for replies that may not be kept because their connection is not tracked.
    UntrackedVersion,
    /// An eviction refuses older replies of reads that began before.
    EvictionRefuses,
    /// Likewise an expiry.
    ExpiryRefuses,
    /// A write of this process drops the entry before it returns.
    OwnWriteDrops,
}

/// The near-cache and its environment.
#[derive(Clone, Copy, Debug)]
pub struct NearCache {
    /// Maximum number of events.
    pub budget: Budget,
    /// A protection that is taken away.
    pub without: Option<Protection>,
}

/// The next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Another process writes.
    Write,
    /// This process writes: Redis has carried it out.
    Store,
    /// The write of this process returns.
    Stored,
    /// The turn of the event loop of Redis ends: it sends the invalidation.
    Invalidate,
    /// The process reads from the tracked connection.
    Receive,
    /// A read is served by the near-cache.
    Hit,
    /// A read begins that the near-cache has no entry for, or that is not to ask it.
    Read(Connection),
    /// A read finds that the entry has expired.
    ReadExpired(Connection),
    /// A read takes its next step.
    Step(usize),
    /// The tracked connection opens, and leads to this server.
    Open(usize),
    /// The tracked connection ends, or does not answer in time.
    End,
    /// The end of the tracked connection drops the entry.
    DropAtEnd,
    /// The near-cache evicts the entry.
    Evict,
    /// There are more refusals than are remembered: the replies of all reads under way are refused.
    Overflow,
    /// A replica is promoted, which has the latest version or lacks it.
    Promote {
        /// Whether it lacks the latest version.
        loses: bool,
    },
    /// The second connection leaves the old primary.
    MoveSecond,
}

impl NearCache {
    /// Whether this protection is in place.
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }
}

impl Model for NearCache {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.budget)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let left = state.left;
        let mut possible = |is_possible: bool, action| actions.extend(is_possible.then_some(action));
        possible(left.writes > 0, Action::Write);
        possible(left.own_writes > 0 && state.store.is_none(), Action::Store);
        possible(state.store.is_some(), Action::Stored);
        possible(state.is_changed, Action::Invalidate);
        possible(!state.wire.is_empty(), Action::Receive);
        let is_kept = state.kept.is_some();
        possible(is_kept, Action::Hit);
        for connection in [Connection::Tracked, Connection::Second] {
            possible(!is_kept && left.misses > 0, Action::Read(connection));
            possible(is_kept && left.misses > 0 && left.expiries > 0, Action::ReadExpired(connection));
        }
        possible(left.misses > 0, Action::Read(Connection::Untracked));
        for index in 0..state.readers.len() {
            possible(state.may_step(index), Action::Step(index));
        }
        for server in 0..state.servers() {
            possible(state.tracked.is_none() && !state.is_ending, Action::Open(server));
        }
        possible(state.tracked.is_some() && left.ends > 0, Action::End);
        possible(state.is_ending, Action::DropAtEnd);
        possible(state.kept.is_some() && left.evictions > 0, Action::Evict);
        possible(!state.readers.is_empty() && left.overflows > 0, Action::Overflow);
        possible(left.failovers > 0, Action::Promote { loses: false });
        possible(left.failovers > 0 && state.redis[state.primary()] > 0, Action::Promote { loses: true });
        possible(state.second + 1 < state.servers(), Action::MoveSecond);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Write => {
                state.left.writes -= 1;
                state.write(state.primary());
            }
            Action::Store => {
                state.left.own_writes -= 1;
                state.store = Some(state.write(state.second));
            }
            Action::Stored => {
                let Entry { version, server } = state.store.take()?;
                if self.has(Protection::OwnWriteDrops) {
                    self.forget(&mut state);
                }
                state.stored[server] = version;
            }
            Action::Invalidate => {
                state.is_changed = false;
                state.wire.push(Item::Invalidation);
            }
            Action::Receive => match state.wire.remove(0) {
                Item::Invalidation => self.forget(&mut state),
                Item::Reply(reader) => state.readers.push(reader),
            },
            Action::Hit => state.hit(),
            Action::Read(connection) => self.read(&mut state, connection),
            Action::ReadExpired(connection) => {
                state.left.expiries -= 1;
                let expired = state.kept.take()?;
                if self.has(Protection::ExpiryRefuses) {
                    state.refuse_below(expired.version);
                }
                self.read(&mut state, connection);
            }
            Action::Step(index) => {
                let reader = state.readers.remove(index);
                self.step(&mut state, reader);
            }
            Action::Open(server) => state.tracked = Some(server),
            Action::End => {
                state.left.ends -= 1;
                state.end();
            }
            Action::DropAtEnd => {
                state.is_ending = false;
                if self.has(Protection::DropAtEnd) {
                    self.forget(&mut state);
                }
            }
            Action::Evict => {
                state.left.evictions -= 1;
                let evicted = state.kept.take()?;
                if self.has(Protection::EvictionRefuses) {
                    state.refuse_below(evicted.version);
                }
            }
            Action::Overflow => {
                state.left.overflows -= 1;
                state.refuse();
            }
            Action::Promote { loses } => {
                state.left.failovers -= 1;
                state.promote(loses);
            }
            Action::MoveSecond => state.second += 1,
        }
        state.tidy();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(STAYS_OUTDATED, |_, state: &State| !state.is_quiet() || !state.is_outdated()),
            Property::always(HIT_GOES_BACK, |_, state: &State| !state.went_back),
            Property::always(OWN_WRITE_IS_MISSED, |_, state: &State| !state.missed_own_write),
            Property::sometimes(OUTDATED, |_, state: &State| state.is_outdated()),
            Property::sometimes(BACK_BETWEEN_SERVERS, |_, state: &State| {
                state.kept.is_some_and(|kept| state.served.iter().any(|served| *served > kept.version))
            }),
        ]
    }
}

/// What must not be.
pub const STAYS_OUTDATED: &str = "an entry is older than in Redis though all invalidations were applied";
/// What must not be, among versions of one server.
pub const HIT_GOES_BACK: &str = "a hit is older than what was served before";
/// What must not be, among versions of one server.
pub const OWN_WRITE_IS_MISSED: &str = "a hit is older than what this process has stored";
/// The documented limit: an invalidation takes its time. The exploration must reach it.
pub const OUTDATED: &str = "a hit is older than Redis while the invalidation is on its way";
/// The documented exception: a version that one server gave is not on the other one. The exploration must reach it.
pub const BACK_BETWEEN_SERVERS: &str = "a hit goes back to what another server has";
