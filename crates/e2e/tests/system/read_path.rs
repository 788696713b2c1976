//! Reading prices over HTTP, with everything in place and with parts missing.

use std::time::{Duration, Instant};

use pricing_harness::cache_entry::CacheEntry;
use pricing_harness::databases::TestDatabase;
use pricing_harness::proxy::Mode;
use pricing_harness::service::Binary;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use reqwest::StatusCode;
use serde_json::{Value, json};

fn cents(answer: &Value) -> i64 {
    (answer["final_price"].as_f64().expect("a number") * 100.0).round() as i64
}

#[tokio::test]
async fn the_first_read_is_from_the_database_and_the_second_from_the_cache() {
    let stack = Stack::builder().workers(0).start().await;
    let (mut first, second) =
        (stack.price("P-100", "NY", true).await, stack.price("P-100", "NY", true).await);
    assert_eq!(second["source"], "cache");
    assert_eq!(second["final_price"], first["final_price"]);
    assert_eq!(second["version"], first["version"]);
    let answer = first.as_object_mut().unwrap();
    assert!(answer.remove("version").unwrap().as_u64() >= Some(1));
    assert_eq!(
        first,
        json!({"product_id": "P-100", "final_price": 45.12, "base_price": 49.99, "discount_rate": 0.05,
               "source": "database", "currency": "USD", "age_ms": 0})
    );
    let (status, mut got) = stack.get("/api/v1/price/P-100?user_location=NY&is_prime_member=true").await;
    assert!(got["age_ms"].as_u64() >= second["age_ms"].as_u64(), "{got} is younger than {second}");
    got["age_ms"] = second["age_ms"].clone();
    assert_eq!((status, got), (StatusCode::OK, second));
}

/// By the clock of Redis, which ends an entry after the time to live that it was written with.
#[tokio::test]
async fn a_price_is_as_old_as_the_older_of_its_inputs() {
    let stack = Stack::builder().workers(0).start().await;
    assert_eq!(stack.price("P-100", "NY", false).await["age_ms"], 0);
    for (name, older) in [("product:4:P-100", 5_000), ("market:4:NY", 20_000), ("product:4:P-100", 40_000)] {
        let mut entry = stack.redis.cache_entry(name).await;
        entry.expires_at_ms -= older;
        stack.redis.put_cache_entry(name, &entry).await;
        let answer = stack.price("P-100", "NY", false).await;
        let age = answer["age_ms"].as_i64().unwrap();
        assert!((older..older + 7_000).contains(&age), "{older} ms older: {answer}");
        assert_eq!(answer["source"], "cache");
    }
}

