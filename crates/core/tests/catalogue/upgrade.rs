//! A database of an older build is carried over.

use std::path::Path;

use pricing_core::catalogue::{Catalogue, CatalogueError, HistoryFilter};
use pricing_core::money::Currency;
use pricing_core::price::Market;
use pricing_harness::databases::TestDatabase;
use sqlx::migrate::Migrator;
use sqlx::{PgPool, SqlitePool};

use crate::{TIME_LIMIT, cents, location, product_id};

on_both_databases!(
    prices_are_carried_over_and_old_list_prices_stay_in_the_history,
    products_in_several_currencies_are_refused_with_a_list,
    a_new_catalogue_takes_its_currency_and_keeps_it,
);

/// Brings a new database to the schema before there were currencies.
async fn prepare(database: &TestDatabase) {
    let kind = if database.is_sqlite() { "sqlite" } else { "postgres" };
    let (all, some) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(kind), tempfile::tempdir().unwrap());
    for file in ["0001_catalogue.sql", "0002_changes.sql", "0003_audit.sql"] {
        std::fs::copy(all.join(file), some.path().join(file)).unwrap();
    }
    let migrator = Migrator::new(some.path()).await.unwrap();
    if database.is_sqlite() {
        let pool = SqlitePool::connect(&format!("{}?mode=rwc", database.url())).await.unwrap();
        migrator.run(&pool).await.unwrap();
        pool.close().await;
    } else {
        let pool = PgPool::connect(database.url()).await.unwrap();
        migrator.run(&pool).await.unwrap();
        pool.close().await;
    }
}

async fn prices_are_carried_over_and_old_list_prices_stay_in_the_history(database: &TestDatabase) {
    prepare(database).await;
    database
        .execute(&[
            "INSERT INTO products (id, base_price_minor, currency, list_price_minor) VALUES ('tea', 500, 'EUR', 475)",
            "INSERT INTO markets (location, multiplier_ppm) VALUES ('NY', 950000)",
            "INSERT INTO price_history (product_id, product_version, market_version, list_price_minor, task_id, \
             recorded_at_ms) VALUES ('tea', 2, 3, 475, 'T-1', 1700000000000)",
        ])
        .await;
    let catalogue = database.open().await;
    let euro = Currency::parse("EUR").unwrap();
    assert_eq!(catalogue.currency().unwrap(), euro, "that of the products");
    let tea = catalogue.catalogue_product(&product_id("tea")).await.unwrap().unwrap();
    assert_eq!((tea.terms.base_price, tea.list_price), (cents(500), None));
    assert_eq!(tea.revision, tea.version);
    let market = catalogue.market(&location("NY")).await.unwrap().unwrap();
    assert_eq!(market, Market::new(market.multiplier, euro, market.version));
    let history = catalogue.product_history(&product_id("tea"), &HistoryFilter::default()).await.unwrap();
    let [old] = &history[..] else { panic!("{history:?}") };
    assert_eq!((old.change.as_str(), old.changed_by.as_str()), ("market_price", "task:T-1"));
    assert_eq!((old.list_price_minor, old.base_price_minor), (Some(475), None));
    // The triggers are in place.
    let last = catalogue.last_version().await.unwrap();
    database.execute(&["UPDATE products SET floor_minor = 1 WHERE id = 'tea'"]).await;
    assert!(catalogue.product(&product_id("tea")).await.unwrap().unwrap().version > last);
}

async fn products_in_several_currencies_are_refused_with_a_list(database: &TestDatabase) {
    prepare(database).await;
    let insert =
        "INSERT INTO products (id, base_price_minor, currency) VALUES ('a', 1, 'USD'), ('b', 1, 'EUR')";
    database.execute(&[insert]).await;
    let refused = Catalogue::open(&database.settings(false), TIME_LIMIT).await.unwrap_err();
    assert!(matches!(&refused, CatalogueError::SeveralCurrencies(list) if list == "EUR, USD"), "{refused:?}");
    database.execute(&["DELETE FROM products WHERE id = 'b'"]).await;
    assert_eq!(database.open().await.currency().unwrap(), Currency::USD);
}

async fn a_new_catalogue_takes_its_currency_and_keeps_it(database: &TestDatabase) {
    let yen = Currency::parse("JPY").unwrap();
    let mut settings = database.settings(true);
    settings.catalogue_currency = Some(yen);
    let catalogue = Catalogue::open(&settings, TIME_LIMIT).await.unwrap();
    assert_eq!(catalogue.product(&product_id("P-100")).await.unwrap().unwrap().currency, yen);
    assert_eq!(database.open().await.currency().unwrap(), yen, "unset: the database's own");
    settings.catalogue_currency = Some(Currency::USD);
    let refused = Catalogue::open(&settings, TIME_LIMIT).await.unwrap_err();
    assert!(matches!(&refused, CatalogueError::OtherCurrency { asked, currency }
        if *asked == Currency::USD && *currency == yen));
    assert!(refused.to_string().contains("CATALOGUE_CURRENCY"), "{refused}");
}
