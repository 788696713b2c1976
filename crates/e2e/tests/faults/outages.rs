//! Reads while Redis or the database is away.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pricing_e2e::read_load::{Demand, ReadLoad, Reading, quantile};
use pricing_e2e::rounds::Rounds;
use pricing_harness::api_key;
use pricing_harness::databases::TestDatabase;
use pricing_harness::proxy::Mode;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::{eventually, pause};
use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};

/// Stacks that are broken at the same time, in the long form.
const AT_ONCE: usize = 4;
/// How long an outage lasts, in either form.
const SHORT: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(30);
/// Longest for the slowest but one percent of the reads while Redis is away.
const P99_MS: f64 = 250.0;
/// Longest until the cache is used again.
const RECOVERY: Duration = Duration::from_secs(3);
/// Longest until the database is used again: connections to it have to be made first.
const DATABASE_RECOVERY: Duration = Duration::from_secs(10);
/// Longest for a read that needs the database while it is away: it is given up on after 2 s.
const UNCACHED_MS: f64 = 3_000.0;

#[tokio::test]
async fn reads_go_on_at_speed_while_redis_is_cut_off() {
    redis_away(Mode::Cut, "Redis is cut off for 30 s under reads").await;
}

#[tokio::test]
async fn reads_go_on_at_speed_while_redis_accepts_and_never_answers() {
    redis_away(Mode::Stalled, "Redis accepts connections and never answers for 30 s under reads").await;
}

/// What came of one round without Redis.
struct WithoutRedis {
    reads: usize,
    p99: f64,
    slowest: f64,
    recovery: Duration,
}

async fn redis_away(mode: Mode, fault: &'static str) {
    let mut rounds = Rounds::of(
        fault,
        "every read of a known product is answered, 99 % of them within 250 ms; back on the cache within 3 s",
    );
    let outage = outage(&rounds);
    loop {
        let batch = rounds.next_rounds(rounds.either(1, AT_ONCE));
        if batch.is_empty() {
            return;
        }
        for round in join_all(batch.iter().map(|_| without_redis(mode, outage))).await {
            rounds.count("reads", round.reads);
            rounds.measure("p99 ms", round.p99);
            rounds.measure("slowest ms", round.slowest);
            rounds.measure("back on the cache, s", round.recovery.as_secs_f64());
        }
    }
}

async fn without_redis(mode: Mode, outage: Duration) -> WithoutRedis {
    let stack = Stack::builder().redis_through_proxy().listeners(0).workers(0).start().await;
    let proxy = stack.redis_proxy.as_ref().expect("Redis is behind a proxy");
    let prices = cached_prices(&stack).await;
    let load = ReadLoad::start(&demand(&stack, &prices, outage));
    some_reads(&load).await;

    let cut = Instant::now();
    proxy.set(mode);
    pause(outage).await;
    proxy.heal();
    let healed = Instant::now();
    eventually(RECOVERY, "a read from the cache", async || {
        (stack.price("P-100", "NY", false).await["source"] == "cache").then_some(())
    })
    .await;
    let recovered = Instant::now();
    some_reads(&load).await;

    let readings = load.finish().await;
    assert_prices(&readings, &prices);
    let during: Vec<&Reading> = readings.iter().filter(|r| (cut..healed).contains(&r.began)).collect();
    assert!(during.iter().any(|r| r.field("source") == "database"), "Redis was not missed");
    let after = readings.iter().filter(|r| r.began > recovered);
    assert!(after.clone().all(|r| r.field("source") == "cache"), "{:?}", after.collect::<Vec<_>>());
    let (p99, slowest) = (quantile(during.iter().copied(), 0.99), quantile(during.iter().copied(), 1.0));
    assert!(p99 < P99_MS, "99 % of {} reads took up to {p99} ms, all of them {slowest} ms", during.len());
    WithoutRedis { reads: readings.len(), p99, slowest, recovery: recovered - healed }
}

#[tokio::test]
async fn without_the_database_cached_prices_are_served_and_others_are_503_and_never_404() {
    let mut rounds = Rounds::of(
        "the database is cut off, or stalls, for 30 s under reads",
        "cached prices are served, stale after their time; what is not cached is 503 with Retry-After",
    );
    let outage = outage(&rounds);
    loop {
        let batch = rounds.next_rounds(rounds.either(1, AT_ONCE));
        if batch.is_empty() {
            return;
        }
        let modes = batch.iter().map(|round| if round.number % 2 == 1 { Mode::Cut } else { Mode::Stalled });
        for round in join_all(modes.map(|mode| without_database(mode, outage))).await {
            rounds.count("reads", round.reads);
            rounds.count("stale answers", round.stale);
            rounds.count("503 for what is not cached", round.unavailable);
            rounds.measure("p99 of cached ms", round.p99);
            rounds.measure("slowest of uncached ms", round.slowest_uncached);
            rounds.measure("back on the database, s", round.recovery.as_secs_f64());
        }
    }
}

/// What came of one round without the database.
struct WithoutDatabase {
    reads: usize,
    stale: usize,
    unavailable: usize,
    p99: f64,
    slowest_uncached: f64,
    recovery: Duration,
}

