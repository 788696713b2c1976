//! The products and markets in the database: the truth behind the cache.
//!
//! One set of statements serves SQLite and PostgreSQL; only the schemas differ. `DATABASE_URL` chooses.

mod connect;
mod demo;
mod lookup;
mod recalculation;

pub use connect::{DatabaseSettings, Preparation};
pub use recalculation::{ListPrice, ProductRow};

use sqlx::AnyPool;
use sqlx::migrate::MigrateError;

use crate::ids::{Location, ProductId};
use crate::money::{Money, Ppm};
use crate::settings::SecretError;

/// What can go wrong with the catalogue.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The address of the database could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// `DATABASE_URL` names no database that we know.
    #[error("DATABASE_URL must be sqlite://FILE or postgres://…")]
    UnknownDatabase,
    /// The file of an SQLite database could not be opened or locked.
    #[error("DATABASE_URL: cannot open the SQLite database file")]
    File(#[from] std::io::Error),
    /// The database is away or refuses us, or its address is wrong.
    #[error("cannot connect to the database: check DATABASE_URL")]
    Connect(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("cannot bring the database schema up to date")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The database is away, slow, or refused a statement.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// A row holds a value that no price can be made of.
    #[error("the database holds an invalid {what} for {key}")]
    Invalid {
        /// The column.
        what: &'static str,
        /// The row.
        key: String,
    },
}

impl CatalogueError {
    /// Whether the database is away, or not up yet. A statement that the database refused, such as one on a
    /// missing table, is a defect and no outage.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Connect(error) | Self::Database(error) | Self::Migration(MigrateError::Execute(error)) => {
                is_unavailable(error)
            }
            _ => false,
        }
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
        // Connection exceptions, too many connections, and a server that starts or ends.
        return ["08", "53300", "57P"].iter().any(|class| code.starts_with(class));
    }
    // The primary code is the low byte: SQLITE_BUSY, SQLITE_IOERR and SQLITE_CANTOPEN.
    code.parse::<u32>().is_ok_and(|code| [5, 10, 14].contains(&(code & 0xff)))
}

/// The catalogue. Clones share one connection pool.
#[derive(Debug, Clone)]
pub struct Catalogue {
    pool: AnyPool,
}

impl Catalogue {
    /// Sets the base price of a product, creating it (in US dollars) when it is new.
    ///
    /// The database itself makes the new version, so the same holds for a change made by hand. A market
    /// event must follow for the change to reach the cache before its entry expires.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn set_base_price(&self, id: &ProductId, price: Money) -> Result<(), CatalogueError> {
        let upsert = "INSERT INTO products (id, base_price_minor) VALUES ($1, $2) \
                      ON CONFLICT (id) DO UPDATE SET base_price_minor = excluded.base_price_minor";
        let query = sqlx::query(upsert).bind(id.as_str().to_owned()).bind(price.minor());
        query.execute(&self.pool).await?;
        Ok(())
    }

    /// Sets the multiplier of a market, creating it when it is new.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn set_multiplier(&self, location: &Location, multiplier: Ppm) -> Result<(), CatalogueError> {
        let upsert = "INSERT INTO markets (location, multiplier_ppm) VALUES ($1, $2) \
                      ON CONFLICT (location) DO UPDATE SET multiplier_ppm = excluded.multiplier_ppm";
        let query = sqlx::query(upsert).bind(location.as_str().to_owned()).bind(multiplier.get());
        query.execute(&self.pool).await?;
        Ok(())
    }

    /// Whether the database answers.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_outage_makes_the_database_unavailable() {
        for outage in ["08006", "53300", "57P01", "57P03", "5", "261", "10", "14"] {
            assert!(is_outage(outage), "{outage}");
        }
        for refusal in ["42P01", "28P01", "57014", "23505", "53100", "1", "8", "11", ""] {
            assert!(!is_outage(refusal), "{refusal}");
        }
        assert!(CatalogueError::Database(sqlx::Error::PoolTimedOut).is_unavailable());
        assert!(CatalogueError::Connect(std::io::Error::other("refused").into()).is_unavailable());
        assert!(!CatalogueError::Database(sqlx::Error::RowNotFound).is_unavailable());
    }
}
