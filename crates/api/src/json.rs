//! JSON in, by one strict parser, and out.

use std::cell::RefCell;
use std::fmt;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt as _;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;
use validator::Validate;

use crate::problem::Problem;

/// Media types of a body in JSON. A merge patch says itself what its nulls mean (RFC 7396).
const MEDIA: [&str; 2] = ["application/json", "application/merge-patch+json"];
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Maximum length of the buffer that a thread keeps for answers, in bytes.
const MAX_BUFFER: usize = 64 * 1_024;
/// The parser's limit of nested arrays and objects.
const MAX_DEPTH: usize = 128;

/// A request body: JSON, validated.
///
/// Refused with 415 unless it is declared as JSON, 400 when it is not JSON or nests deeper than the parser's limit of
/// 128 levels, 422 when it breaks the rules of `T`. As an `Option`, `null` is `None`, and so is an empty body, however it
/// is declared. It is as long as [`RequestBoundsLayer`](crate::request_bounds::RequestBoundsLayer) lets it be.
#[derive(Debug)]
pub(crate) struct ValidatedJson<T>(pub(crate) T);

impl<T, S> FromRequest<S> for ValidatedJson<T>
where
    T: DeserializeOwned + Validate,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !declares_json(request.headers()) {
            return Err(undeclared());
        }
        parse(&read(request).await?).map(Self)
    }
}

impl<T, S> OptionalFromRequest<S> for ValidatedJson<T>
where
    T: DeserializeOwned + Validate,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Option<Self>, Problem> {
        let declares_json = declares_json(request.headers());
        let body = read(request).await?;
        match (body.is_empty(), declares_json) {
            (true, _) => Ok(None),
            (false, false) => Err(undeclared()),
            (false, true) if body.trim_ascii() == b"null" => Ok(None),
            (false, true) => parse(&body).map(|body| Some(Self(body))),
        }
    }
}

/// Any JSON value within the parser's depth limit, read and dropped.
struct AnyJson;

impl<'de> Deserialize<'de> for AnyJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for AnyJson {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while fields.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// A JSON answer. It is written into a buffer that the thread keeps, and copied once its length is known.
pub(crate) fn json(answer: &impl Serialize) -> Response {
    thread_local!(static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    let body = BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        sonic_rs::to_writer(&mut *buffer, answer).expect("invariant: answers hold only what JSON can");
        let body = Bytes::copy_from_slice(buffer);
        buffer.clear();
        buffer.shrink_to(MAX_BUFFER);
        body
    });
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

fn declares_json(headers: &HeaderMap) -> bool {
    let Some(declared) = headers.get(header::CONTENT_TYPE) else { return false };
    if declared.as_bytes() == MEDIA[0].as_bytes() {
        return true;
    }
    let media = declared.to_str().ok().and_then(|declared| declared.split(';').next());
    media.is_some_and(|media| MEDIA.iter().any(|known| media.trim().eq_ignore_ascii_case(known)))
}

fn undeclared() -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be declared as application/json.")
}

/// The whole body, which is in one piece once the bounds have been kept.
async fn read(request: Request) -> Result<Bytes, Problem> {
    let broken = |_| Problem::malformed("The body could not be read.");
    let mut body = request.into_body();
    let piece = body.frame().await.transpose().map_err(broken)?;
    let piece = piece.and_then(|piece| piece.into_data().ok()).unwrap_or_default();
    if body.is_end_stream() {
        return Ok(piece);
    }
    let rest = body.collect().await.map_err(broken)?.to_bytes();
    Ok([piece, rest].concat().into())
}

fn parse<T: DeserializeOwned + Validate>(body: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| not_json())?;
    // The parser skips unknown fields without recursion, and so without its depth limit. Hardly any body has as many
    // brackets as that.
    let brackets = body.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if brackets > MAX_DEPTH && serde_json::from_str::<AnyJson>(text).is_err() {
        return Err(not_json());
    }
    let value: T = serde_json::from_str(text).map_err(|error| refusal(&error, text))?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Problem::invalid_field("body", "must be an object")); // serde takes arrays for structs
    }
    value.validate()?;
    Ok(value)
}

fn not_json() -> Problem {
    Problem::malformed("The body is not JSON.")
}

/// Tells text that is not JSON from JSON that is not a `T`: the parser stops at the first wrong value, so the rest
/// must be read to know.
fn refusal(error: &serde_json::Error, text: &str) -> Problem {
    let not_json = |error: &serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        Problem::malformed(format!("The body is not JSON: see line {line}, column {column}."))
    };
    if error.classify() != Category::Data {
        return not_json(error);
    }
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return not_json(&error);
    }
    let error = error.to_string();
    let message = error.split(" at line ").next().unwrap_or(&error);
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
    use axum::routing::post;
    use proptest::prelude::*;
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
                post(async |ValidatedJson(named): ValidatedJson<Named>| {
                    format!("{}{}", named.id, named.loud)
                }),
            )
            .route("/any", post(async |named: Option<ValidatedJson<Named>>| named.is_some().to_string()));
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
    async fn a_body_is_bounded_in_depth() {
        assert_eq!(one(format!(r#"{{"id":"P-1","more":{}"#, "[".repeat(20_000))).await.0, 400);
        for depth in [10, 127, 128, 20_000] {
            let expected = if depth < 128 { 200 } else { 400 }; // the object itself is one level
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            assert_eq!(one(format!(r#"{{"id":"P-1","more":{open}{close}}}"#)).await.0, expected, "{depth}");
        }
        assert_eq!(one(format!(r#"{{"id":"P-1","more":[{}1]}}"#, "[1],".repeat(500))).await.0, 200);
    }

    proptest! {
        /// No text ends the process, whatever it nests.
        #[test]
        fn every_text_is_read_or_refused(text in r#"[\[\]{}":,\\a1 ]{0,400}"#, depth in 0..5_000_usize) {
            let deep = format!(r#"{{"id":"P-1","more":{}{text}"#, "[".repeat(depth));
            for text in [text, deep] {
                let _ = parse::<Named>(text.as_bytes());
            }
        }
    }
}
