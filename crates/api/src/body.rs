//! JSON in and out, by `sonic-rs`.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pricing_core::json::{MAX_DEPTH, is_shallow};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use validator::Validate;

use crate::problem::Problem;

/// Longest request body, in bytes.
pub const MAX_BODY: usize = 64 * 1_024;

/// A request body: JSON, validated.
///
/// Refused with 415 unless it is declared as JSON, 413 when it is longer than [`MAX_BODY`], 400 when it is
/// no JSON or nested deeper than the parser can take, 422 when it breaks the rules of `T`. As an
/// `Option`, `null` is `None`, and so is an empty body, however it is declared.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T, S> FromRequest<S> for JsonBody<T>
where
    T: DeserializeOwned + Validate,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !declares_json(request.headers()) {
            return Err(undeclared());
        }
        let body = Bytes::from_request(request, state).await.map_err(|error| unread(&error))?;
        read(&body).map(Self)
    }
}

impl<T, S> OptionalFromRequest<S> for JsonBody<T>
where
    T: DeserializeOwned + Validate,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Problem> {
        let declares_json = declares_json(request.headers());
        let body = Bytes::from_request(request, state).await.map_err(|error| unread(&error))?;
        match (body.is_empty(), declares_json) {
            (true, _) => Ok(None),
            (false, false) => Err(undeclared()),
            (false, true) if body.trim_ascii() == b"null" => Ok(None),
            (false, true) => read(&body).map(|body| Some(Self(body))),
        }
    }
}

/// A JSON answer.
pub fn json(answer: &impl Serialize) -> Response {
    match sonic_rs::to_vec(answer) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer does not serialize");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "The service failed.").into_response()
        }
    }
}

fn declares_json(headers: &HeaderMap) -> bool {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = declared.and_then(|declared| declared.split(';').next());
    media.is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

fn undeclared() -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be declared as application/json.")
}

fn unread(error: &BytesRejection) -> Problem {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("The body must not exceed {MAX_BODY} bytes."))
        }
        _ => Problem::malformed("The body could not be read."),
    }
}

fn read<T: DeserializeOwned + Validate>(body: &[u8]) -> Result<T, Problem> {
    if !is_shallow(body) {
        return Err(Problem::malformed(format!("The body is nested deeper than {MAX_DEPTH} levels.")));
    }
    let value: T = sonic_rs::from_slice(body).map_err(|error| refusal(&error, body))?;
    if !is_json(body) {
        return Err(not_json()); // `sonic-rs` takes any escape in texts that it skips
    }
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::invalid_field("body", "must be an object")); // serde takes arrays for structs
    }
    value.validate()?;
    Ok(value)
}

/// Whether it is JSON, by a parser that checks every byte of it.
fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok() && std::str::from_utf8(body).is_ok()
}

fn not_json() -> Problem {
    Problem::malformed("The body is not JSON.")
}

/// Tells text that is no JSON from JSON that is no `T`: `sonic-rs` stops at the first wrong value.
fn refusal(error: &sonic_rs::Error, body: &[u8]) -> Problem {
    if !(is_json(body) && error.is_unmatched_type()) {
        return not_json();
    }
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or_default();
    match named_field(message) {
        Some((field, "missing")) => Problem::invalid_field(field.to_owned(), "is required"),
        Some((field, _)) => Problem::invalid_field(field.to_owned(), "is there twice"),
        None => Problem::invalid_field("body", message.to_owned()),
    }
}

