//! Path and query parameters, validated like a body.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use validator::Validate;

use crate::problem::Problem;

/// Path parameters. Refused with 400 when they are not UTF-8, 422 when they break the rules of `T`.
#[derive(Debug)]
pub(crate) struct ValidatedPath<T>(pub(crate) T);

/// Query parameters. Refused with 422 when one is missing, there twice, or breaks the rules of `T`.
#[derive(Debug)]
pub(crate) struct ValidatedQuery<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for ValidatedPath<T>
where
    T: DeserializeOwned + Validate + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(value) =
            Path::<T>::from_request_parts(parts, state).await.map_err(|error| unread(&error))?;
        value.validate()?;
        Ok(Self(value))
    }
}

impl<T, S> FromRequestParts<S> for ValidatedQuery<T>
where
    T: DeserializeOwned + Validate,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(value) = Query::<T>::try_from_uri(&parts.uri).map_err(|error| unmatched(&error))?;
        value.validate()?;
        Ok(Self(value))
    }
}

fn unread(error: &PathRejection) -> Problem {
    match error {
        PathRejection::FailedToDeserializePathParams(_) => Problem::malformed("The path is not UTF-8."),
        _ => Problem::invalid_field("path", "cannot be read"),
    }
}

/// Names the parameter at fault: after it a colon, or in ``missing field `x` ``.
fn unmatched(error: &QueryRejection) -> Problem {
    let text = error.body_text();
    let message = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
    match message.split_once(": ") {
        Some((field, message)) => Problem::invalid_field(field.to_owned(), message.to_owned()),
        None => match message.split('`').nth(1) {
            Some(field) if message.starts_with("missing") => {
                Problem::invalid_field(field.to_owned(), "is required")
            }
            Some(field) if message.starts_with("duplicate") => {
                Problem::invalid_field(field.to_owned(), "is there twice")
            }
            _ => Problem::invalid_field("query", message.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use axum::routing::get;
    use serde::Deserialize;
    use tower::ServiceExt as _;

    use super::*;

    #[derive(Deserialize, Validate)]
    struct Id {
        #[validate(custom(function = crate::identifier::valid_id))]
        id: String,
    }

    #[derive(Deserialize, Validate)]
    struct Place {
        #[validate(custom(function = crate::identifier::valid_id))]
        place: String,
        #[serde(default)]
        loud: bool,
    }

    async fn ask(path: &str) -> (u16, String) {
        let handler = async |ValidatedPath(id): ValidatedPath<Id>,
                             ValidatedQuery(place): ValidatedQuery<Place>| {
            format!("{} {} {}", id.id, place.place, place.loud)
        };
        let router = Router::new().route("/{id}", get(handler));
        let answer = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn valid_parameters_are_read() {
        assert_eq!(ask("/P-1?place=NY&loud=true&more=1").await, (200, "P-1 NY true".into()));
        assert_eq!(ask("/P%2D1?place=N%59").await, (200, "P-1 NY false".into()));
    }

    #[tokio::test]
    async fn a_bad_parameter_is_named() {
        for (path, status, field) in [
            ("/P%201?place=NY", 422, r#""field":"id""#),
            ("/P%FF?place=NY", 400, "not UTF-8"),
            ("/P-1", 422, r#"{"field":"place","message":"is required"}"#),
            ("/P-1?place=", 422, r#"{"field":"place","message":"must not be empty"}"#),
            ("/P-1?place=N%00Y", 422, r#""field":"place""#),
            ("/P-1?place=%FF", 422, r#""field":"place""#),
            ("/P-1?place=a&place=b", 422, r#"{"field":"place","message":"is there twice"}"#),
            ("/P-1?place=NY&loud=maybe", 422, r#""field":"loud""#),
        ] {
            let (answered, body) = ask(path).await;
            assert!(answered == status && body.contains(field), "{path}: {answered} {body}");
        }
    }
}
