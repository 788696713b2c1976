//! The address of the database.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::CatalogueError;
use crate::plaintext::Plaintext;
use crate::settings::secret;

/// Address and initial content of the database.
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

/// `DATABASE_URL`, understood.
pub(super) struct Address {
    /// The URL for sqlx.
    pub(super) url: String,
    /// The file beside an SQLite database that processes lock while they migrate.
    pub(super) lock: Option<PathBuf>,
}

impl Address {
    pub(super) fn read(settings: &DatabaseSettings) -> Result<Self, CatalogueError> {
        let url = settings.database_url.as_deref();
        let file = settings.database_url_file.as_deref();
        let url = secret("DATABASE_URL", url, file, "sqlite://pricing.db")?;
        if let Some(file) = url.strip_prefix("sqlite://") {
            sqlite(file)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Ok(Self { url, lock: None })
        } else {
            Err(CatalogueError::UnknownDatabase)
        }
    }

    /// `db.system.name` of the database.
    pub(super) fn system(&self) -> &'static str {
        if self.lock.is_some() { "sqlite" } else { "postgresql" }
    }
}

/// The connection to warn of, if the address `url` is one of PostgreSQL and does not require TLS.
pub(super) fn plaintext(url: &str) -> Option<Plaintext> {
    let options: PgConnectOptions = url.parse().ok()?;
    let requires_tls = match options.get_ssl_mode() {
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => false,
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => true,
    };
    let is_remote = options.get_socket().is_none();
    let host = options.get_host().to_owned();
    (is_remote && !requires_tls).then_some(Plaintext { setting: "DATABASE_URL", host })
}

/// The address of an SQLite file, which is made if it is missing, with its folder. The text up to the first `?` is
/// the path, as it is written. Behind it stand parameters, as sqlx knows them; `mode=rwc` is what happens anyway.
fn sqlite(file: &str) -> Result<Address, CatalogueError> {
    let (path, parameters) = file.split_once('?').unwrap_or((file, ""));
    let unknown = |parameter: &&str| !parameter.is_empty() && *parameter != "mode=rwc";
    if let Some(parameter) = parameters.split('&').find(unknown) {
        return Err(CatalogueError::UnknownParameter(parameter.to_owned()));
    }
    let path = Path::new(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let name = path.file_name().ok_or(CatalogueError::UnknownDatabase)?;
    std::fs::create_dir_all(folder)?;
    let path = folder.canonicalize()?.join(name);
    OpenOptions::new().append(true).create(true).open(&path)?;
    let mut lock = path.as_os_str().to_owned();
    lock.push(".migrating");
    // In a URL the path would mean another file if it held `..` or one of these characters.
    let path = path.display().to_string().replace('%', "%25").replace('#', "%23");
    Ok(Address { url: format!("sqlite://{path}?mode=rwc"), lock: Some(lock.into()) })
}