#[tokio::test]
async fn a_product_has_no_price_in_a_market_of_another_currency_without_a_rate() {
    let stack = Stack::builder().workers(0).start().await;
    let euro = "UPDATE markets SET currency = 'EUR' WHERE location IN ('NY', 'default')";
    stack.database.execute(&[euro, "INSERT INTO products (id, base_price_minor) VALUES ('tea', 500)"]).await;
    for market in ["NY", "default"] {
        // A location without a market has that of `default`.
        let location = if market == "default" { "Mars" } else { market };
        for _ in 0..2 {
            let body = json!({"product_id": "tea", "user_location": location});
            let (status, problem) = stack.post("/api/v1/price", &body).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(
                detail.contains(&format!("market {market} ")) && detail.contains("exchange rate"),
                "{detail}"
            );
        }
        let body = json!({"user_location": location, "product_ids": ["tea", "P-none", "P-100", "tea"]});
        let (status, answer) = stack.post("/api/v1/prices", &body).await;
        assert_eq!(
            (status, answer["prices"].as_array().map(Vec::len)),
            (StatusCode::OK, Some(0)),
            "{answer}"
        );
        assert_eq!(answer["missing"], json!(["P-none"]));
        let unpriced =
            ["tea", "P-100", "tea"].map(|id| json!({"product_id": id, "reason": "no_exchange_rate"}));
        assert_eq!(answer["unpriced"], json!(unpriced));
    }
    let metrics = stack.api.metrics().await;
    assert!(metrics.contains(r#"pricing_unpriced_total{reason="no_exchange_rate"} 10"#), "{metrics}");
}

#[tokio::test]
async fn every_customer_gets_their_own_price_whoever_asked_before() {
    let stack = Stack::builder().workers(0).start().await;
    // The markets must differ for the prices to.
    let changes = ["UPDATE markets SET multiplier_ppm = 1100000 WHERE location = 'LA'"];
    stack.database.execute(&changes).await;
    // 56.99 × 0.95, and × 1.10 in LA, rounded once.
    let customers = [
        ("NY", true, 51.43),
        ("LA", false, 62.69),
        ("NY", false, 54.14),
        ("MIA", true, 51.43),
        ("LA", true, 59.55),
    ];
    for _ in 0..2 {
        for (location, prime, expected) in customers {
            let answer = stack.price("P-107", location, prime).await;
            assert_eq!(answer["final_price"], expected, "{location} {prime}: {answer}");
        }
    }
}

#[tokio::test]
async fn membership_defaults_to_none() {
    let stack = Stack::builder().start().await;
    let body = json!({"product_id": "P-100", "user_location": "NY"});
    let (_, answer) = stack.post("/api/v1/price", &body).await;
    assert_eq!(answer["discount_rate"], 0.0);
}

#[tokio::test]
async fn many_prices_come_in_the_order_they_were_asked_for() {
    // A worker would store the demo catalogue in the cache.
    let stack = Stack::builder().workers(0).start().await;
    let ids = ["P-300", "P-none", "P-100", "P-300", "P-200"];
    let body = json!({"user_location": "NY", "is_prime_member": false, "product_ids": ids});
    for source in ["database", "cache"] {
        let (status, answer) = stack.post("/api/v1/prices", &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let prices = answer["prices"].as_array().expect("a list");
        let found: Vec<_> = prices.iter().map(|price| price["product_id"].as_str().unwrap()).collect();
        assert_eq!(found, ["P-300", "P-100", "P-300", "P-200"]);
        assert_eq!(answer["missing"], json!(["P-none"]));
        assert_eq!(prices[0]["source"], source, "{answer}");
        assert!(prices.iter().all(|price| price["final_price"] == 47.49), "{answer}");
    }
    let all: Vec<String> = (100..600).map(|n| format!("P-{n}")).collect();
    let body = json!({"user_location": "LA", "is_prime_member": true, "product_ids": all});
    let (status, answer) = stack.post("/api/v1/prices", &body).await;
    assert_eq!((status, answer["prices"].as_array().map(Vec::len)), (StatusCode::OK, Some(500)));
}

#[tokio::test]
async fn an_unknown_location_is_priced_by_the_default_market_and_remembered() {
    let stack = Stack::builder().start().await;
    stack.database.execute(&["UPDATE markets SET multiplier_ppm = 2000000 WHERE location = 'default'"]).await;
    let first = stack.price("P-100", "Atlantis", false).await;
    assert_eq!((first["source"].as_str(), cents(&first)), (Some("database"), 9_998));
    let second = stack.price("P-100", "Atlantis", false).await;
    assert_eq!((second["source"].as_str(), cents(&second)), (Some("cache"), 9_998));

    // A market that is created is used after the next event, although the location is remembered as unknown.
    stack
        .database
        .execute(&["INSERT INTO markets (location, multiplier_ppm) VALUES ('Atlantis', 1000000)"])
        .await;
    let id = stack.publish().await;
    stack.wait_for_task(&id).await;
    let third = stack.price("P-100", "Atlantis", false).await;
    assert_eq!((third["source"].as_str(), cents(&third)), (Some("cache"), 4_999));
}

#[tokio::test]
async fn a_corrupt_entry_is_replaced_and_never_served() {
    // An api that keeps entries is told of the damage a moment later.
    let stack = Stack::builder().workers(0).set_for(Binary::Api, "NEAR_CACHE_MB", 0).start().await;
    let name = "product:4:P-100";
    let corrupt = [
        ("1", r#"[49,null,nu"#),
        ("1", r#"["1",null,null,null,"USD"]"#),
        ("9", r#"[-1,null,null,null,"USD"]"#),
        ("99999", r#"[NaN,null,null,null,"USD"]"#),
        ("newest", r#"[1,null,null,null,"USD"]"#),
    ];
    for (version, data) in corrupt {
        stack.price("P-100", "NY", false).await;
        let good = stack.redis.cache_entry(name).await;
        let bad = CacheEntry { version: version.to_owned(), data: data.to_owned(), ..good };
        stack.redis.put_cache_entry(name, &bad).await;
        let answer = stack.price("P-100", "NY", false).await;
        assert_eq!(
            (answer["source"].as_str(), cents(&answer)),
            (Some("database"), 4_749),
            "{version} {data}"
        );
        assert_eq!(stack.price("P-100", "NY", false).await["source"], "cache", "replaced: {version} {data}");
    }
}

#[tokio::test]
async fn reads_go_on_without_redis_and_come_back_to_the_cache() {
    let mut stack = Stack::builder().start().await;
    stack.price("P-100", "NY", false).await;
    stack.redis.stop();
    let answer = stack.price("P-101", "NY", false).await;
    assert_eq!((answer["source"].as_str(), cents(&answer)), (Some("database"), 4_844));
    // The near-cache, which has this one, serves until it learns that its connection has ended.
    eventually(Duration::from_secs(10), "a read from the database", async || {
        let answer = stack.price("P-100", "NY", false).await;
        assert_eq!(cents(&answer), 4_749);
        (answer["source"] == "database").then_some(())
    })
    .await;
    eventually(Duration::from_secs(10), "the outage to be reported", async || {
        let (status, health) = stack.get("/health/ready").await;
        assert_eq!(status, StatusCode::OK);
        (health["redis"] == "down" && health["degraded"] == true).then_some(())
    })
    .await;
    stack.redis.restart().await;
    eventually(Duration::from_secs(10), "a read from the cache", async || {
        (stack.price("P-100", "NY", false).await["source"] == "cache").then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_the_database_stale_prices_are_served_and_others_are_503_not_404() {
    let stack = Stack::builder().workers(0).set("CACHE_TTL_SECONDS", 1).start().await;
    let before = stack.price("P-100", "NY", false).await;
    stack.database.execute(&["ALTER TABLE products RENAME TO products_gone"]).await;
    let stale = eventually(Duration::from_secs(10), "a stale price", async || {
        let answer = stack.price("P-100", "NY", false).await;
        (answer["stale"] == true).then_some(answer)
    })
    .await;
    assert_eq!((&stale["final_price"], &stale["source"]), (&before["final_price"], &json!("cache")));
    let body = json!({"product_id": "P-200", "user_location": "NY"});
    let (status, problem) = stack.post("/api/v1/price", &body).await;
    assert_eq!((status, &problem["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(503)));
    assert!(!problem.to_string().contains("products"), "it reveals nothing: {problem}");

    stack.database.execute(&["ALTER TABLE products_gone RENAME TO products"]).await;
    eventually(Duration::from_secs(10), "a fresh price", async || {
        stack.price("P-100", "NY", false).await.get("stale").is_none().then_some(())
    })
    .await;
}

/// A read that is due to probe a silent database does not wait for it, be it for one product or for many.
#[tokio::test]
async fn no_read_of_stale_prices_waits_for_a_probe_of_the_database() {
    let builder = Stack::builder().database(TestDatabase::postgres().await).database_through_proxy();
    let stack = builder.set("CACHE_TTL_SECONDS", 1).listeners(0).workers(0).start().await;
    let proxy = stack.database_proxy.as_ref().expect("the database is behind a proxy");
    let ids = ["P-100", "P-101", "P-102"];
    let body = json!({"user_location": "NY", "is_prime_member": false, "product_ids": ids});
    stack.post("/api/v1/prices", &body).await;
    proxy.set(Mode::Stalled);
    eventually(Duration::from_secs(20), "stale prices", async || {
        let (status, answer) = stack.post("/api/v1/prices", &body).await;
        (status == StatusCode::OK && answer["prices"][0]["stale"] == true).then_some(())
    })
    .await;

    // Long enough for several probes to be due, one a second.
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        let began = Instant::now();
        let (status, answer) = stack.post("/api/v1/prices", &body).await;
        assert!(began.elapsed() < Duration::from_millis(1_000), "a batch took {:?}", began.elapsed());
        let prices = answer["prices"].as_array().expect("a list");
        assert!(status == StatusCode::OK && prices.iter().all(|price| price["stale"] == true), "{answer}");
        let began = Instant::now();
        assert_eq!(stack.price("P-100", "NY", false).await["stale"], true);
        assert!(began.elapsed() < Duration::from_millis(1_000), "a read took {:?}", began.elapsed());
    }
}
