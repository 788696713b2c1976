//! A row that no price can be made of is an error that names it, never a panic and never a price.

use pricing_core::catalogue::CatalogueError;
use pricing_harness::databases::TestDatabase;

use crate::{location, product_id};

on_both_databases!(
    an_invalid_product_is_skipped_and_the_others_are_not,
    an_invalid_market_is_named_and_no_other_takes_its_place,
    an_id_that_is_none_is_skipped_by_a_scan,
    the_schema_refuses_values_that_no_price_can_be_made_of,
    rows_of_an_older_database_that_are_invalid_can_be_mended_and_deleted,
);

const CONSTRAINTS: [(&str, &str); 11] = [
    ("products", "products_base_price_minor_check"),
    ("products", "products_list_price_minor_check"),
    ("products", "products_floor_minor_check"),
    ("products", "products_ceiling_minor_check"),
    ("products", "products_version_check"),
    ("products", "products_id_is_an_id"),
    ("markets", "markets_multiplier_ppm_check"),
    ("markets", "markets_member_discount_ppm_check"),
    ("markets", "markets_currency_check"),
    ("markets", "markets_version_check"),
    ("markets", "markets_location_is_an_id"),
];
const TRIGGERS: [&str; 8] = [
    "products_id_insert",
    "products_id_update",
    "products_insert",
    "products_update",
    "markets_location_insert",
    "markets_location_update",
    "markets_insert",
    "markets_update",
];

/// Runs a statement that the schema would refuse, without making a version.
async fn force(database: &TestDatabase, statement: &str) {
    let free: Vec<String> = match database.is_sqlite() {
        true => {
            let drops = TRIGGERS.map(|name| format!("DROP TRIGGER IF EXISTS {name}"));
            drops.into_iter().chain(["PRAGMA ignore_check_constraints = ON".to_owned()]).collect()
        }
        false => {
            let drops = CONSTRAINTS
                .map(|(table, name)| format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}"));
            let triggers =
                ["products", "markets"].map(|table| format!("ALTER TABLE {table} DISABLE TRIGGER USER"));
            drops.into_iter().chain(triggers).collect()
        }
    };
    let statements: Vec<&str> = free.iter().map(String::as_str).chain([statement]).collect();
    database.execute(&statements).await;
}

#[track_caller]
fn assert_names<T: std::fmt::Debug>(found: Result<T, CatalogueError>, column: &str, row: &str) {
    match found {
        Err(CatalogueError::Invalid { what, key }) => assert_eq!((what, key.as_str()), (column, row)),
        other => panic!("{column} of {row}: {other:?}"),
    }
}

async fn an_invalid_product_is_skipped_and_the_others_are_not(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let id = product_id("P-100");
    for (column, value) in [
        ("base_price_minor", "-1"),
        ("base_price_minor", "1000000000000"),
        ("base_price_minor", "9223372036854775807"),
        ("list_price_minor", "-1"),
        ("floor_minor", "-1"),
        ("ceiling_minor", "1000000000000"),
        ("version", "0"),
        ("version", "-9223372036854775808"),
    ] {
        let good = "base_price_minor = 1, list_price_minor = NULL, floor_minor = NULL, ceiling_minor = NULL, \
                    version = 2";
        force(database, &format!("UPDATE products SET {good} WHERE id = 'P-100'")).await;
        force(database, &format!("UPDATE products SET {column} = {value} WHERE id = 'P-100'")).await;
        assert_names(catalogue.product(&id).await, column, "P-100");
        let found = catalogue.products(&[product_id("P-101"), id.clone()]).await.unwrap();
        assert_eq!(
            found.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(),
            ["P-101"],
            "{column} = {value}"
        );
        let page = catalogue.products_after(None, 10).await.unwrap();
        assert_eq!((page.rows.len(), page.invalid.len(), page.last.as_deref()), (9, 1, Some("P-109")));
    }
}

