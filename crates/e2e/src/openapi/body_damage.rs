//! What can be wrong with a body.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _};
use serde_json::{Map, Value};

use super::request::Request;
use super::sample::{anything, odd_text};

/// Lengths next to which bounds are.
const TEXT_LENGTHS: &[usize] = &[0, 1, 63, 64, 65, 127, 128, 255, 256, 257, 1_000, 10_000];
const LIST_LENGTHS: &[usize] = &[0, 1, 2, 499, 500, 501, 5_000];
const DEPTHS: &[usize] = &[15, 16, 17, 18, 127, 128, 129, 1_000, 5_000, 10_000];
const BODY_LENGTHS: &[usize] = &[65_000, 65_535, 65_536, 65_537, 70_000, 131_072, 300_000];

/// Damages the body of a request, which was `body` so far.
pub fn damage(rng: &mut StdRng, request: &mut Request, mut body: Value) {
    let what = match rng.random_range(0..20) {
        0..11 => damage_value(rng, &mut body),
        choice => {
            let mut text = body.to_string().into_bytes();
            let what = match choice {
                11 => truncate(rng, &mut text),
                12 | 13 => flip(rng, &mut text),
                14 => insert(rng, &mut text),
                15 => repeat_field(rng, &mut text, &body),
                16 => nest(rng, &mut text),
                17 => lengthen(rng, &mut text),
                18 => number(rng, &mut text),
                _ => replace(rng, &mut text),
            };
            request.body = text;
            return request.damage.push(what);
        }
    };
    request.body = body.to_string().into_bytes();
    request.damage.push(what);
}

fn damage_value(rng: &mut StdRng, body: &mut Value) -> &'static str {
    let Value::Object(fields) = body else {
        *body = anything(rng, 3);
        return "anything as the body";
    };
    let names: Vec<String> = fields.keys().cloned().collect();
    let name = names.choose(rng).cloned().unwrap_or_else(|| "reason".to_owned());
    let length = *TEXT_LENGTHS.choose(rng).expect("one");
    match rng.random_range(0..9) {
        0 => {
            fields.remove(&name);
            "a field missing"
        }
        1 => {
            fields.insert(name, anything(rng, 2));
            "anything in a field"
        }
        2 => {
            fields.insert(odd_text(rng), anything(rng, 3));
            "another field"
        }
        3 => {
            let (first, letter) = (["a", "é", "\0", "🦀"].choose(rng).expect("one"), &mut String::new());
            letter.push_str(first);
            fields.insert(name, Value::String(letter.repeat(length)));
            "a text at a bound"
        }
        4 => {
            fields.insert(name, Value::String(odd_text(rng)));
            "an odd text"
        }
        5 => {
            let item = fields.get(&name).cloned().unwrap_or_default();
            let item = item.get(0).cloned().unwrap_or(item);
            let items = *LIST_LENGTHS.choose(rng).expect("one");
            fields.insert(name, Value::Array(vec![item; items]));
            "a list at a bound"
        }
        6 => {
            *body = fields.values().cloned().collect();
            "the fields as a list"
        }
        7 => {
            let inner = std::mem::take(fields);
            *body = Value::Array(vec![Value::Object(inner)]);
            "a list around it"
        }
        _ => {
            let renamed = |(name, value): (String, Value)| (name.to_uppercase(), value);
            *fields = std::mem::take(fields).into_iter().map(renamed).collect::<Map<_, _>>();
            "the fields in capitals"
        }
    }
}

fn truncate(rng: &mut StdRng, text: &mut Vec<u8>) -> &'static str {
    text.truncate(rng.random_range(0..text.len()));
    "cut short"
}

fn flip(rng: &mut StdRng, text: &mut [u8]) -> &'static str {
    for _ in 0..rng.random_range(1..4) {
        let place = rng.random_range(0..text.len());
        text[place] ^= 1 << rng.random_range(0..8);
    }
    "bits flipped"
}

fn insert(rng: &mut StdRng, text: &mut Vec<u8>) -> &'static str {
    let mut bytes = vec![0; rng.random_range(1..9)];
    rng.fill_bytes(&mut bytes);
    let place = *[0, text.len(), rng.random_range(0..=text.len())].choose(rng).expect("one");
    text.splice(place..place, bytes);
    "bytes inserted"
}

