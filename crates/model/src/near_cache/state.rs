//! The state of the servers, the connections and the process.

use super::Budget;

/// The state that the next action depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The versions that the servers hold: the first primary, then what was promoted.
    pub redis: Vec<u8>,
    /// The server of the tracked connection; `None` if there is no such connection.
    pub tracked: Option<usize>,
    /// Whether the tracked connection has ended and the entry is not dropped yet.
    pub is_ending: bool,
    /// Whether the tracked server has written the key in this turn of its event loop.
    pub is_changed: bool,
    /// The tracked connection, oldest first.
    pub wire: Vec<Item>,
    /// The server of the second connection.
    pub second: usize,
    /// What the near-cache keeps.
    pub kept: Option<Entry>,
    /// Reads under way, sorted: it does not matter which one is which.
    pub readers: Vec<Reader>,
    /// A write of this process that Redis has carried out and that has not returned.
    pub store: Option<Entry>,
    /// The highest version that was served of each server.
    pub served: Vec<u8>,
    /// The highest version that this process has stored on each server.
    pub stored: Vec<u8>,
    /// Whether a hit was older than what had been served of the same server.
    pub went_back: bool,
    /// Whether a hit was older than what this process had stored on the same server.
    pub missed_own_write: bool,
    /// The events that are left.
    pub left: Budget,
}

/// A version, and the server that it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// The version.
    pub version: u8,
    /// The server.
    pub server: usize,
}

/// What the process is going to read from the tracked connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    /// An invalidation.
    Invalidation,
    /// The reply to a read.
    Reply(Reader),
}

/// The connection that a read asks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Connection {
    /// The tracked one.
    Tracked,
    /// A tracked one that has ended. It may still answer.
    Ended,
    /// The second one.
    Second,
    /// The second one, without the near-cache.
    Untracked,
}

/// A read that is not a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reader {
    /// Its next step.
    pub step: Step,
    /// The connection that it asks on.
    pub connection: Connection,
    /// The server that was tracked when it began.
    pub tracked: Option<usize>,
    /// The lowest version that was not refused since it took its ticket.
    pub refused_below: u8,
    /// The reply.
    pub reply: Option<Entry>,
}

/// The next step of a read that is not a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// It learns which connection is tracked.
    Begin,
    /// Redis answers it.
    Ask,
    /// It keeps the reply and serves it.
    Keep,
}

impl State {
    pub(super) fn new(left: Budget) -> Self {
        Self {
            redis: vec![0],
            tracked: Some(0),
            is_ending: false,
            is_changed: false,
            wire: Vec::new(),
            second: 0,
            kept: None,
            readers: Vec::new(),
            store: None,
            served: vec![0],
            stored: vec![0],
            went_back: false,
            missed_own_write: false,
            left,
        }
    }

    pub(super) fn servers(&self) -> usize {
        self.redis.len()
    }

    pub(super) fn primary(&self) -> usize {
        self.servers() - 1
    }

    /// Whether an open near-cache holds an older version than its server.
    pub(super) fn is_outdated(&self) -> bool {
        self.tracked.is_some_and(|server| self.kept.is_some_and(|kept| kept.version < self.redis[server]))
    }

    /// Whether all invalidations were applied.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_changed && !self.wire.contains(&Item::Invalidation)
    }

    /// Writes the next version on a server.
    pub(super) fn write(&mut self, server: usize) -> Entry {
        let version = self.redis.iter().max().map_or(0, |version| version + 1);
        self.redis[server] = version;
        self.is_changed |= self.tracked == Some(server);
        Entry { version, server }
    }

    pub(super) fn promote(&mut self, loses: bool) {
        let latest = self.redis[self.primary()];
        self.redis.push(latest - u8::from(loses));
        self.served.push(0);
        self.stored.push(0);
    }

    /// Keeps no reply of a read that is under way.
    pub(super) fn refuse(&mut self) {
        self.refuse_below(u8::MAX);
    }

    /// Keeps no reply of a read that is under way if it is below this version.
    pub(super) fn refuse_below(&mut self, version: u8) {
        self.readers_mut().for_each(|reader| reader.refused_below = reader.refused_below.max(version));
    }

    fn readers_mut(&mut self) -> impl Iterator<Item = &mut Reader> {
        let on_wire = self.wire.iter_mut().filter_map(|item| match item {
            Item::Reply(reader) => Some(reader),
            Item::Invalidation => None,
        });
        self.readers.iter_mut().chain(on_wire)
    }

    /// Ends the tracked connection: its invalidations are lost; its replies may still come.
    pub(super) fn end(&mut self) {
        self.tracked = None;
        self.is_ending = true;
        self.is_changed = false;
        let replies = std::mem::take(&mut self.wire).into_iter();
        self.readers.extend(replies.filter_map(|item| match item {
            Item::Reply(reader) => Some(reader),
            Item::Invalidation => None,
        }));
        for reader in &mut self.readers {
            if reader.connection == Connection::Tracked && reader.tracked.is_some() {
                reader.connection = Connection::Ended;
            }
        }
    }

    /// A read that knows which connection is tracked.
    pub(super) fn begun(&self, reader: Reader) -> Reader {
        match self.tracked {
            Some(server) => Reader { tracked: Some(server), ..reader },
            None => Reader { connection: Connection::Untracked, ..reader },
        }
    }

    /// Whether a read can take its next step: which connection is tracked is not told while one is ending.
    pub(super) fn may_step(&self, index: usize) -> bool {
        let reader = &self.readers[index];
        reader.step != Step::Begin || reader.tracked.is_some() || !self.is_ending
    }

    pub(super) fn serve(&mut self, entry: Entry) {
        let served = &mut self.served[entry.server];
        *served = entry.version.max(*served);
    }

    pub(super) fn hit(&mut self) {
        let Some(kept) = self.kept else { return };
        self.went_back |= kept.version < self.served[kept.server];
        self.missed_own_write |= kept.version < self.stored[kept.server];
        self.serve(kept);
    }

    /// Maps states that differ only in what cannot matter any more to one state.
    pub(super) fn tidy(&mut self) {
        for reader in self.readers_mut() {
            if reader.connection == Connection::Untracked {
                reader.refused_below = u8::MAX;
            }
        }
        self.readers.sort_unstable();
    }
}
