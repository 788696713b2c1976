//! A statement that nobody waits for any more does not go on in PostgreSQL.

use std::time::{Duration, Instant};

use pricing_core::catalogue::{Catalogue, CatalogueError, ChangeOrigin, ListPrice, Locked, MAX_CONNECTIONS};
use pricing_core::ids::TaskId;
use pricing_harness::databases::TestDatabase;
use pricing_harness::waiting::eventually;
use sqlx::{Connection as _, PgConnection};

use crate::cents;

/// Longer than any statement of these tests that nothing holds up takes beside other tests.
const LIMIT: Duration = Duration::from_secs(1);

fn origin() -> ChangeOrigin {
    ChangeOrigin::task(&TaskId::generate())
}

#[tokio::test]
async fn a_wait_for_a_row_that_an_operator_has_locked_ends_in_the_database_too() {
    let database = TestDatabase::postgres().await;
    let catalogue = Catalogue::open(&database.settings(true), LIMIT).await.unwrap();
    let mut operator = PgConnection::connect(database.url()).await.unwrap();
    let mut transaction = operator.begin().await.unwrap();
    sqlx::query("UPDATE products SET tags = tags").execute(&mut *transaction).await.unwrap();

    let rows = catalogue.products_after(None, 10).await.unwrap().rows;
    let batch: Vec<_> = rows
        .into_iter()
        .map(|row| ListPrice { id: row.id, version: row.product.version, price: Some(cents(1)) })
        .collect();
    let asked = Instant::now();
    let refused = catalogue.record_list_prices(&batch, &origin(), Locked::Wait).await.unwrap_err();
    assert!(asked.elapsed() < 6 * LIMIT, "{:?}", asked.elapsed());
    assert!(matches!(refused, CatalogueError::Database(_)) && refused.is_unavailable(), "{refused:?}");
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert_eq!(database.select(waiting).await, 0);
    transaction.rollback().await.unwrap();
    assert_eq!(
        catalogue.record_list_prices(&batch, &origin(), Locked::Wait).await.unwrap().versions.len(),
        10
    );
}

#[tokio::test]
async fn a_pool_that_is_full_is_no_outage() {
    let database = TestDatabase::postgres().await;
    let patient = Duration::from_secs(30);
    let catalogue = Catalogue::open(&database.settings(true), patient).await.unwrap();
    let mut operator = PgConnection::connect(database.url()).await.unwrap();
    let mut transaction = operator.begin().await.unwrap();
    sqlx::query("UPDATE products SET tags = tags").execute(&mut *transaction).await.unwrap();

    let rows = catalogue.products_after(None, 1).await.unwrap().rows;
    let batch: Vec<_> = rows
        .into_iter()
        .map(|row| ListPrice { id: row.id, version: row.product.version, price: Some(cents(1)) })
        .collect();
    let waiting: Vec<_> = (0..MAX_CONNECTIONS)
        .map(|_| {
            let (catalogue, batch) = (catalogue.clone(), batch.clone());
            tokio::spawn(async move { catalogue.record_list_prices(&batch, &origin(), Locked::Wait).await })
        })
        .collect();
    let locked = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually(patient, "all connections to wait", async || {
        (database.select(locked).await == i64::from(MAX_CONNECTIONS)).then_some(())
    })
    .await;
    let refused = catalogue.products_after(None, 1).await.unwrap_err();
    assert!(matches!(refused, CatalogueError::PoolFull) && !refused.is_unavailable(), "{refused:?}");
    transaction.rollback().await.unwrap();
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn work_that_grows_with_the_catalogue_has_no_limit() {
    let database = TestDatabase::postgres().await;
    let limit = Duration::from_millis(300);
    let catalogue = Catalogue::open(&database.settings(true), limit).await.unwrap();
    database.add_products(60_000).await;
    let last = catalogue.last_version().await.unwrap();
    let asked = Instant::now();
    catalogue.move_beyond(last + 1_000).await.unwrap();
    assert!(asked.elapsed() > limit, "the test needs more products: {:?}", asked.elapsed());
}
