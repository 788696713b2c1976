//! The format of identifiers, for validation and for the OpenAPI document.

use pricing_core::ids::{InvalidId, MAX_ID_LEN, check};
use utoipa::ToSchema;
use validator::ValidationError;

use crate::problem::Problem;

/// The schema of an identifier. Requests hold strings, validated by [`valid_id`].
#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "P-100")]
pub(crate) struct Identifier(#[expect(dead_code, reason = "described, never held")] String);

const _: () = assert!(MAX_ID_LEN == 64, "the description above says so");

/// Validates an identifier.
///
/// # Errors
///
/// The rule that it breaks.
pub(crate) fn valid_id(id: &str) -> Result<(), ValidationError> {
    check(id).map_err(|broken| ValidationError::new("id").with_message(broken.to_string().into()))
}

/// Validates a list of identifiers.
///
/// # Errors
///
/// The first one that breaks a rule, by its index.
pub(crate) fn valid_ids(ids: &[String]) -> Result<(), ValidationError> {
    match ids.iter().enumerate().find_map(|(index, id)| check(id).err().map(|broken| (index, broken))) {
        None => Ok(()),
        Some((index, broken)) => {
            Err(ValidationError::new("ids").with_message(format!("item {index} {broken}").into()))
        }
    }
}

/// The problem of a field with an invalid identifier.
pub(crate) fn invalid_id(field: &'static str) -> impl Fn(InvalidId) -> Problem {
    move |broken| Problem::invalid_field(field, broken.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_which_rule_is_broken_and_where() {
        let message = |error: ValidationError| error.message.unwrap();
        assert_eq!(valid_id("P-100"), Ok(()));
        assert_eq!(message(valid_id("").unwrap_err()), "must not be empty");
        let ids = ["P-100", "P 101", ""].map(String::from);
        assert_eq!(
            message(valid_ids(&ids).unwrap_err()),
            "item 1 may only hold letters, digits, '.', '_' and '-'"
        );
    }
}
