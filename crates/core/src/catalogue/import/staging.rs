//! The staging table: the rows of a file, to be read in the order of their keys.
//!
//! SQLite has a temporary one, which ends with the connection. The role of the services may not make temporary tables on
//! PostgreSQL, so it has an unlogged one in their schema, used by one import at a time, and made anew by each.

use sqlx::{query, query_as, raw_sql};

use super::super::database::{Connection, Transaction, rows, statement};
use super::{ImportError, ImportRow};

/// Rows of a batch.
const BATCH: i64 = 1_000;

/// The code of PostgreSQL for a lock that could not be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A row that was staged.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct StagedRow {
    pub(super) line: i64,
    pub(super) key: String,
    pub(super) fields: String,
}

/// A place between rows: behind the one with this key and line.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursor {
    pub(super) key: String,
    pub(super) line: i64,
}

/// Makes an empty staging table. PostgreSQL may take longer over a statement of an import than over one of a request.
pub(super) async fn create(connection: Connection<'_>) -> Result<(), ImportError> {
    match connection {
        Connection::Sqlite(connection) => {
            let create = "CREATE TEMPORARY TABLE staged_rows (key TEXT NOT NULL, line INTEGER NOT NULL, fields TEXT NOT NULL) STRICT";
            raw_sql(create).execute(connection).await?;
        }
        Connection::Postgres(connection) => {
            let set = "SET statement_timeout = '10min'; SET lock_timeout = '10s'; SET client_min_messages = warning";
            raw_sql(set).execute(&mut *connection).await?;
            // An import that was killed may hold the lock until its statement ends.
            let lock = query("SELECT pg_advisory_lock(hashtextextended('pricing import', 0))");
            lock.execute(&mut *connection).await.map_err(|error| match error {
                sqlx::Error::Database(error) if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) => {
                    ImportError::UnderWay
                }
                error => error.into(),
            })?;
            let create = "DROP TABLE IF EXISTS staged_rows; \
                          CREATE UNLOGGED TABLE staged_rows (key TEXT COLLATE \"C\" NOT NULL, line BIGINT NOT NULL, fields TEXT NOT NULL)";
            raw_sql(create).execute(connection).await?;
        }
    }
    Ok(())
}

pub(super) async fn insert(connection: Connection<'_>, staged: &[ImportRow]) -> sqlx::Result<()> {
    match connection {
        Connection::Sqlite(connection) => {
            let insert = "INSERT INTO staged_rows (key, line, fields) \
                          SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1)";
            let row = |row: &ImportRow| (row.key.clone(), row.line, row.fields.clone());
            let staged: Vec<_> = staged.iter().map(row).collect();
            query(insert).bind(rows(&staged)).execute(connection).await.map(drop)
        }
        Connection::Postgres(connection) => {
            let mut copy = connection.copy_in_raw("COPY staged_rows (key, line, fields) FROM STDIN").await?;
            // Keys hold no special characters, and JSON none but the backslash.
            let line = |row: &ImportRow| {
                format!("{}\t{}\t{}\n", row.key, row.line, row.fields.replace('\\', "\\\\"))
            };
            copy.send(staged.iter().map(line).collect::<String>().into_bytes()).await?;
            copy.finish().await.map(drop)
        }
    }
}

/// Indexes what was staged.
pub(super) async fn index(connection: Connection<'_>) -> sqlx::Result<()> {
    let index = "CREATE INDEX staged_rows_by_key ON staged_rows (key, line)";
    statement!(execute, query(index))(connection).await.map(drop)
}

pub(super) async fn remove(connection: Connection<'_>) -> sqlx::Result<()> {
    statement!(execute, query("DROP TABLE staged_rows"))(connection).await.map(drop)
}

/// Reads the next batch. It holds all rows of each key, unless a key has more rows than a batch.
pub(super) async fn next(transaction: &mut Transaction<'_>, cursor: &Cursor) -> sqlx::Result<Vec<StagedRow>> {
    let select =
        "SELECT line, key, fields FROM staged_rows WHERE (key, line) > ($1, $2) ORDER BY key, line LIMIT $3";
    let select = statement!(
        fetch_all,
        query_as::<_, StagedRow>(select).bind(&cursor.key).bind(cursor.line).bind(BATCH)
    );
    let mut rows = transaction.run(select).await?;
    if rows.len() == BATCH as usize {
        let first_of_last = rows.iter().position(|row| row.key == rows[rows.len() - 1].key).unwrap_or(0);
        if first_of_last > 0 {
            rows.truncate(first_of_last);
        }
    }
    Ok(rows)
}
