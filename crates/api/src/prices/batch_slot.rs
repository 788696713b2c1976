//! The right to serve a large batch.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use pricing_core::ids::MAX_ID_LEN;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::shape::MAX_PRODUCTS;
use super::slots::SLOT_TIMEOUT;
use crate::auth::{Caller, Read};
use crate::problem::Problem;
use crate::state::AppState;

/// A batch whose body is longer, in bytes, or of unknown length, is large. So many bytes list about 60 products with ids
/// such as `P-100`, and fewer with longer ones.
const MAX_BODY_WITHOUT_SLOT: u64 = 512;

/// Least that a large batch pays for a place in the queue for slots, in units, whether or not there is one.
const MIN_PREPAID: u64 = 60;
/// Length of the longest id in a list, with its quotes and a comma: a body lists a product for each so many bytes at
/// least, but for its other fields.
const BYTES_OF_A_PRODUCT: u64 = MAX_ID_LEN as u64 + 3;

/// The right to serve a batch, held until it is answered. A small batch needs none.
///
/// A large one waits for it before its body is parsed: batches that wait, or are refused with 503, cost hardly any
/// time of the processor, and single reads are not held up by it. A bounded number of batches waits: each has a
/// permit of load shedding meanwhile. One that finds no place is refused after the same time, without a permit. A
/// batch pays for the fewest products that its length can hold before it waits, and for the others once they are
/// counted. A body of unknown length pays as a short one.
pub(crate) struct BatchSlot {
    /// What it has paid, in units.
    paid: u32,
    _slot: Option<OwnedSemaphorePermit>,
}

impl BatchSlot {
    /// Takes the units of so many products that are not paid yet.
    ///
    /// # Errors
    ///
    /// 429 when a bucket does not hold them.
    pub(crate) fn charge(&self, caller: &Caller<Read>, products: usize) -> Result<(), Problem> {
        caller.charge_beyond(self.paid, u32::try_from(products).unwrap_or(u32::MAX))
    }
}

/// What a large batch of this length pays before it waits, in units.
fn prepaid(length: Option<u64>) -> u32 {
    let products = (length.unwrap_or(0) / BYTES_OF_A_PRODUCT).clamp(MIN_PREPAID, MAX_PRODUCTS);
    u32::try_from(products).expect("invariant: a batch has 500 products at most")
}

impl FromRequestParts<Arc<AppState>> for BatchSlot {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Problem> {
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if matches!(length, Some(0..=MAX_BODY_WITHOUT_SLOT)) {
            return Ok(Self { paid: 1, _slot: None });
        }
        let (caller, units) = (Caller::<Read>::from_request_parts(parts, state).await?, prepaid(length));
        caller.charge(units)?;
        let earliest = Instant::now() + SLOT_TIMEOUT;
        let refused = |error| Problem::from(error).not_before(earliest);
        Ok(Self { paid: units, _slot: Some(state.reader.batch_slot().await.map_err(refused)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_body::MAX_BODY;

    #[test]
    fn a_large_batch_pays_first_for_the_fewest_products_that_it_can_hold() {
        let long_ids = |products: u64| products * BYTES_OF_A_PRODUCT;
        for (length, units) in [
            (None, 60),
            (Some(MAX_BODY_WITHOUT_SLOT + 1), 60),
            (Some(long_ids(61)), 61),
            (Some(long_ids(500)), 500),
            (Some(MAX_BODY as u64), 500),
            (Some(u64::MAX), 500),
        ] {
            assert_eq!(prepaid(length), units, "{length:?}");
        }
    }
}
