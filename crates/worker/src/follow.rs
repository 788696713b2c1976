//! Follows changes of the catalogue: each is in the cache soon after its commit, without any event.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pricing_core::cache::{Entry, Kind, Server};
use pricing_core::catalogue::{ChangeOrder, ChangeOrigin, ChangeSignal, Locked, PendingChange};
use pricing_core::causes::causes;
use pricing_core::clock::{millis, now_ms};
use pricing_core::ids::{Location, ProductId, TaskId};
use pricing_core::price::Market;
use pricing_core::trace::integer;
use pricing_queue::Backoff;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use crate::metrics;
use crate::scan::{ScanError, Scanner, in_time};

/// Maximum changes of one batch.
const BATCH: usize = 500;
/// Ranges of products that are stored with one batch; others stay pending.
const RANGES: usize = 4;
/// Products of a range that are read at a time.
const RANGE_PAGE: u32 = 500;
/// Pause between two looks at the table, unless the database announces a change earlier.
const POLL_PERIOD: Duration = Duration::from_millis(500);
/// How often changes of another Redis are looked for, and old ones removed.
const MAINTENANCE_PERIOD: Duration = Duration::from_secs(10);
/// How much longer a change is kept than the cache remembers what was before it: for a Redis that fails over to a replica
/// with some lag.
const LAG: Duration = Duration::from_secs(60);

/// Follows the changes of the catalogue.
///
/// **Every committed change reaches the cache**, whoever made it: the database notes its key in the transaction of the
/// change, and the note is removed only after the cache has stored that version. A worker that dies in between, or a
/// Redis that loses what it stored, has it stored once more. Several workers may follow at the same time: the cache takes
/// only an equal or higher version, and a note is removed only under the version that was stored.
pub(crate) struct Follower {
    scanner: Arc<Scanner>,
    signal: ChangeSignal,
    /// Of the list prices that it records.
    origin: ChangeOrigin,
    /// Redis as it was last seen.
    redis: String,
    maintain_at: Instant,
}

impl Follower {
    pub(crate) fn new(scanner: Arc<Scanner>) -> Self {
        let signal = scanner.catalogue.change_signal();
        let task = TaskId::parse("change").expect("invariant: a word is a task id");
        let origin = ChangeOrigin::task(&task);
        Self { scanner, signal, origin, redis: String::new(), maintain_at: Instant::now() }
    }

    /// Follows until `closing`.
    pub(crate) async fn run(mut self, closing: CancellationToken) -> anyhow::Result<()> {
        closing.run_until_cancelled(self.follow()).await;
        Ok(())
    }

    async fn follow(&mut self) {
        let (mut backoff, mut has_failed, mut order) = (Backoff::default(), false, ChangeOrder::Oldest);
        loop {
            match self.drain(order).await {
                Ok(has_more) => {
                    if has_failed {
                        tracing::info!("changes of the catalogue are followed again");
                    }
                    (backoff, has_failed) = (Backoff::default(), false);
                    if !has_more {
                        self.signal.wait(POLL_PERIOD).await;
                    }
                }
                Err(error) => {
                    if !has_failed {
                        tracing::warn!(error = %causes(&error), "changes of the catalogue are not followed");
                    }
                    has_failed = true;
                    backoff.pause().await;
                }
            }
            // In turns, so that one change beside an import of a million is served at once, and beside a batch that fails.
            order = match order {
                ChangeOrder::Oldest => ChangeOrder::Newest,
                ChangeOrder::Newest => ChangeOrder::Oldest,
            };
        }
    }

    /// Brings one batch of changes to the cache. Returns whether there may be more to do at once.
    async fn drain(&mut self, order: ChangeOrder) -> Result<bool, ScanError> {
        let server = self.scanner.cache.server().await?;
        self.check_versions(&server).await?;
        self.maintain(&server).await?;
        let changes = in_time(self.scanner.catalogue.pending_changes(order, BATCH)).await?;
        if changes.is_empty() {
            return Ok(false);
        }
        let span = info_span!("store changes", pricing.changes = integer(changes.len() as u64));
        let stored = self.store(&changes, &server).instrument(span).await?;
        Ok(changes.len() == BATCH && stored > 0)
    }

    /// Moves the database beyond the versions that the cache was given: one that was restored from a dump gives
    /// versions again that the cache takes for old. Keys that only the cache knows become pending too, first: once the
    /// database is beyond, nobody would look for them.
    async fn check_versions(&self, server: &Server) -> Result<(), ScanError> {
        let catalogue = &self.scanner.catalogue;
        let last = in_time(catalogue.last_version()).await?;
        if last >= server.highest_version {
            return Ok(());
        }
        tracing::warn!(
            last_version = last,
            cached_version = server.highest_version,
            "the database is older than the cache, as after a restore: all its rows get new versions"
        );
        let beyond = server.highest_version + 1;
        self.make_cached_keys_pending(beyond).await?;
        catalogue.move_beyond(beyond).await?;
        // What was changed in between may have taken an old version.
        self.make_cached_keys_pending(in_time(catalogue.last_version()).await?).await
    }

