//! Whatever comes in over HTTP: a clear answer, never a 5xx, and the process lives.

use pricing_harness::api_key;
use pricing_harness::service::Service;
use pricing_harness::stack::Stack;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

const PRICE: &str = "/api/v1/price";
const PRICES: &str = "/api/v1/prices";
const PUBLISH: &str = "/api/v1/publish-market-event";
const JSON: &str = "application/json";

/// A request that is wrong, and the status that says so.
struct Bad {
    what: &'static str,
    method: Method,
    path: String,
    media: Option<&'static str>,
    body: Vec<u8>,
    status: StatusCode,
    /// The fields named in a 422.
    fields: &'static [&'static str],
}

impl Bad {
    fn post(what: &'static str, path: &str, body: impl Into<Vec<u8>>, status: StatusCode) -> Self {
        let (method, media) = (Method::POST, Some(JSON));
        Self { what, method, path: path.to_owned(), media, body: body.into(), status, fields: &[] }
    }

    fn get(what: &'static str, path: &str, status: StatusCode) -> Self {
        let (method, path) = (Method::GET, path.to_owned());
        Self { what, method, path, media: None, body: Vec::new(), status, fields: &[] }
    }

    fn naming(self, fields: &'static [&'static str]) -> Self {
        Self { fields, ..self }
    }

    async fn check(self, api: &Service) {
        let client = api_key::client();
        let mut request = client.request(self.method, api.url(&self.path)).body(self.body);
        if let Some(media) = self.media {
            request = request.header(header::CONTENT_TYPE, media);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{}: {error:?}", self.what));
        assert_eq!(answer.status(), self.status, "{}", self.what);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json", "{}", self.what);
        assert!(answer.headers().contains_key("x-request-id"), "{}", self.what);
        let problem: Value = answer.json().await.unwrap_or_else(|error| panic!("{}: {error:?}", self.what));
        assert_eq!(problem["status"], self.status.as_u16(), "{}: {problem}", self.what);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{}: {problem}", self.what);
        let named: Vec<&str> = problem["errors"]
            .as_array()
            .map(|errors| errors.iter().filter_map(|error| error["field"].as_str()).collect())
            .unwrap_or_default();
        assert!(self.fields.iter().all(|field| named.contains(field)), "{}: {problem}", self.what);
    }
}

fn price(product: &str) -> String {
    json!({"product_id": product, "user_location": "NY", "is_prime_member": true}).to_string()
}

