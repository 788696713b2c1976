//! Recording list prices writes nothing that is out of date.

use pricing_core::catalogue::{Catalogue, ListPrice, Locked};
use pricing_core::ids::TaskId;
use pricing_core::money::Money;
use pricing_harness::databases::TestDatabase;

use futures_util::future::join_all;

use crate::{cents, product_id};

on_both_databases!(
    a_list_price_enters_the_history_when_it_changes,
    recording_makes_no_version,
    a_stale_product_version_writes_nothing,
    an_older_market_version_writes_nothing,
    an_unchanged_price_still_remembers_the_newer_market,
    the_rest_of_a_partly_stale_batch_is_written,
    two_writers_of_the_same_prices_make_one_history,
    a_batch_of_five_hundred_is_one_call,
    the_history_holds_the_price_before_each_change,
    a_batch_and_a_bulk_update_in_another_order_both_succeed,
    old_history_is_pruned_in_steps,
);

async fn record(catalogue: &Catalogue, batch: &[ListPrice]) -> usize {
    catalogue
        .record_list_prices(batch, &TaskId::generate(), 1_700_000_000_000, Locked::Wait)
        .await
        .unwrap()
        .changed
}

/// The first `number` products as a scan reads them now, priced alike.
async fn scanned(catalogue: &Catalogue, number: u32, market_version: u64, price: Money) -> Vec<ListPrice> {
    let page = catalogue.products_after(None, number).await.unwrap();
    page.rows.into_iter().map(|row| ListPrice { row, market_version, price }).collect()
}

async fn list_price(catalogue: &Catalogue) -> Option<i64> {
    catalogue.products_after(None, 1).await.unwrap().rows[0].list_price
}

async fn history(catalogue: &Catalogue) -> u64 {
    catalogue.history_len(&product_id("P-100")).await.unwrap()
}

async fn a_list_price_enters_the_history_when_it_changes(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    assert_eq!(record(&catalogue, &[]).await, 0);
    for (price, changed, length) in [(10, 1, 1), (10, 0, 1), (20, 1, 2), (20, 0, 2), (10, 1, 3)] {
        // The same product in the same market has one price; a new version of the product has another.
        catalogue.set_base_price(&product_id("P-100"), cents(price)).await.unwrap();
        let batch = scanned(&catalogue, 1, 1, cents(price)).await;
        assert_eq!(record(&catalogue, &batch).await, changed);
        assert_eq!(list_price(&catalogue).await, Some(price));
        assert_eq!(history(&catalogue).await, length);
    }
    assert_eq!(catalogue.history_len(&product_id("P-101")).await.unwrap(), 0);
}

async fn recording_makes_no_version(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let before = catalogue.product(&product_id("P-100")).await.unwrap().unwrap().version;
    record(&catalogue, &scanned(&catalogue, 1, 1, cents(10)).await).await;
    assert_eq!(catalogue.product(&product_id("P-100")).await.unwrap().unwrap().version, before);
}

async fn a_stale_product_version_writes_nothing(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let stale = scanned(&catalogue, 1, 1, cents(10)).await;
    catalogue.set_base_price(&product_id("P-100"), cents(2_000)).await.unwrap();
    assert_eq!(record(&catalogue, &stale).await, 0);
    assert_eq!((list_price(&catalogue).await, history(&catalogue).await), (None, 0));

    record(&catalogue, &scanned(&catalogue, 1, 1, cents(20)).await).await;
    assert_eq!(record(&catalogue, &stale).await, 0);
    assert_eq!((list_price(&catalogue).await, history(&catalogue).await), (Some(20), 1));
}

async fn an_older_market_version_writes_nothing(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let older = scanned(&catalogue, 1, 6, cents(10)).await;
    assert_eq!(record(&catalogue, &scanned(&catalogue, 1, 7, cents(20)).await).await, 1);
    assert_eq!(record(&catalogue, &older).await, 0);
    assert_eq!((list_price(&catalogue).await, history(&catalogue).await), (Some(20), 1));
}

