//! What can be wrong with what comes before a body.

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::request::{Framing, Request};

/// Damages the media type that the body is declared as.
pub fn media(rng: &mut StdRng, request: &mut Request) {
    const MEDIA: &[&[u8]] = &[
        b"",
        b"text/plain",
        b"application/jsonp",
        b"application/json; charset=utf-8",
        b"APPLICATION/JSON",
        b"application/json;",
        b" application/json ",
        b"application/problem+json",
        b"application",
        b"multipart/form-data; boundary=x",
        b"application/x-www-form-urlencoded",
        b"application/json, text/plain",
        b"\xff",
        b"*/*",
        b"application/json/json",
        b"application/json; charset=utf-16",
        b"json",
    ];
    request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
    if rng.random_bool(0.8) {
        let media = MEDIA.choose(rng).expect("one").to_vec();
        request.headers.push(("Content-Type".to_owned(), media));
    }
    request.damage.push("another media type");
}

/// Adds header fields that are odd, but allowed.
pub fn headers(rng: &mut StdRng, request: &mut Request) {
    const FIELDS: &[(&str, &[u8])] = &[
        ("x-request-id", b"order-17"),
        ("x-request-id", b""),
        ("x-request-id", b"a b\"c"),
        ("x-request-id", b"\xff\xfe"),
        ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("traceparent", b"00-00000000000000000000000000000000-0000000000000000-00"),
        ("traceparent", b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"),
        ("traceparent", b"\xff"),
        ("tracestate", b"=,=,;"),
        ("baggage", b"a=b;c,d"),
        ("Accept", b"image/png"),
        ("Accept-Encoding", b"br;q=9, nothing"),
        ("Content-Encoding", b"gzip"),
        ("Expect", b"100-continue"),
        ("Range", b"bytes=1-0"),
        ("If-None-Match", b"*"),
        ("Upgrade", b"h2c"),
        ("Forwarded", b"for=unknown;host=\"\""),
        ("Authorization", b"Basic \xff"),
        ("Cookie", b"a=b; a=b;;"),
        ("Origin", b"null"),
    ];
    for _ in 0..rng.random_range(1..4) {
        let (name, value) = *FIELDS.choose(rng).expect("one");
        request.headers.push((name.to_owned(), value.to_vec()));
    }
    if rng.random_bool(0.3) {
        let length = *[64, 65, 1_000, 8_000, 60_000].choose(rng).expect("one");
        let name = *["x-request-id", "x-long", "Cookie"].choose(rng).expect("one");
        request.headers.push((name.to_owned(), vec![b'x'; length]));
    }
    request.damage.push("odd headers");
}

/// Sends the body in chunks.
pub fn chunks(rng: &mut StdRng, request: &mut Request) {
    request.framing = Framing::Chunks(*[1, 3, 100, 10_000].choose(rng).expect("one"));
    request.damage.push("in chunks");
}

/// Asks with another method, which may not exist.
pub fn method(rng: &mut StdRng, request: &mut Request) {
    const METHODS: &[&str] =
        &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW", "get", "A-B.C_D!"];
    request.method = (*METHODS.choose(rng).expect("one")).to_owned();
    request.damage.push("another method");
}

/// Asks for another path, made of the one that was asked for.
pub fn path(rng: &mut StdRng, request: &mut Request) {
    const JUNK: &[&[u8]] = &[
        b"%20",
        b"%00",
        b"%FF",
        b"%C3%A9",
        b"%2F",
        b"%2e%2e",
        b"%",
        b"%zz",
        b"%25",
        b"%0d%0a",
        b"%C0%AF",
        b"..",
        b".",
        b"/",
        b"//",
        b"~",
        b"!$&'()*+,;=",
        b":",
        b"@",
        b"{product_id}",
        b"|",
        b"\"",
        b"a",
        b"%F0%9F%A6%80",
        b"<>",
        b"^",
        b"`",
        b"\\",
        b"\xc3\xa9",
    ];
    let (mut path, query) = (request.path().to_vec(), request.query().to_vec());
    let what = match rng.random_range(0..8) {
        0..4 => {
            let last = path.iter().rposition(|byte| *byte == b'/').map_or(0, |place| place + 1);
            let place = rng.random_range(last.max(1)..=path.len().max(last).max(1));
            path.splice(place..place, JUNK.choose(rng).expect("one").iter().copied());
            "junk in the last segment"
        }
        4 => {
            let place = rng.random_range(1..=path.len());
            path.splice(place..place, JUNK.choose(rng).expect("one").iter().copied());
            "junk in the path"
        }
        5 => {
            path = path.to_ascii_uppercase();
            "a path in capitals"
        }
        6 => {
            path.extend(b"x".repeat(*[60, 64, 65, 1_000, 10_000, 60_000].choose(rng).expect("one")));
            "a long path"
        }
        _ => {
            const PATHS: &[&[u8]] = &[
                b"/",
                b"/api",
                b"/api/v1/price/",
                b"/api/v2/price",
                b"/admin",
                b"/.env",
                b"/api/v1/tasks",
                b"//",
                b"/openapi.json/x",
                b"/docs/%2e%2e/%2e%2e/etc/passwd",
                b"/docs/nothing.js",
                b"/docs/..%2fx",
                b"/metrics/",
                b"/health",
                b"/health/ready/now",
                b"/favicon.ico",
            ];
            path = PATHS.choose(rng).expect("one").to_vec();
            "another path"
        }
    };
    request.target = if query.is_empty() { path } else { [path, b"?".to_vec(), query].concat() };
    request.damage.push(what);
}

/// Asks with another query, made of the one that was asked for.
pub fn query(rng: &mut StdRng, request: &mut Request) {
    const MORE: &[&str] = &[
        "x=1",
        "=",
        "&&",
        "a",
        "user_location=LA",
        "user_location=",
        "user_location=%00",
        "user_location=%FF",
        "is_prime_member=yes",
        "is_prime_member=1",
        "is_prime_member=",
        "is_prime_member=true",
        "is_prime_member=false",
        "%FF=%FF",
        "user%5Flocation=NY",
        "USER_LOCATION=NY",
        "user_location[]=NY",
        "user_location=N+Y",
        "user_location=a;b",
        "%",
        "?",
        "product_id=P-1",
    ];
    let (path, mut query) = (request.path().to_vec(), request.query().to_vec());
    match rng.random_range(0..4) {
        0 => query.clear(),
        1 => query.truncate(rng.random_range(0..=query.len())),
        _ => {}
    }
    for _ in 0..rng.random_range(0..3) {
        query.push(b'&');
        query.extend(MORE.choose(rng).expect("one").as_bytes());
    }
    if rng.random_bool(0.05) {
        query.extend(b"&x=".iter().copied().chain(vec![b'y'; 20_000]));
    }
    request.target = [path, b"?".to_vec(), query].concat();
    request.damage.push("another query");
}

/// Sends something else than HTTP, made of the request.
pub fn nonsense(rng: &mut StdRng, request: &mut Request) {
    const NONSENSE: &[&[u8]] = &[
        b"\r\n\r\n", b"\0\0\0\0", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET  /  HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nNo colon\r\n\r\n", b"GET / HTTP/1.1\r\nA\0: b\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", b"GET http://other/metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /metrics HTTP/1.0\r\n\r\n", b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /api/v1/price HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/price HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /api/v1/price HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /api/v1/price HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{}",
        b"POST /api/v1/price HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nab",
        b"POST /api/v1/price HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"POST /api/v1/price HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"POST /api/v1/price HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"POST /api/v1/recalculate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
    ];
    let bytes = match rng.random_range(0..4) {
        0 | 1 => NONSENSE.choose(rng).expect("one").to_vec(),
        2 => {
            // As it is, with bits of its head flipped.
            let mut bytes = request.encode();
            let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
            for _ in 0..rng.random_range(1..4) {
                bytes[rng.random_range(0..head)] ^= 1 << rng.random_range(0..8);
            }
            bytes
        }
        _ => {
            let fields = *[90, 120, 500].choose(rng).expect("one");
            let fields: String = (0..fields).map(|n| format!("x-{n}: {n}\r\n")).collect();
            let value = "x".repeat(*[10, 500_000].choose(rng).expect("one"));
            format!("GET /health/live HTTP/1.1\r\n{fields}y: {value}\r\n\r\n").into_bytes()
        }
    };
    request.nonsense = Some(bytes);
    request.damage.push("no proper HTTP");
}
