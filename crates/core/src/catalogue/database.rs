//! The database, SQLite or PostgreSQL, and how a statement runs on it.
//!
//! A statement that both understand is written once, with [`statement!`]. One that they spell differently has
//! [`Dialects`] of one query; one that takes other arguments matches on [`Connection`]. A list travels as one argument,
//! [`List`] or [`rows`], so each statement has one text whatever the number of rows.

use std::time::Instant;

use serde::Serialize;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo};
use sqlx::{
    Connection as _, Encode, PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool, Type,
};
use tracing::{Span, field, info_span};

use super::{CatalogueError, MAX_CONNECTIONS};
use crate::clock::millis;
use crate::trace::{client_call, integer};

/// The database. Clones share one connection pool.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// A connection that statements run on.
pub(crate) enum Connection<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// A transaction. It is rolled back when it is dropped.
pub(crate) enum Transaction<'c> {
    Sqlite(sqlx::Transaction<'c, Sqlite>),
    Postgres(sqlx::Transaction<'c, Postgres>),
}

/// The text of a statement that the databases spell differently.
pub(crate) struct Dialects {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

/// A query of sqlx for [`Database::run`] and [`Transaction::run`], compiled for each database. The first argument is
/// the method that ends it: `execute`, which gives the number of rows, or `fetch_one` and so on.
macro_rules! statement {
    (execute, $query:expr) => {
        async |connection: $crate::catalogue::database::Connection<'_>| {
            use $crate::catalogue::database::Connection;
            match connection {
                Connection::Sqlite(connection) => Ok($query.execute(connection).await?.rows_affected()),
                Connection::Postgres(connection) => Ok($query.execute(connection).await?.rows_affected()),
            }
        }
    };
    ($fetch:ident, $query:expr) => {
        async |connection: $crate::catalogue::database::Connection<'_>| {
            use $crate::catalogue::database::Connection;
            match connection {
                Connection::Sqlite(connection) => $query.$fetch(connection).await,
                Connection::Postgres(connection) => $query.$fetch(connection).await,
            }
        }
    };
}
pub(crate) use statement;

impl Database {
    /// `db.system.name` of the spans.
    fn system(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgresql",
        }
    }

    pub(crate) fn dialect(&self, dialects: Dialects) -> &'static str {
        match self {
            Self::Sqlite(_) => dialects.sqlite,
            Self::Postgres(_) => dialects.postgres,
        }
    }

    /// Runs statements on a connection of the pool, in one client span that covers the wait for the connection.
    /// `summary` names operation and table, such as `SELECT products`.
    pub(crate) async fn run<T>(
        &self,
        summary: &'static str,
        statements: impl AsyncFnOnce(Connection<'_>) -> sqlx::Result<T>,
    ) -> Result<T, CatalogueError> {
        let span = sql_span(self.system(), summary);
        // Boxed: a driver's futures are large, and a read of the cache must not carry them along.
        let call = Box::pin(async {
            let asked = Instant::now();
            let connection = self.acquire().await;
            span.record("pricing.pool_wait_ms", integer(millis(asked.elapsed())));
            statements(connection?.lend()).await
        });
        client_call(span.clone(), call).await.map_err(|error| self.classify(error))
    }

    /// Runs statements like [`Database::run`], without a span: for what a worker does all the time.
    pub(crate) async fn run_untraced<T>(
        &self,
        statements: impl AsyncFnOnce(Connection<'_>) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        Box::pin(async { statements(self.acquire().await?.lend()).await }).await
    }

    /// Closes the connections. Statements under way are finished first.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }

    /// A connection of the pool, to keep for several transactions.
    pub(super) async fn acquire(&self) -> sqlx::Result<Acquired> {
        Ok(match self {
            Self::Sqlite(pool) => Acquired::Sqlite(pool.acquire().await?),
            Self::Postgres(pool) => Acquired::Postgres(pool.acquire().await?),
        })
    }

    /// Tells a pool whose connections are all in use from a database that lets nobody connect.
    fn classify(&self, error: sqlx::Error) -> CatalogueError {
        let (size, idle) = match self {
            Self::Sqlite(pool) => (pool.size(), pool.num_idle()),
            Self::Postgres(pool) => (pool.size(), pool.num_idle()),
        };
        match error {
            sqlx::Error::PoolTimedOut if size >= MAX_CONNECTIONS && idle == 0 => CatalogueError::PoolFull,
            error => CatalogueError::Database(error),
        }
    }
}

/// A connection of the pool, which it returns to when it is dropped.
pub(super) enum Acquired {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Acquired {
    /// Ends the connection when it is dropped, and with it what belongs to its session.
    pub(super) fn close_on_drop(&mut self) {
        match self {
            Self::Sqlite(connection) => connection.close_on_drop(),
            Self::Postgres(connection) => connection.close_on_drop(),
        }
    }

    pub(super) fn lend(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(connection) => Connection::Sqlite(connection),
            Self::Postgres(connection) => Connection::Postgres(connection),
        }
    }
}

impl<'c> Connection<'c> {
    /// Begins a transaction. One of SQLite locks the database at once: if it began to read and another wrote meanwhile,
    /// it could not write any more.
    pub(crate) async fn begin(self) -> sqlx::Result<Transaction<'c>> {
        Ok(match self {
            Self::Sqlite(connection) => Transaction::Sqlite(connection.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(connection) => Transaction::Postgres(connection.begin().await?),
        })
    }
}

impl Transaction<'_> {
    pub(crate) fn dialect(&self, dialects: Dialects) -> &'static str {
        match self {
            Self::Sqlite(_) => dialects.sqlite,
            Self::Postgres(_) => dialects.postgres,
        }
    }

    /// Runs statements in the transaction.
    pub(crate) async fn run<T>(
        &mut self,
        statements: impl AsyncFnOnce(Connection<'_>) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let connection = match self {
            Self::Sqlite(transaction) => Connection::Sqlite(transaction),
            Self::Postgres(transaction) => Connection::Postgres(transaction),
        };
        statements(connection).await
    }

    pub(crate) async fn commit(self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }
}

