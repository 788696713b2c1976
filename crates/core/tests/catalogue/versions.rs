//! Whoever changes a product or a market makes a new version.

use futures_util::future::join_all;
use pricing_core::catalogue::Catalogue;
use pricing_core::money::Ppm;
use pricing_harness::databases::TestDatabase;

use crate::{cents, location, product_id};

on_both_databases!(
    a_change_through_the_catalogue_makes_a_version,
    a_change_by_hand_makes_a_version,
    a_change_by_hand_cannot_keep_or_lower_the_version,
    concurrent_changes_each_make_a_version,
);

async fn version(catalogue: &Catalogue) -> u64 {
    catalogue.product(&product_id("P-100")).await.unwrap().unwrap().version
}

async fn market_version(catalogue: &Catalogue) -> u64 {
    catalogue.market(&location("NY")).await.unwrap().unwrap().version
}

async fn a_change_through_the_catalogue_makes_a_version(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    for expected in 2..5_u32 {
        catalogue.set_base_price(&product_id("P-100"), cents(expected.into())).await.unwrap();
        assert_eq!(version(&catalogue).await, u64::from(expected));
        let multiplier = Ppm::multiplier(expected.into()).unwrap();
        catalogue.set_multiplier(&location("NY"), multiplier).await.unwrap();
        assert_eq!(market_version(&catalogue).await, u64::from(expected));
    }
    let untouched = catalogue.product(&product_id("P-101")).await.unwrap().unwrap();
    assert_eq!(untouched.version, 1);
}

async fn a_change_by_hand_makes_a_version(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    database.execute(&["UPDATE products SET base_price_minor = base_price_minor + 1"]).await;
    assert_eq!(version(&catalogue).await, 2);
    database.execute(&["UPDATE products SET currency = 'EUR' WHERE id = 'P-100'"]).await;
    assert_eq!(version(&catalogue).await, 3);
    database.execute(&["UPDATE markets SET multiplier_ppm = 1000000"]).await;
    assert_eq!(market_version(&catalogue).await, 2);
    let all = catalogue.products_after(None, 1_000).await.unwrap();
    assert!(all.iter().all(|row| row.product.version >= 2));
}

async fn a_change_by_hand_cannot_keep_or_lower_the_version(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    database.execute(&["UPDATE products SET base_price_minor = 1, version = 10"]).await;
    assert_eq!(version(&catalogue).await, 10, "a higher one is kept");
    database.execute(&["UPDATE products SET base_price_minor = 2, version = 10"]).await;
    assert_eq!(version(&catalogue).await, 11);
    database.execute(&["UPDATE products SET base_price_minor = 3, version = 1"]).await;
    assert_eq!(version(&catalogue).await, 12);
    database.execute(&["UPDATE markets SET multiplier_ppm = 3, version = 1"]).await;
    assert_eq!(market_version(&catalogue).await, 2);
}

async fn concurrent_changes_each_make_a_version(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    join_all((1..=20).map(async |price| {
        catalogue.set_base_price(&product_id("P-100"), cents(price)).await.unwrap();
    }))
    .await;
    assert_eq!(version(&catalogue).await, 21);
}