    async fn make_cached_keys_pending(&self, version: u64) -> Result<(), ScanError> {
        let Scanner { catalogue, cache, .. } = &*self.scanner;
        for kind in [Kind::Product, Kind::Market] {
            let mut cursor = 0;
            loop {
                let (next, ids) = cache.scan_ids(kind, cursor).await?;
                in_time(catalogue.make_pending(kind, &ids, version)).await?;
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Makes changes pending that another Redis holds, and removes those that are older than any entry.
    async fn maintain(&mut self, server: &Server) -> Result<(), ScanError> {
        if self.redis == server.id && Instant::now() < self.maintain_at {
            return Ok(());
        }
        // One step of each, so that changes do not wait for the end of it.
        let catalogue = &self.scanner.catalogue;
        let mut steps = in_time(catalogue.reopen_changes(&server.id)).await?;
        let kept = self.scanner.cache.retention() + LAG;
        let before = server.now_ms().saturating_sub(millis(kept));
        steps += in_time(catalogue.forget_changes(&server.id, before)).await?;
        if steps == 0 {
            self.redis.clone_from(&server.id);
            self.maintain_at = Instant::now() + MAINTENANCE_PERIOD;
        }
        Ok(())
    }

    /// Reads the changed rows, stores them, and notes that they are stored: also those that the cache refused, for it
    /// holds newer versions. The order matters: a row that is read before its change is selected may lack the change.
    async fn store(&self, changes: &[PendingChange], server: &Server) -> Result<usize, ScanError> {
        self.store_markets(changes, server).await?;
        let ranges = changes.iter().filter(|change| change.is_range());
        let (now, later): (Vec<_>, Vec<_>) = ranges.enumerate().partition(|(n, _)| *n < RANGES);
        for (_, range) in now {
            self.store_range(range, server).await?;
        }
        let passed_over = self.store_products(changes, server).await?;
        let later: HashSet<&str> = later.iter().map(|(_, range)| range.id.as_str()).collect();
        let is_done = |change: &&PendingChange| match change.is_range() {
            true => !later.contains(change.id.as_str()),
            false => !passed_over.contains(change.id.as_str()),
        };
        let done: Vec<PendingChange> = changes.iter().filter(is_done).cloned().collect();
        in_time(self.scanner.catalogue.changes_stored(&done, &server.id, server.now_ms())).await?;
        let now = now_ms();
        done.iter().for_each(|change| metrics::change_to_price(now - change.changed_at_ms));
        Ok(done.len())
    }

    async fn store_markets(&self, changes: &[PendingChange], server: &Server) -> Result<(), ScanError> {
        let changed = changes.iter().filter(|change| change.kind == Kind::Market.as_str());
        // An id that does not parse names no row that a price could be made of.
        let changed =
            changed.filter_map(|change| Some((Location::parse(&*change.id).ok()?, version(change))));
        let (locations, versions): (Vec<Location>, Vec<u64>) = changed.unzip();
        let markets = in_time(self.scanner.catalogue.markets(&locations)).await?;
        let markets: HashMap<String, Option<Market>> = markets.into_iter().collect();
        let entry = |(location, version): (_, &u64)| match markets.get(Location::as_str(location)) {
            Some(Some(market)) => Some(Entry::Market(location, market)),
            Some(None) => None, // an invalid row has no price, and is no reason to take another market's
            None => Some(Entry::DeletedMarket(location, *version)),
        };
        let entries: Vec<_> = locations.iter().zip(&versions).filter_map(entry).collect();
        self.scanner.store(&entries, server.read_at).await?;
        Ok(())
    }

    /// Stores a range of products whose list prices a recalculation has recorded, unless it has stored them itself.
    async fn store_range(&self, range: &PendingChange, server: &Server) -> Result<(), ScanError> {
        let Scanner { catalogue, .. } = &*self.scanner;
        let (mut first, last) = (range.id.clone(), range.last_id.as_deref().unwrap_or_default());
        loop {
            let page = in_time(catalogue.products_within(&first, last, RANGE_PAGE)).await?;
            let entries: Vec<_> = page.rows.iter().map(|row| Entry::Product(&row.id, &row.product)).collect();
            self.scanner.store(&entries, server.read_at).await?;
            match page.last {
                Some(read) => first = read,
                None => return Ok(()),
            }
        }
    }

    /// Returns the products whose list price was not recorded, because somebody has locked their row.
    async fn store_products(
        &self,
        changes: &[PendingChange],
        server: &Server,
    ) -> Result<HashSet<String>, ScanError> {
        let changed = changes.iter().filter(|change| change.kind == Kind::Product.as_str());
        let changed =
            changed.filter_map(|change| Some((ProductId::parse(&*change.id).ok()?, version(change))));
        let (ids, versions): (Vec<ProductId>, Vec<u64>) = changed.unzip();
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let mut rows = in_time(self.scanner.catalogue.products(&ids)).await?;
        let found: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let deleted = ids.iter().zip(&versions).filter(|(id, _)| !found.contains(id.as_str()));
        let deleted = deleted.map(|(id, version)| Entry::DeletedProduct(id, *version));
        let present = rows.iter().map(|row| Entry::Product(&row.id, &row.product));
        let entries: Vec<_> = deleted.chain(present).collect();
        self.scanner.store(&entries, server.read_at).await?;
        // After the entries: whoever has locked a row must not hold up the others, and may die, so its change stays pending.
        // What is recorded is a change of its own, a range, which is stored next.
        let unrecorded = self.scanner.record_list_prices(&mut rows, &self.origin, Locked::Skip).await?;
        Ok(unrecorded.passed_over)
    }
}

/// The version of a change; 0 if somebody has damaged it, so that it replaces nothing.
fn version(change: &PendingChange) -> u64 {
    u64::try_from(change.version).unwrap_or(0)
}