fn bad_requests() -> Vec<Bad> {
    use StatusCode as S;
    let long = "x".repeat(65);
    let deep = |n: usize| [b"{\"product_id\":".repeat(n), b"1".to_vec(), b"}".repeat(n)].concat();
    let hidden = format!(
        r#"{{"other":{}1{},"product_id":"P-1","user_location":"NY"}}"#,
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    let ids: Vec<String> = (0..501).map(|n| format!("P-{n}")).collect();
    let mut bad = vec![
        Bad::post("no JSON", PRICE, "{", S::BAD_REQUEST),
        Bad::post("nothing", PRICE, "", S::BAD_REQUEST),
        Bad::post("no UTF-8", PRICE, b"{\"product_id\":\"\xff\"}".to_vec(), S::BAD_REQUEST),
        Bad::post("text behind it", PRICE, price("P-1") + "{}", S::BAD_REQUEST),
        Bad::post("nested deeply, all of it", PRICE, deep(4_000), S::BAD_REQUEST),
        Bad::post("nested deeply in an unknown field", PRICE, hidden, S::BAD_REQUEST),
        Bad::post("nested 100,000 deep, in brackets", PRICE, "[".repeat(60_000), S::BAD_REQUEST),
        Bad::post("too large", PRICE, price(&"x".repeat(100_000)), S::PAYLOAD_TOO_LARGE),
        Bad::post("too large and nested 100,000 deep", PRICE, deep(100_000), S::PAYLOAD_TOO_LARGE),
        Bad::post("a list", PRICE, "[1]", S::UNPROCESSABLE_ENTITY),
        Bad::post("a wrong type", PRICE, r#"{"product_id":1,"user_location":"NY"}"#, S::UNPROCESSABLE_ENTITY),
        Bad::post(
            "a wrong flag",
            PRICE,
            r#"{"product_id":"P-1","user_location":"NY","is_prime_member":"yes"}"#,
            S::UNPROCESSABLE_ENTITY,
        ),
        Bad::post("a missing field", PRICE, r#"{"product_id":"P-1"}"#, S::UNPROCESSABLE_ENTITY)
            .naming(&["user_location"]),
        Bad::post("two empty ids", PRICE, r#"{"product_id":"","user_location":""}"#, S::UNPROCESSABLE_ENTITY)
            .naming(&["product_id", "user_location"]),
        Bad::post("an unknown product", PRICE, price("P-unknown"), S::NOT_FOUND),
        Bad::post("no ids", PRICES, r#"{"user_location":"NY","product_ids":[]}"#, S::UNPROCESSABLE_ENTITY)
            .naming(&["product_ids"]),
        Bad::post(
            "501 ids",
            PRICES,
            json!({"user_location": "NY", "product_ids": ids}).to_string(),
            S::UNPROCESSABLE_ENTITY,
        )
        .naming(&["product_ids"]),
        Bad::post(
            "one bad id of two",
            PRICES,
            r#"{"user_location":"NY","product_ids":["P-1","a b"]}"#,
            S::UNPROCESSABLE_ENTITY,
        )
        .naming(&["product_ids"]),
        Bad::post(
            "a long reason",
            PUBLISH,
            json!({"reason": "x".repeat(257)}).to_string(),
            S::UNPROCESSABLE_ENTITY,
        )
        .naming(&["reason"]),
        Bad::post("a reason that is none", PUBLISH, "nonsense", S::BAD_REQUEST),
        Bad {
            media: Some("text/plain"),
            ..Bad::post("text", PRICE, price("P-1"), S::UNSUPPORTED_MEDIA_TYPE)
        },
        Bad { media: None, ..Bad::post("no media type", PRICE, price("P-1"), S::UNSUPPORTED_MEDIA_TYPE) },
        Bad::get("the wrong method", PRICE, S::METHOD_NOT_ALLOWED),
        Bad {
            method: Method::DELETE,
            ..Bad::get("the wrong method for a task", "/api/v1/tasks/x", S::METHOD_NOT_ALLOWED)
        },
        Bad::get("no such path", "/api/v2/price", S::NOT_FOUND),
        Bad::get("an unknown product", "/api/v1/price/P-unknown?user_location=NY", S::NOT_FOUND),
        Bad::get("no location", "/api/v1/price/P-100", S::UNPROCESSABLE_ENTITY).naming(&["user_location"]),
        Bad::get("a bad location", "/api/v1/price/P-100?user_location=N%20Y", S::UNPROCESSABLE_ENTITY)
            .naming(&["user_location"]),
        Bad::get("a bad product", "/api/v1/price/P%3A100?user_location=NY", S::UNPROCESSABLE_ENTITY)
            .naming(&["product_id"]),
        Bad::get(
            "a bad flag",
            "/api/v1/price/P-100?user_location=NY&is_prime_member=yes",
            S::UNPROCESSABLE_ENTITY,
        ),
        Bad::get("an unknown task", "/api/v1/tasks/nobody", S::NOT_FOUND),
        Bad::get("a bad task", "/api/v1/tasks/a%20b", S::UNPROCESSABLE_ENTITY).naming(&["task_id"]),
    ];
    for id in ["", &long, "a b", "a:b", "a\nb", "a\0b", "é", "{a}", "../x"] {
        bad.push(Bad::post("a bad id", PRICE, price(id), S::UNPROCESSABLE_ENTITY).naming(&["product_id"]));
    }
    bad
}

#[tokio::test]
async fn every_kind_of_bad_input_gets_its_problem_and_the_process_lives() {
    let mut stack = Stack::builder().workers(0).listeners(0).start().await;
    for bad in bad_requests() {
        bad.check(&stack.api).await;
    }
    assert_eq!(stack.api.exit_status(), None);
    assert_eq!(stack.price("P-100", "NY", false).await["final_price"], 47.49);
    let (status, _) = stack.post(PUBLISH, &json!({})).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_in_chunks_is_bounded_as_well() {
    let stack = Stack::builder().workers(0).listeners(0).start().await;
    let chunks = futures_util::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1_024])));
    let body = reqwest::Body::wrap_stream(chunks);
    let request = api_key::client().post(stack.api.url(PRICE)).header(header::CONTENT_TYPE, JSON).body(body);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(stack.price("P-100", "NY", false).await["final_price"], 47.49);
}

#[tokio::test]
async fn the_documentation_needs_no_other_host() {
    let stack = Stack::builder().workers(0).listeners(0).start().await;
    let page = api_key::client().get(stack.api.url("/docs")).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let html = page.text().await.unwrap();
    assert!(html.contains("swagger") && !html.contains("https://"), "{html}");
    let (status, document) = stack.get("/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    for path in [
        PRICE,
        "/api/v1/price/{product_id}",
        PRICES,
        PUBLISH,
        "/api/v1/recalculate",
        "/api/v1/tasks/{task_id}",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}

#[tokio::test]
async fn requests_are_measured_by_route_and_never_by_id() {
    let stack = Stack::builder().workers(0).listeners(0).start().await;
    for n in 100..120 {
        stack.get(&format!("/api/v1/price/P-{n}?user_location=NY")).await;
        stack.get(&format!("/nowhere/{n}")).await;
    }
    let metrics =
        api_key::client().get(stack.api.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let counted = r#"http_request_duration_seconds_count{method="GET",endpoint="/api/v1/price/{product_id}",status="200"} 20"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert!(!metrics.contains("P-100") && !metrics.contains("/nowhere/"), "{metrics}");
    for bucket in ["0.0005", "0.005", "0.05", "0.15", "1"] {
        assert!(metrics.contains(&format!("le=\"{bucket}\"")), "{bucket}");
    }
}
