//! The steps of the process: reads, and what drops entries.

use super::state::{Connection, Entry, Item, Reader, State, Step};
use super::{NearCache, Protection};

impl NearCache {
    /// Drops the entry, which is invalidated, and keeps no reply of a read that is under way.
    pub(super) fn forget(&self, state: &mut State) {
        state.kept = None;
        if self.has(Protection::InvalidationRefuses) {
            state.refuse();
        }
    }

    /// Begins a read.
    pub(super) fn read(&self, state: &mut State, connection: Connection) {
        state.left.misses -= 1;
        let new = Reader { step: Step::Begin, connection, tracked: None, refused_below: 0, reply: None };
        let reader = match connection {
            Connection::Untracked => Reader { step: Step::Ask, ..new },
            _ if self.has(Protection::TicketBeforeConnection) => new,
            _ => state.begun(new),
        };
        state.readers.push(reader);
    }

    /// Carries out the next step of a read.
    pub(super) fn step(&self, state: &mut State, mut reader: Reader) {
        match reader.step {
            Step::Begin => {
                reader = match self.has(Protection::TicketBeforeConnection) {
                    true => state.begun(reader),
                    false => Reader { refused_below: 0, ..reader },
                };
                state.readers.push(Reader { step: Step::Ask, ..reader });
            }
            Step::Ask => {
                let server = match reader.connection {
                    Connection::Tracked | Connection::Ended => reader.tracked.unwrap_or(state.second),
                    Connection::Second | Connection::Untracked => state.second,
                };
                reader.reply = Some(Entry { version: state.redis[server], server });
                if self.has(Protection::SameServer) && reader.tracked != Some(server) {
                    reader.connection = Connection::Untracked;
                }
                reader.step = Step::Keep;
                match reader.connection {
                    Connection::Tracked => state.wire.push(Item::Reply(reader)),
                    _ => state.readers.push(reader),
                }
            }
            Step::Keep => {
                if !self.has(Protection::TicketBeforeRead) {
                    reader.refused_below = 0;
                }
                if let Some(reply) = reader.reply {
                    self.keep(state, reader, reply);
                    state.serve(reply);
                }
            }
        }
    }

    /// Keeps a reply, if it was not refused since its read began.
    fn keep(&self, state: &mut State, reader: Reader, reply: Entry) {
        let is_tracked = reader.connection != Connection::Untracked;
        if !is_tracked && !self.has(Protection::UntrackedVersion) {
            return;
        }
        let is_kept = is_tracked && reply.version >= reader.refused_below;
        if let Some(kept) = state.kept {
            if kept.version > reply.version && (self.has(Protection::NoOlderVersion) || !is_kept) {
                return;
            }
            if kept.version < reply.version && (self.has(Protection::NewerVersionDrops) || is_kept) {
                state.kept = None;
            }
        }
        match is_kept {
            true => state.kept = Some(reply),
            false if self.has(Protection::NewerVersionRefuses) => state.refuse_below(reply.version),
            false => {}
        }
    }
}
