//! What the description says of a request.

use std::collections::BTreeSet;
use std::fmt;

use percent_encoding::percent_decode;
use pricing_core::json::is_shallow;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::document::{Destination, Document, Operation, Parameter, RequestBody};
use super::request::Request;

/// Longest body that the service takes, in bytes.
const MAX_BODY: usize = 64 * 1_024;
/// Longest head that it surely takes.
const MAX_HEAD: usize = 63 * 1_024;

/// What a request should be answered.
#[derive(Debug, Clone, Copy)]
pub enum Expectation<'a> {
    /// The call takes it, refuses it, or the description does not say.
    Of(&'a Operation, Fit),
    /// 405.
    OtherMethod,
    /// 404.
    Nowhere,
    /// It is no proper HTTP: anything but a success that it does not deserve.
    Improper,
}

/// How a request goes with the description of its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// It does.
    Fits,
    /// JSON schemas cannot tell.
    Open,
    /// It does not.
    Breaks,
}

/// What `document` says of `request`.
pub fn expectation<'a>(document: &'a Document, request: &Request) -> Expectation<'a> {
    let proper = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%[]{}|\"\\^".contains(byte);
    if request.nonsense.is_some() || request.head_length() > MAX_HEAD || !request.target.iter().all(proper) {
        return Expectation::Improper;
    }
    match document.destination(&request.method, request.path()) {
        Destination::Nowhere => Expectation::Nowhere,
        Destination::OtherMethod => Expectation::OtherMethod,
        Destination::Operation(call) => {
            let body = call.body.as_ref().map_or(Fit::Fits, |body| fit_of_body(body, request));
            let fit = body.max(fit_of_path(call, request)).max(fit_of_query(&call.in_query, request.query()));
            Expectation::Of(call, fit)
        }
    }
}

fn fit_of_path(call: &Operation, request: &Request) -> Fit {
    let parts = call.parts_of(request.path()).unwrap_or_default();
    let fits = |(part, parameter): (&[u8], &Parameter)| {
        let text = percent_decode(part).decode_utf8();
        text.is_ok_and(|text| parameter.validator.is_valid(&Value::from(text)))
    };
    if parts.into_iter().zip(&call.in_path).all(fits) { Fit::Fits } else { Fit::Breaks }
}

fn fit_of_query(parameters: &[Parameter], query: &[u8]) -> Fit {
    let pairs: Vec<_> = form_urlencoded::parse(query).collect();
    let fits = |parameter: &Parameter| {
        let mut values = pairs.iter().filter(|(name, _)| *name == parameter.name).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (None, _) => !parameter.required,
            (Some(_), Some(_)) => false,
            (Some(value), None) => {
                let text = Value::from(value.as_ref());
                let flag = value.parse::<bool>().map(Value::from);
                let is_valid = |value: &Value| parameter.validator.is_valid(value);
                is_valid(&text) || flag.is_ok_and(|flag| is_valid(&flag))
            }
        }
    };
    if parameters.iter().all(fits) { Fit::Fits } else { Fit::Breaks }
}

fn fit_of_body(expected: &RequestBody, request: &Request) -> Fit {
    let body = request.body.as_slice();
    if body.is_empty() {
        return if expected.required { Fit::Breaks } else { Fit::Fits };
    }
    if body.len() > MAX_BODY || !is_shallow(body) || std::str::from_utf8(body).is_err() {
        return Fit::Breaks;
    }
    match request.header("content-type")[..] {
        [media] if is_json(media) => {}
        _ => return Fit::Breaks,
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(value) if !expected.validator.is_valid(&value) => Fit::Breaks,
        Ok(_) if repeats_field(body) => Fit::Open,
        Ok(_) => Fit::Fits,
        // JSON all the same: with a number or half a character that cannot be held.
        Err(_) if serde_json::from_slice::<IgnoredAny>(body).is_ok() => Fit::Open,
        Err(_) => Fit::Breaks,
    }
}

fn is_json(media: &[u8]) -> bool {
    let essence = media.split(|byte| *byte == b';').next().unwrap_or_default();
    media.is_ascii() && essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// Whether a field of the object is there twice. Of two of the same name, a schema sees one.
fn repeats_field(body: &[u8]) -> bool {
    serde_json::from_slice::<Repetition>(body).is_ok_and(|Repetition(found)| found)
}

struct Repetition(bool);

impl<'de> Deserialize<'de> for Repetition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Repetition;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Repetition, A::Error> {
                let (mut names, mut found) = (BTreeSet::new(), false);
                while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                    found |= !names.insert(name);
                }
                Ok(Repetition(found))
            }
        }

        deserializer.deserialize_map(Names)
    }
}
