//! What the handlers share.

use std::sync::Arc;

use pricing_core::audit::Audit;
use pricing_core::cache::PriceCache;
use pricing_core::catalogue::Catalogue;
use pricing_core::events::EventLog;
use pricing_core::recalculation::RecalculationQueue;

use crate::auth::Door;
use crate::load_shed::Permits;
use crate::prices::reader::PriceReader;

/// Made once per process and shared behind an `Arc`, so that a request costs one reference count.
pub(crate) struct AppState {
    /// Knows who calls.
    pub(crate) door: Arc<Door>,
    /// Takes what callers do with the roles `manage` and `operate`.
    pub(crate) audit: Audit,
    /// Concurrent requests; a batch takes several.
    pub(crate) permits: Permits,
    /// The read path.
    pub(crate) reader: Arc<PriceReader>,
    /// What the shop sells, and where.
    pub(crate) catalogue: Catalogue,
    /// Takes what edits have made.
    pub(crate) cache: PriceCache,
    /// Takes market events.
    pub(crate) events: EventLog,
    /// Takes recalculations, and holds their records.
    pub(crate) queue: RecalculationQueue,
}
