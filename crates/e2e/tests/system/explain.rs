//! Why a price is what it is, and whether a client has it already.

use std::time::Duration;

use pricing_harness::api_key;
use pricing_harness::databases::TestDatabase;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(30);

/// The version of a row.
async fn version(stack: &Stack, table: &str, key: &str, id: &str) -> i64 {
    stack.database.select(&format!("SELECT version FROM {table} WHERE {key} = '{id}'")).await
}

/// A product with a list price, a ceiling and a floor, and a market of another currency with prices in .99.
async fn stack() -> Stack {
    let stack = Stack::builder().workers(0).listeners(0).start().await;
    stack
        .database
        .execute(&[
            "INSERT INTO products (id, base_price_minor, ceiling_minor, floor_minor) \
             VALUES ('tea', 5000, 6000, 4500)",
            "UPDATE products SET list_price_minor = 5499 WHERE id = 'tea'",
            "INSERT INTO markets (location, multiplier_ppm, currency, exchange_rate_e12, increment_minor, ending_minor) \
             VALUES ('Paris', 1500000, 'EUR', 920000000000, 100, 99)",
        ])
        .await;
    stack
}

#[tokio::test]
async fn a_price_is_explained_from_its_inputs_to_the_last_step() {
    let stack = stack().await;
    let tea = version(&stack, "products", "id", "tea").await;
    let paris = version(&stack, "markets", "location", "Paris").await;
    let body =
        json!({"product_id": "tea", "user_location": "Paris", "is_prime_member": true, "explain": true});
    let explanation = json!({
        "product": {
            "version": tea, "currency": "USD", "base_price": 50.0, "list_price": 54.99,
            "list_price_from": "recalculation", "ceiling": 60.0, "floor": 45.0,
        },
        "market": {
            "location": "Paris", "version": paris, "currency": "EUR", "multiplier": 1.5, "exchange_rate": 0.92,
            "member_discount": 0.05, "rounding": {"increment": 1.0, "mode": "half-even", "ending": 0.99},
        },
        "discount_rate": 0.05,
        "exact_price": "72.09189",
        "rounded_price": "71.99",
        "ceiling": {"amount": "55.2", "moved": true, "price": "54.99"},
        "floor": {"amount": "41.4", "moved": false, "price": "54.99"},
        "final_price": 54.99,
        "bounds_conflict": false,
    });
    for source in ["database", "cache"] {
        let (status, answer) = stack.post("/api/v1/price", &body).await;
        assert_eq!((status, &answer["source"]), (StatusCode::OK, &json!(source)), "{answer}");
        assert_eq!(answer["explanation"], explanation);
        assert_eq!(answer["final_price"], 54.99);
    }
    let path = "/api/v1/price/tea?user_location=Paris&is_prime_member=true";
    let (_, answer) = stack.get(&format!("{path}&explain=true")).await;
    assert_eq!(answer["explanation"], explanation);
    let (_, answer) = stack.get(path).await;
    assert_eq!((&answer["final_price"], answer.get("explanation")), (&json!(54.99), None), "{answer}");
}

#[tokio::test]
async fn each_price_of_a_batch_is_explained_with_the_market_that_priced_it() {
    let stack = stack().await;
    stack.database.execute(&["UPDATE products SET ceiling_minor = 40 WHERE id = 'P-101'"]).await;
    stack
        .database
        .execute(&["UPDATE markets SET increment_minor = 100, ending_minor = 99 WHERE location = 'default'"])
        .await;
    let default = version(&stack, "markets", "location", "default").await;
    // A location without a market has that of `default`.
    let body = json!({"user_location": "Mars", "product_ids": ["P-100", "P-none", "P-101"], "explain": true});
    for _ in 0..2 {
        let (status, answer) = stack.post("/api/v1/prices", &body).await;
        assert_eq!((status, &answer["missing"]), (StatusCode::OK, &json!(["P-none"])), "{answer}");
        let prices = answer["prices"].as_array().expect("a list");
        for price in prices {
            let explanation = &price["explanation"];
            let market = &explanation["market"];
            assert_eq!((&market["location"], &market["version"]), (&json!("default"), &json!(default)));
            assert_eq!((&market["exchange_rate"], &explanation["discount_rate"]), (&json!(1.0), &json!(0.0)));
            assert_eq!(explanation["final_price"], price["final_price"]);
            assert_eq!(explanation["product"]["version"], price["version"]);
            assert_eq!(explanation["product"]["list_price_from"], "base_price");
        }
        // 49.99 × 0.95, and a ceiling below the least price that the market allows.
        let [free, bound] = [0, 1].map(|index| &prices[index]["explanation"]);
        assert_eq!((&free["exact_price"], &free["ceiling"]), (&json!("47.4905"), &Value::Null), "{free}");
        assert_eq!(bound["ceiling"], json!({"amount": "0.4", "moved": true, "price": "0.99"}), "{bound}");
        assert_eq!(bound["bounds_conflict"], true);
    }
    let body = json!({"user_location": "Mars", "product_ids": ["P-100"]});
    let (_, answer) = stack.post("/api/v1/prices", &body).await;
    assert_eq!(answer["prices"][0].get("explanation"), None, "{answer}");
}

