//! A change of the catalogue is served within a second, whoever makes it, and without any event.

use std::time::Duration;

use pricing_harness::api_key;
use pricing_harness::databases::TestDatabase;
use pricing_harness::service::{Binary, Service};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

const DEADLINE: Duration = Duration::from_secs(30);
/// A change is to be served within a second; a busy machine gets some more.
const SOON: Duration = Duration::from_secs(5);

/// Two apis, a worker and no listener: nothing here needs an event.
async fn stack(database: TestDatabase) -> (Stack, Service) {
    let stack = Stack::builder().database(database).listeners(0).start().await;
    let other = stack.start_another(Binary::Api).await;
    followed(&stack).await;
    (stack, other)
}

/// Waits until the cache holds every change that was made.
async fn followed(stack: &Stack) {
    eventually(DEADLINE, "the worker to follow all changes", async || {
        let pending =
            stack.database.select("SELECT COUNT(*) FROM pending_changes WHERE stored_on = ''").await;
        (pending == 0).then_some(())
    })
    .await;
}

async fn answer(api: &Service, product: &str, location: &str) -> (StatusCode, Value) {
    let url = api.url(&format!("/api/v1/price/{product}?user_location={location}"));
    let response = api_key::client().get(url).send().await.expect("the api answers");
    let status = response.status();
    (status, response.json().await.expect("JSON"))
}

