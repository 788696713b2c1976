//! A stream of requests, each one known by the seed and its number.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use super::document::{Document, Operation};
use super::request::Request;
use super::sample::Sampler;
use super::{body_damage, head_damage};

/// Makes requests, most of them wrong in some way.
#[derive(Debug)]
pub struct Generator {
    /// The description that they are made from.
    pub document: Document,
    /// What makes their values.
    pub sampler: Sampler,
    /// Where all randomness comes from.
    pub seed: u64,
}

impl Generator {
    /// The request of this number: always the same one, whatever came before.
    ///
    /// # Panics
    ///
    /// When the description has no calls.
    pub fn request(&self, number: u64) -> Request {
        let rng = &mut StdRng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
        let operation = self.document.operations().choose(rng).expect("a description has calls");
        let (mut request, body) = self.valid(rng, operation);
        if rng.random_bool(0.2) {
            return request;
        }
        for _ in 0..rng.random_range(1..=2) {
            self.damage(rng, operation, &mut request, body.clone());
        }
        if rng.random_bool(0.05) {
            head_damage::nonsense(rng, &mut request);
        }
        request
    }

    /// A request that the description allows, and its body.
    fn valid(&self, rng: &mut StdRng, operation: &Operation) -> (Request, Option<Value>) {
        let (document, sampler) = (&self.document, &self.sampler);
        let mut target = operation.path.clone();
        for parameter in &operation.in_path {
            let value = sampler.text(document, rng, &parameter.name, &parameter.schema);
            target = target.replace(&format!("{{{}}}", parameter.name), &encoded(rng, &value));
        }
        let mut separator = '?';
        for parameter in &operation.in_query {
            if parameter.required || rng.random() {
                let value = match sampler.value(document, rng, &parameter.name, &parameter.schema) {
                    Value::String(text) => encoded(rng, &text),
                    other => other.to_string(),
                };
                target.push_str(&format!("{separator}{}={value}", parameter.name));
                separator = '&';
            }
        }
        let mut request = Request::new(&operation.method, target);
        let Some(body) = operation.body.as_ref().filter(|body| body.required || rng.random_bool(0.8)) else {
            return (request, None);
        };
        let value = sampler.value(document, rng, "body", &body.schema);
        let indented = || serde_json::to_vec_pretty(&value).expect("JSON serializes");
        request.body = if rng.random_bool(0.1) { indented() } else { value.to_string().into_bytes() };
        request.headers.push(("Content-Type".to_owned(), b"application/json".to_vec()));
        (request, Some(value))
    }

    fn damage(&self, rng: &mut StdRng, operation: &Operation, request: &mut Request, body: Option<Value>) {
        if let Some(body) = body
            && rng.random_bool(0.65)
        {
            return body_damage::damage(rng, request, body);
        }
        match rng.random_range(0..20) {
            0..4 => head_damage::media(rng, request),
            4..8 => head_damage::headers(rng, request),
            8..10 => head_damage::chunks(rng, request),
            10..12 => head_damage::method(rng, request),
            12..15 if !operation.in_query.is_empty() => head_damage::query(rng, request),
            12 => head_damage::query(rng, request),
            _ => head_damage::path(rng, request),
        }
    }
}

/// A value in a path or a query; some of the characters that need no encoding have it all the same.
fn encoded(rng: &mut StdRng, value: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' if rng.random_bool(0.99) => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(encode).collect()
}
