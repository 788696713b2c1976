//! Requests that no client library sends: damaged heads, damaged bodies.

use pricing_e2e::raw_http::{NoAnswer, RawConnection};
use pricing_harness::stack::Stack;

/// The head of a price request, up to the fields that say how long its body is.
const HEAD: &str = "POST /api/v1/price HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
/// Fields of a good body, behind its brace.
const FIELDS: &str = r#""product_id":"P-100","user_location":"NY"}"#;

/// A case, its bytes, and the status of the answer.
type Case = (&'static str, Vec<u8>, u16);

/// Requests with something wrong before their body. Where it is no HTTP the answer has no body either.
fn heads() -> Vec<Case> {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let price = |rest: &str| format!("{HEAD}{rest}").into_bytes();
    let fields: String = (0..120).map(|n| format!("x-{n}: {n}\r\n")).collect();
    vec![
        ("zero bytes", b"\0\0\0\0".to_vec(), 400),
        ("the start of a TLS connection", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400),
        ("no target", b"GET\r\n\r\n".to_vec(), 400),
        ("an unknown version", b"GET / HTTP/9.9\r\n\r\n".to_vec(), 400),
        ("a folded field", b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n".to_vec(), 400),
        ("a field without a colon", b"GET / HTTP/1.1\r\nNo colon\r\n\r\n".to_vec(), 400),
        ("a zero byte in a name", b"GET / HTTP/1.1\r\nA\0: b\r\n\r\n".to_vec(), 400),
        ("a target that is not UTF-8", b"GET /\xff\xfe HTTP/1.1\r\n\r\n".to_vec(), 400),
        ("a space in the target", get("/a b"), 400),
        ("no host", b"GET /health/live HTTP/1.1\r\n\r\n".to_vec(), 200),
        ("HTTP/1.0", b"GET /health/live HTTP/1.0\r\n\r\n".to_vec(), 200),
        ("another host's target", get("http://other/health/live"), 200),
        ("a fragment", get("/health/live#x"), 200),
        ("all of the server", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 404),
        ("a tunnel", b"CONNECT a:80 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), 404),
        (
            "a method that does not exist",
            b"BREW /api/v1/price HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            405,
        ),
        (
            "a method in lower case",
            b"get /api/v1/price/P-100 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            405,
        ),
        ("120 fields", format!("GET / HTTP/1.1\r\n{fields}\r\n").into_bytes(), 431),
        ("a long field", format!("GET / HTTP/1.1\r\ny: {}\r\n\r\n", "x".repeat(500_000)).into_bytes(), 431),
        ("a long path", get(&format!("/{}", "x".repeat(7_000))), 404),
        ("too long a path", get(&format!("/{}", "x".repeat(9_000))), 414),
        ("a path longer than a head may be", get(&format!("/{}", "x".repeat(60_000))), 431),
        ("a path that leads out", get("/docs/%2e%2e/%2e%2e/etc/passwd"), 404),
        ("a path that leads out, otherwise", get("/docs/..%2fx"), 404),
        ("a zero byte in the path", get("/api/v1/price/%00?user_location=NY"), 422),
        ("a line end in the path", get("/api/v1/price/a%0d%0ab?user_location=NY"), 422),
        ("no hexadecimal in the path", get("/api/v1/price/%zz?user_location=NY"), 422),
        ("letters as they are in the path", get("/api/v1/price/\u{e9}?user_location=NY"), 422),
        ("a path that is not UTF-8", get("/api/v1/price/%FF?user_location=NY"), 400),
        ("an overlong character in the path", get("/api/v1/price/%C0%AF?user_location=NY"), 400),
        ("a query that is not UTF-8", get("/api/v1/price/P-100?user_location=%FF"), 422),
        ("a parameter twice", get("/api/v1/price/P-100?user_location=NY&user_location=LA"), 422),
        ("a long query", get(&format!("/api/v1/price/P-100?user_location=NY&x={}", "y".repeat(7_000))), 200),
        ("a negative length", price("Content-Length: -1\r\n\r\n"), 400),
        ("two lengths", price("Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 400),
        ("a length beyond all numbers", price("Content-Length: 99999999999999999999\r\n\r\n"), 400),
        ("an unknown transfer encoding", price("Transfer-Encoding: gzip\r\n\r\nab"), 400),
        (
            "chunks and a length",
            price("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
            400,
        ),
        ("a chunk without a length", price("Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"), 400),
        ("an unknown expectation", price("Expect: x\r\nContent-Length: 2\r\n\r\n{}"), 422),
    ]
}

/// Requests whose bodies end before they are complete.
fn cut_short() -> Vec<Case> {
    vec![
        ("a body cut short", format!("{HEAD}Content-Length: 9\r\n\r\n{{}}").into_bytes(), 400),
        (
            "a chunk beyond all numbers",
            format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{{}}").into_bytes(),
            400,
        ),
        (
            "chunks without an end",
            format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n").into_bytes(),
            400,
        ),
    ]
}

/// Requests with damaged bodies.
fn bodies() -> Vec<Case> {
    let with = |field: &str| format!("{{{field},{FIELDS}").into_bytes();
    let nested = |depth| with(&format!(r#""deep":{}{}"#, "[".repeat(depth), "]".repeat(depth)));
    let bodies: Vec<Case> = vec![
        ("null", b"null".to_vec(), 422),
        ("a number", b"0".to_vec(), 422),
        ("a list", b"[]".to_vec(), 422),
        ("no UTF-8", b"\xff\xfe".to_vec(), 400),
        ("a zero byte", b"\0".to_vec(), 400),
        ("a byte order mark", format!("\u{feff}{{{FIELDS}").into_bytes(), 400),
        ("two bodies", format!("{{{FIELDS}{{}}").into_bytes(), 400),
        ("a form", b"product_id=P-100&user_location=NY".to_vec(), 400),
        ("single quotes", b"{'a':1}".to_vec(), 400),
        ("names without quotes", b"{a:1}".to_vec(), 400),
        ("a comma before the brace", b"{\"a\":1,}".to_vec(), 400),
        ("half a word", with(r#""a":tru"#), 400),
        ("half a surrogate pair", br#"{"product_id":"\ud800","user_location":"NY"}"#.to_vec(), 400),
        ("an encoded surrogate", b"{\"a\":\"\xed\xa0\x80\"}".to_vec(), 400),
        ("a zero character", br#"{"product_id":"\u0000","user_location":"NY"}"#.to_vec(), 422),
        ("a control character", b"{\"product_id\":\"\x01\",\"user_location\":\"NY\"}".to_vec(), 400),
        ("a number that starts with zero", with(r#""n":01"#), 400),
        ("a hexadecimal number", with(r#""n":0x10"#), 400),
        ("not a number", with(r#""n":NaN"#), 400),
        ("a field twice", with(r#""product_id":"P-101""#), 422),
        ("nested deeply in an unknown field", nested(30_000), 400),
        ("white space around", format!("{}{{{FIELDS}", " ".repeat(60_000)).into_bytes(), 200),
        ("too much white space around", format!("{}{{{FIELDS}", " ".repeat(70_000)).into_bytes(), 413),
    ];
    let request =
        |body: Vec<u8>| [format!("{HEAD}Content-Length: {}\r\n\r\n", body.len()).into_bytes(), body].concat();
    bodies.into_iter().map(|(what, body, status)| (what, request(body), status)).collect()
}

#[tokio::test]
async fn every_damaged_request_gets_the_answer_that_says_so_and_the_process_lives() {
    let mut stack = Stack::builder().workers(0).listeners(0).start().await;
    let complete = heads().into_iter().chain(bodies()).map(|case| (case, false));
    for ((what, bytes, status), ends) in complete.chain(cut_short().into_iter().map(|case| (case, true))) {
        let mut connection = RawConnection::open(stack.api.address()).await.unwrap();
        let answer = connection.exchange(&bytes, ends, false).await;
        let answer = answer.unwrap_or_else(|none| panic!("{what}: {none:?}"));
        assert_eq!(answer.status, status, "{what}: {}", String::from_utf8_lossy(&answer.body));
        let is_problem = answer.header("content-type") == Some("application/problem+json");
        assert!(is_problem || status == 200 || answer.body.is_empty(), "{what}: {answer:?}");
    }
    assert_eq!(stack.api.exit_status(), None);
    assert!(!stack.api.log().contains("panicked"));
    assert_eq!(stack.price("P-100", "NY", false).await["final_price"], 47.49);
}

#[tokio::test]
async fn half_a_request_holds_up_nobody_else() {
    let stack = Stack::builder().workers(0).listeners(0).start().await;
    let mut waiting = RawConnection::open(stack.api.address()).await.unwrap();
    let asked = waiting.exchange(HEAD.as_bytes(), false, false);
    let served = stack.price("P-100", "NY", false);
    tokio::pin!(asked, served);
    tokio::select! {
        answer = &mut asked => panic!("half a request was answered: {answer:?}"),
        price = &mut served => assert_eq!(price["final_price"], 47.49),
    }
    let closed =
        RawConnection::open(stack.api.address()).await.unwrap().exchange(b"\r\n\r\n", true, false).await;
    assert!(matches!(closed, Err(NoAnswer::Closed)), "{closed:?}");
}
