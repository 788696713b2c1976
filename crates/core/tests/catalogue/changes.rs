//! Every change leaves its key pending, until the cache holds it.

use std::time::Duration;

use pricing_core::cache::Kind;
use pricing_core::catalogue::{Catalogue, ChangeOrder, PendingChange};
use pricing_harness::databases::TestDatabase;
use pricing_harness::edits::EditCatalogue as _;
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, timeout};

use crate::{cents, location, product_id};

on_both_databases!(
    each_kind_of_change_leaves_its_key,
    a_change_that_is_rolled_back_leaves_nothing,
    a_change_is_stored_only_under_the_version_that_was_stored,
    the_oldest_or_the_newest_come_first,
    changes_of_another_redis_are_pending_again,
    what_is_stored_for_long_is_forgotten,
    a_key_may_be_any_text,
    a_signal_comes_at_the_latest_when_asked,
);

const REDIS: &str = "0123456789abcdef0123456789abcdef01234567";

async fn pending(catalogue: &Catalogue) -> Vec<PendingChange> {
    catalogue.pending_changes(ChangeOrder::Oldest, 10_000).await.unwrap()
}

/// The demo catalogue, with nothing pending.
async fn calm(database: &TestDatabase) -> Catalogue {
    let catalogue = database.open_demo().await;
    let changes = pending(&catalogue).await;
    assert_eq!(changes.len(), 904, "a new catalogue is pending");
    for changes in changes.chunks(500) {
        catalogue.changes_stored(changes, REDIS, 1).await.unwrap();
    }
    assert_eq!(pending(&catalogue).await, []);
    catalogue
}

fn keys(changes: &[PendingChange]) -> Vec<(&str, &str)> {
    let mut keys: Vec<_> = changes.iter().map(|change| (change.kind.as_str(), change.id.as_str())).collect();
    keys.sort_unstable();
    keys
}

async fn each_kind_of_change_leaves_its_key(database: &TestDatabase) {
    let catalogue = calm(database).await;
    let mut changes: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("INSERT INTO products (id, base_price_minor) VALUES ('new', 1)", vec![("product", "new")]),
        (
            "UPDATE products SET base_price_minor = 2 WHERE id IN ('new', 'P-100')",
            vec![("product", "P-100"), ("product", "new")],
        ),
        ("UPDATE products SET category = 'shoes' WHERE id = 'new'", vec![("product", "new")]),
        ("UPDATE products SET list_price_minor = 2 WHERE id = 'new'", vec![("product", "new")]),
        ("UPDATE products SET list_price_minor = 2 WHERE id = 'new'", vec![]),
        (
            "UPDATE products SET id = 'renamed' WHERE id = 'new'",
            vec![("product", "new"), ("product", "renamed")],
        ),
        ("DELETE FROM products WHERE id = 'renamed'", vec![("product", "renamed")]),
        ("INSERT INTO markets (location, multiplier_ppm) VALUES ('Mars', 1)", vec![("market", "Mars")]),
        ("UPDATE markets SET multiplier_ppm = 2 WHERE location = 'Mars'", vec![("market", "Mars")]),
        (
            "UPDATE markets SET location = 'Venus' WHERE location = 'Mars'",
            vec![("market", "Mars"), ("market", "Venus")],
        ),
        ("DELETE FROM markets WHERE location = 'Venus'", vec![("market", "Venus")]),
    ];
    if database.is_sqlite() {
        changes.push((
            "REPLACE INTO products (id, base_price_minor) VALUES ('P-100', 7)",
            vec![("product", "P-100")],
        ));
    } else {
        changes.push((
            "TRUNCATE markets",
            vec![("market", "LA"), ("market", "MIA"), ("market", "NY"), ("market", "default")],
        ));
    }
    for (statement, expected) in changes {
        database.execute(&[statement]).await;
        let found = pending(&catalogue).await;
        assert_eq!(keys(&found), expected, "{statement}");
        assert!(found.iter().all(|change| change.changed_at_ms > 1_700_000_000_000), "{found:?}");
        catalogue.changes_stored(&found, REDIS, 1).await.unwrap();
        assert_eq!(pending(&catalogue).await, [], "{statement}");
    }
}

async fn a_change_that_is_rolled_back_leaves_nothing(database: &TestDatabase) {
    let catalogue = calm(database).await;
    database.execute(&["BEGIN", "DELETE FROM products", "ROLLBACK"]).await;
    assert_eq!(pending(&catalogue).await, []);
}

async fn a_change_is_stored_only_under_the_version_that_was_stored(database: &TestDatabase) {
    let catalogue = calm(database).await;
    catalogue.set_base_price(&product_id("P-100"), cents(1)).await;
    let first = pending(&catalogue).await;
    catalogue.set_base_price(&product_id("P-100"), cents(2)).await;
    catalogue.changes_stored(&first, REDIS, 1).await.unwrap();
    let second = pending(&catalogue).await;
    assert_eq!(second.len(), 1);
    assert!(second[0].version > first[0].version);
    let product = catalogue.product(&product_id("P-100")).await.unwrap().unwrap();
    assert_eq!(i64::try_from(product.version).unwrap(), second[0].version);
}

