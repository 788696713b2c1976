//! Whoever changes a product or a market makes a new version, greater than any before.

use std::collections::HashSet;

use futures_util::future::join_all;
use pricing_core::catalogue::Catalogue;
use pricing_core::money::Ppm;
use pricing_harness::databases::TestDatabase;
use pricing_harness::edits::EditCatalogue as _;

use crate::{cents, location, product_id};

on_both_databases!(
    a_change_through_the_catalogue_makes_a_version,
    a_change_by_hand_makes_a_version,
    a_change_by_hand_cannot_choose_the_version,
    an_update_that_changes_nothing_makes_no_version,
    concurrent_changes_each_make_a_version,
    a_product_that_is_created_again_has_a_greater_version,
    a_market_that_is_created_again_has_a_greater_version,
    a_restored_database_is_moved_beyond_what_the_cache_was_given,
    a_move_beyond_that_fails_changes_nothing,
);

async fn version(catalogue: &Catalogue) -> u64 {
    catalogue.product(&product_id("P-100")).await.unwrap().unwrap().version
}

async fn market_version(catalogue: &Catalogue) -> u64 {
    catalogue.market(&location("NY")).await.unwrap().unwrap().version
}

async fn a_change_through_the_catalogue_makes_a_version(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let untouched = catalogue.product(&product_id("P-101")).await.unwrap().unwrap();
    let mut last = catalogue.last_version().await.unwrap();
    for price in 2..5 {
        catalogue.set_base_price(&product_id("P-100"), cents(price)).await;
        let product = version(&catalogue).await;
        catalogue.set_multiplier(&location("NY"), Ppm::multiplier(price).unwrap()).await;
        let market = market_version(&catalogue).await;
        assert!(last < product && product < market, "{last} {product} {market}");
        assert_eq!(catalogue.last_version().await.unwrap(), market);
        last = market;
    }
    assert_eq!(catalogue.product(&product_id("P-101")).await.unwrap().unwrap(), untouched);
}

async fn a_change_by_hand_makes_a_version(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let last = catalogue.last_version().await.unwrap();
    database.execute(&["UPDATE products SET base_price_minor = base_price_minor + 1"]).await;
    let all = catalogue.products_after(None, 1_000).await.unwrap().rows;
    let versions: HashSet<u64> = all.iter().map(|row| row.product.version).collect();
    assert_eq!(versions.len(), 900, "each its own");
    assert!(versions.iter().all(|version| *version > last));
    let before = version(&catalogue).await;
    database.execute(&["UPDATE products SET list_price_minor = 7 WHERE id = 'P-100'"]).await;
    assert!(version(&catalogue).await > before);
    let before = market_version(&catalogue).await;
    database.execute(&["UPDATE markets SET multiplier_ppm = 1000000"]).await;
    assert!(market_version(&catalogue).await > before);
}

async fn a_change_by_hand_cannot_choose_the_version(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    for chosen in
        ["version = 1000000", "base_price_minor = 2, version = 1000000", "base_price_minor = 3, version = 1"]
    {
        let before = catalogue.last_version().await.unwrap();
        database.execute(&[&format!("UPDATE products SET {chosen} WHERE id = 'P-100'")]).await;
        let given = version(&catalogue).await;
        assert!(given > before && given < 1_000_000, "{chosen}: {given} after {before}");
    }
    let before = catalogue.last_version().await.unwrap();
    database.execute(&["UPDATE markets SET multiplier_ppm = 3, version = 1"]).await;
    assert!(market_version(&catalogue).await > before);
    database
        .execute(&["INSERT INTO products (id, base_price_minor, version) VALUES ('new', 1, 1000000)"])
        .await;
    assert!(catalogue.product(&product_id("new")).await.unwrap().unwrap().version < 1_000_000);
}

