//! The right to serve a large batch.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use crate::auth::{Caller, Read};
use crate::problem::Problem;
use crate::state::AppState;

/// A batch whose body is longer, in bytes, or of unknown length, is large. So many bytes list about 60 products with ids
/// such as `P-100`, and fewer with longer ones.
const MAX_BODY_WITHOUT_SLOT: usize = 512;

/// Least price of a large batch, in units: it is paid for a place in the queue for slots, whether or not there is one.
const LARGE_BATCH_UNITS: u32 = 60;

/// The right to serve a batch, held until it is answered. A small batch needs none.
///
/// A large one waits for it before its body is parsed: batches that wait, or are refused with 503, cost hardly
/// any time of the processor, and single reads are not held up by it. A bounded number of batches waits: each has a
/// permit of load shedding meanwhile. It pays for the first 60 products before it waits, and for the others once they are
/// counted.
pub(crate) struct BatchSlot {
    prepaid: u32,
    _slot: Option<OwnedSemaphorePermit>,
}

impl BatchSlot {
    /// What a batch of so many products has still to pay, in units.
    pub(crate) fn due(&self, products: usize) -> u32 {
        u32::try_from(products).unwrap_or(u32::MAX).saturating_sub(self.prepaid)
    }
}

impl FromRequestParts<Arc<AppState>> for BatchSlot {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Problem> {
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if matches!(length, Some(0..=MAX_BODY_WITHOUT_SLOT)) {
            return Ok(Self { prepaid: 0, _slot: None });
        }
        let caller = Caller::<Read>::from_request_parts(parts, state).await?;
        caller.charge(LARGE_BATCH_UNITS)?;
        // One unit of each call is paid at the door.
        Ok(Self { prepaid: LARGE_BATCH_UNITS - 1, _slot: Some(state.reader.batch_slot().await?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_large_batch_has_paid_is_not_paid_again() {
        let (small, large) = (BatchSlot { prepaid: 0, _slot: None }, BatchSlot { prepaid: 59, _slot: None });
        assert_eq!([small.due(5), large.due(5), large.due(60), large.due(500)], [5, 0, 1, 441]);
    }
}
