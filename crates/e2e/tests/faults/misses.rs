//! Floods of reads that the cache cannot answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pricing_e2e::raw_http::RawConnection;
use pricing_e2e::read_load::{Demand, ReadLoad, Reading};
use pricing_e2e::rounds::Rounds;
use pricing_harness::api_key;
use pricing_harness::service::{Binary, Service};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Barrier;

const PRODUCT_LOOKUPS: &str = r#"pricing_database_lookups_total{kind="product"}"#;
/// How long the cache remembers that a product does not exist.
const UNKNOWN_LIFE: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_reads_of_a_product_are_one_lookup_in_each_process() {
    let mut rounds = Rounds::of(
        "1,000 concurrent first reads of one product, at two api processes",
        "each process looks the product up once (a second), and every read gets its price",
    );
    let reads = rounds.either(200, 1_000);
    let builder = Stack::builder().set_for(Binary::Api, "SIMULATE_IO", true);
    let stack = builder.listeners(0).workers(0).start().await;
    let other = stack.start_another(Binary::Api).await;
    while let Some(round) = rounds.next_round() {
        let product = format!("P-{}", 100 + round.number % 900);
        let mut redis = stack.redis.connection().await;
        let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.expect("Redis answers");
        let before = [stack.api.metric(PRODUCT_LOOKUPS).await, other.metric(PRODUCT_LOOKUPS).await];

        let (started, began) = (Arc::new(Barrier::new(reads)), Instant::now());
        let apis = [stack.api.address(), other.address()];
        let all = (0..reads).map(|n| first_read(apis[n % 2], product.clone(), started.clone()));
        let all: Vec<_> = all.map(tokio::spawn).collect();
        let prices: Vec<Value> =
            join_all(all).await.into_iter().map(|read| read.expect("no panic")).collect();

        assert!(prices.iter().all(|price| *price == prices[0] && price.is_number()), "{prices:?}");
        let after = [stack.api.metric(PRODUCT_LOOKUPS).await, other.metric(PRODUCT_LOOKUPS).await];
        let made = [after[0] - before[0], after[1] - before[1]];
        // An answer serves other reads for a second. A machine that takes longer for all of them may need more.
        let most = 1.0 + began.elapsed().as_secs_f64().floor();
        assert!(made.iter().all(|made| *made <= most) && made[0] + made[1] >= 1.0, "lookups made: {made:?}");
        rounds.measure("s for all reads", began.elapsed().as_secs_f64());
        rounds.count("reads", reads);
        rounds.count("lookups", (made[0] + made[1]) as usize);
    }
}

/// Connects, waits for all the others, and reads.
async fn first_read(api: SocketAddr, product: String, started: Arc<Barrier>) -> Value {
    let mut connection = RawConnection::open(api).await.expect("the API accepts connections");
    started.wait().await;
    let request = format!(
        "GET /api/v1/price/{product}?user_location=NY HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        api_key::header_line()
    );
    let answer = connection.exchange(request.as_bytes(), false, false).await.expect("an answer");
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(answer.status, 200, "{body}");
    body["final_price"].clone()
}

#[tokio::test]
async fn unknown_products_are_looked_up_once_and_found_at_once_when_they_are_created() {
    let mut rounds = Rounds::of(
        "a flood of reads of products that do not exist, one of which is created meanwhile",
        "the database is asked once in ten seconds for each of them; a created one is found within a second",
    );
    let reads = rounds.either(500, 2_000);
    let stack = Stack::builder().start().await;
    while let Some(round) = rounds.next_round() {
        let ids: Vec<String> = (0..50).map(|n| format!("new-{}-{n}", round.number)).collect();
        let (began, before) = (Instant::now(), stack.api.metric(PRODUCT_LOOKUPS).await);
        let demand = Demand {
            api: stack.api.address(),
            from: None,
            products: ids.clone(),
            keeping: 16,
            connecting: 0,
            reads_per_second: 400,
        };
        let load = ReadLoad::start(&demand);
        eventually(DEADLINE, "a flood", async || (load.count() > reads).then_some(())).await;
        let (lookups, lives) = (made(&stack.api, before).await, lives(began));
        assert!(lookups <= (ids.len() * lives) as f64, "{lookups} lookups within {:?}", began.elapsed());

        let created = &ids[0];
        let insert = format!("INSERT INTO products (id, base_price_minor) VALUES ('{created}', 12345)");
        stack.database.execute(&[&insert]).await;
        let inserted = Instant::now();
        eventually(DEADLINE, "the created product to be found", async || {
            let (_, answer) = stack.get(&format!("/api/v1/price/{created}?user_location=default")).await;
            (answer["base_price"] == 123.45).then_some(())
        })
        .await;
        let found = Instant::now();
        rounds.measure("s until it is found", (found - inserted).as_secs_f64());
        let body = json!({"user_location": "NY", "product_ids": ids});
        let (status, answer) = stack.post("/api/v1/prices", &body).await;
        assert_eq!((status, answer["prices"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)));
        let enough = load.count() + reads / 2;
        eventually(DEADLINE, "more of the flood", async || (load.count() > enough).then_some(())).await;

        let readings = load.finish().await;
        for reading in &readings {
            let status = reading.answer.as_ref().expect("an answer").0;
            let expected = match reading {
                Reading { product, .. } if product != created => status == 404,
                Reading { began, .. } if *began > found => status == 200,
                _ => matches!(status, 200 | 404),
            };
            assert!(expected, "{found:?} {reading:?}");
        }
        rounds.count("reads", readings.len());
        rounds.count("lookups", made(&stack.api, before).await as usize);
    }
}

/// Lookups of products since there were `before`.
async fn made(api: &Service, before: f64) -> f64 {
    api.metric(PRODUCT_LOOKUPS).await - before
}

/// How many lives of an entry there may have been since, the first one included.
fn lives(began: Instant) -> usize {
    1 + (began.elapsed().as_secs() / UNKNOWN_LIFE.as_secs()) as usize
}
