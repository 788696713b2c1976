//! Connecting to the database and migrating its schema.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, SqlitePool, query, query_scalar, raw_sql};

use super::address::{self, Address, DatabaseSettings};
use super::database::{Database, statement};
use super::{Catalogue, CatalogueError};
use crate::clock::millis;
use crate::money::Currency;
use crate::plaintext::Plaintext;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// Least time limit of waiting for a connection, which may have to be made.
const MIN_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest time limit of waiting for a connection.
const MAX_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum connections of a process to the database.
pub const MAX_CONNECTIONS: u32 = 16;
/// Time after which PostgreSQL ends an idle transaction: its process is frozen or its host is gone, and others
/// wait for the rows it locks.
const IDLE_TRANSACTION: Duration = Duration::from_secs(5);

/// The work to do once before the catalogue can be used: migrations, and the demo catalogue if asked for.
#[derive(Debug, Clone)]
pub struct Preparation {
    catalogue: Catalogue,
    demo_catalogue: bool,
    catalogue_currency: Option<Currency>,
}

impl Catalogue {
    /// Connects, brings the schema up to date, and loads the demo catalogue if asked to.
    ///
    /// Several processes may do this at once: they take turns, under PostgreSQL's advisory lock or a
    /// lock on a file beside the SQLite database.
    ///
    /// `time_limit` is the time after which PostgreSQL ends a statement, see [`Catalogue::lazy`].
    ///
    /// # Errors
    ///
    /// When `DATABASE_URL` is wrong, the database is away or the schema cannot be brought up to date.
    pub async fn open(settings: &DatabaseSettings, time_limit: Duration) -> Result<Self, CatalogueError> {
        let (catalogue, preparation) = Self::lazy(settings, time_limit)?;
        preparation.run().await?;
        Ok(catalogue)
    }

    /// Connects to a catalogue that services of this version have prepared, and changes nothing.
    ///
    /// # Errors
    ///
    /// When `DATABASE_URL` is wrong, the database is away, or its schema is that of another version.
    pub async fn open_prepared(
        settings: &DatabaseSettings,
        time_limit: Duration,
    ) -> Result<Self, CatalogueError> {
        let (catalogue, _) = Self::lazy(settings, time_limit)?;
        let newest = match &catalogue.database {
            Database::Sqlite(_) => newest(&SQLITE),
            Database::Postgres(_) => newest(&POSTGRES),
        };
        let select = statement!(fetch_one, query_scalar("SELECT MAX(version) FROM _sqlx_migrations"));
        let applied: Option<i64> = match catalogue.database.run_untraced(select).await {
            Ok(applied) => applied,
            Err(sqlx::Error::Database(_)) => None, // no such table
            Err(error) => return Err(CatalogueError::Connect(error)),
        };
        if applied != newest {
            return Err(CatalogueError::OtherSchema);
        }
        catalogue.learn_currency(settings.catalogue_currency).await?;
        Ok(catalogue)
    }

    /// The catalogue without a connection yet. It can be used after its [`Preparation`] has run.
    ///
    /// PostgreSQL ends a statement after `time_limit`, and a wait for a lock a little earlier; a wait for a connection
    /// ends after [`Catalogue::acquire_timeout`]. Choose less than the
    /// caller's own patience: a statement that nobody waits for any more would go on, holding its rows and its
    /// connection.
    ///
    /// # Errors
    ///
    /// When `DATABASE_URL` is wrong.
    pub fn lazy(
        settings: &DatabaseSettings,
        time_limit: Duration,
    ) -> Result<(Self, Preparation), CatalogueError> {
        let database = match Address::read(settings)? {
            Address::Sqlite(options) => Database::Sqlite(pool(time_limit).connect_lazy_with(options)),
            Address::Postgres(options) => {
                let pool = pool(time_limit)
                    .after_connect(move |connection, _| Box::pin(set_up(connection, time_limit)));
                Database::Postgres(pool.connect_lazy_with(options))
            }
        };
        let catalogue = Self { database, currency: Arc::default(), invalid: Arc::default() };
        let DatabaseSettings { demo_catalogue, catalogue_currency, .. } = *settings;
        Ok((catalogue.clone(), Preparation { catalogue, demo_catalogue, catalogue_currency }))
    }
}

