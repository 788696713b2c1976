//! Recording list prices writes nothing that is out of date, and is a change like any other.

use pricing_core::catalogue::{
    Catalogue, ChangeOrder, ChangeOrigin, HistoryFilter, ListPrice, Locked, ProductChange, Recorded,
};
use pricing_core::ids::TaskId;
use pricing_core::money::Money;
use pricing_core::price::Product;
use pricing_harness::databases::TestDatabase;
use pricing_harness::edits::EditCatalogue as _;

use crate::{cents, product_id};

on_both_databases!(
    a_list_price_takes_a_version_and_enters_the_history,
    a_change_of_the_base_price_ends_the_list_price,
    a_batch_leaves_one_pending_change_for_its_range,
    two_ranges_with_the_same_beginning_are_one,
    a_stale_version_writes_nothing,
    the_rest_of_a_partly_stale_batch_is_written,
    two_writers_of_the_same_prices_make_one_history,
    a_batch_and_a_bulk_update_in_another_order_both_succeed,
);

fn origin() -> ChangeOrigin {
    ChangeOrigin::task(&TaskId::parse("T-1").unwrap())
}

async fn record(catalogue: &Catalogue, batch: &[ListPrice]) -> Recorded {
    catalogue.record_list_prices(batch, &origin(), Locked::Wait).await.unwrap()
}

/// The first `number` products as a scan reads them now, priced alike.
async fn scanned(catalogue: &Catalogue, number: u32, price: Option<Money>) -> Vec<ListPrice> {
    let page = catalogue.products_after(None, number).await.unwrap();
    page.rows.into_iter().map(|row| ListPrice { id: row.id, version: row.product.version, price }).collect()
}

async fn product(catalogue: &Catalogue) -> Product {
    catalogue.product(&product_id("P-100")).await.unwrap().unwrap()
}

/// The recorded list prices of a product, newest first.
async fn history(catalogue: &Catalogue, id: &str) -> Vec<(Option<i64>, Option<i64>)> {
    let changes = catalogue.product_history(&product_id(id), &HistoryFilter::default()).await.unwrap();
    let recorded = changes.iter().filter(|change| change.change == "recalculated");
    let prices = |change: &ProductChange| (change.old_list_price_minor, change.list_price_minor);
    recorded.map(prices).collect()
}

async fn a_list_price_takes_a_version_and_enters_the_history(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    assert_eq!(record(&catalogue, &[]).await, Recorded::default());
    for price in [Some(cents(10)), Some(cents(20)), None] {
        let before = catalogue.last_version().await.unwrap();
        let recorded = record(&catalogue, &scanned(&catalogue, 1, price).await).await;
        let now = product(&catalogue).await;
        assert!(now.version > before);
        assert_eq!((recorded.versions.get("P-100"), now.list_price), (Some(&now.version), price));
    }
    let steps = [(Some(20), None), (Some(10), Some(20)), (None, Some(10))];
    assert_eq!(history(&catalogue, "P-100").await, steps);
    assert_eq!(history(&catalogue, "P-101").await, []);
    let shop = catalogue.catalogue_product(&product_id("P-100")).await.unwrap().unwrap();
    assert!(shop.revision < shop.version, "it is no edit");
}

async fn a_change_of_the_base_price_ends_the_list_price(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    record(&catalogue, &scanned(&catalogue, 1, Some(cents(10))).await).await;
    database.execute(&["UPDATE products SET floor_minor = 5 WHERE id = 'P-100'"]).await;
    assert_eq!(product(&catalogue).await.list_price, Some(cents(10)));
    database.execute(&["UPDATE products SET base_price_minor = 6000 WHERE id = 'P-100'"]).await;
    assert_eq!(product(&catalogue).await.list_price(), cents(6_000));
}

async fn calm(catalogue: &Catalogue) {
    let pending = catalogue.pending_changes(ChangeOrder::Oldest, 10_000).await.unwrap();
    catalogue.changes_stored(&pending, "redis", 1).await.unwrap();
}