#[tokio::test]
async fn explain_must_be_true_or_false() {
    let stack = Stack::builder().workers(0).listeners(0).start().await;
    let (status, problem) = stack.get("/api/v1/price/P-100?user_location=NY&explain=why").await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("explain")),
        "{problem}"
    );
    let body = json!({"product_id": "P-100", "user_location": "NY", "explain": "why"});
    assert_eq!(stack.post("/api/v1/price", &body).await.0, StatusCode::UNPROCESSABLE_ENTITY);
}

async fn get(stack: &Stack, path: &str, tag: Option<&str>) -> Response {
    let request = api_key::client().get(stack.api.url(path));
    let request = tag.iter().fold(request, |request, tag| request.header("if-none-match", *tag));
    request.send().await.expect("the api answers")
}

/// The tag of an answer, which may be kept by nobody but the customer's client, and not used unasked.
fn tag(response: &Response) -> Option<String> {
    assert_eq!(response.headers()["cache-control"], "private, no-cache");
    response.headers().get("etag").map(|tag| tag.to_str().expect("text").to_owned())
}

#[tokio::test]
async fn a_price_that_the_client_has_is_not_sent_again_until_product_or_market_change() {
    for database in [TestDatabase::sqlite(), TestDatabase::postgres().await] {
        let stack = Stack::builder().database(database).listeners(0).start().await;
        let path = "/api/v1/price/P-100?user_location=NY";
        let mut known: Vec<String> = Vec::new();
        for change in [
            "UPDATE products SET base_price_minor = 10000 WHERE id = 'P-100'",
            "UPDATE markets SET multiplier_ppm = 2000000 WHERE location = 'NY'",
            "DELETE FROM markets WHERE location = 'NY'",
        ] {
            let first = tag(&get(&stack, path, None).await).expect("a tag");
            assert!(first.starts_with("W/\""), "{first}");
            assert!(!known.contains(&first), "{first} came before: {known:?}");
            let same = get(&stack, path, Some(&first)).await;
            assert_eq!((same.status(), tag(&same)), (StatusCode::NOT_MODIFIED, Some(first.clone())));
            assert_eq!(same.headers().get("content-type"), None);
            assert_eq!(same.bytes().await.unwrap().len(), 0);
            let listed = format!("\"other\", {first}");
            assert_eq!(get(&stack, path, Some(&listed)).await.status(), StatusCode::NOT_MODIFIED);
            for stranger in known.iter().map(String::as_str).chain(["\"other\"", "nonsense"]) {
                assert_eq!(get(&stack, path, Some(stranger)).await.status(), StatusCode::OK, "{stranger}");
            }

            stack.database.execute(&[change]).await;
            eventually(DEADLINE, &format!("another price after {change}"), async || {
                (get(&stack, path, Some(&first)).await.status() == StatusCode::OK).then_some(())
            })
            .await;
            known.push(first);
        }
    }
}

#[tokio::test]
async fn another_customer_or_an_explanation_has_another_tag() {
    let stack = Stack::builder().workers(0).listeners(0).start().await;
    let mut tags = Vec::new();
    for query in [
        "user_location=NY",
        "user_location=NY&is_prime_member=true",
        "user_location=LA",
        "user_location=Mars",
        "user_location=NY&explain=true",
    ] {
        let path = format!("/api/v1/price/P-100?{query}");
        let first = tag(&get(&stack, &path, None).await).expect("a tag");
        assert_eq!(get(&stack, &path, Some(&first)).await.status(), StatusCode::NOT_MODIFIED);
        assert!(!tags.contains(&first), "{query}: {first} is in {tags:?}");
        for other in &tags {
            assert_eq!(get(&stack, &path, Some(other)).await.status(), StatusCode::OK, "{query}: {other}");
        }
        tags.push(first);
    }
    for (path, status) in [
        ("/api/v1/price/P-none?user_location=NY", StatusCode::NOT_FOUND),
        ("/api/v1/price/P-100?user_location=", StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let refused = get(&stack, path, Some("*")).await;
        assert_eq!((refused.status(), refused.headers().get("etag")), (status, None));
    }
}

#[tokio::test]
async fn a_stale_price_has_no_tag_and_is_always_sent() {
    let stack = Stack::builder().workers(0).listeners(0).set("CACHE_TTL_SECONDS", 1).start().await;
    let path = "/api/v1/price/P-100?user_location=NY";
    let fresh = tag(&get(&stack, path, None).await).expect("a tag");
    stack.database.execute(&["ALTER TABLE products RENAME TO products_gone"]).await;
    let stale = eventually(DEADLINE, "a stale price", async || {
        let answer = get(&stack, path, Some(&fresh)).await;
        (answer.status() == StatusCode::OK).then_some(answer)
    })
    .await;
    assert_eq!(tag(&stale), None);
    assert_eq!(stale.json::<Value>().await.unwrap()["stale"], true);
}