impl Catalogue {
    /// Maximum wait for a connection of a catalogue whose statements end after `time_limit`: two thirds of it, but at
    /// least 1 s and at most 2 s.
    pub fn acquire_timeout(time_limit: Duration) -> Duration {
        (time_limit * 2 / 3).clamp(MIN_ACQUIRE_TIMEOUT, MAX_ACQUIRE_TIMEOUT)
    }

    /// Where the database is, without user and password: `sqlite:///path/pricing.db` or `postgres://host:port/database`.
    pub fn address(&self) -> String {
        match &self.database {
            Database::Sqlite(pool) => {
                format!("sqlite://{}", pool.connect_options().get_filename().display())
            }
            Database::Postgres(pool) => {
                let options = pool.connect_options();
                let database = options.get_database().unwrap_or_else(|| options.get_username());
                match options.get_socket() {
                    Some(socket) => format!("postgres:///{database}?host={}", socket.display()),
                    None => format!("postgres://{}:{}/{database}", options.get_host(), options.get_port()),
                }
            }
        }
    }

    /// The connection to warn of, if it may be unencrypted.
    pub fn plaintext(&self) -> Option<Plaintext> {
        match &self.database {
            Database::Sqlite(_) => None,
            Database::Postgres(pool) => address::plaintext(&pool.connect_options()),
        }
    }
}

impl Preparation {
    /// Connects for the first time, brings the schema up to date, and loads the demo catalogue if asked to.
    /// Can be repeated.
    ///
    /// # Errors
    ///
    /// When the database is away, which [`CatalogueError::is_unavailable`] tells, or refuses.
    pub async fn run(&self) -> Result<(), CatalogueError> {
        self.catalogue.check_currencies_of_older_build().await?;
        match &self.catalogue.database {
            Database::Sqlite(pool) => migrate_sqlite(pool).await?,
            Database::Postgres(pool) => migrate_postgres(pool).await?,
        }
        self.catalogue.settle_currency(self.catalogue_currency).await?;
        if self.demo_catalogue {
            self.catalogue.load_demo().await?;
        }
        Ok(())
    }
}

/// The version of the newest migration.
fn newest(migrator: &Migrator) -> Option<i64> {
    migrator.iter().map(|migration| migration.version).max()
}

/// Migrates under a lock on a file beside the database.
async fn migrate_sqlite(pool: &SqlitePool) -> Result<(), CatalogueError> {
    let mut lock = pool.connect_options().get_filename().as_os_str().to_owned();
    lock.push(".migrating");
    let lock = File::create(lock)?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .map_err(std::io::Error::other)??;
    let mut connection = pool.acquire().await.map_err(CatalogueError::Connect)?;
    query("PRAGMA journal_mode = WAL").execute(&mut *connection).await?;
    drop(connection);
    SQLITE.run(pool).await?;
    drop(lock);
    Ok(())
}

async fn migrate_postgres(pool: &PgPool) -> Result<(), CatalogueError> {
    drop(pool.acquire().await.map_err(CatalogueError::Connect)?);
    // A connection without time limits: a migration may take as long as the tables are large.
    let unlimited = PgPoolOptions::new().max_connections(1).acquire_timeout(MAX_ACQUIRE_TIMEOUT);
    let unlimited = unlimited.connect_lazy_with((*pool.connect_options()).clone());
    POSTGRES.run(&unlimited).await?;
    unlimited.close().await;
    Ok(())
}

/// The options of the pool of either database.
fn pool<D: sqlx::Database>(time_limit: Duration) -> PoolOptions<D> {
    let acquire_timeout = Catalogue::acquire_timeout(time_limit);
    PoolOptions::new().max_connections(MAX_CONNECTIONS).acquire_timeout(acquire_timeout)
}

/// Sets up a new connection to PostgreSQL: time limits of statements, locks and idle transactions, and plans that do
/// not depend on statistics. All statements find their rows by an index; a plan that was made while a table was small
/// would read all of it when it is large.
async fn set_up(connection: &mut PgConnection, statement: Duration) -> sqlx::Result<()> {
    let set = format!(
        "SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
         SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off",
        millis(statement),
        millis(statement.mul_f64(0.9)),
        millis(IDLE_TRANSACTION)
    );
    raw_sql(AssertSqlSafe(set)).execute(connection).await?;
    Ok(())
}
