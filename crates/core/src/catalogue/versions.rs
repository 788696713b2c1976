//! The sequence that gives each change of the catalogue its version.

use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection, query, query_scalar, raw_sql};

use super::database::{Connection, Transaction, statement};
use super::{Catalogue, CatalogueError, signed};

const LAST_VERSION: &str = "SELECT last_value FROM catalogue_version";

impl Catalogue {
    /// The version that the database gave last.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn last_version(&self) -> Result<u64, CatalogueError> {
        let version: i64 =
            self.database.run_untraced(statement!(fetch_one, query_scalar(LAST_VERSION))).await?;
        Ok(u64::try_from(version).unwrap_or(0))
    }

    /// Gives every product and market a version above `version`, unless the database is beyond it already. This
    /// makes a database that was restored from a dump newer than what the cache was given before. It takes as long
    /// as the catalogue is large. PostgreSQL lets it wait 5 s for others who change the catalogue, because those who
    /// come after wait behind it.
    ///
    /// # Errors
    ///
    /// When the database fails; then no version has changed.
    pub async fn move_beyond(&self, version: u64) -> Result<(), CatalogueError> {
        let version = signed(version);
        let shift = async |connection: Connection<'_>| {
            let mut transaction = connection.begin().await?;
            if let Transaction::Postgres(transaction) = &mut transaction {
                // One worker at a time, and nobody changes the catalogue meanwhile.
                let lock = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '5s'; \
                            LOCK TABLE products, markets IN EXCLUSIVE MODE";
                raw_sql(lock).execute(&mut **transaction).await?;
            }
            let last: i64 = transaction.run(statement!(fetch_one, query_scalar(LAST_VERSION))).await?;
            if last < version {
                match &mut transaction {
                    Transaction::Sqlite(transaction) => restart_sqlite(transaction, version + 1).await?,
                    Transaction::Postgres(transaction) => restart_postgres(transaction, version + 1).await?,
                }
            }
            transaction.commit().await
        };
        self.database.run("UPDATE products markets", shift).await
    }
}

/// Gives versions from `version` on, and one to each row: triggers replace a version that is set by hand.
async fn restart_sqlite(database: &mut SqliteConnection, version: i64) -> sqlx::Result<()> {
    query("UPDATE catalogue_version SET last_value = $1").bind(version).execute(&mut *database).await?;
    let touch = "UPDATE products SET version = 9223372036854775807; \
                 UPDATE markets SET version = 9223372036854775807";
    raw_sql(touch).execute(database).await?;
    Ok(())
}

/// The same. All constraints are checked again, so rows that break one are passed over. Unlike `setval`, `ALTER
/// SEQUENCE` is undone when the transaction is.
async fn restart_postgres(database: &mut PgConnection, version: i64) -> sqlx::Result<()> {
    let restart = format!("ALTER SEQUENCE catalogue_version RESTART WITH {version}");
    raw_sql(AssertSqlSafe(restart)).execute(&mut *database).await?;
    let touch = "UPDATE products SET version = 9223372036854775807 \
                 WHERE id ~ '^[A-Za-z0-9._-]{1,64}$'; \
                 UPDATE markets SET version = 9223372036854775807 WHERE location ~ '^[A-Za-z0-9._-]{1,64}$'";
    raw_sql(touch).execute(database).await?;
    Ok(())
}
