//! The catalogue over HTTP: what is changed is served at once, under the revision that its author has seen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use pricing_harness::api_key;
use pricing_harness::databases::TestDatabase;
use pricing_harness::service::{Binary, Service};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use rand::RngExt as _;
use reqwest::{Client, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// A change is to be served everywhere within a second; a busy machine gets some more.
const SOON: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(30);

struct Answer {
    status: StatusCode,
    tag: Option<String>,
    body: Value,
}

/// Calls an api about the catalogue.
async fn call(api: &Service, method: Method, path: &str, tag: Option<&str>, body: Option<&Value>) -> Answer {
    let request = api_key::client().request(method, api.url(&format!("/api/v1/{path}")));
    let request = tag.iter().fold(request, |request, tag| request.header(header::IF_MATCH, *tag));
    let request = body.iter().fold(request, |request, body| request.json(body));
    let response = request.send().await.expect("the api answers");
    let (status, tag) = (response.status(), response.headers().get(header::ETAG).cloned());
    let body = response.bytes().await.expect("a body");
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Answer { status, tag: tag.map(|tag| tag.to_str().expect("a tag").to_owned()), body }
}

async fn price(client: &Client, api: &Service, product: &str) -> (StatusCode, Value) {
    let url = api.url(&format!("/api/v1/price/{product}?user_location=NY"));
    let response = client.get(url).send().await.expect("the api answers");
    let status = response.status();
    (status, response.json().await.expect("JSON"))
}

#[tokio::test]
async fn a_product_is_created_read_changed_and_deleted() {
    for database in [TestDatabase::sqlite(), TestDatabase::postgres().await] {
        let stack = Stack::builder().database(database).listeners(0).start().await;
        let api = &stack.api;
        let full = json!({"base_price": 100.10, "floor": 50, "category": "shoes", "tags": ["new", "red"]});
        let created = call(api, Method::PUT, "products/shoe", None, Some(&full)).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.body);
        let expected = json!({
            "product_id": "shoe", "currency": "USD", "base_price": 100.1, "cost": null, "floor": 50.0, "ceiling": null,
            "category": "shoes", "tags": ["new", "red"], "revision": created.body["revision"],
        });
        assert_eq!(created.body, expected);
        let read = call(api, Method::GET, "products/shoe", None, None).await;
        assert_eq!((read.status, &read.body, &read.tag), (StatusCode::OK, &expected, &created.tag));

        // What was read can be sent back as it is.
        let same = call(api, Method::PUT, "products/shoe", read.tag.as_deref(), Some(&read.body)).await;
        assert_eq!((same.status, &same.body), (StatusCode::OK, &expected));
        let patch = json!({"floor": null, "ceiling": 90});
        let patched = call(api, Method::PATCH, "products/shoe", read.tag.as_deref(), Some(&patch)).await;
        assert_eq!((&patched.body["floor"], &patched.body["ceiling"]), (&Value::Null, &json!(90.0)));
        assert_eq!(patched.body["category"], "shoes");
        assert_ne!(patched.tag, read.tag);
        assert_eq!(price(&api_key::client(), api, "shoe").await.1["final_price"], json!(90.0), "the ceiling");

        let stale = call(api, Method::DELETE, "products/shoe", read.tag.as_deref(), None).await;
        assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED, "{}", stale.body);
        let deleted = call(api, Method::DELETE, "products/shoe", patched.tag.as_deref(), None).await;
        assert_eq!(deleted.status, StatusCode::NO_CONTENT);
        assert_eq!(price(&api_key::client(), api, "shoe").await.0, StatusCode::NOT_FOUND);
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(call(api, method, "products/shoe", None, None).await.status, StatusCode::NOT_FOUND);
        }

        let history = call(api, Method::GET, "products/shoe/history?limit=2", None, None).await.body;
        let changes = history["changes"].as_array().expect("a list");
        let kinds: Vec<_> = changes.iter().map(|change| change["change"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["deleted", "edited"]);
        assert_eq!(
            (&changes[1]["old"]["floor"], &changes[1]["new"]["ceiling"]),
            (&json!(50.0), &json!(90.0))
        );
        assert!(changes[1]["trace_id"].is_null() || changes[1]["trace_id"].is_string());
        let after = history["next"].as_i64().expect("there is more");
        let rest =
            call(api, Method::GET, &format!("products/shoe/history?after={after}"), None, None).await.body;
        assert_eq!(rest["changes"][0]["change"], "created", "{rest}");
        assert_eq!(rest["next"], Value::Null);
    }
}

