//! Several processes open the catalogue at once.

use futures_util::future::join_all;
use pricing_core::catalogue::Catalogue;
use pricing_core::money::Currency;
use pricing_harness::databases::TestDatabase;
use pricing_harness::edits::EditCatalogue as _;

use crate::{TIME_LIMIT, cents, location, product_id};

on_both_databases!(
    concurrent_opens_make_one_schema,
    concurrent_opens_load_one_demo_catalogue,
    the_demo_catalogue_leaves_products_that_are_there_alone,
    opening_again_changes_nothing,
);

/// Opens the catalogue eight times at once, each with a pool of its own as a process has.
async fn open_all(database: &TestDatabase, demo_catalogue: bool) -> Vec<Catalogue> {
    let opening = (0..8).map(|_| {
        let settings = database.settings(demo_catalogue);
        tokio::spawn(async move { Catalogue::open(&settings, TIME_LIMIT).await.unwrap() })
    });
    join_all(opening).await.into_iter().map(Result::unwrap).collect()
}

async fn concurrent_opens_make_one_schema(database: &TestDatabase) {
    for catalogue in open_all(database, false).await {
        assert_eq!(catalogue.count_products().await.unwrap(), 0);
        catalogue.ping().await.unwrap();
    }
}

async fn concurrent_opens_load_one_demo_catalogue(database: &TestDatabase) {
    for catalogue in open_all(database, true).await {
        assert_eq!(catalogue.count_products().await.unwrap(), 900);
    }
    let catalogue = database.open().await;

    let products = catalogue.products_after(None, 1_000).await.unwrap().rows;
    let ids: Vec<String> = products.iter().map(|row| row.id.to_string()).collect();
    assert_eq!(ids, (100..=999).map(|number| format!("P-{number}")).collect::<Vec<_>>());
    let prices = products.iter().map(|row| row.product.base_price.minor());
    assert_eq!((prices.clone().min(), prices.max()), (Some(4_999), Some(5_899)));
    for row in products {
        assert_eq!(row.product.currency, Currency::USD, "{}", row.id);
        assert_eq!(row.product.list_price, None, "{}", row.id);
    }

    let markets = catalogue.markets_after(None, 100).await.unwrap().rows;
    let names: Vec<&str> = markets.iter().map(|(location, _)| location.as_str()).collect();
    assert_eq!(names, ["LA", "MIA", "NY", "default"]);
    assert!(markets.iter().all(|(_, market)| market.multiplier.get() == 950_000));
}

async fn the_demo_catalogue_leaves_products_that_are_there_alone(database: &TestDatabase) {
    database.open().await.set_base_price(&product_id("mine"), cents(100)).await;
    let catalogue = database.open_demo().await;
    assert_eq!(catalogue.count_products().await.unwrap(), 1);
    assert_eq!(catalogue.market(&location("NY")).await.unwrap(), None);
}

async fn opening_again_changes_nothing(database: &TestDatabase) {
    let id = product_id("P-100");
    let catalogue = database.open_demo().await;
    catalogue.set_base_price(&id, cents(7_777)).await;
    let before = catalogue.product(&id).await.unwrap().unwrap();
    catalogue.close().await;

    let catalogue = database.open_demo().await;
    assert_eq!(catalogue.product(&id).await.unwrap(), Some(before));
    assert_eq!(catalogue.count_products().await.unwrap(), 900);
}