fn repeat_field(rng: &mut StdRng, text: &mut Vec<u8>, body: &Value) -> &'static str {
    let fields: Vec<_> = body.as_object().into_iter().flatten().collect();
    if let Some((name, value)) = fields.choose(rng) {
        let field = format!("{{{}:{value},", Value::from(name.as_str()));
        text.splice(0..1, field.into_bytes());
    }
    "a field twice"
}

fn nest(rng: &mut StdRng, text: &mut Vec<u8>) -> &'static str {
    let depth = *DEPTHS.choose(rng).expect("one");
    let (open, close) = *[("[", "]"), ("{\"a\":", "}")].choose(rng).expect("one");
    let closed = if rng.random_bool(0.8) { depth } else { 0 };
    let nested = [open.repeat(depth), "1".to_owned(), close.repeat(closed)].concat().into_bytes();
    if rng.random() && text.starts_with(b"{\"") {
        text.splice(1..1, [b"\"deep\":".to_vec(), nested, b",".to_vec()].concat());
        return "a field nested deeply";
    }
    *text = nested;
    "nested deeply"
}

fn lengthen(rng: &mut StdRng, text: &mut Vec<u8>) -> &'static str {
    let missing = BODY_LENGTHS.choose(rng).expect("one").saturating_sub(text.len());
    if rng.random() && text.starts_with(b"{\"") && missing > 10 {
        let field = format!("\"long\":\"{}\",", "x".repeat(missing - 10));
        text.splice(1..1, field.into_bytes());
        return "a long field";
    }
    let place = if rng.random() { 0 } else { text.len() };
    text.splice(place..place, vec![b' '; missing]);
    "long"
}

fn number(rng: &mut StdRng, text: &mut Vec<u8>) -> &'static str {
    const NUMBERS: &[&str] = &[
        "1e999",
        "-1e999",
        "1e-999",
        "1e99999999999999999999",
        "123456789012345678901234567890",
        "-0",
        "0.1",
        "01",
        "+1",
        ".5",
        "1.",
        "0x10",
        "NaN",
        "Infinity",
        "-",
        "1e",
        "1_000",
        "18446744073709551616",
    ];
    let number = *NUMBERS.choose(rng).expect("one");
    let fields: Vec<usize> = (0..text.len()).filter(|place| text[*place] == b':').collect();
    match fields.choose(rng) {
        // In place of a value that is a text.
        Some(place) if text[place + 1..].starts_with(b"\"") && rng.random() => {
            let end = text[place + 2..].iter().position(|byte| *byte == b'"').map(|end| place + 3 + end);
            text.splice(place + 1..end.unwrap_or(text.len()), number.bytes());
            "an odd number in a field"
        }
        _ if text.starts_with(b"{\"") => {
            text.splice(1..1, format!("\"n\":{number},").into_bytes());
            "an odd number in another field"
        }
        _ => {
            *text = number.as_bytes().to_vec();
            "an odd number"
        }
    }
}

fn replace(rng: &mut StdRng, text: &mut Vec<u8>) -> &'static str {
    const BODIES: &[&[u8]] = &[
        b"",
        b" ",
        b"null",
        b"true",
        b"0",
        b"\"\"",
        b"[]",
        b"{}",
        b"[{}]",
        b"{\"\":0}",
        b"\xff\xfe",
        b"\0",
        b"\xef\xbb\xbf{}",
        b"{}{}",
        b"{} x",
        b"product_id=P-100&user_location=NY",
        b"<xml/>",
        b"{'a':1}",
        b"{\"a\":1,}",
        b"{\"a\":\"\\ud800\"}",
        b"{\"a\":\"\\u0000\"}",
        b"{\"a\":\"\x01\"}",
        b"{a:1}",
        b"{\"a\":1 /* c */}",
        b"{\"a\" 1}",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"{\"a\":\"\\up00b\"}",
        b"{\"a\":[\"\\x\"]}",
        b"{\"a\":tru}",
        b"{\"a\":[1,]}",
    ];
    let body = *BODIES.choose(rng).expect("one");
    if rng.random() && body.starts_with(b"{\"") && text.starts_with(b"{\"") {
        let mut field = body[1..body.len() - 1].to_vec();
        field.push(b',');
        text.splice(1..1, field);
        return "a field of a small other body";
    }
    *text = body.to_vec();
    "a small other body"
}
