//! Errors as clients see them: RFC 9457 problem documents.

use std::borrow::Cow;
use std::error::Error;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pricing_core::causes::causes;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;
use validator::{ValidationError, ValidationErrors, ValidationErrorsKind};

use crate::late_answer::NotBefore;

/// Media type of a problem document.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which a 503 is worth a retry.
const RETRY_AFTER_SECONDS: u32 = 1;
/// What a 401 asks for.
const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"pricing\"");

/// An error as clients see it. It says what the client can act on. A failure of the service reveals nothing: its
/// cause goes to the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Type of the problem; `about:blank` means that the status says it.
    #[schema(example = "about:blank")]
    r#type: &'static str,
    /// The phrase of the status.
    #[schema(example = "Unprocessable Entity")]
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599, example = 422)]
    status: u16,
    /// An explanation for this request.
    detail: Cow<'static, str>,
    /// The invalid fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
    /// Seconds after which a retry is worth it, for the header `Retry-After`.
    #[serde(skip)]
    retry_after: Option<u32>,
    #[serde(skip)]
    not_before: Option<NotBefore>,
}

/// An invalid field of the request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The field; `body`, `query` or `path` if it is not known.
    #[schema(example = "product_id")]
    pub(crate) field: Cow<'static, str>,
    /// The rule that it breaks.
    #[schema(example = "must not be empty")]
    pub(crate) message: Cow<'static, str>,
}

impl Problem {
    /// A problem of this status.
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_SECONDS),
            not_before: None,
        }
    }

    /// The same problem, worth a retry after so many seconds.
    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The same problem, answered at this time at the earliest.
    pub(crate) fn not_before(self, earliest: Instant) -> Self {
        Self { not_before: Some(NotBefore(earliest)), ..self }
    }

    /// 401: the caller has no key that is known.
    pub(crate) fn unauthorized(detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// 403: the caller may not do this.
    pub(crate) fn forbidden(detail: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 429: the caller exceeds a limit.
    pub(crate) fn too_many(detail: &'static str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
    }

    /// 400: the request cannot be read.
    pub(crate) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404: the resource does not exist.
    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 422: these fields are invalid.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = "The request has invalid fields.";
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// 422: this field is invalid.
    pub(crate) fn invalid_field(
        field: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::invalid(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// 503: a dependency failed. The cause is logged here and nowhere else.
    pub(crate) fn unavailable(detail: &'static str, cause: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = %causes(cause), detail, "answering 503");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<ValidationErrors> for Problem {
    fn from(errors: ValidationErrors) -> Self {
        let messages = |(field, kind): (Cow<'static, str>, ValidationErrorsKind)| {
            match kind {
                ValidationErrorsKind::Field(errors) => errors,
                ValidationErrorsKind::Struct(_) | ValidationErrorsKind::List(_) => {
                    vec![ValidationError::new("holds an invalid value")]
                }
            }
            .into_iter()
            .map(move |error| FieldError {
                field: field.clone(),
                message: error.message.unwrap_or(error.code),
            })
            .collect::<Vec<_>>()
        };
        let mut errors: Vec<FieldError> = errors.into_errors().into_iter().flat_map(messages).collect();
        errors.sort();
        Self::invalid(errors)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = sonic_rs::to_vec(&self).unwrap_or_default(); // strings and numbers always serialize
        let mut response = (self.status(), [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        let retry_after = self.retry_after.map(|seconds| (header::RETRY_AFTER, seconds.into()));
        let challenge =
            (self.status() == StatusCode::UNAUTHORIZED).then_some((header::WWW_AUTHENTICATE, BEARER));
        response.headers_mut().extend(retry_after.into_iter().chain(challenge));
        if let Some(not_before) = self.not_before {
            response.extensions_mut().insert(not_before);
        }
        response
    }
}

/// Gives a problem document to an error that comes without one, such as the router's own 404 and 405.
/// Other headers, such as `Allow`, stay.
pub(crate) fn complete(response: impl IntoResponse) -> Response {
    let response = response.into_response();
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let media = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !is_error || media.is_some_and(|media| !media.starts_with(b"text/plain")) {
        return response;
    }
    let detail = match status {
        StatusCode::NOT_FOUND => "There is nothing at this path.",
        StatusCode::METHOD_NOT_ALLOWED => "The method is not allowed here; see the Allow header.",
        _ => "The request was not served.",
    };
    let (mut head, _) = response.into_parts();
    let (problem_head, body) = Problem::new(status, detail).into_response().into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.extend(problem_head.headers);
    Response::from_parts(head, body)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::extract::Request;
    use axum::routing::get;
    use tower::{ServiceBuilder, ServiceExt as _};

    use super::*;

    async fn answer(method: &str, path: &str) -> (Response<()>, String) {
        let layers = ServiceBuilder::new().map_response(complete);
        let router = Router::new()
            .route("/ok", get(|| async { "fine" }))
            .route("/report", get(|| async { (StatusCode::SERVICE_UNAVAILABLE, axum::Json("{}")) }))
            .layer(layers);
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let (head, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
        (Response::from_parts(head, ()), body)
    }

    #[test]
    fn a_problem_lists_its_fields_if_it_has_any() {
        let errors = ["b", "a"].map(|field| FieldError { field: field.into(), message: "wrong".into() });
        let problem = sonic_rs::to_string(&Problem::invalid(errors[..1].to_vec())).unwrap();
        assert_eq!(
            problem,
            r#"{"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"The request has invalid fields.","errors":[{"field":"b","message":"wrong"}]}"#
        );
        let plain = sonic_rs::to_string(&Problem::not_found("No.")).unwrap();
        assert_eq!(plain, r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"No."}"#);
    }

    #[tokio::test]
    async fn what_the_router_refuses_is_a_problem() {
        let (head, body) = answer("GET", "/nowhere").await;
        assert_eq!(
            (head.status(), &head.headers()["content-type"]),
            (StatusCode::NOT_FOUND, &HeaderValue::from_static(PROBLEM_JSON))
        );
        assert!(body.contains(r#""status":404"#), "{body}");

        let (head, body) = answer("DELETE", "/ok").await;
        assert_eq!(head.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(head.headers()["allow"], "GET,HEAD");
        assert!(body.contains(r#""status":405"#), "{body}");
    }

    #[tokio::test]
    async fn what_is_no_error_or_says_more_stays_as_it_is() {
        assert_eq!(answer("GET", "/ok").await.1, "fine");
        assert_eq!(answer("GET", "/report").await.1, r#""{}""#);
    }
}
