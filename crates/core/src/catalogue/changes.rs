//! Changes of the catalogue that the cache must follow. What a worker asks all the time, whether there are any, makes no
//! span.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgListener;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, query, query_as, query_scalar, raw_sql};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::cache::Kind;
use crate::clock::now_ms;

use super::{Catalogue, CatalogueError, placeholders, signed};

/// The channel of PostgreSQL on which the triggers announce changes.
const NOTIFICATIONS: &str = "pricing_changes";
/// Time limit of connecting to listen for notifications.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two attempts to do so.
const RECONNECT_PERIOD: Duration = Duration::from_secs(10);
/// Maximum rows of one INSERT.
const MAX_ROWS: usize = 500;
/// Maximum rows of one statement that maintains the table.
const MAINTENANCE_STEP: i64 = 5_000;

/// A key of the catalogue that has changed since the cache was last given it.
///
/// Triggers of the database leave one for each product and market that is inserted, updated or deleted, in the
/// transaction of the change, whoever makes it: **no committed change is without one.** It is removed after the
/// cache has stored the change, and only if its version is still the one that was stored.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct PendingChange {
    /// `product` or `market`.
    pub kind: String,
    /// The key, as the database has it: it may be no valid id.
    pub id: String,
    /// Version of the latest change of the key.
    pub version: i64,
    /// Time of the change in milliseconds since 1970, by the database's clock.
    pub changed_at_ms: i64,
}

/// Which pending changes to take first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeOrder {
    /// Those that wait longest.
    Oldest,
    /// Those made last.
    Newest,
}

impl Catalogue {
    /// Reads at most `limit` changes that the cache does not hold yet. Read the changed rows *after* this: rows read
    /// before may lack the change.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn pending_changes(
        &self,
        order: ChangeOrder,
        limit: usize,
    ) -> Result<Vec<PendingChange>, CatalogueError> {
        let select = match order {
            ChangeOrder::Oldest => {
                "SELECT kind, id, version, changed_at_ms FROM pending_changes \
                 WHERE stored_on = '' ORDER BY version LIMIT $1"
            }
            ChangeOrder::Newest => {
                "SELECT kind, id, version, changed_at_ms FROM pending_changes \
                 WHERE stored_on = '' ORDER BY version DESC LIMIT $1"
            }
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = query_as(select).bind(limit);
        Ok(query.fetch_all(&self.pool).await?)
    }

    /// Notes that the cache of the Redis `redis` (its `master_replid`) holds these changes, since `now_ms` by the
    /// clock of Redis. A change whose key has changed again stays pending.
    ///
    /// # Errors
    ///
    /// When the database fails; then the changes are stored once more.
    pub async fn changes_stored(
        &self,
        changes: &[PendingChange],
        redis: &str,
        now_ms: u64,
    ) -> Result<(), CatalogueError> {
        if changes.is_empty() {
            return Ok(());
        }
        // A key that somebody has locked is being changed: it will be pending again, and is not waited for.
        let lock = self.skip_locked();
        let update = format!(
            "WITH stored (kind, id, version) AS (VALUES {}), \
             current AS (SELECT pending_changes.kind, pending_changes.id FROM pending_changes JOIN stored \
                 ON pending_changes.kind = stored.kind AND pending_changes.id = stored.id \
                 AND pending_changes.version = stored.version ORDER BY 1, 2 {lock}) \
             UPDATE pending_changes SET stored_on = ${}, stored_at_ms = ${} FROM current \
             WHERE pending_changes.kind = current.kind AND pending_changes.id = current.id",
            placeholders(changes.len(), 3),
            3 * changes.len() + 1,
            3 * changes.len() + 2,
        );
        let mut query = query(AssertSqlSafe(update));
        for PendingChange { kind, id, version, .. } in changes {
            query = query.bind(kind.as_str()).bind(id.as_str()).bind(*version);
        }
        let query = query.bind(redis).bind(signed(now_ms));
        self.run("UPDATE pending_changes", async |database| query.execute(database).await).await?;
        Ok(())
    }

    /// Makes keys of one kind pending, as if each had been changed with this version, unless it was changed with a higher
    /// one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn make_pending(&self, kind: Kind, ids: &[String], version: u64) -> Result<(), CatalogueError> {
        for ids in ids.chunks(MAX_ROWS) {
            let insert = format!(
                "INSERT INTO pending_changes (kind, id, version, changed_at_ms) VALUES {} \
                 ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, stored_on = '' \
                 WHERE pending_changes.version < excluded.version",
                placeholders(ids.len(), 4)
            );
            let mut query = query(AssertSqlSafe(insert));
            for id in ids {
                query = query.bind(kind.as_str()).bind(id.as_str()).bind(signed(version)).bind(now_ms());
            }
            self.run("INSERT pending_changes", async |database| query.execute(database).await).await?;
        }
        Ok(())
    }

    /// Makes changes pending again that another Redis holds than `redis`: a failover may have lost them. Returns
    /// how many; call it again while there are some.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn reopen_changes(&self, redis: &str) -> Result<u64, CatalogueError> {
        // Two ranges of the index, which `<>` would read as a whole.
        let lock = self.skip_locked();
        let update = format!(
            "UPDATE pending_changes SET stored_on = '' WHERE (kind, id) IN ( \
                 SELECT kind, id FROM (SELECT kind, id FROM pending_changes \
                     WHERE stored_on <> '' AND stored_on < $1 LIMIT $2 {lock}) AS below \
                 UNION ALL \
                 SELECT kind, id FROM (SELECT kind, id FROM pending_changes \
                     WHERE stored_on <> '' AND stored_on > $1 LIMIT $2 {lock}) AS above)"
        );
        let query = query(AssertSqlSafe(update)).bind(redis).bind(MAINTENANCE_STEP);
        Ok(query.execute(&self.pool).await?.rows_affected())
    }

    /// Removes changes that the Redis `redis` has held since before `before_ms`, by its clock. Returns how many; call
    /// it again while there are some.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn forget_changes(&self, redis: &str, before_ms: u64) -> Result<u64, CatalogueError> {
        let delete = format!(
            "DELETE FROM pending_changes WHERE stored_on = $1 AND stored_at_ms < $2 AND (kind, id) IN ( \
                 SELECT kind, id FROM pending_changes \
                 WHERE stored_on <> '' AND stored_on = $1 AND stored_at_ms < $2 LIMIT $3 {})",
            self.skip_locked()
        );
        let query = query(AssertSqlSafe(delete)).bind(redis).bind(signed(before_ms)).bind(MAINTENANCE_STEP);
        Ok(query.execute(&self.pool).await?.rows_affected())
    }

    /// The version that the database gave last.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn last_version(&self) -> Result<u64, CatalogueError> {
        let query = query_scalar("SELECT last_value FROM catalogue_version");
        let version: i64 = query.fetch_one(&self.pool).await?;
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
        let is_sqlite = self.system == "sqlite";
        let shift = async |database: &mut AnyConnection| {
            let begin = if is_sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" };
            let mut transaction = database.begin_with(begin).await?;
            if !is_sqlite {
                // One worker at a time, and nobody changes the catalogue meanwhile.
                let lock = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '5s'; \
                            LOCK TABLE products, markets IN EXCLUSIVE MODE";
                raw_sql(lock).execute(&mut *transaction).await?;
            }
            let last = query_scalar("SELECT last_value FROM catalogue_version");
            let last: i64 = last.fetch_one(&mut *transaction).await?;
            if last < signed(version) {
                // Unlike `setval` both are undone when the transaction is.
                let (set, touch) = match is_sqlite {
                    true => ("UPDATE catalogue_version SET last_value =", TOUCH_ALL_SQLITE),
                    false => ("ALTER SEQUENCE catalogue_version RESTART WITH", TOUCH_ALL_POSTGRES),
                };
                let set = AssertSqlSafe(format!("{set} {}", signed(version) + 1));
                query(set).execute(&mut *transaction).await?;
                for touch in touch {
                    query(touch).execute(&mut *transaction).await?;
                }
            }
            transaction.commit().await
        };
        self.run("UPDATE products markets", shift).await
    }

    /// Ends a SELECT of pending changes that are to be written: without those that somebody has locked. SQLite has one
    /// writer at a time.
    fn skip_locked(&self) -> &'static str {
        if self.system == "sqlite" { "" } else { "FOR UPDATE OF pending_changes SKIP LOCKED" }
    }

    /// The announcements of changes. To be used by one waiter.
    pub fn change_signal(&self) -> ChangeSignal {
        let url = (self.system == "postgresql").then(|| self.url.clone());
        ChangeSignal { url, listener: None, connect_at: Instant::now() }
    }
}

