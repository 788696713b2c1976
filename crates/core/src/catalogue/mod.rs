//! The products and markets in the database: the source of truth behind the cache.
//!
//! One set of statements serves SQLite and PostgreSQL; only the schemas differ. `DATABASE_URL` chooses.
//!
//! This file looks rows up for the read path and scans them for a recalculation. [`Catalogue::open`] connects and
//! migrates; `list_prices` records what a recalculation computed; `edit` changes products and
//! markets. Each statement runs in a client span.

mod error;

mod address;
mod connect;
mod demo;

mod changes;
mod edit;
mod list_prices;
mod rows;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use secrecy::SecretString;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, query_as, query_scalar};
use tracing::{field, info_span};

use crate::clock::millis;
use crate::ids::{Location, ProductId};
use crate::price::{Market, Product};
use crate::trace::{client_call, integer};

pub use address::DatabaseSettings;
pub use changes::{ChangeOrder, ChangeSignal, PendingChange};
pub use connect::{MAX_CONNECTIONS, Preparation};
pub use error::CatalogueError;
pub use list_prices::{ListPrice, Locked, Recorded};
use rows::{MarketColumns, ProductColumns};
pub use rows::{Page, ProductRow};

const PRODUCTS: &str =
    "SELECT id, base_price_minor, currency, version, list_price_minor, list_market_version FROM products";
const MARKETS: &str = "SELECT location, multiplier_ppm, version FROM markets";

/// Maximum number of invalid rows that one process names in its log.
const MAX_LOGGED: usize = 1_000;

/// The catalogue. Clones share one connection pool.
#[derive(Debug, Clone)]
pub struct Catalogue {
    pool: AnyPool,
    /// The address, for a connection that listens.
    url: SecretString,
    /// `db.system.name` of its spans.
    system: &'static str,
    /// Keys of invalid rows that were logged.
    invalid: Arc<Mutex<HashSet<String>>>,
}

impl Catalogue {
    /// Checks that the database answers.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn ping(&self) -> Result<(), CatalogueError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Closes the connections. Statements under way are finished first.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Looks a product up.
    ///
    /// # Errors
    ///
    /// When the database fails or the row holds an invalid value.
    pub async fn product(&self, id: &ProductId) -> Result<Option<Product>, CatalogueError> {
        let select = AssertSqlSafe(format!("{PRODUCTS} WHERE id = $1"));
        let query = query_as::<_, ProductColumns>(select).bind(id.as_str().to_owned());
        let row = self.run("SELECT products", async |database| query.fetch_optional(database).await).await?;
        row.map(|row| Ok(row.decode()?.product)).transpose()
    }

