//! Opening the database and bringing its schema up to date.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, Executor as _};

use super::{Catalogue, CatalogueError};
use crate::settings::secret;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// Longest to wait for a connection to the database.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_CONNECTIONS: u32 = 16;
/// Longest a transaction may stand still: the process that began it is frozen or its host is gone, and others
/// wait for the rows that it holds.
const IDLE_TRANSACTION: Duration = Duration::from_secs(5);

/// Where the database is.
#[derive(Debug, Clone, clap::Args)]
pub struct DatabaseSettings {
    /// `sqlite://FILE`, created when missing, or `postgres://user:password@host/database` [default: sqlite://pricing.db]
    #[arg(long, env, hide_env_values = true)]
    pub database_url: Option<String>,
    /// File that holds DATABASE_URL, in its place
    #[arg(long, env)]
    pub database_url_file: Option<PathBuf>,
    /// Load products P-100 … P-999 and markets NY, LA, MIA and default into an empty database
    #[arg(long, env, default_value_t = false, action = clap::ArgAction::Set)]
    pub demo_catalogue: bool,
}

/// What must be done once before the database serves: its schema, and the demo catalogue if asked for.
#[derive(Debug, Clone)]
pub struct Preparation {
    catalogue: Catalogue,
    /// File beside an SQLite database whose lock its users take turns under.
    lock: Option<PathBuf>,
    demo_catalogue: bool,
}

impl Catalogue {
    /// Connects, brings the schema up to date, and loads the demo catalogue if asked to.
    ///
    /// Several processes may do this at once: they take turns, under PostgreSQL's advisory lock or a
    /// lock on a file beside the SQLite database.
    ///
    /// # Errors
    ///
    /// When `DATABASE_URL` is wrong, the database is away or the schema cannot be brought up to date.
    pub async fn open(settings: &DatabaseSettings) -> Result<Self, CatalogueError> {
        let (catalogue, preparation) = Self::lazy(settings)?;
        preparation.run().await?;
        Ok(catalogue)
    }

    /// The catalogue without a connection yet. It serves after its [`Preparation`] has run.
    ///
    /// # Errors
    ///
    /// When `DATABASE_URL` is wrong.
    pub fn lazy(settings: &DatabaseSettings) -> Result<(Self, Preparation), CatalogueError> {
        let url = settings.database_url.as_deref();
        let file = settings.database_url_file.as_deref();
        let url = secret("DATABASE_URL", url, file, "sqlite://pricing.db")?;
        sqlx::any::install_default_drivers();
        let (url, lock) = if let Some(path) = url.strip_prefix("sqlite://").filter(|path| !path.is_empty()) {
            sqlite(Path::new(path)).map(|(url, lock)| (url, Some(lock)))?
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            (url, None)
        } else {
            return Err(CatalogueError::UnknownDatabase);
        };
        let mut options =
            AnyPoolOptions::new().max_connections(MAX_CONNECTIONS).acquire_timeout(ACQUIRE_TIMEOUT);
        if lock.is_none() {
            options = options.after_connect(|connection, _| Box::pin(end_idle_transactions(connection)));
        }
        let catalogue = Self { pool: options.connect_lazy(&url).map_err(CatalogueError::Connect)? };
        let demo_catalogue = settings.demo_catalogue;
        Ok((catalogue.clone(), Preparation { catalogue, lock, demo_catalogue }))
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
        let pool = &self.catalogue.pool;
        if let Some(lock) = &self.lock {
            let lock = std::fs::File::create(lock)?;
            let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
                .await
                .map_err(std::io::Error::other)??;
            let mut connection = pool.acquire().await.map_err(CatalogueError::Connect)?;
            sqlx::query("PRAGMA journal_mode = WAL").execute(&mut *connection).await?;
            drop(connection);
            SQLITE.run(pool).await?;
            drop(lock);
        } else {
            drop(pool.acquire().await.map_err(CatalogueError::Connect)?);
            POSTGRES.run(pool).await?;
        }
        if self.demo_catalogue {
            self.catalogue.load_demo().await?;
        }
        Ok(())
    }
}

/// Has PostgreSQL end transactions of this connection that stand still, and free the rows that they hold.
async fn end_idle_transactions(connection: &mut AnyConnection) -> sqlx::Result<()> {
    let set = format!("SET idle_in_transaction_session_timeout = {}", IDLE_TRANSACTION.as_millis());
    connection.execute(sqlx::AssertSqlSafe(set)).await?;
    Ok(())
}

/// The URL of an SQLite file, whose folder is made if need be, and the file to lock beside it.
fn sqlite(path: &Path) -> Result<(String, PathBuf), CatalogueError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder)?;
    let name = path.file_name().ok_or(CatalogueError::UnknownDatabase)?;
    let path = folder.canonicalize()?.join(name);
    let mut lock = path.as_os_str().to_owned();
    lock.push(".migrating");
    // In a URL the path would mean another file if it held `..` or one of these characters.
    let path = path.display().to_string().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    Ok((format!("sqlite://{path}?mode=rwc"), lock.into()))
}