/// Gives all rows a new version: their triggers replace a version that is set by hand. PostgreSQL checks all
/// constraints again, so rows that break one are passed over.
const TOUCH_ALL_SQLITE: [&str; 2] =
    ["UPDATE products SET version = 9223372036854775807", "UPDATE markets SET version = 9223372036854775807"];
const TOUCH_ALL_POSTGRES: [&str; 2] = [
    "UPDATE products SET version = 9223372036854775807 \
     WHERE id ~ '^[A-Za-z0-9._-]{1,64}$' AND currency COLLATE \"C\" ~ '^[A-Z]{3}$'",
    "UPDATE markets SET version = 9223372036854775807 WHERE location ~ '^[A-Za-z0-9._-]{1,64}$'",
];

/// Tells of changes of the catalogue soon after their commit.
#[derive(Debug)]
pub struct ChangeSignal {
    /// The address of PostgreSQL; `None` for SQLite, which tells nobody.
    url: Option<SecretString>,
    listener: Option<PgListener>,
    /// When to try to connect again.
    connect_at: Instant,
}

impl ChangeSignal {
    /// Waits until PostgreSQL announces a change, for at most `at_most`. An announcement may be missed, as while the
    /// connection is broken, and one may come for nothing.
    pub async fn wait(&mut self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        if let Some(url) =
            self.url.as_ref().filter(|_| self.listener.is_none() && Instant::now() >= self.connect_at)
        {
            self.connect_at = Instant::now() + RECONNECT_PERIOD;
            match timeout(CONNECT_TIMEOUT, listen(url)).await {
                Ok(Ok(listener)) => {
                    self.listener = Some(listener);
                    return; // a change may have been announced before
                }
                Ok(Err(error)) => tracing::debug!(%error, "cannot listen for changes of the catalogue"),
                Err(error) => tracing::debug!(%error, "cannot listen for changes of the catalogue"),
            }
        }
        let Some(listener) = &mut self.listener else { return sleep_until(deadline).await };
        match timeout_at(deadline, listener.try_recv()).await {
            // What is announced already is read by the caller now.
            Ok(Ok(Some(_))) => while listener.next_buffered().is_some() {},
            Ok(_) => {
                self.listener = None;
                sleep_until(deadline).await;
            }
            Err(_) => {}
        }
    }
}

async fn listen(url: &SecretString) -> sqlx::Result<PgListener> {
    let mut listener = PgListener::connect(url.expose_secret()).await?;
    listener.listen(NOTIFICATIONS).await?;
    Ok(listener)
}
