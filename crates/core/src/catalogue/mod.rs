//! The products and markets in the database: the source of truth behind the cache.
//!
//! `DATABASE_URL` chooses SQLite or PostgreSQL; `database` runs a statement on either.
//!
//! This file looks rows up for the read path and scans them for a recalculation. [`Catalogue::open`] connects and
//! migrates; `list_prices` records what a recalculation computed; `edit` changes products and
//! markets, and `import` merges files with them. Each statement runs in a client span.

mod error;

mod address;
mod connect;
pub(crate) mod database;
mod demo;

mod change_signal;
mod changes;
mod currency;
mod edit;
mod history;
mod import;
mod list_prices;
mod origin;
mod rows;
mod terms;
mod versions;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sqlx::{query, query_as, query_scalar};

use crate::ids::{Location, ProductId};
use crate::money::Currency;
use crate::price::{Market, Product};

pub use address::DatabaseSettings;
pub use change_signal::ChangeSignal;
pub use changes::{ChangeOrder, PendingChange};
pub use connect::{MAX_CONNECTIONS, Preparation};
use database::{Database, Dialects, List, statement};
pub use edit::{
    Action, CatalogueMarket, CatalogueProduct, EditRefusal, Edited, MarketEdit, Precondition, ProductEdit,
};
pub use error::CatalogueError;
pub use history::{HistoryFilter, MarketChange, ProductChange};
pub use import::{
    Applied, Extent, Import, ImportError, ImportKind, ImportOptions, ImportRow, RefusedRow, RowRefusal, Tally,
};
pub use list_prices::{ListPrice, Locked, Recorded};
pub use origin::ChangeOrigin;
use rows::{MarketColumns, ProductColumns, select_markets, select_products};
pub use rows::{Page, ProductRow};
pub use terms::{
    Field, FieldError, InvalidLabel, Label, MarketFields, MarketTerms, Number, Object, ProductFields,
    ProductTerms, RoundingFields, SuspiciousChange, Tags,
};

/// Maximum number of invalid rows that one process names in its log.
const MAX_LOGGED: usize = 1_000;

/// The catalogue. Clones share one connection pool.
#[derive(Debug, Clone)]
pub struct Catalogue {
    database: Database,
    /// Its currency, known once its [`Preparation`] has run.
    currency: Arc<OnceLock<Currency>>,
    /// Keys of invalid rows that were logged.
    invalid: Arc<Mutex<HashSet<String>>>,
}