/// Waits until both apis answer with this price, or with 404.
async fn served(stack: &Stack, other: &Service, product: &str, location: &str, price: Option<f64>) {
    for api in [&stack.api, other] {
        eventually(SOON, &format!("{product} in {location} to cost {price:?}"), async || {
            let (status, body) = answer(api, product, location).await;
            match price {
                Some(price) => {
                    (status == StatusCode::OK && body["final_price"] == json!(price)).then_some(())
                }
                None => (status == StatusCode::NOT_FOUND).then_some(()),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_changed_by_sql_is_served_without_an_event() {
    for database in [TestDatabase::sqlite(), TestDatabase::postgres().await] {
        let (stack, other) = stack(database).await;
        served(&stack, &other, "P-100", "NY", Some(47.49)).await;
        let sql = async |statement: &str| stack.database.execute(&[statement]).await;

        sql("UPDATE products SET base_price_minor = 10000 WHERE id = 'P-100'").await;
        served(&stack, &other, "P-100", "NY", Some(95.0)).await;
        sql("UPDATE markets SET multiplier_ppm = 500000 WHERE location = 'NY'").await;
        served(&stack, &other, "P-100", "NY", Some(50.0)).await;

        // A product that nobody knew a moment ago.
        served(&stack, &other, "new", "NY", None).await;
        sql("INSERT INTO products (id, base_price_minor) VALUES ('new', 2000)").await;
        served(&stack, &other, "new", "NY", Some(10.0)).await;
        sql("UPDATE products SET id = 'renamed' WHERE id = 'new'").await;
        served(&stack, &other, "new", "NY", None).await;
        served(&stack, &other, "renamed", "NY", Some(10.0)).await;
        followed(&stack).await;
        // A list price by hand counts until a recalculation.
        sql("UPDATE products SET list_price_minor = 3000 WHERE id = 'renamed'").await;
        followed(&stack).await;
        served(&stack, &other, "renamed", "NY", Some(10.0)).await;
    }
}

#[tokio::test]
async fn a_deleted_id_is_gone_at_once_and_can_be_used_again_at_once() {
    for database in [TestDatabase::sqlite(), TestDatabase::postgres().await] {
        let (stack, other) = stack(database).await;
        served(&stack, &other, "P-100", "NY", Some(47.49)).await;
        let sql = async |statement: &str| stack.database.execute(&[statement]).await;
        for round in 1..=3 {
            sql("DELETE FROM products WHERE id = 'P-100'").await;
            served(&stack, &other, "P-100", "NY", None).await;
            sql(&format!("INSERT INTO products (id, base_price_minor) VALUES ('P-100', {round}0000)")).await;
            served(&stack, &other, "P-100", "NY", Some(95.0 * f64::from(round))).await;
        }
        for round in 1..=3 {
            sql("DELETE FROM markets WHERE location = 'NY'").await;
            served(&stack, &other, "P-101", "NY", Some(48.44)).await; // the default market's
            sql(&format!("INSERT INTO markets (location, multiplier_ppm) VALUES ('NY', {round}000000)"))
                .await;
            served(&stack, &other, "P-101", "NY", Some(50.99 * f64::from(round))).await;
        }
        // A change without a deletion in between that starts its version anew in many databases.
        if stack.database.is_sqlite() {
            sql("REPLACE INTO products (id, base_price_minor) VALUES ('P-102', 100)").await;
        } else {
            sql("BEGIN; CREATE TABLE kept AS SELECT * FROM products; TRUNCATE products; \
                 INSERT INTO products (id, base_price_minor) SELECT id, 100 FROM kept; COMMIT")
            .await;
        }
        served(&stack, &other, "P-102", "LA", Some(0.95)).await;
    }
}

#[tokio::test]
async fn a_change_is_followed_by_the_next_worker_when_one_dies() {
    let mut stack = Stack::builder().database(TestDatabase::postgres().await).listeners(0).start().await;
    followed(&stack).await;
    assert_eq!(stack.price("P-100", "NY", false).await["final_price"], 47.49);
    stack.workers[0].kill();
    stack.database.execute(&["UPDATE products SET base_price_minor = 10000"]).await;
    assert_eq!(stack.price("P-100", "NY", false).await["final_price"], 47.49, "nobody followed the change");
    let _worker = stack.start_another(Binary::Worker).await;
    eventually(DEADLINE, "the change to be served", async || {
        (stack.price("P-100", "NY", false).await["final_price"] == 95.0).then_some(())
    })
    .await;
}

/// Copies the database aside, or back, with rows, versions and sequence as they are. No trigger sees it.
async fn copy(database: &TestDatabase, is_back: bool) {
    if let Some(file) = database.url().strip_prefix("sqlite://") {
        database.execute(&["PRAGMA wal_checkpoint(TRUNCATE)"]).await;
        let dump = format!("{file}.dump");
        let (from, to) = if is_back { (dump.as_str(), file) } else { (file, dump.as_str()) };
        std::fs::copy(from, to).expect("the file is copied");
        return;
    }
    let tables = ["products", "markets", "pending_changes"];
    let mut statements = vec!["SET session_replication_role = replica".to_owned()];
    for table in tables {
        match is_back {
            true => statements.extend([
                format!("DELETE FROM {table}"),
                format!("INSERT INTO {table} SELECT * FROM dump_{table}"),
            ]),
            false => statements.push(format!("CREATE TABLE dump_{table} AS SELECT * FROM {table}")),
        }
    }
    statements.push(match is_back {
        true => "SELECT setval('catalogue_version', (SELECT version FROM dump_version))".to_owned(),
        false => {
            "CREATE TABLE dump_version AS SELECT last_value AS version FROM catalogue_version".to_owned()
        }
    });
    database.execute(&statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_database_restored_from_a_dump_is_served() {
    for database in [TestDatabase::sqlite(), TestDatabase::postgres().await] {
        let mut stack = Stack::builder().database(database).listeners(0).start().await;
        followed(&stack).await;
        let is_served = async |api: &Service, product: &str, price: Option<f64>| {
            eventually(SOON, &format!("{product} to cost {price:?}"), async || {
                let (status, body) = answer(api, product, "NY").await;
                (status.is_success().then(|| body["final_price"].as_f64()).flatten() == price).then_some(())
            })
            .await;
        };
        copy(&stack.database, false).await;
        // Life goes on after the dump.
        stack.database.execute(&["UPDATE products SET base_price_minor = base_price_minor + 10000"]).await;
        stack.database.execute(&["INSERT INTO products (id, base_price_minor) VALUES ('newer', 100)"]).await;
        is_served(&stack.api, "P-100", Some(142.49)).await;
        is_served(&stack.api, "newer", Some(0.95)).await;
        followed(&stack).await;

        stack.api.kill();
        stack.workers[0].kill();
        copy(&stack.database, true).await;
        let api = stack.start_another(Binary::Api).await;
        let _worker = stack.start_another(Binary::Worker).await;
        is_served(&api, "P-100", Some(47.49)).await;
        is_served(&api, "newer", None).await;
        stack.database.execute(&["UPDATE products SET base_price_minor = 10000 WHERE id = 'P-100'"]).await;
        is_served(&api, "P-100", Some(95.0)).await;
    }
}

#[tokio::test]
async fn an_invalid_row_fails_nothing_else() {
    let stack = Stack::builder().database(TestDatabase::postgres().await).start().await;
    stack
        .database
        .execute(&[
            "ALTER TABLE products DROP CONSTRAINT products_id_is_an_id",
            "INSERT INTO products (id, base_price_minor) VALUES ('A 1', 1), ('A:2', 1)",
        ])
        .await;
    let task = stack.wait_for_task(&stack.publish().await).await;
    assert_eq!(task["state"], "succeeded", "{task}");
    let result = &task["result"];
    assert_eq!((&result["updated_count"], &result["invalid_count"]), (&json!(900), &json!(2)), "{result}");
    let again = stack.wait_for_task(&stack.publish().await).await;
    assert_eq!(again["result"]["invalid_count"], 2);
    let log = stack.workers[0].log();
    for key in ["A 1", "A:2"] {
        assert_eq!(log.matches(&format!("for {key}\"")).count(), 1, "{key} is named once: {log}");
    }
    assert!(stack.workers[0].metrics().await.contains(r#"pricing_rows_skipped_total{reason="invalid"} 4"#));
    let (status, batch) = stack
        .post("/api/v1/prices", &json!({"user_location": "NY", "product_ids": ["P-100", "P-none"]}))
        .await;
    assert_eq!((status, &batch["missing"]), (StatusCode::OK, &json!(["P-none"])));
    // Later changes are followed although rows before them cannot be priced, and notes were damaged.
    let damage = "INSERT INTO pending_changes (kind, id, version, changed_at_ms) \
                  VALUES ('product', 'P-101', -7, 0), ('product', 'B 2', 1, 0), ('nothing', 'x', 2, 0) \
                  ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, stored_on = ''";
    stack.database.execute(&[damage]).await;
    stack.database.execute(&["UPDATE products SET base_price_minor = 10000 WHERE id = 'P-100'"]).await;
    eventually(SOON, "the change to be served", async || {
        (stack.price("P-100", "NY", false).await["final_price"] == 95.0).then_some(())
    })
    .await;
}

/// Only damage makes a cache newer than its database; a recalculation says what it could not write.
#[tokio::test]
async fn a_product_of_which_the_cache_holds_a_newer_version_is_counted() {
    let stack = Stack::builder().start().await;
    followed(&stack).await;
    stack.price("P-100", "NY", false).await;
    let mut entry = stack.redis.cache_entry("product:4:P-100").await;
    entry.version = (1_u64 << 50).to_string();
    stack.redis.put_cache_entry("product:4:P-100", &entry).await;
    let task = stack.wait_for_task(&stack.publish().await).await;
    let result = &task["result"];
    assert_eq!((&result["updated_count"], &result["refused_count"]), (&json!(900), &json!(1)), "{result}");
    assert!(stack.workers[0].metrics().await.contains(r#"pricing_rows_skipped_total{reason="refused"} 1"#));
}

/// An operator changes a row and does not commit yet. Its key and its row are locked.
#[tokio::test]
async fn an_open_transaction_holds_up_no_other_change() {
    let stack = Stack::builder().database(TestDatabase::postgres().await).listeners(0).start().await;
    followed(&stack).await;
    let mut operator = PgConnection::connect(stack.database.url()).await.unwrap();
    let mut transaction = operator.begin().await.unwrap();
    let open = "UPDATE products SET base_price_minor = 20000 WHERE id = 'P-100'";
    sqlx::query(open).execute(&mut *transaction).await.unwrap();
    let cost = async |product: &str, price: f64| {
        eventually(SOON, &format!("{product} to cost {price}"), async || {
            (stack.price(product, "NY", false).await["final_price"] == price).then_some(())
        })
        .await;
    };
    for (product, cents, price) in [("P-101", 10_000, 95.0), ("P-102", 30_000, 285.0)] {
        let change = format!("UPDATE products SET base_price_minor = {cents} WHERE id = '{product}'");
        stack.database.execute(&[&change]).await;
        cost(product, price).await;
    }
    cost("P-100", 47.49).await;
    transaction.commit().await.unwrap();
    cost("P-100", 190.0).await;
}
