//! The address of the database.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::sqlite::SqliteConnectOptions;

use super::CatalogueError;
use crate::money::Currency;
use crate::plaintext::Plaintext;
use crate::settings::{environment, secret};

/// Parameters of a PostgreSQL address.
const POSTGRES: [&str; 17] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

/// Address and initial content of the database.
#[derive(Debug, Clone, clap::Args)]
pub struct DatabaseSettings {
    /// Address of the database: the environment variable `DATABASE_URL`.
    #[arg(skip = environment("DATABASE_URL"))]
    pub database_url: Option<SecretString>,
    /// File that holds the address of the database, in place of the environment variable DATABASE_URL: `sqlite://FILE`,
    /// created when missing, or `postgres://user:password@host/database` [default: sqlite://pricing.db]
    #[arg(long, env)]
    pub database_url_file: Option<PathBuf>,
    /// Load products P-100 … P-999 and markets NY, LA, MIA and default into an empty database
    #[arg(long, env, default_value_t = false, action = clap::ArgAction::Set)]
    pub demo_catalogue: bool,
    /// Currency of all products, ISO 4217, given to a new database; another one than that of the database is an error
    /// [default: that of the database, USD for a new one]
    #[arg(long, env, value_parser = Currency::parse)]
    pub catalogue_currency: Option<Currency>,
}

/// The address without `DATABASE_URL`.
const DEFAULT: &str = "sqlite://pricing.db";

impl DatabaseSettings {
    /// Whether no address is set, so that the database is `pricing.db` in the working directory.
    pub fn is_default(&self) -> bool {
        self.database_url.is_none() && self.database_url_file.is_none()
    }

    /// The SQLite file that they name, if it does not exist or is empty: [`Catalogue::open`](super::Catalogue::open) would
    /// make a database of it.
    ///
    /// # Errors
    ///
    /// When the address is wrong, or the file may not be looked at.
    pub fn missing_file(&self) -> Result<Option<PathBuf>, CatalogueError> {
        let url = self.url()?;
        let Some(file) = url.expose_secret().strip_prefix("sqlite://") else { return Ok(None) };
        let path = sqlite_path(file)?;
        let is_missing = match path.metadata() {
            Ok(metadata) => metadata.len() == 0,
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) => return Err(error.into()),
        };
        Ok(is_missing.then(|| path.to_owned()))
    }

    fn url(&self) -> Result<SecretString, CatalogueError> {
        Ok(secret("DATABASE_URL", self.database_url.as_ref(), self.database_url_file.as_deref(), DEFAULT)?)
    }
}

/// `DATABASE_URL`, understood.
pub(super) enum Address {
    Sqlite(SqliteConnectOptions),
    Postgres(PgConnectOptions),
}

impl Address {
    pub(super) fn read(settings: &DatabaseSettings) -> Result<Self, CatalogueError> {
        let url = settings.url()?;
        let url = url.expose_secret();
        if let Some(file) = url.strip_prefix("sqlite://") {
            sqlite(file).map(Self::Sqlite)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            check_parameters(url)?;
            url.parse().map(Self::Postgres).map_err(CatalogueError::Connect)
        } else {
            Err(CatalogueError::UnknownDatabase)
        }
    }
}

/// The connection to warn of, if its address does not require TLS.
pub(super) fn plaintext(options: &PgConnectOptions) -> Option<Plaintext> {
    let requires_tls = match options.get_ssl_mode() {
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => false,
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => true,
    };
    let is_remote = options.get_socket().is_none();
    let host = options.get_host().to_owned();
    (is_remote && !requires_tls).then_some(Plaintext { setting: "DATABASE_URL", host })
}

/// Checks the parameters of a PostgreSQL address. sqlx ignores unknown ones and logs them with their values: a misspelt
/// `password` would be in the log.
fn check_parameters(url: &str) -> Result<(), CatalogueError> {
    let (_, parameters) = url.split_once('?').unwrap_or((url, ""));
    let name = |parameter: &str| parameter.split('=').next().is_some_and(|name| POSTGRES.contains(&name));
    let unknown = |parameter: &&str| !parameter.is_empty() && !name(parameter);
    match parameters.split('&').find(unknown) {
        Some(parameter) => Err(CatalogueError::unknown_parameter(parameter, parameters)),
        None => Ok(()),
    }
}

/// The path in the address of an SQLite file: the text up to the first `?`, as it is written. Behind it stand parameters;
/// `mode=rwc` is the only one, and what happens anyway.
fn sqlite_path(file: &str) -> Result<&Path, CatalogueError> {
    let (path, parameters) = file.split_once('?').unwrap_or((file, ""));
    let unknown = |parameter: &&str| !parameter.is_empty() && *parameter != "mode=rwc";
    if let Some(parameter) = parameters.split('&').find(unknown) {
        return Err(CatalogueError::unknown_parameter(parameter, parameters));
    }
    Ok(Path::new(path))
}

/// The address of an SQLite file, which is made if it is missing, with its folder.
fn sqlite(file: &str) -> Result<SqliteConnectOptions, CatalogueError> {
    let path = sqlite_path(file)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let name = path.file_name().ok_or(CatalogueError::UnknownDatabase)?;
    std::fs::create_dir_all(folder)?;
    let path = folder.canonicalize()?.join(name);
    OpenOptions::new().append(true).create(true).open(&path)?;
    Ok(SqliteConnectOptions::new().filename(path).create_if_missing(true))
}
