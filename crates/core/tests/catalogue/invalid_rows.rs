//! A row that no price can be made of is an error that names it, never a panic and never a price.

use pricing_core::catalogue::CatalogueError;
use pricing_harness::databases::TestDatabase;

use crate::{location, product_id};

on_both_databases!(
    an_invalid_product_is_named,
    an_invalid_market_is_named,
    an_id_that_is_none_is_named_by_a_scan,
    the_schema_refuses_values_that_no_price_can_be_made_of,
);

const CONSTRAINTS: [(&str, &str); 5] = [
    ("products", "products_base_price_minor_check"),
    ("products", "products_currency_check"),
    ("products", "products_version_check"),
    ("markets", "markets_multiplier_ppm_check"),
    ("markets", "markets_version_check"),
];

/// Runs a statement that the schema would refuse.
async fn force(database: &TestDatabase, statement: &str) {
    if database.is_sqlite() {
        return database.execute(&["PRAGMA ignore_check_constraints = ON", statement]).await;
    }
    let drops =
        CONSTRAINTS.map(|(table, name)| format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}"));
    let statements: Vec<&str> = drops.iter().map(String::as_str).chain([statement]).collect();
    database.execute(&statements).await;
}

#[track_caller]
fn assert_names<T: std::fmt::Debug>(found: Result<T, CatalogueError>, column: &str, row: &str) {
    match found {
        Err(CatalogueError::Invalid { what, key }) => assert_eq!((what, key.as_str()), (column, row)),
        other => panic!("{column} of {row}: {other:?}"),
    }
}

async fn an_invalid_product_is_named(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let id = product_id("P-100");
    for (column, value) in [
        ("base_price_minor", "-1"),
        ("base_price_minor", "1000000000000"),
        ("base_price_minor", "9223372036854775807"),
        ("currency", "'usd'"),
        ("currency", "'dollars'"),
        ("currency", "''"),
        ("version", "0"),
        ("version", "-9223372036854775808"),
    ] {
        let version = if column == "version" { value } else { "2" };
        let good = "base_price_minor = 1, currency = 'USD'";
        force(database, &format!("UPDATE products SET {good} WHERE id = 'P-100'")).await;
        force(database, &format!("UPDATE products SET version = {version} WHERE id = 'P-100'")).await;
        force(database, &format!("UPDATE products SET {column} = {value} WHERE id = 'P-100'")).await;
        assert_names(catalogue.product(&id).await, column, "P-100");
        assert_names(catalogue.products(&[product_id("P-101"), id.clone()]).await, column, "P-100");
        assert_names(catalogue.products_after(None, 10).await, column, "P-100");
    }
    assert!(catalogue.product(&product_id("P-101")).await.unwrap().is_some(), "the others are served");
}

async fn an_invalid_market_is_named(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    for (column, value) in [("multiplier_ppm", "-1"), ("multiplier_ppm", "100000001"), ("version", "0")] {
        force(database, "UPDATE markets SET multiplier_ppm = 1, version = 1").await;
        force(database, &format!("UPDATE markets SET {column} = {value} WHERE location = 'NY'")).await;
        assert_names(catalogue.market(&location("NY")).await, column, "NY");
        assert_names(catalogue.markets_after(None, 10).await, column, "NY");
    }
}

async fn an_id_that_is_none_is_named_by_a_scan(database: &TestDatabase) {
    let catalogue = database.open().await;
    database.execute(&["INSERT INTO products (id, base_price_minor) VALUES ('a b', 1)"]).await;
    database.execute(&["INSERT INTO markets (location, multiplier_ppm) VALUES ('a:b', 1)"]).await;
    assert_names(catalogue.products_after(None, 10).await, "product id", "a b");
    assert_names(catalogue.markets_after(None, 10).await, "location", "a:b");
}

async fn the_schema_refuses_values_that_no_price_can_be_made_of(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    for (column, value) in [
        ("base_price_minor", "-1"),
        ("base_price_minor", "1000000000000"),
        ("base_price_minor", "NULL"),
        ("base_price_minor", "'x'"),
        ("currency", "'dollars'"),
        ("version", "0"),
        ("list_price_minor", "'x'"),
    ] {
        database.refuses(&format!("UPDATE products SET {column} = {value} WHERE id = 'P-100'")).await;
    }
    for value in ["-1", "100000001", "NULL", "'x'"] {
        database.refuses(&format!("UPDATE markets SET multiplier_ppm = {value}")).await;
    }
    assert_eq!(catalogue.product(&product_id("P-100")).await.unwrap().unwrap().version, 1);

    // PostgreSQL rounds a fraction to an integer; SQLite must not keep one either.
    if database.is_sqlite() {
        database.refuses("UPDATE products SET base_price_minor = 1.5 WHERE id = 'P-100'").await;
    }
}