async fn the_oldest_or_the_newest_come_first(database: &TestDatabase) {
    let catalogue = calm(database).await;
    for (place, id) in ["P-103", "P-101", "P-102"].into_iter().enumerate() {
        catalogue.set_base_price(&product_id(id), cents(1 + place as i64)).await;
    }
    let first = async |order| catalogue.pending_changes(order, 1).await.unwrap()[0].id.clone();
    assert_eq!(first(ChangeOrder::Oldest).await, "P-103");
    assert_eq!(first(ChangeOrder::Newest).await, "P-102");
}

async fn changes_of_another_redis_are_pending_again(database: &TestDatabase) {
    let catalogue = calm(database).await;
    assert_eq!(catalogue.reopen_changes(REDIS).await.unwrap(), 0);
    for other in ["0000", "ffff"] {
        assert_eq!(catalogue.reopen_changes(other).await.unwrap(), 904, "{other}");
        assert_eq!(catalogue.reopen_changes(other).await.unwrap(), 0);
        let reopened = pending(&catalogue).await;
        assert_eq!(reopened.len(), 904);
        for changes in reopened.chunks(500) {
            catalogue.changes_stored(changes, REDIS, 1).await.unwrap();
        }
    }
}

async fn what_is_stored_for_long_is_forgotten(database: &TestDatabase) {
    let catalogue = calm(database).await;
    catalogue.set_base_price(&product_id("P-100"), cents(1)).await;
    assert_eq!(catalogue.forget_changes(REDIS, 1).await.unwrap(), 0);
    assert_eq!(catalogue.forget_changes("another", 2).await.unwrap(), 0);
    assert_eq!(catalogue.forget_changes(REDIS, 2).await.unwrap(), 903);
    assert_eq!(keys(&pending(&catalogue).await), [("product", "P-100")], "it is not stored yet");
    catalogue.market(&location("NY")).await.unwrap().unwrap();
}

/// What lies in the cache, and in tables that an older build has written, need not be an id.
async fn a_key_may_be_any_text(database: &TestDatabase) {
    let catalogue = calm(database).await;
    let keys = [
        "\"",
        "'",
        "\\",
        "{}",
        "[1,null]",
        "$1",
        "NULL",
        "1",
        "a,b",
        "\n\t\u{1}",
        "ünïcödé",
        "\u{10ffff}",
        " ",
    ];
    let mut keys: Vec<String> = keys.map(str::to_owned).into();
    if database.is_sqlite() {
        keys.push("NUL\0, which PostgreSQL cannot store".to_owned());
    }
    catalogue.make_pending(Kind::Product, &keys, 1_000_000).await.unwrap();
    let found = pending(&catalogue).await;
    let mut ids: Vec<_> = found.iter().map(|change| change.id.clone()).collect();
    ids.sort_by_key(|id| keys.iter().position(|key| key == id));
    assert_eq!(ids, keys);
    assert!(found.iter().all(|change| change.kind == "product" && change.version == 1_000_000), "{found:?}");
    catalogue.changes_stored(&found, REDIS, 1).await.unwrap();
    assert_eq!(pending(&catalogue).await, []);
}

#[tokio::test]
async fn a_key_that_somebody_has_locked_stays_pending_and_is_not_waited_for() {
    let database = TestDatabase::postgres().await;
    let catalogue = database.open_demo().await;
    let changes = pending(&catalogue).await;
    let mut operator = PgConnection::connect(database.url()).await.unwrap();
    let mut transaction = operator.begin().await.unwrap();
    let change = "UPDATE products SET base_price_minor = 1 WHERE id = 'P-100'";
    sqlx::query(change).execute(&mut *transaction).await.unwrap();

    catalogue.changes_stored(&changes, REDIS, 1).await.unwrap();
    assert_eq!(keys(&pending(&catalogue).await), [("product", "P-100")]);
    transaction.rollback().await.unwrap();
    catalogue.changes_stored(&changes, REDIS, 1).await.unwrap();
    assert_eq!(pending(&catalogue).await, []);
}

async fn a_signal_comes_at_the_latest_when_asked(database: &TestDatabase) {
    let catalogue = calm(database).await;
    let mut signal = catalogue.change_signal();
    signal.wait(Duration::from_millis(1)).await; // connects
    let start = Instant::now();
    signal.wait(Duration::from_millis(20)).await;
    assert!(start.elapsed() >= Duration::from_millis(20), "nothing was changed");
    if !database.is_sqlite() {
        let (signalled, ()) =
            tokio::join!(timeout(Duration::from_secs(60), signal.wait(Duration::from_secs(120))), async {
                catalogue.set_base_price(&product_id("P-100"), cents(1)).await;
            });
        assert!(signalled.is_ok(), "PostgreSQL announces changes");
    }
}
