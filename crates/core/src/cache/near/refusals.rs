//! Which replies of reads under way may not be kept.

/// Number of refusals that are remembered: as many as eight batches of 500 products make in one of 64 shards.
const REMEMBERED: usize = 64;

/// How many refusals there were when a read began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::cache) struct Ticket(u64);

/// The latest refusals of a shard: each is of replies that hold a version of a key below a given one, if their reads began
/// before it.
///
/// They are remembered by key. A generation of the shard, which each of them would move, would refuse the replies for all
/// other keys as well: of a batch of 500 products a full near-cache would keep 64.
pub(super) struct Refusals {
    /// Hash of the key, and the lowest version that is not refused; a ring.
    latest: [(u64, u64); REMEMBERED],
    /// Number of refusals so far.
    count: u64,
}

impl Refusals {
    /// For a read that begins now.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket(self.count)
    }

    /// Refuses replies with versions of a key below this one.
    pub(super) fn refuse_below(&mut self, hash: u64, version: u64) {
        self.latest[self.count as usize % REMEMBERED] = (hash, version);
        self.count += 1;
    }

    /// Refuses replies for a key.
    pub(super) fn refuse(&mut self, hash: u64) {
        self.refuse_below(hash, u64::MAX);
    }

    /// Refuses all replies.
    pub(super) fn refuse_all(&mut self) {
        self.count += REMEMBERED as u64 + 1;
    }

    /// Whether a reply may be kept: it was not refused since its read began, as far as that is remembered.
    pub(super) fn allow(&self, hash: u64, version: u64, Ticket(begun): Ticket) -> bool {
        let is_refused = |n| {
            let (key, lowest) = self.latest[n as usize % REMEMBERED];
            key == hash && version < lowest
        };
        self.count - begun <= REMEMBERED as u64 && !(begun..self.count).any(is_refused)
    }
}

impl Default for Refusals {
    fn default() -> Self {
        Self { latest: [(0, 0); REMEMBERED], count: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_below_a_version_are_refused_until_too_many_refusals_came_after() {
        let mut refusals = Refusals::default();
        let before = refusals.ticket();
        refusals.refuse_below(7, 5);
        assert!(!refusals.allow(7, 4, before));
        assert!(refusals.allow(7, 5, before), "the same version");
        assert!(refusals.allow(8, 4, before), "another key");
        assert!(refusals.allow(7, 4, refusals.ticket()), "a read that began later");
        for n in 1..REMEMBERED as u64 {
            refusals.refuse(100 + n);
        }
        assert!(!refusals.allow(7, 4, before));
        assert!(refusals.allow(8, 4, before));
        refusals.refuse(9);
        assert!(!refusals.allow(8, 4, before), "what is forgotten may have been a refusal of it");
    }

    #[test]
    fn every_reply_is_refused_if_all_are() {
        let mut refusals = Refusals::default();
        let before = refusals.ticket();
        refusals.refuse_all();
        assert!(!refusals.allow(7, u64::MAX, before));
        assert!(refusals.allow(7, 1, refusals.ticket()));
    }
}
