//! The products and markets in the database: the source of truth behind the cache.
//!
//! One set of statements serves SQLite and PostgreSQL; only the schemas differ. `DATABASE_URL` chooses.
//!
//! In reading order: [`Catalogue::open`] connects and migrates; `read` looks rows up for the read path and
//! scans them for a recalculation; `list_prices` records what a recalculation computed; `edit` changes products and
//! markets. Each statement runs in a client span.

mod error;
mod statement;

mod address;
mod connect;
mod demo;

mod edit;
mod list_prices;
mod read;

use sqlx::AnyPool;

pub use address::DatabaseSettings;
pub use connect::Preparation;
pub use error::CatalogueError;
pub use list_prices::ListPrice;
pub use read::ProductRow;

/// The catalogue. Clones share one connection pool.
#[derive(Debug, Clone)]
pub struct Catalogue {
    pool: AnyPool,
    /// `db.system.name` of its spans.
    system: &'static str,
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
}