async fn without_database(mode: Mode, outage: Duration) -> WithoutDatabase {
    let builder = Stack::builder().database(TestDatabase::postgres().await).database_through_proxy();
    let stack = builder.set("CACHE_TTL_SECONDS", 1).listeners(0).workers(0).start().await;
    let proxy = stack.database_proxy.as_ref().expect("the database is behind a proxy");
    let prices = cached_prices(&stack).await;
    let load = ReadLoad::start(&demand(&stack, &prices, outage));
    some_reads(&load).await;

    let cut = Instant::now();
    proxy.set(mode);
    let (unavailable, slowest_uncached) = ask_for_uncached(&stack, cut + outage).await;
    proxy.heal();
    let healed = Instant::now();
    eventually(DATABASE_RECOVERY, "a price from the database", async || {
        let (status, answer) = stack.get("/api/v1/price/P-999?user_location=NY").await;
        (status == 200 && answer["source"] == "database").then_some(())
    })
    .await;
    let recovery = healed.elapsed();

    let readings = load.finish().await;
    assert_prices(&readings, &prices);
    let during: Vec<&Reading> = readings.iter().filter(|r| (cut..healed).contains(&r.began)).collect();
    let stale = during.iter().filter(|r| r.field("stale") == true).count();
    // Entries live for 1 s ± 10 %; a database that stalls is given up on after 2 s.
    let late = during.iter().filter(|r| r.began > cut + Duration::from_millis(1_200));
    assert!(late.clone().all(|r| r.field("stale") == true), "{:?}", late.collect::<Vec<_>>());
    let p99 = quantile(during.iter().copied(), 0.99);
    WithoutDatabase { reads: readings.len(), stale, unavailable, p99, slowest_uncached, recovery }
}

#[tokio::test]
async fn a_database_that_comes_back_slowly_is_used_again() {
    let mut rounds = Rounds::of(
        "the database is cut off under reads and comes back behind a network that takes 20 ms each way",
        "cached prices are served all the time, and prices are fresh again within 10 s",
    );
    while rounds.next_round().is_some() {
        let builder = Stack::builder().database(TestDatabase::postgres().await).database_through_proxy();
        let stack = builder.set("CACHE_TTL_SECONDS", 1).listeners(0).workers(0).start().await;
        let proxy = stack.database_proxy.as_ref().expect("the database is behind a proxy");
        let prices = cached_prices(&stack).await;
        let load = ReadLoad::start(&demand(&stack, &prices, SHORT));
        some_reads(&load).await;
        proxy.set(Mode::Cut);
        pause(SHORT).await;
        proxy.set(Mode::Delayed(Duration::from_millis(20)));
        let healed = Instant::now();
        eventually(DATABASE_RECOVERY, "a fresh price", async || {
            (stack.price("P-100", "NY", false).await["stale"] != true).then_some(())
        })
        .await;
        rounds.measure("back on the database, s", healed.elapsed().as_secs_f64());
        let readings = load.finish().await;
        assert_prices(&readings, &prices);
        rounds.count("reads", readings.len());
    }
}

/// Asks for products that are in the database only, one after the other, until `end`. Returns how many that
/// were, and the milliseconds of the slowest answer.
async fn ask_for_uncached(stack: &Stack, end: Instant) -> (usize, f64) {
    let (client, mut asked, mut slowest) = (api_key::client(), 0, 0.0_f64);
    while Instant::now() < end {
        let (id, start) = (500 + asked % 400, Instant::now());
        let url = stack.api.url(&format!("/api/v1/price/P-{id}?user_location=NY"));
        let answer = client.get(url).send().await.expect("an answer");
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key(RETRY_AFTER)), (503, true));
        let took = start.elapsed().as_secs_f64() * 1_000.0;
        assert!(took < UNCACHED_MS, "{took} ms");
        (asked, slowest) = (asked + 1, slowest.max(took));
        pause(Duration::from_millis(20)).await;
    }
    (asked, slowest)
}

fn outage(rounds: &Rounds) -> Duration {
    rounds.either(SHORT, LONG)
}

/// Prices of the products that the reads are about, all of them in the cache after this.
async fn cached_prices(stack: &Stack) -> HashMap<String, Value> {
    let ids: Vec<String> = (100..150).map(|n| format!("P-{n}")).collect();
    let (_, answer) = stack.post("/api/v1/prices", &json!({"user_location": "NY", "product_ids": ids})).await;
    let prices = answer["prices"].as_array().expect("prices").iter();
    let prices: HashMap<String, Value> =
        ids.iter().cloned().zip(prices.map(|price| price["final_price"].clone())).collect();
    assert_eq!(prices.len(), ids.len());
    prices
}

fn demand(stack: &Stack, prices: &HashMap<String, Value>, outage: Duration) -> Demand {
    // Many stacks are broken at the same time in the long form.
    let reads_per_second = if outage > SHORT { 100 } else { 200 };
    Demand {
        api: stack.api.address(),
        from: None,
        products: prices.keys().cloned().collect(),
        keeping: 8,
        connecting: 0,
        reads_per_second,
    }
}

async fn some_reads(load: &ReadLoad) {
    let before = load.count();
    let more = async || (load.count() > before + 100).then_some(());
    eventually(Duration::from_secs(10), "a hundred reads", more).await;
}

/// Every read got the price that its product has had all the time.
fn assert_prices(readings: &[Reading], prices: &HashMap<String, Value>) {
    for reading in readings {
        assert!(reading.succeeded(), "{reading:?}");
        assert_eq!(reading.field("final_price"), &prices[&reading.product], "{reading:?}");
    }
}