async fn an_invalid_market_is_named_and_no_other_takes_its_place(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    for (column, value) in [
        ("multiplier_ppm", "-1"),
        ("multiplier_ppm", "100000001"),
        ("member_discount_ppm", "1000001"),
        ("currency", "'XXX'"),
        ("exchange_rate_e12", "2000000000000"),
        ("version", "0"),
    ] {
        let good = "multiplier_ppm = 1, member_discount_ppm = 0, currency = NULL, exchange_rate_e12 = NULL, version = 1";
        force(database, &format!("UPDATE markets SET {good}")).await;
        force(database, &format!("UPDATE markets SET {column} = {value} WHERE location = 'NY'")).await;
        assert_names(catalogue.market(&location("NY")).await, column, "NY");
        let found = catalogue.markets(&[location("NY"), location("Mars")]).await.unwrap();
        assert_eq!(found, [("NY".to_owned(), None)]);
        let page = catalogue.markets_after(None, 10).await.unwrap();
        assert_eq!((page.rows.len(), page.invalid.len()), (3, 1));
    }
}

async fn an_id_that_is_none_is_skipped_by_a_scan(database: &TestDatabase) {
    let catalogue = database.open().await;
    force(database, "INSERT INTO products (id, base_price_minor) VALUES ('a b', 1)").await;
    force(database, "INSERT INTO markets (location, multiplier_ppm) VALUES ('a:b', 1)").await;
    let page = catalogue.products_after(None, 1).await.unwrap();
    assert_eq!((page.rows.len(), page.invalid.len(), page.last.as_deref()), (0, 1, Some("a b")));
    let page = catalogue.markets_after(None, 1).await.unwrap();
    assert_eq!((page.rows.len(), page.invalid.len(), page.last.as_deref()), (0, 1, Some("a:b")));
}

/// The constraints are newer than some databases.
async fn rows_of_an_older_database_that_are_invalid_can_be_mended_and_deleted(database: &TestDatabase) {
    let catalogue = database.open().await;
    let bad = "INSERT INTO products (id, base_price_minor) VALUES ('A 1', 1), ('A:2', 1)";
    force(database, bad).await;
    if !database.is_sqlite() {
        let on = ["products", "markets"].map(|table| format!("ALTER TABLE {table} ENABLE TRIGGER USER"));
        database.execute(&on.each_ref().map(String::as_str)).await;
    }
    database
        .execute(&["UPDATE products SET id = 'A1' WHERE id = 'A 1'", "DELETE FROM products WHERE id = 'A:2'"])
        .await;
    let page = catalogue.products_after(None, 10).await.unwrap();
    assert_eq!((page.rows.len(), page.invalid.len()), (1, 0));
}

async fn the_schema_refuses_values_that_no_price_can_be_made_of(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    for (column, value) in [
        ("base_price_minor", "-1"),
        ("base_price_minor", "1000000000000"),
        ("base_price_minor", "NULL"),
        ("base_price_minor", "'x'"),
        ("id", "'A 1'"),
        ("id", "''"),
        ("list_price_minor", "'x'"),
        ("floor_minor", "-1"),
        ("ceiling_minor", "1000000000000"),
        ("category", "''"),
        ("tags", "'{}'"),
    ] {
        database.refuses(&format!("UPDATE products SET {column} = {value} WHERE id = 'P-100'")).await;
    }
    for value in ["-1", "100000001", "NULL", "'x'"] {
        database.refuses(&format!("UPDATE markets SET multiplier_ppm = {value}")).await;
    }
    let insert = |id: &str| format!("INSERT INTO products (id, base_price_minor) VALUES ('{id}', 1)");
    let (longest, too_long) = ("x".repeat(64), "x".repeat(65));
    for id in ["A 1", "A-1\n", "\nA-1", "Ä-1", "A/1", &too_long] {
        database.refuses(&insert(id)).await;
    }
    database.execute(&[&insert(&longest), "DELETE FROM products WHERE base_price_minor = 1"]).await;
    for (column, value) in [
        ("member_discount_ppm", "1000001"),
        ("currency", "'usd'"),
        ("exchange_rate_e12", "0"),
        ("exchange_rate_e12", "1080000000001"),
        ("increment_minor", "0"),
        ("rounding_mode", "'near'"),
        ("ending_minor", "1"),
    ] {
        database.refuses(&format!("UPDATE markets SET {column} = {value}")).await;
    }
    database.refuses("INSERT INTO markets (location, multiplier_ppm) VALUES ('New York', 1)").await;
    database.refuses("UPDATE markets SET location = 'New York' WHERE location = 'NY'").await;
    assert_eq!(catalogue.count_products().await.unwrap(), 900);

    // PostgreSQL rounds a fraction to an integer; SQLite must not keep one either.
    if database.is_sqlite() {
        database.refuses("UPDATE products SET base_price_minor = 1.5 WHERE id = 'P-100'").await;
    }
}