impl Catalogue {
    /// The database, for what lies beside the catalogue.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn ping(&self) -> Result<(), CatalogueError> {
        self.database.run_untraced(statement!(execute, query("SELECT 1"))).await?;
        Ok(())
    }

    /// Closes the connections. Statements under way are finished first.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// Looks a product up.
    ///
    /// # Errors
    ///
    /// When the database fails or the row holds an invalid value.
    pub async fn product(&self, id: &ProductId) -> Result<Option<Product>, CatalogueError> {
        let select = select_products!("WHERE id = $1");
        let select = statement!(fetch_optional, query_as::<_, ProductColumns>(select).bind(id.as_str()));
        let row = self.database.run("SELECT products", select).await?;
        row.map(|row| Ok(row.decode(self.currency()?)?.product)).transpose()
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
        let select = self.database.dialect(Dialects {
            sqlite: select_products!("WHERE id IN (SELECT value FROM json_each($1))"),
            postgres: select_products!("WHERE id = ANY($1)"),
        });
        let ids: List<'_> = ids.iter().map(ProductId::as_str).collect();
        let select = statement!(fetch_all, query_as::<_, ProductColumns>(select).bind(ids));
        let rows = self.database.run("SELECT products", select).await?;
        let currency = self.currency()?;
        Ok(rows.into_iter().filter_map(|row| self.valid(row.decode(currency))).collect())
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
        let select = self.database.dialect(Dialects {
            sqlite: select_markets!("WHERE location IN (SELECT value FROM json_each($1))"),
            postgres: select_markets!("WHERE location = ANY($1)"),
        });
        let locations: List<'_> = locations.iter().map(Location::as_str).collect();
        let select = statement!(fetch_all, query_as::<_, MarketColumns>(select).bind(locations));
        let rows = self.database.run("SELECT markets", select).await?;
        let currency = self.currency()?;
        let market = |row: MarketColumns| {
            (row.location.clone(), self.valid(row.decode(currency)).map(|(_, market)| market))
        };
        Ok(rows.into_iter().map(market).collect())
    }

    /// Looks the market of a location up.
    ///
    /// # Errors
    ///
    /// When the database fails or the row holds an invalid value.
    pub async fn market(&self, location: &Location) -> Result<Option<Market>, CatalogueError> {
        let select = select_markets!("WHERE location = $1");
        let select = statement!(fetch_optional, query_as::<_, MarketColumns>(select).bind(location.as_str()));
        let row = self.database.run("SELECT markets", select).await?;
        row.map(|row| Ok(row.decode(self.currency()?)?.1)).transpose()
    }

    /// Counts the products.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_products(&self) -> Result<u64, CatalogueError> {
        let count = statement!(fetch_one, query_scalar("SELECT COUNT(*) FROM products"));
        let count: i64 = self.database.run("SELECT products", count).await?;
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
        let select = select_products!("WHERE id > $1 ORDER BY id LIMIT $2");
        let (after, limit) = (after.unwrap_or_default(), i64::from(limit));
        let select = statement!(fetch_all, query_as::<_, ProductColumns>(select).bind(after).bind(limit));
        let rows = self.database.run("SELECT products", select).await?;
        let last = rows.last().map(|row| row.id.clone());
        let currency = self.currency()?;
        Ok(self.page(rows.into_iter().map(|row| row.decode(currency)), last))
    }

    /// Reads at most `limit` products with ids from `first` to `last`, like [`Catalogue::products_after`], but there is no
    /// next part when fewer were read.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn products_within(
        &self,
        first: &str,
        last: &str,
        limit: u32,
    ) -> Result<Page<ProductRow>, CatalogueError> {
        let select = select_products!("WHERE id >= $1 AND id <= $2 ORDER BY id LIMIT $3");
        let bound = i64::from(limit);
        let select =
            statement!(fetch_all, query_as::<_, ProductColumns>(select).bind(first).bind(last).bind(bound));
        let rows = self.database.run("SELECT products", select).await?;
        let next = (rows.len() == limit as usize).then(|| rows.last().map(|row| row.id.clone())).flatten();
        let currency = self.currency()?;
        Ok(self.page(rows.into_iter().map(|row| row.decode(currency)), next))
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
        let select = select_markets!("WHERE location > $1 ORDER BY location LIMIT $2");
        let (after, limit) = (after.unwrap_or_default(), i64::from(limit));
        let select = statement!(fetch_all, query_as::<_, MarketColumns>(select).bind(after).bind(limit));
        let rows = self.database.run("SELECT markets", select).await?;
        let last = rows.last().map(|row| row.location.clone());
        let currency = self.currency()?;
        Ok(self.page(rows.into_iter().map(|row| row.decode(currency)), last))
    }

    /// The part with these rows; an invalid one is named in the log, once.
    fn page<T>(
        &self,
        decoded: impl ExactSizeIterator<Item = Result<T, CatalogueError>>,
        last: Option<String>,
    ) -> Page<T> {
        let (mut rows, mut invalid) = (Vec::with_capacity(decoded.len()), Vec::new());
        for row in decoded {
            match row {
                Ok(row) => rows.push(row),
                Err(error) => {
                    self.log(&error);
                    invalid.push(error);
                }
            }
        }
        Page { rows, invalid, last }
    }

    /// The row, if it is valid; an invalid one is named in the log, once.
    fn valid<T>(&self, row: Result<T, CatalogueError>) -> Option<T> {
        row.inspect_err(|error| self.log(error)).ok()
    }

    fn log(&self, error: &CatalogueError) {
        let mut logged = self.invalid.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < MAX_LOGGED && logged.insert(error.to_string()) {
            tracing::error!(%error, "row skipped: no price can be made of it");
        }
    }
}

/// A version as the database has it.
fn signed(version: u64) -> i64 {
    i64::try_from(version).expect("invariant: a version was read from a signed column")
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
            catalogue_currency: None,
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
}
