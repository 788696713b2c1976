//! Values that a schema allows, at random.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::string::{RegexGeneratorStrategy, string_regex};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _};
use serde_json::{Map, Value};

use super::document::Document;

/// How often a value that is known to exist is taken where there is one.
const KNOWN: f64 = 0.8;
/// Longest list that is sampled, where the schema allows a longer one; the longest one allowed comes up too.
const USUAL_ITEMS: u64 = 8;
/// Longest text that is sampled where the schema sets no bound.
const USUAL_LENGTH: u64 = 40;

/// Makes values.
#[derive(Debug)]
pub struct Sampler {
    known: BTreeMap<&'static str, Vec<String>>,
    /// Patterns are compiled once.
    patterns: Mutex<BTreeMap<String, Texts>>,
}

type Texts = Arc<RegexGeneratorStrategy<String>>;

impl Sampler {
    /// One that takes values that exist where it is given some: `known`, by the name of their field.
    pub fn new(known: BTreeMap<&'static str, Vec<String>>) -> Self {
        Self { known, patterns: Mutex::default() }
    }

    /// A value that `schema` allows, for the field of this name.
    ///
    /// # Panics
    ///
    /// When the schema uses a keyword that this does not know.
    pub fn value(&self, document: &Document, rng: &mut StdRng, name: &str, schema: &Value) -> Value {
        let schema = document.resolve(schema);
        if let Some(options) = schema["oneOf"].as_array().or_else(|| schema["enum"].as_array()) {
            let option = options.choose(rng).expect("an option");
            return if schema["enum"].is_array() {
                option.clone()
            } else {
                self.value(document, rng, name, option)
            };
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.choose(rng).expect("a type"),
            one => one,
        };
        match types.as_str() {
            Some("null") => Value::Null,
            Some("boolean") => Value::Bool(rng.random()),
            Some("string") => Value::String(self.text(document, rng, name, schema)),
            Some("array") => self.list(document, rng, name, schema),
            Some("object") => self.object(document, rng, schema),
            _ => panic!("requests have no {schema} so far"),
        }
    }

    /// A text that `schema` allows, for the field of this name.
    ///
    /// # Panics
    ///
    /// When the schema's pattern cannot be followed.
    pub fn text(&self, document: &Document, rng: &mut StdRng, name: &str, schema: &Value) -> String {
        let schema = document.resolve(schema);
        if let Some(known) = self.known.get(name)
            && rng.random_bool(KNOWN)
        {
            return known.choose(rng).expect("a known value").clone();
        }
        let longest = schema["maxLength"].as_u64().unwrap_or(USUAL_LENGTH);
        let pattern = match schema["pattern"].as_str() {
            Some(pattern) => pattern.trim_start_matches('^').trim_end_matches('$').to_owned(),
            None => format!("(?s).{{{},{longest}}}", schema["minLength"].as_u64().unwrap_or(0)),
        };
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let made = self.texts(pattern).new_tree(&mut TestRunner::new_with_rng(Config::default(), random));
        made.expect("a text").current()
    }

    fn texts(&self, pattern: String) -> Texts {
        let mut patterns = self.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = |pattern: &String| string_regex(pattern).expect("a pattern that can be followed");
        patterns.entry(pattern).or_insert_with_key(|pattern| Arc::new(compiled(pattern))).clone()
    }

    fn list(&self, document: &Document, rng: &mut StdRng, name: &str, schema: &Value) -> Value {
        let bound = |keyword: &str| schema[keyword].as_u64();
        let (least, most) = (bound("minItems").unwrap_or(0), bound("maxItems").unwrap_or(USUAL_ITEMS));
        let items = match rng.random_range(0..100) {
            0 => most,
            1 => least,
            _ => rng.random_range(least..=most.min(USUAL_ITEMS)),
        };
        (0..items).map(|_| self.value(document, rng, name, &schema["items"])).collect()
    }

    fn object(&self, document: &Document, rng: &mut StdRng, schema: &Value) -> Value {
        let required = |name: &String| {
            schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name.as_str()))
        };
        let properties = schema["properties"].as_object().expect("an object has properties");
        let mut fields = Map::new();
        for (name, schema) in properties {
            if required(name) || rng.random() {
                fields.insert(name.clone(), self.value(document, rng, name, schema));
            }
        }
        Value::Object(fields)
    }
}

/// Any JSON at all, up to this depth.
pub fn anything(rng: &mut StdRng, depth: usize) -> Value {
    let kinds = if depth == 0 { 7 } else { 9 };
    match rng.random_range(0..kinds) {
        0 => Value::Null,
        1 => Value::Bool(rng.random()),
        2 => Value::from(rng.random::<i64>()),
        3 => Value::from(f64::from_bits(rng.random())), // null unless it is finite
        4 => Value::from(*[0, 1, -1, i64::MAX, i64::MIN].choose(rng).expect("one")),
        5 => Value::String(odd_text(rng)),
        6 => Value::String(String::new()),
        7 => (0..rng.random_range(0..4)).map(|_| anything(rng, depth - 1)).collect(),
        _ => {
            let fields = 0..rng.random_range(0..4);
            Value::Object(fields.map(|_| (odd_text(rng), anything(rng, depth - 1))).collect())
        }
    }
}

/// A text of characters that identifiers, keys or terminals might stumble over.
pub fn odd_text(rng: &mut StdRng) -> String {
    const ODD: &[&str] = &[
        "\0",
        "\n",
        "\r\n",
        "\t",
        " ",
        "\u{7f}",
        "\u{1b}[31m",
        "é",
        "e\u{301}",
        "ß",
        "İ",
        "日本",
        "🦀",
        "👩‍👩‍👧",
        "\u{202e}",
        "\u{feff}",
        "\u{ffff}",
        "\u{10ffff}",
        "{}",
        "[]",
        "\"",
        "\\",
        "'",
        ":",
        "*",
        "/",
        "../",
        "%00",
        "$(id)",
        "${jndi:x}",
        "' OR 1=1",
        "<b>",
        "a",
        "P-100",
        "null",
        "true",
        "1e9",
    ];
    (0..rng.random_range(1..6)).map(|_| *ODD.choose(rng).expect("one")).collect()
}
