//! A scan goes through the whole catalogue in batches.

use pricing_core::catalogue::Catalogue;
use pricing_core::ids::{Location, ProductId};
use pricing_core::money::Ppm;
use pricing_harness::databases::TestDatabase;
use pricing_harness::edits::EditCatalogue as _;

use crate::{cents, location, product_id};

on_both_databases!(
    a_scan_visits_each_product_once_whatever_the_batch_size,
    a_scan_visits_each_product_once_while_others_are_inserted,
    a_scan_visits_each_market_once,
    ids_are_in_the_order_of_their_bytes,
);

async fn scan(catalogue: &Catalogue, limit: u32) -> Vec<ProductId> {
    let (mut visited, mut last) = (Vec::new(), None);
    loop {
        let page = catalogue.products_after(last.as_deref(), limit).await.unwrap();
        assert!(page.rows.len() <= limit as usize && page.invalid.is_empty());
        visited.extend(page.rows.into_iter().map(|row| row.id));
        last = page.last;
        if last.is_none() {
            return visited;
        }
    }
}

fn demo_ids() -> Vec<ProductId> {
    (100..=999).map(|number| product_id(&format!("P-{number}"))).collect()
}

async fn a_scan_visits_each_product_once_whatever_the_batch_size(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    for limit in [1, 7, 500, 900, 901] {
        assert_eq!(scan(&catalogue, limit).await, demo_ids(), "batches of {limit}");
    }
}

async fn a_scan_visits_each_product_once_while_others_are_inserted(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let inserting = tokio::spawn({
        let catalogue = catalogue.clone();
        async move {
            for number in 0..300 {
                // Before, among and behind the others.
                let name = ["A", "P-5", "Z"][number % 3];
                let id = product_id(&format!("{name}.{number}"));
                catalogue.set_base_price(&id, cents(1)).await;
            }
        }
    });
    while !inserting.is_finished() {
        let visited = scan(&catalogue, 7).await;
        assert!(visited.is_sorted_by(|one, next| one < next), "in order, none twice");
        let old: Vec<_> = visited.into_iter().filter(|id| !id.as_str().contains('.')).collect();
        assert_eq!(old, demo_ids());
    }
    inserting.await.unwrap();
    assert_eq!(scan(&catalogue, 500).await.len(), 1_200);
}

async fn a_scan_visits_each_market_once(database: &TestDatabase) {
    let catalogue = database.open().await;
    let names: Vec<Location> = (10..60).map(|number| location(&format!("market-{number}"))).collect();
    for name in &names {
        catalogue.set_multiplier(name, Ppm::ONE).await;
    }
    let (mut visited, mut last) = (Vec::new(), None);
    loop {
        let page = catalogue.markets_after(last.as_deref(), 7).await.unwrap();
        visited.extend(page.rows.into_iter().map(|(location, _)| location));
        last = page.last;
        if last.is_none() {
            break;
        }
    }
    assert_eq!(visited, names);
}

async fn ids_are_in_the_order_of_their_bytes(database: &TestDatabase) {
    let catalogue = database.open().await;
    let mut ids = ["a", "B", "b", "A", "_", "-", ".", "9", "10", "aa", "a-a", "a.a", "aB"].map(product_id);
    for id in &ids {
        catalogue.set_base_price(id, cents(1)).await;
    }
    ids.sort();
    assert_eq!(scan(&catalogue, 2).await, ids);
}