    /// Looks products up in one statement. Those that do not exist or are invalid are left out; the order is arbitrary.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn products(&self, ids: &[ProductId]) -> Result<Vec<ProductRow>, CatalogueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let select = AssertSqlSafe(format!("{PRODUCTS} WHERE id IN {}", placeholders(1, ids.len())));
        let query = query_as::<_, ProductColumns>(select);
        let query = ids.iter().fold(query, |query, id| query.bind(id.as_str().to_owned()));
        let rows = self.run("SELECT products", async |database| query.fetch_all(database).await).await?;
        Ok(rows.into_iter().filter_map(|row| self.valid(row.decode())).collect())
    }

    /// Looks markets up in one statement. Those that do not exist are left out; an invalid one is `None`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn markets(
        &self,
        locations: &[Location],
    ) -> Result<Vec<(String, Option<Market>)>, CatalogueError> {
        if locations.is_empty() {
            return Ok(Vec::new());
        }
        let keys = placeholders(1, locations.len());
        let select = AssertSqlSafe(format!("{MARKETS} WHERE location IN {keys}"));
        let query = query_as::<_, MarketColumns>(select);
        let query = locations.iter().fold(query, |query, location| query.bind(location.as_str().to_owned()));
        let rows = self.run("SELECT markets", async |database| query.fetch_all(database).await).await?;
        let market =
            |row: MarketColumns| (row.location.clone(), self.valid(row.decode()).map(|(_, market)| market));
        Ok(rows.into_iter().map(market).collect())
    }

    /// Looks the market of a location up.
    ///
    /// # Errors
    ///
    /// When the database fails or the row holds an invalid value.
    pub async fn market(&self, location: &Location) -> Result<Option<Market>, CatalogueError> {
        let select = AssertSqlSafe(format!("{MARKETS} WHERE location = $1"));
        let query = query_as::<_, MarketColumns>(select).bind(location.as_str().to_owned());
        let row = self.run("SELECT markets", async |database| query.fetch_optional(database).await).await?;
        row.map(|row| Ok(row.decode()?.1)).transpose()
    }

    /// Counts the products.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_products(&self) -> Result<u64, CatalogueError> {
        let query = query_scalar("SELECT COUNT(*) FROM products");
        let count: i64 =
            self.run("SELECT products", async |database| query.fetch_one(database).await).await?;
        Ok(u64::try_from(count).expect("invariant: a count is not negative"))
    }

    /// Reads at most `limit` products in the order of their ids, starting behind `after`.
    ///
    /// Each call is one statement over the primary key (keyset pagination), so a scan costs the same at
    /// any position and holds no transaction open. An invalid row is skipped, and named in the log once.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn products_after(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ProductRow>, CatalogueError> {
        let select = AssertSqlSafe(format!("{PRODUCTS} WHERE id > $1 ORDER BY id LIMIT $2"));
        let query = query_as::<_, ProductColumns>(select).bind(after.unwrap_or_default().to_owned());
        let query = query.bind(i64::from(limit));
        let rows = self.run("SELECT products", async |database| query.fetch_all(database).await).await?;
        let last = rows.last().map(|row| row.id.clone());
        Ok(self.page(rows.into_iter().map(ProductColumns::decode), last))
    }

    /// Reads markets in the order of their locations, like [`Catalogue::products_after`].
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn markets_after(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<(Location, Market)>, CatalogueError> {
        let select = AssertSqlSafe(format!("{MARKETS} WHERE location > $1 ORDER BY location LIMIT $2"));
        let query = query_as::<_, MarketColumns>(select).bind(after.unwrap_or_default().to_owned());
        let query = query.bind(i64::from(limit));
        let rows = self.run("SELECT markets", async |database| query.fetch_all(database).await).await?;
        let last = rows.last().map(|row| row.location.clone());
        Ok(self.page(rows.into_iter().map(MarketColumns::decode), last))
    }

    fn page<T>(
        &self,
        decoded: impl ExactSizeIterator<Item = Result<T, CatalogueError>>,
        last: Option<String>,
    ) -> Page<T> {
        let read = decoded.len();
        let rows: Vec<T> = decoded.filter_map(|row| self.valid(row)).collect();
        Page { invalid: (read - rows.len()) as u64, rows, last }
    }

    /// The row, if it is valid; an invalid one is named in the log, once.
    fn valid<T>(&self, row: Result<T, CatalogueError>) -> Option<T> {
        let error = match row {
            Ok(row) => return Some(row),
            Err(error) => error,
        };
        let mut logged = self.invalid.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < MAX_LOGGED && logged.insert(error.to_string()) {
            tracing::error!(%error, "row skipped: no price can be made of it");
        }
        None
    }

    /// Runs statements on a connection of the pool, in one client span that covers the wait for the connection.
    /// `summary` names operation and table, such as `SELECT products`.
    pub(crate) async fn run<T>(
        &self,
        summary: &'static str,
        statements: impl AsyncFnOnce(&mut AnyConnection) -> sqlx::Result<T>,
    ) -> Result<T, CatalogueError> {
        let span = info_span!(
            "sql",
            otel.name = summary,
            otel.kind = "client",
            db.system.name = self.system,
            db.query.summary = summary,
            pricing.pool_wait_ms = field::Empty,
        );
        // Boxed: a driver's futures are large, and a read of the cache must not carry them along.
        let call = Box::pin(async {
            let asked = Instant::now();
            let connection = self.pool.acquire().await;
            span.record("pricing.pool_wait_ms", integer(millis(asked.elapsed())));
            statements(&mut *connection?).await
        });
        client_call(span.clone(), call).await.map_err(|error| self.classify(error))
    }

    /// Tells a pool whose connections are all in use from a database that lets nobody connect.
    fn classify(&self, error: sqlx::Error) -> CatalogueError {
        let is_full = || self.pool.size() >= MAX_CONNECTIONS && self.pool.num_idle() == 0;
        match error {
            sqlx::Error::PoolTimedOut if is_full() => CatalogueError::PoolFull,
            error => CatalogueError::Database(error),
        }
    }
}

/// A version as the database has it.
fn signed(version: u64) -> i64 {
    i64::try_from(version).expect("invariant: a version was read from a signed column")
}

/// `($1, $2), ($3, $4)` for two rows of two columns.
fn placeholders(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let cells: Vec<_> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", cells.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opentelemetry::Value;
    use opentelemetry::trace::{SpanKind, Status};

    use super::*;
    use crate::ids::ProductId;
    use crate::trace::tests::{attribute, spans};

    #[tokio::test]
    async fn a_statement_is_a_client_span_that_shows_its_failure() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("empty.db").display());
        let settings = DatabaseSettings {
            database_url: Some(url.into()),
            database_url_file: None,
            demo_catalogue: false,
        };
        let (unprepared, _) = Catalogue::lazy(&settings, Duration::from_secs(1)).unwrap();
        let spans = spans(async {
            unprepared.product(&ProductId::parse("P-1").unwrap()).await.unwrap_err();
            unprepared.close().await; // the driver's thread holds the span until then
        })
        .await;
        let [span] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&*span.name, span.span_kind.clone()), ("SELECT products", SpanKind::Client));
        assert_eq!(attribute(span, "db.system.name").as_deref(), Some("sqlite"));
        assert_eq!(attribute(span, "error.type").as_deref(), Some("1"), "SQLITE_ERROR: no such table");
        assert!(matches!(span.status, Status::Error { .. }));
        let wait = span.attributes.iter().find(|attribute| attribute.key.as_str() == "pricing.pool_wait_ms");
        assert!(matches!(wait.unwrap().value, Value::I64(_)), "{wait:?}");
    }

    #[test]
    fn placeholders_count_on_from_row_to_row() {
        assert_eq!(placeholders(2, 2), "($1, $2), ($3, $4)");
        assert_eq!(placeholders(1, 3), "($1, $2, $3)");
    }
}
