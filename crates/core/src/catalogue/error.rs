//! Errors of the catalogue.

use sqlx::migrate::MigrateError;

use crate::money::Currency;
use crate::settings::SecretError;

/// What can go wrong with the catalogue.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The address of the database could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// `DATABASE_URL` names no supported database.
    #[error("DATABASE_URL must be sqlite://FILE or postgres://…")]
    UnknownDatabase,
    /// The address has a parameter that is not supported.
    #[error(
        "DATABASE_URL: the parameter {0:?} is not supported; SQLite has mode=rwc, PostgreSQL has sslmode and others"
    )]
    UnknownParameter(String),
    /// The file of an SQLite database could not be opened or locked.
    #[error("DATABASE_URL: cannot open the SQLite database file")]
    File(#[from] std::io::Error),
    /// The database is away or refuses the connection, or its address is wrong.
    #[error("cannot connect to the database: check DATABASE_URL")]
    Connect(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("cannot bring the database schema up to date")]
    Migration(#[from] MigrateError),
    /// The schema is not that of this version, and nobody asked to change it.
    #[error(
        "the database is new, or of another version: start a service first, which brings it up to date, and look at \
         DATABASE_URL"
    )]
    OtherSchema,
    /// The database is away, slow, or refused a statement.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The catalogue was used before it was prepared.
    #[error("the catalogue is not prepared yet")]
    Unprepared,
    /// The setting names another currency than the one that the products are in.
    #[error(
        "CATALOGUE_CURRENCY is {asked}, but the prices in the database are in {currency}; they are not converted: \
         unset it, or use a new database"
    )]
    OtherCurrency {
        /// The setting.
        asked: Currency,
        /// The currency of the database.
        currency: Currency,
    },
    /// An older database holds products in several currencies, which a catalogue cannot hold any more.
    #[error(
        "the products are in several currencies ({0}), and a catalogue has one: move the others to another database"
    )]
    SeveralCurrencies(String),
    /// This process uses all its connections: it asks too much, and the database may be well.
    #[error("all connections to the database are in use")]
    PoolFull,
    /// A row holds a value that cannot be priced.
    #[error("the database holds an invalid {what} for {key}")]
    Invalid {
        /// The column.
        what: &'static str,
        /// The row.
        key: String,
    },
}

impl CatalogueError {
    /// Whether the database is away, not up yet or too slow. A pool that is full is no outage, and a statement that
    /// the database refused, such as one on a missing table, is a defect and no outage.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Connect(error) | Self::Database(error) | Self::Migration(MigrateError::Execute(error)) => {
                is_unavailable(error)
            }
            Self::Unprepared => true,
            _ => false,
        }
    }
}

impl CatalogueError {
    /// Names a parameter such as `mode=ro` of `parameters`, and not its value, which may be a misplaced password. If
    /// these may be the rest of a password with a question mark in it, it has no name.
    pub(super) fn unknown_parameter(parameter: &str, parameters: &str) -> Self {
        let name = parameter.split_once('=').map(|(name, _)| name).filter(|name| {
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            name.bytes().all(is_letter) && !parameters.contains('@')
        });
        Self::UnknownParameter(name.unwrap_or("…").to_owned())
    }

    /// Whether another transaction was in the way, so that the same call may succeed now.
    pub(super) fn is_conflict(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        // Serialization failure and deadlock of PostgreSQL, and SQLITE_BUSY in a transaction that began to read.
        error.code().is_some_and(|code| ["40001", "40P01", "517"].contains(&&*code))
    }
}

fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_outage(&code)),
        _ => false,
    }
}

/// Whether a code of PostgreSQL (five characters) or of SQLite (a number) means that the database is away.
fn is_outage(code: &str) -> bool {
    if code.len() == 5 {
        // Connection exceptions, too many connections, a server that starts or ends, and one that was too slow: it
        // ended the statement at our time limit.
        return ["08", "53300", "57P", "57014", "55P03"].iter().any(|class| code.starts_with(class));
    }
    // The primary code is the low byte: SQLITE_BUSY, SQLITE_IOERR and SQLITE_CANTOPEN.
    code.parse::<u32>().is_ok_and(|code| [5, 10, 14].contains(&(code & 0xff)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_outage_makes_the_database_unavailable() {
        for outage in ["08006", "53300", "57P01", "57P03", "57014", "55P03", "5", "261", "10", "14"] {
            assert!(is_outage(outage), "{outage}");
        }
        for refusal in ["42P01", "28P01", "23505", "53100", "1", "8", "11", ""] {
            assert!(!is_outage(refusal), "{refusal}");
        }
        assert!(CatalogueError::Database(sqlx::Error::PoolTimedOut).is_unavailable());
        assert!(CatalogueError::Connect(std::io::Error::other("refused").into()).is_unavailable());
        assert!(!CatalogueError::Database(sqlx::Error::RowNotFound).is_unavailable());
    }
}
