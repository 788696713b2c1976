//! Lookups of products and markets.

use std::collections::BTreeSet;

use pricing_core::causes::causes;
use pricing_core::ids::{MAX_ID_LEN, ProductId};
use pricing_core::money::{Currency, Money, Ppm};
use pricing_harness::databases::TestDatabase;
use pricing_harness::edits::EditCatalogue as _;

use crate::{cents, location, product_id};

on_both_databases!(
    what_is_stored_is_found,
    what_is_not_stored_is_none,
    a_missing_table_is_no_outage_and_is_named_once,
    the_extremes_of_ids_and_amounts_are_found,
    a_batch_holds_the_products_that_exist_each_once,
);

async fn what_is_stored_is_found(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let found = catalogue.product(&product_id("P-100")).await.unwrap().unwrap();
    assert_eq!((found.base_price, found.currency), (cents(4_999), Currency::USD));
    let market = catalogue.market(&location("default")).await.unwrap().unwrap();
    assert_eq!(market.multiplier, Ppm::multiplier(950_000).unwrap());
    let last = catalogue.last_version().await.unwrap();
    assert!((1..=last).contains(&found.version) && (1..=last).contains(&market.version));
}

async fn what_is_not_stored_is_none(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    for id in ["P-1000", "p-100", "P-10", "P-100.", "P_100", "-", "NULL"] {
        assert_eq!(catalogue.product(&product_id(id)).await.unwrap(), None, "{id}");
    }
    for name in ["ny", "NYC", "N", "Default", "P-100"] {
        assert_eq!(catalogue.market(&location(name)).await.unwrap(), None, "{name}");
    }
}

async fn a_missing_table_is_no_outage_and_is_named_once(database: &TestDatabase) {
    let catalogue = database.open().await;
    database.execute(&["ALTER TABLE products RENAME TO goods"]).await;
    let error = catalogue.product(&product_id("P-100")).await.unwrap_err();
    assert!(!error.is_unavailable(), "{error:?}");
    let text = causes(&error).to_string();
    assert_eq!(text.matches("products").count(), 1, "{text}");
}

async fn the_extremes_of_ids_and_amounts_are_found(database: &TestDatabase) {
    let catalogue = database.open().await;
    let (shortest, longest) = (product_id("."), product_id(&"z".repeat(MAX_ID_LEN)));
    catalogue.set_base_price(&shortest, cents(0)).await;
    catalogue.set_base_price(&longest, Money::MAX_BASE).await;
    for (name, multiplier) in [("free", Ppm::multiplier(0).unwrap()), ("dear", Ppm::MAX_MULTIPLIER)] {
        catalogue.set_multiplier(&location(name), multiplier).await;
        let market = catalogue.market(&location(name)).await.unwrap().unwrap();
        assert_eq!(market.multiplier, multiplier);
    }
    for (id, price) in [(shortest, cents(0)), (longest, Money::MAX_BASE)] {
        assert_eq!(catalogue.product(&id).await.unwrap().unwrap().base_price, price);
    }
}

async fn a_batch_holds_the_products_that_exist_each_once(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    assert_eq!(catalogue.products(&[]).await.unwrap(), []);

    // P-800 … P-999 exist, P-1000 … P-1298 do not, one is asked for twice: 500 in all.
    let mut ids: Vec<ProductId> = (800..1_299).map(|number| product_id(&format!("P-{number}"))).collect();
    ids.push(product_id("P-800"));
    let found = catalogue.products(&ids).await.unwrap();
    assert_eq!(found.len(), 200);
    let names: BTreeSet<&ProductId> = found.iter().map(|row| &row.id).collect();
    assert_eq!(names, ids[..200].iter().collect());
    for row in &found {
        assert_eq!(catalogue.product(&row.id).await.unwrap(), Some(row.product), "{}", row.id);
    }
}
