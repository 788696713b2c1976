//! Changes of the catalogue that nobody announces.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pricing_e2e::rounds::{Round, Rounds};
use pricing_harness::databases::TestDatabase;
use pricing_harness::postgres::{Cluster, programs};
use pricing_harness::redis_server::RedisServer;
use pricing_harness::service::Binary;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::{eventually, pause};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use reqwest::StatusCode;

const DEADLINE: Duration = Duration::from_secs(60);
/// Longest until a change is served.
const SERVED_WITHIN: Duration = Duration::from_secs(1);

/// Base prices in cents by product, `None` for a product that does not exist: what the database must hold.
type Products = BTreeMap<String, Option<i64>>;

#[tokio::test]
async fn changes_by_sql_alone_are_served_whatever_is_killed() {
    let mut rounds = Rounds::of(
        "products are changed, deleted and created again by SQL alone, while worker, Redis and database are killed",
        "once it is quiet, every price equals the database, and what is deleted is 404",
    );
    let mut cluster = Cluster::start(&programs().expect("PostgreSQL is installed")).await.expect("it starts");
    let mut stack = Stack::builder()
        .redis(RedisServer::start_durable().await)
        .database(TestDatabase::postgres_in(cluster.url()).await)
        .workers(2)
        .listeners(0)
        .start()
        .await;
    let mut products = Products::new();
    while let Some(mut round) = rounds.next_round() {
        for step in 0..6 {
            for _ in 0..10 {
                change(&stack, &mut products, &mut round).await;
            }
            rounds.count("changes", 10);
            match (step, round.random.random_range(0..3)) {
                (2 | 4, 0) => {
                    rounds.count("kills of a worker", 1);
                    stack.workers.remove(0).kill();
                    let worker = stack.start_another(Binary::Worker).await;
                    stack.workers.push(worker);
                }
                (2 | 4, 1) => {
                    rounds.count("kills of Redis", 1);
                    stack.redis.stop();
                    change(&stack, &mut products, &mut round).await;
                    stack.redis.restart().await;
                }
                (2 | 4, _) => {
                    rounds.count("kills of the database", 1);
                    cluster.kill();
                    cluster.restart().await.expect("it recovers");
                }
                _ => pause(Duration::from_millis(round.random.random_range(0..100))).await,
            }
        }
        // A worker that ended with the database is started again, as an orchestrator does.
        for at in 0..stack.workers.len() {
            if stack.workers[at].exit_status().is_some() {
                stack.workers[at] = stack.start_another(Binary::Worker).await;
            }
        }
        rounds.record(stack.findings(&[], DEADLINE).await);
        assert_served(&stack, &products).await;
    }
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_its_id_can_be_used_again() {
    let mut rounds = Rounds::of(
        "products and markets are deleted and created again by SQL, under reads",
        "a deletion is served within 1 s, and so is a new product or market under the same id",
    );
    let database = TestDatabase::postgres().await;
    let stack = Stack::builder().database(database).workers(2).listeners(0).start().await;
    stack.database.execute(&["UPDATE markets SET multiplier_ppm = 1000000 WHERE location = 'NY'"]).await;
    while let Some(mut round) = rounds.next_round() {
        let id = format!("P-{}", round.random.random_range(100..=999));
        stack.price(&id, "NY", false).await;
        for (statement, price) in [
            (&*format!("DELETE FROM products WHERE id = '{id}'"), None),
            (&*format!("INSERT INTO products (id, base_price_minor) VALUES ('{id}', 1000)"), Some(10.0)),
            ("DELETE FROM markets WHERE location = 'NY'", Some(9.5)), // the default market's
            ("INSERT INTO markets (location, multiplier_ppm) VALUES ('NY', 1000000)", Some(10.0)),
        ] {
            stack.database.execute(&[statement]).await;
            let changed = Instant::now();
            eventually(DEADLINE, statement, async || {
                let (status, body) = stack.get(&format!("/api/v1/price/{id}?user_location=NY")).await;
                assert!(status == StatusCode::OK || status == StatusCode::NOT_FOUND, "{status}: {body}");
                let found = (status == StatusCode::OK).then(|| body["final_price"].as_f64()).flatten();
                (found == price).then_some(())
            })
            .await;
            let took = changed.elapsed();
            rounds.measure("s from the change to its price", took.as_secs_f64());
            assert!(took <= rounds.either(10 * SERVED_WITHIN, SERVED_WITHIN), "{took:?}");
        }
    }
}

/// Makes one random change of one of a few products.
async fn change(stack: &Stack, products: &mut Products, round: &mut Round) {
    let names: Vec<String> = (100..120).map(|number| format!("P-{number}")).collect();
    let id = names.choose(&mut round.random).expect("there are names").clone();
    let price = round.random.random_range(100..100_000);
    let exists = products.get(&id).is_none_or(Option::is_some);
    let (statement, after) = match (exists, round.random.random_range(0..4)) {
        (true, 0) => (format!("DELETE FROM products WHERE id = '{id}'"), None),
        (true, 1) => (
            format!(
                "BEGIN; DELETE FROM products WHERE id = '{id}'; \
                 INSERT INTO products (id, base_price_minor) VALUES ('{id}', {price}); COMMIT"
            ),
            Some(price),
        ),
        (true, _) => {
            (format!("UPDATE products SET base_price_minor = {price} WHERE id = '{id}'"), Some(price))
        }
        (false, _) => {
            (format!("INSERT INTO products (id, base_price_minor) VALUES ('{id}', {price})"), Some(price))
        }
    };
    stack.database.execute(&[&statement]).await;
    products.insert(id, after);
}

/// Checks the answer for every product that was changed.
async fn assert_served(stack: &Stack, products: &Products) {
    join_all(products.iter().map(async |(id, price)| {
        // Every customer outside the known markets pays 95 % of the base price.
        let expected = price.map(|price| f64::from(i32::try_from(price).expect("it is small")) / 100.0);
        eventually(DEADLINE, &format!("{id} to have base price {expected:?}"), async || {
            let (status, body) = stack.get(&format!("/api/v1/price/{id}?user_location=NY")).await;
            let found = (status == StatusCode::OK).then(|| body["base_price"].as_f64()).flatten();
            (found == expected && (status == StatusCode::OK || status == StatusCode::NOT_FOUND)).then_some(())
        })
        .await;
    }))
    .await;
}
