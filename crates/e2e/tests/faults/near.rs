//! Prices that an api keeps in its memory, while its connections to Redis break in every way.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pricing_e2e::rounds::Rounds;
use pricing_harness::api_key;
use pricing_harness::proxy::{Mode, Proxy};
use pricing_harness::redis_server::RedisServer;
use pricing_harness::replicated::ReplicatedRedis;
use pricing_harness::service::{Binary, Service};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::{eventually, pause};
use rand::RngExt as _;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(30);
/// Connections that read.
const READERS: usize = 8;
/// Longest that an api serves what somebody has changed since: while its connection is silent.
const BOUND: Duration = Duration::from_secs(2);

/// An answer from the cache.
struct Reading {
    product: String,
    version: u64,
    began: Instant,
    ended: Instant,
}

/// Versions of products, and when they were acknowledged.
type Written = Mutex<Vec<(String, u64, Instant)>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_in_memory_is_never_older_than_its_bound_and_never_goes_back() {
    let mut rounds = Rounds::of(
        "the connections of an api to Redis are cut, silenced, delayed and torn, Redis is emptied, its replica is promoted, \
         and all products are scanned, while another api changes prices",
        "no price is older than 2 s, and none of the cache goes back; once it is quiet each is the newest",
    );
    let mut servers = ReplicatedRedis::start().await;
    let stack = Stack::builder()
        .listeners(0)
        .set_for(Binary::Api, "REDIS_URL", servers.url_of(Binary::Api))
        .set_for(Binary::Worker, "REDIS_URL", servers.url_of(Binary::Worker))
        .start()
        .await;
    let proxy = Proxy::in_front_of(&servers.url_of(Binary::Api));
    let mut environment = stack.environment(Binary::Api);
    environment.insert("REDIS_URL".to_owned(), proxy.in_place_of(&servers.url_of(Binary::Api)));
    let reader = Service::start(Binary::Api, &environment).await;
    let bound = rounds.either(4 * BOUND, BOUND);
    while let Some(mut round) = rounds.next_round() {
        let products: Vec<String> =
            (0..3).map(|_| format!("P-{}", round.random.random_range(100..1_000))).collect();
        let (written, stop) = (Written::default(), CancellationToken::new());
        let hits = near_hits(&reader).await;
        let read = join_all((0..READERS).map(|n| read(&reader, &products, n, &stop)));
        let write = write(&stack, &products, &written, &stop);
        let break_it = async {
            for number in 0..rounds.either(6, 12) {
                let fault = if number == 2 { 6 } else { round.random.random_range(0..8) };
                let mode = match fault {
                    0 => Mode::Cut,
                    1 => Mode::Stalled,
                    2 => Mode::Delayed(Duration::from_millis(30)),
                    3 => Mode::Torn { after: round.random.random_range(0..2_000) },
                    4 => {
                        empty(&servers.primary).await;
                        Mode::Open
                    }
                    5 => {
                        stack.recalculate().await;
                        Mode::Open
                    }
                    6 => {
                        servers.demote().await;
                        Mode::Open
                    }
                    _ => Mode::Limited { bytes_per_second: 20_000 },
                };
                proxy.set(mode);
                pause(Duration::from_millis(round.random.random_range(50..2_500))).await;
                proxy.heal();
                pause(Duration::from_millis(round.random.random_range(0..1_500))).await;
            }
            stop.cancel();
        };
        let (readings, (), ()) = tokio::join!(read, write, break_it);
        let readings: Vec<Reading> = readings.into_iter().flatten().collect();
        let written = written.into_inner().expect("no panic");
        assert_not_older(&readings, &written, bound);
        assert_never_goes_back(readings.iter());
        rounds.count("changes", written.len());
        rounds.count("readings", readings.len());
        rounds.count("of them from memory", (near_hits(&reader).await - hits) as usize);
        assert_newest(&reader, &written).await;
    }
}