#[tokio::test]
async fn each_wrong_field_is_named() {
    let stack = Stack::builder().listeners(0).workers(0).start().await;
    for (path, body, fields) in [
        ("products/x", json!({}), vec!["base_price"]),
        (
            "products/x",
            json!({"base_price": 1.234, "cost": "a", "floor": -1}),
            vec!["base_price", "cost", "floor"],
        ),
        ("products/x", json!({"base_price": 1, "floor": 3, "ceiling": 2}), vec!["floor"]),
        ("products/x", json!({"base_price": 1, "currency": "EUR"}), vec!["currency"]),
        ("products/x", json!({"base_price": 1, "product_id": "y"}), vec!["product_id"]),
        ("products/x", json!({"base_price": 1, "flor": 3}), vec!["body"]),
        ("products/x%20y", json!({"base_price": 1}), vec!["product_id"]),
        ("markets/EU", json!({"multiplier": 101, "currency": "XAU"}), vec!["multiplier", "currency"]),
        ("markets/EU", json!({"multiplier": 1, "rounding": {"mode": "near"}}), vec!["rounding.mode"]),
    ] {
        let refused = call(&stack.api, Method::PUT, path, None, Some(&body)).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {body}: {}", refused.body);
        let named = refused.body["errors"].as_array().expect("a list").iter();
        let named: Vec<_> = named.map(|error| error["field"].as_str().unwrap()).collect();
        assert_eq!(named, fields, "{body}: {}", refused.body);
    }
    assert_eq!(stack.database.select("SELECT COUNT(*) FROM products WHERE id LIKE 'x%'").await, 0);
}

