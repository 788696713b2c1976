//! Deleting the products that a file does not hold.
//!
//! Only products that nobody has changed since the import began are deleted.

use sqlx::{query_as, query_scalar};

use super::super::database::{Dialects, Transaction, statement};
use super::ImportError;

macro_rules! missing {
    ($select:literal, $clauses:literal) => {
        concat!(
            $select,
            " FROM products WHERE version <= $1 \
             AND NOT EXISTS (SELECT 1 FROM staged_rows WHERE staged_rows.key = products.id) ",
            $clauses
        )
    };
}

/// Counts all products.
pub(super) async fn count_products(transaction: &mut Transaction<'_>) -> sqlx::Result<u64> {
    let count = statement!(fetch_one, query_scalar("SELECT COUNT(*) FROM products"));
    transaction.run(count).await.map(i64::unsigned_abs)
}

/// Counts the products that are missing.
pub(super) async fn count(transaction: &mut Transaction<'_>, began_at: i64) -> sqlx::Result<u64> {
    let count = statement!(fetch_one, query_scalar(missing!("SELECT COUNT(*)", "")).bind(began_at));
    transaction.run(count).await.map(i64::unsigned_abs)
}

/// The first products that are missing, by their ids.
pub(super) async fn first(transaction: &mut Transaction<'_>, began_at: i64) -> sqlx::Result<Vec<String>> {
    let select = missing!("SELECT id", "ORDER BY id LIMIT 20");
    transaction.run(statement!(fetch_all, query_scalar(select).bind(began_at))).await
}

/// Refuses to delete more than a share of all products.
pub(super) fn check(missing: u64, products: u64, percent: u8) -> Result<(), ImportError> {
    if u128::from(missing) * 100 > u128::from(products) * u128::from(percent) {
        return Err(ImportError::TooManyMissing { missing, products, percent });
    }
    Ok(())
}

/// Deletes the products that are missing, in the order of their ids. Returns how many.
pub(super) async fn delete(transaction: &mut Transaction<'_>, began_at: i64) -> sqlx::Result<u64> {
    let delete = transaction.dialect(Dialects {
        sqlite: concat!(
            "DELETE FROM products WHERE id IN (",
            missing!("SELECT id", "AND id > $2 ORDER BY id LIMIT 1000"),
            ") RETURNING id"
        ),
        // A row that somebody changes meanwhile is looked at again when its lock is had.
        postgres: concat!(
            "DELETE FROM products WHERE id IN (",
            missing!("SELECT id", "AND id > $2 ORDER BY id LIMIT 1000 FOR UPDATE"),
            ") RETURNING id"
        ),
    });
    let (mut last, mut deleted) = (String::new(), 0);
    loop {
        let ids: Vec<(String,)> =
            transaction.run(statement!(fetch_all, query_as(delete).bind(began_at).bind(&last))).await?;
        let Some((max,)) = ids.iter().max() else { return Ok(deleted) };
        deleted += ids.len() as u64;
        last = max.clone();
    }
}