/// Reads products until `stop`.
async fn read(api: &Service, products: &[String], n: usize, stop: &CancellationToken) -> Vec<Reading> {
    let (client, mut readings) = (api_key::client(), Vec::new());
    while !stop.is_cancelled() {
        let product = &products[(n + readings.len()) % products.len()];
        let began = Instant::now();
        let (status, answer) = price(&client, api, product).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        if answer["source"] == "cache" {
            let version = answer["version"].as_u64().expect("a version");
            readings.push(Reading { product: product.clone(), version, began, ended: Instant::now() });
        }
    }
    readings
}

/// Changes prices until `stop`, by an api that nothing happens to.
async fn write(stack: &Stack, products: &[String], written: &Written, stop: &CancellationToken) {
    let client = api_key::client();
    for cents in 100.. {
        let product = &products[cents % products.len()];
        let url = stack.api.url(&format!("/api/v1/products/{product}"));
        let body = json!({"base_price": cents as f64 / 100.0});
        let answer = client.put(url).json(&body).send().await.expect("the api answers");
        assert!(answer.status().is_success(), "{}", answer.status());
        let answer: Value = answer.json().await.expect("JSON");
        let version = answer["revision"].as_u64().expect("a revision");
        written.lock().expect("no panic").push((product.clone(), version, Instant::now()));
        if stop.run_until_cancelled(pause(Duration::from_millis(20))).await.is_none() {
            return;
        }
    }
}

async fn empty(server: &RedisServer) {
    let mut redis = server.connection().await;
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(server.key("product:*")).query_async(&mut redis).await.expect("Redis answers");
    let () = redis::cmd("UNLINK").arg(keys).arg("none").query_async(&mut redis).await.expect("Redis answers");
}

async fn price(client: &Client, api: &Service, product: &str) -> (StatusCode, Value) {
    let url = api.url(&format!("/api/v1/price/{product}?user_location=NY"));
    let answer = client.get(url).send().await.expect("the api answers");
    (answer.status(), answer.json().await.expect("JSON"))
}

async fn near_hits(api: &Service) -> f64 {
    api.metric(r#"pricing_near_cache_results_total{kind="product",result="hit"}"#).await
}

fn assert_not_older(readings: &[Reading], written: &[(String, u64, Instant)], bound: Duration) {
    for Reading { product, version, began, .. } in readings {
        let before = written.iter().filter(|(id, _, at)| id == product && *at + bound < *began);
        let least = before.map(|(_, version, _)| *version).max().unwrap_or(0);
        assert!(*version >= least, "{product}: version {version} is served {bound:?} after version {least}");
    }
}

fn assert_never_goes_back<'r>(readings: impl Iterator<Item = &'r Reading>) {
    let mut events: Vec<(Instant, bool, &Reading)> = readings
        .flat_map(|reading| [(reading.began, false, reading), (reading.ended, true, reading)])
        .collect();
    events.sort_by_key(|(at, ..)| *at);
    let (mut newest, mut least) = (HashMap::<&str, u64>::new(), HashMap::new());
    for (_, has_ended, reading) in events {
        let known = newest.entry(&reading.product).or_default();
        match has_ended {
            // What had been served when it began.
            false => drop(least.insert((reading.began, std::ptr::from_ref(reading)), *known)),
            true => {
                let served_before = least[&(reading.began, std::ptr::from_ref(reading))];
                let Reading { product, version, .. } = reading;
                assert!(*version >= served_before, "{product}: {version} after {served_before}");
                *known = (*known).max(*version);
            }
        }
    }
}

/// Once it is quiet, the newest version of each product is served.
async fn assert_newest(reader: &Service, written: &[(String, u64, Instant)]) {
    let newest: HashMap<&str, u64> =
        written.iter().map(|(product, version, _)| (product.as_str(), *version)).collect();
    let client = api_key::client();
    for (product, version) in newest {
        eventually(DEADLINE, "the newest version to be served", async || {
            (price(&client, reader, product).await.1["version"] == version).then_some(())
        })
        .await;
    }
}
