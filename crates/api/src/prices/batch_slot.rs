//! The right to serve a large batch.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use crate::problem::Problem;
use crate::state::AppState;

/// A batch whose body is longer, in bytes, or of unknown length, is large. So many bytes list about 60 products with ids
/// such as `P-100`, and fewer with longer ones.
const MAX_BODY_WITHOUT_SLOT: usize = 512;

/// The right to serve a batch, held until it is answered. A small batch needs none.
///
/// A large one waits for it before its body is parsed: batches that wait, or are refused with 503, cost hardly
/// any time of the processor, and single reads are not held up by it. A bounded number of batches waits: each has a
/// permit of load shedding meanwhile, and pays for its products later.
pub(crate) struct BatchSlot {
    _slot: Option<OwnedSemaphorePermit>,
}

impl FromRequestParts<Arc<AppState>> for BatchSlot {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Problem> {
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let slot = match length {
            Some(0..=MAX_BODY_WITHOUT_SLOT) => None,
            Some(_) | None => Some(state.reader.batch_slot().await?),
        };
        Ok(Self { _slot: slot })
    }
}