/// Attempts at a transaction that others hinder.
pub(super) const ATTEMPTS: u32 = 5;

/// Repeats a transaction that another one was in the way of, as when they lock rows in another order.
macro_rules! retried {
    ($transaction:expr) => {{
        let (mut attempt, mut backoff) = (1, pricing_queue::Backoff::default());
        loop {
            match $transaction.await {
                Err(error) if error.is_conflict() && attempt < $crate::catalogue::database::ATTEMPTS => {
                    attempt += 1;
                    backoff.pause().await; // the other transaction ends meanwhile
                }
                ended => break ended,
            }
        }
    }};
}
pub(super) use retried;

/// A list of texts as one argument: `text[]` for PostgreSQL, a JSON array for `json_each` of SQLite.
pub(crate) struct List<'t>(Vec<&'t str>);

impl<'t> FromIterator<&'t str> for List<'t> {
    fn from_iter<I: IntoIterator<Item = &'t str>>(texts: I) -> Self {
        Self(texts.into_iter().collect())
    }
}

impl Type<Postgres> for List<'_> {
    fn type_info() -> PgTypeInfo {
        <Vec<&str> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for List<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode_by_ref(&self.0, buffer)
    }
}

impl Type<Sqlite> for List<'_> {
    fn type_info() -> SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for List<'_> {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(rows(&self.0), buffer)
    }
}

/// Rows as one argument for `json_each` of SQLite: a JSON array with an array for each row, read by `value ->> COLUMN`.
/// PostgreSQL takes an array for each column, read by `UNNEST`.
pub(crate) fn rows(rows: &[impl Serialize]) -> String {
    serde_json::to_string(rows).expect("invariant: texts and integers are JSON")
}
/// The client span of statements. There is none outside of a span: a call is no trace of its own.
fn sql_span(system: &'static str, summary: &'static str) -> Span {
    if Span::current().is_disabled() {
        return Span::none();
    }
    info_span!(
        "sql",
        otel.name = summary,
        otel.kind = "client",
        db.system.name = system,
        db.query.summary = summary,
        pricing.pool_wait_ms = field::Empty,
    )
}