#[tokio::test]
async fn a_market_has_its_currency_and_its_endings() {
    for database in [TestDatabase::sqlite(), TestDatabase::postgres().await] {
        let stack = Stack::builder().database(database).listeners(0).start().await;
        let api = &stack.api;
        let euro = json!({
            "multiplier": 1, "currency": "EUR", "exchange_rate": 0.92, "rounding": {"increment": 1, "ending": 0.99},
        });
        let created = call(api, Method::PUT, "markets/NY", None, Some(&euro)).await;
        assert_eq!(created.status, StatusCode::CONFLICT, "another currency: {}", created.body);
        let market = call(api, Method::GET, "markets/NY", None, None).await;
        let confirmed =
            call(api, Method::PUT, "markets/NY?confirm=true", market.tag.as_deref(), Some(&euro)).await;
        assert_eq!(confirmed.status, StatusCode::OK, "{}", confirmed.body);
        let (_, answer) = price(&api_key::client(), api, "P-100").await; // 49.99 × 0.92 = 45.9908
        assert_eq!((&answer["final_price"], &answer["currency"]), (&json!(45.99), &json!("EUR")));

        let slip = json!({"exchange_rate": 0.0092});
        let refused = call(api, Method::PATCH, "markets/NY", confirmed.tag.as_deref(), Some(&slip)).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        let detail = refused.body["detail"].as_str().unwrap();
        let revision = confirmed.body["revision"].to_string();
        assert!(["0.92", "0.0092", &revision].iter().all(|text| detail.contains(text)), "{detail}");
        assert_eq!(
            call(api, Method::DELETE, "markets/default", None, None).await.status,
            StatusCode::CONFLICT
        );
        let listed = call(api, Method::GET, "markets?limit=2&after=LA", None, None).await.body;
        let names: Vec<_> = listed["markets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|market| market["location"].as_str().unwrap())
            .collect();
        assert_eq!((names, &listed["next"]), (vec!["MIA", "NY"], &json!("NY")));
        let history = call(api, Method::GET, "markets/NY/history", None, None).await.body;
        assert_eq!(history["changes"][0]["old"]["currency"], "USD");
        assert_eq!(history["changes"][0]["new"]["rounding"]["ending"], json!(0.99));
    }
}

#[tokio::test]
async fn many_edits_in_one_call_each_have_a_result() {
    let stack = Stack::builder().listeners(0).start().await;
    let api = &stack.api;
    let edits = json!({"edits": [
        {"product_id": "P-100", "action": "patch", "fields": {"base_price": 200}},
        {"product_id": "P-none", "action": "patch", "fields": {"base_price": 200}},
        {"product_id": "new", "action": "put", "fields": {"base_price": 300}},
        {"product_id": "P-101", "action": "delete", "revision": 1_000_000},
        {"product_id": "P-102", "action": "upsert", "fields": {"base_price": 0.001}},
        {"product_id": "P-103", "action": "delete"},
    ]});
    let answer = call(api, Method::POST, "products/batch", None, Some(&edits)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let results = answer.body["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 404, 201, 412, 422, 204], "{}", answer.body);
    assert_eq!(results[4]["problem"]["errors"][0]["field"], "base_price");
    let client = api_key::client();
    assert_eq!(price(&client, api, "P-100").await.1["final_price"], json!(190.0));
    assert_eq!(price(&client, api, "new").await.1["final_price"], json!(285.0));
    assert_eq!(price(&client, api, "P-103").await.0, StatusCode::NOT_FOUND);

    let page = call(api, Method::GET, "products?limit=500&after=P-898", None, None).await.body;
    assert_eq!((page["products"].as_array().unwrap().len(), &page["next"]), (102, &Value::Null));
    for wrong in [
        json!({"edits": []}),
        json!({"edits": [{"product_id": "a", "action": "put"}]}),
        json!({"edits": [{"product_id": "a", "action": "put", "fields": ["a", null, 1]}]}),
        json!({"edits": [["a", "delete"]]}),
        json!({"edits": [{"product_id": "a", "action": "put", "fields": {"product_id": "b", "base_price": 1}}]}),
        json!({"edits": [{"product_id": "a", "action": "delete"}, {"product_id": "a", "action": "delete"}]}),
    ] {
        let refused = call(api, Method::POST, "products/batch", None, Some(&wrong)).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
}

/// The writer reads its price at once, every api within a second, and on no connection does a version go back.
#[tokio::test]
async fn readers_follow_a_writer_and_never_go_back() {
    for database in [TestDatabase::sqlite(), TestDatabase::postgres().await] {
        let stack = Stack::builder().database(database).listeners(0).start().await;
        let other = stack.start_another(Binary::Api).await;
        let (stop, reads) = (CancellationToken::new(), AtomicU64::new(0));
        let reader = async |api: &Service| {
            let (client, mut last) = (api_key::client(), 0);
            while !stop.is_cancelled() {
                let (status, answer) = price(&client, api, "P-100").await;
                assert_eq!(status, StatusCode::OK, "{answer}");
                let version = answer["version"].as_u64().unwrap();
                assert!(version >= last, "{version} after {last}");
                last = version;
                reads.fetch_add(1, Ordering::Relaxed);
            }
        };
        let readers = join_all((0..64).map(|n| reader(if n % 2 == 0 { &stack.api } else { &other })));
        let writer = async {
            let client = api_key::client();
            for cents in 1..=50 {
                let body = json!({"base_price": cents * 100});
                let put = call(&stack.api, Method::PUT, "products/P-100", None, Some(&body)).await;
                assert_eq!(put.status, StatusCode::OK, "{}", put.body);
                let expected = json!(f64::from(cents) * 95.0);
                let (_, answer) = price(&client, &stack.api, "P-100").await;
                assert_eq!(answer["final_price"], expected, "the writer reads it at once");
                eventually(SOON, "the other api to serve it", async || {
                    (price(&client, &other, "P-100").await.1["final_price"] == expected).then_some(())
                })
                .await;
            }
            stop.cancel();
        };
        tokio::join!(readers, writer);
        assert!(reads.load(Ordering::Relaxed) > 64);
    }
}

/// Put, deleted and put again at random, over HTTP and by SQL, while recalculations run: in the end reads equal the
/// database, and the history leads there.
#[tokio::test]
async fn random_changes_from_everywhere_end_as_the_database_has_them() {
    for database in [TestDatabase::sqlite(), TestDatabase::postgres().await] {
        let stack = Stack::builder().database(database).listeners(0).start().await;
        let products: Vec<String> = (100..110).map(|number| format!("P-{number}")).collect();
        for round in 0..200 {
            let (id, dollars) = {
                let mut random = rand::rng();
                (&products[random.random_range(0..products.len())], random.random_range(1..1_000))
            };
            let path = format!("products/{id}");
            match rand::rng().random_range(0..7) {
                0 | 1 => {
                    let body = json!({"base_price": dollars});
                    let put = call(&stack.api, Method::PUT, &path, None, Some(&body)).await;
                    assert!(put.status.is_success(), "{}", put.body);
                    let expected = json!(f64::from(dollars * 95) / 100.0);
                    let (_, answer) = price(&api_key::client(), &stack.api, id).await;
                    assert_eq!(answer["final_price"], expected, "round {round}: {id}");
                }
                2 => {
                    let deleted = call(&stack.api, Method::DELETE, &path, None, None).await.status;
                    // One that was deleted by SQL a moment ago may still have a price.
                    if deleted == StatusCode::NO_CONTENT {
                        let (status, answer) = price(&api_key::client(), &stack.api, id).await;
                        assert_eq!(status, StatusCode::NOT_FOUND, "round {round}: {answer}");
                    }
                }
                3 => {
                    let update =
                        format!("UPDATE products SET base_price_minor = {dollars}00 WHERE id = '{id}'");
                    stack.database.execute(&[&update]).await;
                }
                4 => stack.database.execute(&[&format!("DELETE FROM products WHERE id = '{id}'")]).await,
                5 => {
                    let insert =
                        format!("INSERT INTO products (id, base_price_minor) VALUES ('{id}', {dollars}00)");
                    stack.database.try_execute(&insert).await; // unless there is one
                }
                _ => drop(stack.recalculate().await),
            }
        }
        eventually(DEADLINE, "the worker to follow all changes", async || {
            let pending = "SELECT COUNT(*) FROM pending_changes WHERE stored_on = ''";
            (stack.database.select(pending).await == 0).then_some(())
        })
        .await;
        let catalogue = stack.database.open().await;
        for id in &products {
            let (status, answer) = price(&api_key::client(), &stack.api, id).await;
            let history =
                call(&stack.api, Method::GET, &format!("products/{id}/history?limit=1"), None, None).await;
            let now = &history.body["changes"][0]["new"];
            let id = pricing_core::ids::ProductId::parse(id.as_str()).unwrap();
            match catalogue.product(&id).await.unwrap() {
                Some(product) => {
                    assert_eq!(answer["version"], json!(product.version), "{answer}");
                    assert_eq!(now["base_price"], answer["base_price"], "{}", history.body);
                }
                None => {
                    assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");
                    assert!(now.is_null(), "{}", history.body);
                }
            }
        }
    }
}