async fn an_update_that_changes_nothing_makes_no_version(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let before = catalogue.last_version().await.unwrap();
    database
        .execute(&["UPDATE products SET base_price_minor = base_price_minor, list_price_minor = NULL"])
        .await;
    database.execute(&["UPDATE markets SET multiplier_ppm = multiplier_ppm"]).await;
    assert_eq!(catalogue.last_version().await.unwrap(), before);
}

async fn concurrent_changes_each_make_a_version(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let before = catalogue.last_version().await.unwrap();
    join_all((1..=20).map(async |price| {
        catalogue.set_base_price(&product_id("P-100"), cents(price)).await;
    }))
    .await;
    assert!(version(&catalogue).await >= before + 20);
}

async fn a_product_that_is_created_again_has_a_greater_version(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let again = "INSERT INTO products (id, base_price_minor) VALUES ('P-100', 1)";
    let mut ways = vec![vec!["DELETE FROM products WHERE id = 'P-100'", again]];
    match database.is_sqlite() {
        true => ways.extend([
            vec!["REPLACE INTO products (id, base_price_minor) VALUES ('P-100', 2)"],
            vec![
                "INSERT OR IGNORE INTO products (id, base_price_minor) VALUES ('P-100', 2)",
                "UPDATE products SET base_price_minor = 9 WHERE id = 'P-100'",
            ],
            vec!["UPDATE OR REPLACE products SET id = 'P-100' WHERE id = 'P-101'"],
        ]),
        false => ways.push(vec!["TRUNCATE products", again]),
    }
    ways.push(vec![
        "UPDATE products SET id = 'other' WHERE id = 'P-100'",
        "UPDATE products SET id = 'P-100' WHERE id = 'other'",
    ]);
    for way in ways {
        let before = catalogue.last_version().await.unwrap();
        database.execute(&way).await;
        assert!(version(&catalogue).await > before, "{way:?}");
    }
}

async fn a_market_that_is_created_again_has_a_greater_version(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let before = catalogue.last_version().await.unwrap();
    let again = "INSERT INTO markets (location, multiplier_ppm) VALUES ('NY', 1)";
    database.execute(&["DELETE FROM markets WHERE location = 'NY'", again]).await;
    assert!(market_version(&catalogue).await > before);
}

async fn a_restored_database_is_moved_beyond_what_the_cache_was_given(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let given = catalogue.last_version().await.unwrap();
    catalogue.move_beyond(given).await.unwrap();
    assert_eq!(catalogue.last_version().await.unwrap(), given, "it is not behind");

    catalogue.move_beyond(given + 1_000_000).await.unwrap();
    let all = catalogue.products_after(None, 1_000).await.unwrap().rows;
    assert!(all.iter().all(|row| row.product.version > given + 1_000_000));
    assert!(market_version(&catalogue).await > given + 1_000_000);
    assert_eq!(database.select("SELECT COUNT(*) FROM pending_changes WHERE stored_on = ''").await, 904);
}

/// Half a move would look like a whole one: the sequence beyond, and the rows not.
async fn a_move_beyond_that_fails_changes_nothing(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let given = catalogue.last_version().await.unwrap();
    let (fail, mend): (&[&str], &str) = match database.is_sqlite() {
        true => (
            &["CREATE TRIGGER fails BEFORE UPDATE ON markets BEGIN SELECT RAISE(ABORT, 'no'); END"],
            "DROP TRIGGER fails",
        ),
        false => (
            &[
                "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$",
                "CREATE TRIGGER fails BEFORE UPDATE ON markets FOR EACH ROW EXECUTE FUNCTION fails()",
            ],
            "DROP TRIGGER fails ON markets",
        ),
    };
    database.execute(fail).await;
    catalogue.move_beyond(given + 1_000).await.unwrap_err();
    assert_eq!(catalogue.last_version().await.unwrap(), given);
    assert!(version(&catalogue).await <= given);
    database.execute(&[mend]).await;
    catalogue.move_beyond(given + 1_000).await.unwrap();
    assert!(version(&catalogue).await > given + 1_000);
}
