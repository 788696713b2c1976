//! The optional reason of a recalculation.

use pricing_core::recalculation::MAX_REASON;
use serde::Deserialize;
use utoipa::ToSchema;
use validator::{Validate, ValidationError};

use crate::json::ValidatedJson;

/// A request to recalculate.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
pub(crate) struct ReasonRequest {
    /// The reason, for the record: at most 256 characters.
    #[validate(custom(function = within_bounds))]
    #[schema(max_length = 256, example = "competitor changed prices")]
    reason: Option<String>,
}

impl ReasonRequest {
    /// The reason of an optional body, `otherwise` when it gives none.
    pub(crate) fn or(body: Option<ValidatedJson<Self>>, otherwise: &str) -> String {
        body.and_then(|ValidatedJson(request)| request.reason).unwrap_or_else(|| otherwise.to_owned())
    }
}

fn within_bounds(reason: &str) -> Result<(), ValidationError> {
    if reason.chars().nth(MAX_REASON).is_some() {
        return Err(ValidationError::new("length").with_message("must be at most 256 characters long".into()));
    }
    Ok(())
}

const _: () = assert!(MAX_REASON == 256, "the description and the message above say so");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_bounded_in_characters() {
        assert_eq!(within_bounds(&"é".repeat(256)), Ok(()));
        assert!(within_bounds(&"é".repeat(257)).is_err());
    }

    #[test]
    fn a_reason_is_optional() {
        let given = ReasonRequest { reason: Some("storm".into()) };
        assert_eq!(ReasonRequest::or(Some(ValidatedJson(given)), "none"), "storm");
        assert_eq!(ReasonRequest::or(Some(ValidatedJson(ReasonRequest::default())), "none"), "none");
        assert_eq!(ReasonRequest::or(None, "none"), "none");
    }
}