async fn a_batch_leaves_one_pending_change_for_its_range(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    calm(&catalogue).await;
    let recorded = record(&catalogue, &scanned(&catalogue, 500, Some(cents(10))).await).await;
    assert_eq!((recorded.versions.len(), recorded.passed_over.len()), (500, 0));
    let pending = catalogue.pending_changes(ChangeOrder::Oldest, 10).await.unwrap();
    assert_eq!(pending, recorded.pending.into_iter().collect::<Vec<_>>());
    let range = &pending[0];
    assert!(range.is_range());
    assert_eq!((range.id.as_str(), range.last_id.as_deref()), ("P-100", Some("P-599")));
    let (mut ids, mut first) = (Vec::new(), range.id.clone());
    loop {
        let page = catalogue.products_within(&first, "P-599", 200).await.unwrap();
        ids.extend(page.rows.into_iter().map(|row| row.id.to_string()));
        match page.last {
            Some(last) => first = last,
            None => break,
        }
    }
    ids.dedup(); // each part begins with the last product of the one before
    assert_eq!(ids, (100..600).map(|number| format!("P-{number}")).collect::<Vec<_>>());
    catalogue.changes_stored(&pending, "redis", 1).await.unwrap();
    assert_eq!(catalogue.pending_changes(ChangeOrder::Oldest, 10).await.unwrap(), []);
}

async fn two_ranges_with_the_same_beginning_are_one(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    calm(&catalogue).await;
    let long = record(&catalogue, &scanned(&catalogue, 20, Some(cents(10))).await).await.pending.unwrap();
    record(&catalogue, &scanned(&catalogue, 2, Some(cents(20))).await).await;
    catalogue.changes_stored(&[long], "redis", 1).await.unwrap();
    let pending = catalogue.pending_changes(ChangeOrder::Oldest, 10).await.unwrap();
    assert_eq!(pending.len(), 1, "{pending:?}");
    assert_eq!(pending[0].last_id.as_deref(), Some("P-119"), "what is pending stays so");
}

async fn a_stale_version_writes_nothing(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let stale = scanned(&catalogue, 1, Some(cents(10))).await;
    catalogue.set_base_price(&product_id("P-100"), cents(2_000)).await;
    let recorded = record(&catalogue, &stale).await;
    assert!(
        recorded.versions.is_empty() && recorded.passed_over.contains("P-100") && recorded.pending.is_none()
    );
    assert_eq!((product(&catalogue).await.list_price, history(&catalogue, "P-100").await), (None, vec![]));

    record(&catalogue, &scanned(&catalogue, 1, Some(cents(20))).await).await;
    record(&catalogue, &stale).await;
    assert_eq!(product(&catalogue).await.list_price, Some(cents(20)));
}

async fn the_rest_of_a_partly_stale_batch_is_written(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let batch = scanned(&catalogue, 3, Some(cents(10))).await;
    catalogue.set_base_price(&product_id("P-101"), cents(2_000)).await;
    database.execute(&["DELETE FROM products WHERE id = 'P-102'"]).await;
    let recorded = record(&catalogue, &batch).await;
    assert_eq!(recorded.versions.keys().collect::<Vec<_>>(), ["P-100"]);
    for id in ["P-101", "P-102"] {
        assert!(recorded.passed_over.contains(id));
        assert_eq!(history(&catalogue, id).await, [], "{id}");
    }
}

async fn two_writers_of_the_same_prices_make_one_history(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let batch = scanned(&catalogue, 200, Some(cents(10))).await;
    let (one, other) = tokio::join!(record(&catalogue, &batch), record(&catalogue, &batch));
    assert_eq!(one.versions.len() + other.versions.len(), 200);
    assert_eq!(history(&catalogue, "P-100").await, [(None, Some(10))]);
}

/// An operator updates in the reverse order of the ids, so the two wait for each other's rows.
async fn a_batch_and_a_bulk_update_in_another_order_both_succeed(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    for round in 1..=5 {
        let backwards: Vec<String> = (100..600)
            .rev()
            .map(|number| {
                let price = 1_000 * round + number;
                format!("UPDATE products SET base_price_minor = {price} WHERE id = 'P-{number}'")
            })
            .collect();
        let backwards = format!("BEGIN; {}; COMMIT", backwards.join("; "));
        let batch = scanned(&catalogue, 500, Some(cents(10))).await;
        let (recorded, ()) = tokio::join!(record(&catalogue, &batch), async {
            // It is this client that may be chosen to fail; then it does the same again.
            while !database.try_execute(&backwards).await {}
        });
        assert_eq!(recorded.versions.len() + recorded.passed_over.len(), 500);
    }
    let batch = scanned(&catalogue, 500, Some(cents(10))).await;
    assert_eq!(record(&catalogue, &batch).await.versions.len(), 500);
}