async fn an_unchanged_price_still_remembers_the_newer_market(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    record(&catalogue, &scanned(&catalogue, 1, 1, cents(10)).await).await;
    let between = scanned(&catalogue, 1, 2, cents(20)).await;
    assert_eq!(record(&catalogue, &scanned(&catalogue, 1, 3, cents(10)).await).await, 0, "no change");
    assert_eq!(record(&catalogue, &between).await, 0, "older than the third version");
    assert_eq!((list_price(&catalogue).await, history(&catalogue).await), (Some(10), 1));
}

async fn the_rest_of_a_partly_stale_batch_is_written(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let batch = scanned(&catalogue, 3, 1, cents(10)).await;
    catalogue.set_base_price(&product_id("P-101"), cents(2_000)).await.unwrap();
    database.execute(&["DELETE FROM products WHERE id = 'P-102'"]).await;
    assert_eq!(record(&catalogue, &batch).await, 1);
    assert_eq!((list_price(&catalogue).await, history(&catalogue).await), (Some(10), 1));
    for id in ["P-101", "P-102"] {
        assert_eq!(catalogue.history_len(&product_id(id)).await.unwrap(), 0, "{id}");
    }
}

async fn two_writers_of_the_same_prices_make_one_history(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let batch = scanned(&catalogue, 200, 1, cents(10)).await;
    let (one, other) = tokio::join!(record(&catalogue, &batch), record(&catalogue, &batch));
    assert_eq!(one + other, 200, "{one} and {other}");
    assert_eq!((list_price(&catalogue).await, history(&catalogue).await), (Some(10), 1));
}

async fn a_batch_of_five_hundred_is_one_call(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let batch = scanned(&catalogue, 500, 1, cents(10)).await;
    assert_eq!(record(&catalogue, &batch).await, 500);
    assert_eq!(record(&catalogue, &batch).await, 0);
}

/// Another run may change a price between the read and the record of this one.
async fn the_history_holds_the_price_before_each_change(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let before = scanned(&catalogue, 1, 1, cents(10)).await;
    let same_read = scanned(&catalogue, 1, 2, cents(20)).await;
    record(&catalogue, &before).await;
    assert_eq!(record(&catalogue, &same_read).await, 1);
    let steps = "SELECT COUNT(*) FROM price_history WHERE product_id = 'P-100' AND \
                 (old_list_price_minor IS NULL AND list_price_minor = 10 \
                  OR old_list_price_minor = 10 AND list_price_minor = 20)";
    assert_eq!(database.select(steps).await, 2);
}

/// An operator updates in the reverse order of the ids, so the two wait for each other's rows.
async fn a_batch_and_a_bulk_update_in_another_order_both_succeed(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let backwards: Vec<String> = (100..600)
        .rev()
        .map(|number| format!("UPDATE products SET base_price_minor = 1 + {number} WHERE id = 'P-{number}'"))
        .collect();
    let backwards = format!("BEGIN; {}; COMMIT", backwards.join("; "));
    for round in 1..=5 {
        let batch = scanned(&catalogue, 500, round, cents(10)).await;
        let (_, ()) = tokio::join!(record(&catalogue, &batch), async {
            // It is this client that may be chosen to fail; then it does the same again.
            while !database.try_execute(&backwards).await {}
        });
    }
    let written = scanned(&catalogue, 500, 9, cents(10)).await;
    assert_eq!(
        record(&catalogue, &written).await,
        written.iter().filter(|item| item.row.list_price != Some(10)).count()
    );
}

async fn old_history_is_pruned_in_steps(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    for (market_version, price, now_ms) in [(1, 10, 1_000), (2, 20, 2_000)] {
        let batch = scanned(&catalogue, 900, market_version, cents(price)).await;
        assert_eq!(
            catalogue
                .record_list_prices(&batch, &TaskId::generate(), now_ms, Locked::Wait)
                .await
                .unwrap()
                .changed,
            900
        );
    }
    assert_eq!(catalogue.prune_history(1_000).await.unwrap(), 0);
    assert_eq!(catalogue.prune_history(2_000).await.unwrap(), 900);
    assert_eq!(catalogue.prune_history(3_000).await.unwrap(), 900);
    let pruned = join_all([catalogue.prune_history(i64::MAX), catalogue.prune_history(i64::MAX)]).await;
    assert!(pruned.into_iter().all(|pruned| pruned.is_ok_and(|pruned| pruned == 0)));
    assert_eq!(catalogue.history_len(&product_id("P-100")).await.unwrap(), 0);
}
