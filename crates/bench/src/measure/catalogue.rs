//! Catalogues of any size, on either database.

use anyhow::{Context as _, Result};
use pricing_harness::databases::TestDatabase;
use pricing_harness::postgres::{self, Cluster};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection, raw_sql};

use crate::measure::progress;

/// Digits of a product's id after `P-`.
pub(crate) const DIGITS: usize = 7;
/// Base price of the first product, in cents.
const FIRST_PRICE: u32 = 1_000;
/// Products until a base price comes again.
const PRICES: u32 = 9_000;

/// The databases that the engine runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    #[serde(rename = "SQLite")]
    Sqlite,
    #[serde(rename = "PostgreSQL")]
    Postgres,
}

impl Kind {
    pub(crate) const BOTH: [Self; 2] = [Self::Sqlite, Self::Postgres];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// Makes databases. PostgreSQL is started when it is first needed, and stopped when this is dropped.
pub(crate) struct Databases {
    cluster: Option<Cluster>,
}

impl Databases {
    pub(crate) fn new() -> Self {
        Self { cluster: None }
    }

    /// An empty database.
    pub(crate) async fn empty(&mut self, kind: Kind) -> Result<TestDatabase> {
        Ok(match kind {
            Kind::Sqlite => TestDatabase::sqlite(),
            Kind::Postgres => TestDatabase::postgres_in(self.postgres().await?).await,
        })
    }

    /// A database with products `P-0000000` and so on, a market NY, and no pending change.
    pub(crate) async fn filled(&mut self, kind: Kind, products: u32) -> Result<TestDatabase> {
        progress(&format!("{}: inserting {products} products", kind.name()));
        let database = self.empty(kind).await?;
        database.open().await.close().await;
        let price = format!("{FIRST_PRICE} + n % {PRICES}");
        let insert = match kind {
            Kind::Sqlite => format!(
                "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {}) \
                 INSERT INTO products (id, base_price_minor) \
                 SELECT printf('P-%0{DIGITS}d', n), {price} FROM numbers",
                products - 1
            ),
            Kind::Postgres => format!(
                "INSERT INTO products (id, base_price_minor) \
                 SELECT 'P-' || lpad(n::TEXT, {DIGITS}, '0'), {price} FROM generate_series(0, {}) AS n",
                products - 1
            ),
        };
        database
            .execute(&[
                &insert,
                "INSERT INTO markets (location, multiplier_ppm) VALUES ('default', 1000000), ('NY', 1000000) \
                 ON CONFLICT (location) DO UPDATE SET multiplier_ppm = 1000000",
                "DELETE FROM pending_changes",
                match kind {
                    Kind::Sqlite => "PRAGMA optimize",
                    Kind::Postgres => "VACUUM ANALYZE",
                },
            ])
            .await;
        Ok(database)
    }

    async fn postgres(&mut self) -> Result<String> {
        if self.cluster.is_none() {
            progress("starting PostgreSQL");
            self.cluster = Some(Cluster::start_durable(&postgres::programs()?).await?);
        }
        Ok(self.cluster.as_ref().context("PostgreSQL was not started")?.url())
    }
}

/// The id of a product.
pub(crate) fn product_id(number: u32) -> String {
    format!("P-{number:0DIGITS$}")
}

/// A base price, in cents, that differs from all that the catalogue was filled with.
pub(crate) fn new_price(sample: u32) -> u32 {
    FIRST_PRICE + PRICES + sample
}

/// A connection of somebody who changes rows by hand.
pub(crate) enum Hand {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Hand {
    pub(crate) async fn connect(database: &TestDatabase) -> Result<Self> {
        Ok(if database.is_sqlite() {
            Self::Sqlite(SqliteConnection::connect(database.url()).await?)
        } else {
            Self::Postgres(PgConnection::connect(database.url()).await?)
        })
    }

    pub(crate) async fn execute(&mut self, statement: &str) -> Result<()> {
        let query = raw_sql(AssertSqlSafe(statement));
        match self {
            Self::Sqlite(connection) => query.execute(connection).await.map(drop)?,
            Self::Postgres(connection) => query.execute(connection).await.map(drop)?,
        }
        Ok(())
    }
}

/// Gives every product a list price that the next recalculation changes, as a recalculation would: no change is
/// pending afterwards, so nothing but a recalculation corrects it.
pub(crate) async fn spoil_list_prices(database: &TestDatabase) {
    let statements = if database.is_sqlite() {
        "BEGIN IMMEDIATE; \
         UPDATE change_origin SET is_recording = 1; \
         UPDATE catalogue_version SET last_value = last_value + 1; \
         UPDATE products SET list_price_minor = 7, version = (SELECT last_value FROM catalogue_version); \
         UPDATE change_origin SET is_recording = 0; \
         COMMIT"
    } else {
        "BEGIN; \
         SELECT set_config('pricing.recording', 'on', TRUE); \
         UPDATE products SET list_price_minor = 7, version = nextval('catalogue_version'); \
         COMMIT"
    };
    database.execute(&[statements]).await;
}