/// The field in ``missing field `x` `` or ``duplicate field `x` ``, and which of the two it is.
fn named_field(message: &str) -> Option<(&str, &str)> {
    let (kind, field) = message.strip_suffix('`')?.split_once(" field `")?;
    matches!(kind, "missing" | "duplicate").then_some((field, kind))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::extract::DefaultBodyLimit;
    use axum::routing::post;
    use serde::Deserialize;
    use tower::ServiceExt as _;

    use super::*;

    #[derive(Deserialize, Validate)]
    struct Named {
        #[validate(custom(function = crate::identifier::valid_id))]
        id: String,
        #[serde(default)]
        loud: bool,
    }

    async fn send(path: &str, media: Option<&str>, body: impl Into<Body>) -> (u16, String) {
        let router = Router::new()
            .route(
                "/one",
                post(async |JsonBody(named): JsonBody<Named>| format!("{}{}", named.id, named.loud)),
            )
            .route("/any", post(async |named: Option<JsonBody<Named>>| named.is_some().to_string()))
            .layer(DefaultBodyLimit::max(MAX_BODY));
        let request = Request::post(path);
        let request = media.iter().fold(request, |request, media| request.header("content-type", *media));
        let answer = router.oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn one(body: impl Into<Body>) -> (u16, String) {
        send("/one", Some("application/json; charset=utf-8"), body).await
    }

    #[tokio::test]
    async fn a_valid_body_is_read() {
        assert_eq!(one(r#" {"id":"P-1","more":[{}]}"#).await, (200, "P-1false".into()));
        assert_eq!(send("/one", Some("Application/JSON"), r#"{"id":"P-1","loud":true}"#).await.0, 200);
    }

    #[tokio::test]
    async fn a_body_must_be_declared_as_json() {
        for media in
            [None, Some("text/plain"), Some("application/jsonp"), Some("application/x-www-form-urlencoded")]
        {
            assert_eq!(send("/one", media, r#"{"id":"P-1"}"#).await.0, 415, "{media:?}");
            assert_eq!(send("/any", media, r#"{"id":"P-1"}"#).await.0, 415, "{media:?}");
        }
    }

    #[tokio::test]
    async fn an_optional_body_may_be_empty_but_not_wrong() {
        for media in [None, Some("application/json"), Some("text/plain")] {
            assert_eq!(send("/any", media, "").await, (200, "false".into()));
        }
        let json = Some("application/json");
        assert_eq!(send("/any", json, r#"{"id":"P-1"}"#).await, (200, "true".into()));
        assert_eq!(send("/any", json, "{").await.0, 400);
        assert_eq!(send("/any", json, " null ").await, (200, "false".into()));
        assert_eq!(send("/any", json, "0").await.0, 422);
    }

    #[tokio::test]
    async fn what_is_no_json_is_malformed() {
        let texts: [&[u8]; 13] = [
            b"",
            b"{",
            b"nonsense",
            br#"{"id":"P-1",}"#,
            br#"{"id":"P-1"} x"#,
            br#"{"id": 5, "#,
            b"\xff",
            b"{\"id\":\"\xff\"}",
            b"{\"id\":\"P-1\",\"more\":\"\xff\"}",
            b"{'id':'P-1'}",
            br#"{"id":"\ud800"}"#,
            br#"{"id":"P-1","more":"\up00b"}"#,
            br#"{"id":"P-1","more":["\x"]}"#,
        ];
        for text in texts {
            let (status, body) = one(text.to_vec()).await;
            assert_eq!(status, 400, "{} {body}", String::from_utf8_lossy(text));
        }
    }

    #[tokio::test]
    async fn json_of_another_shape_is_unprocessable_and_says_where() {
        for (text, field) in [
            ("{}", r#"{"field":"id","message":"is required"}"#),
            (r#"{"id":"a","id":"b"}"#, r#"{"field":"id","message":"is there twice"}"#),
            (r#"{"id":5}"#, r#""field":"body""#),
            (r#"{"id":"a","loud":"yes"}"#, r#""field":"body""#),
            (r#"["a",true]"#, r#"{"field":"body","message":"must be an object"}"#),
            ("[]", r#""field":"body""#),
            ("5", r#""field":"body""#),
            ("null", r#""field":"body""#),
            (r#"{"id":"a b"}"#, r#""field":"id""#),
            (r#"{"id":"a\u0000"}"#, r#""field":"id""#),
        ] {
            let (status, body) = one(text).await;
            assert!(status == 422 && body.contains(field), "{text}: {status} {body}");
        }
    }

    #[tokio::test]
    async fn a_body_is_bounded_in_length_and_depth() {
        let long = |length: usize| format!(r#"{{"id":"P-1","more":"{}"}}"#, "x".repeat(length));
        assert_eq!(one(long(MAX_BODY - 100)).await.0, 200);
        assert_eq!(one(long(MAX_BODY)).await.0, 413);
        assert_eq!(one(format!(r#"{{"id":"P-1","more":{}"#, "[".repeat(20_000))).await.0, 400);
    }
}
