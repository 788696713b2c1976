//! What the handlers share.

use pricing_core::events::EventLog;
use pricing_core::recalculation::RecalculationQueue;

use crate::prices::reader::PriceReader;

/// Made once per process and shared behind an `Arc`, so that a request costs one reference count.
pub(crate) struct AppState {
    /// The read path.
    pub(crate) reader: PriceReader,
    /// Takes market events.
    pub(crate) events: EventLog,
    /// Takes recalculations, and holds their records.
    pub(crate) queue: RecalculationQueue,
}
