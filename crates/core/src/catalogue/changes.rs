//! Changes of the catalogue that the cache must follow. What a worker asks all the time, whether there are any, makes no
//! span.

use sqlx::{query, query_as};

use crate::cache::Kind;
use crate::clock::now_ms;

use super::database::{Connection, Dialects, List, rows, statement};
use super::{Catalogue, CatalogueError, signed};

/// Maximum rows of one INSERT.
const MAX_ROWS: usize = 500;
/// Maximum rows of one statement that maintains the table.
const MAINTENANCE_STEP: i64 = 5_000;

/// Notes the rows (kind, id, version) of `$1` as stored.
const STORED_SQLITE: &str = "\
    WITH stored (kind, id, version) AS ( \
        SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1)) \
    UPDATE pending_changes SET stored_on = $2, stored_at_ms = $3 FROM stored \
    WHERE pending_changes.kind = stored.kind AND pending_changes.id = stored.id \
        AND pending_changes.version = stored.version";
/// The same for the columns `$1` to `$3`. A key that somebody has locked is being changed: it will be pending again, and
/// is not waited for.
const STORED_POSTGRES: &str = "\
    WITH current AS ( \
        SELECT pending_changes.kind, pending_changes.id FROM pending_changes \
        JOIN UNNEST($1::text[], $2::text[], $3::bigint[]) AS stored (kind, id, version) \
            ON pending_changes.kind = stored.kind AND pending_changes.id = stored.id \
            AND pending_changes.version = stored.version \
        ORDER BY 1, 2 FOR UPDATE OF pending_changes SKIP LOCKED) \
    UPDATE pending_changes SET stored_on = $4, stored_at_ms = $5 FROM current \
    WHERE pending_changes.kind = current.kind AND pending_changes.id = current.id";

macro_rules! insert_pending {
    ($keys:literal) => {
        concat!(
            "INSERT INTO pending_changes (kind, id, version, changed_at_ms) SELECT $1, keys.value, $3, $4 FROM ",
            $keys,
            " WHERE true ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, stored_on = '' \
             WHERE pending_changes.version < excluded.version"
        )
    };
}

/// Two ranges of the index, which `<>` would read as a whole.
macro_rules! reopen {
    ($lock:literal) => {
        concat!(
            "UPDATE pending_changes SET stored_on = '' WHERE (kind, id) IN ( \
                 SELECT kind, id FROM (SELECT kind, id FROM pending_changes \
                     WHERE stored_on <> '' AND stored_on < $1 LIMIT $2 ",
            $lock,
            ") AS below \
                 UNION ALL \
                 SELECT kind, id FROM (SELECT kind, id FROM pending_changes \
                     WHERE stored_on <> '' AND stored_on > $1 LIMIT $2 ",
            $lock,
            ") AS above)"
        )
    };
}

macro_rules! forget {
    ($lock:literal) => {
        concat!(
            "DELETE FROM pending_changes WHERE stored_on = $1 AND stored_at_ms < $2 AND (kind, id) IN ( \
                 SELECT kind, id FROM pending_changes \
                 WHERE stored_on <> '' AND stored_on = $1 AND stored_at_ms < $2 LIMIT $3 ",
            $lock,
            ")"
        )
    };
}

/// Kind of a change of a range of products.
const RANGE: &str = "products";

/// A key of the catalogue that has changed since the cache was last given it.
///
/// Triggers of the database leave one for each product and market that is inserted, updated or deleted, in the
/// transaction of the change, whoever makes it: **no committed change is without one.** It is removed after the
/// cache has stored the change, and only if its version is still the one that was stored.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct PendingChange {
    /// `product`, `market`, or `products` for a range of them, whose list prices a recalculation has recorded.
    pub kind: String,
    /// The key, as the database has it: it may be no valid id. The first one of a range.
    pub id: String,
    /// The last key of a range.
    pub last_id: Option<String>,
    /// Version of the latest change of the key.
    pub version: i64,
    /// Time of the change in milliseconds since 1970, by the database's clock.
    pub changed_at_ms: i64,
}

impl PendingChange {
    /// What a recalculation leaves that has recorded list prices of products from `first` to `last`.
    pub(super) fn of_range(first: &str, last: &str, version: i64) -> Self {
        let (kind, id, last_id) = (RANGE.to_owned(), first.to_owned(), Some(last.to_owned()));
        Self { kind, id, last_id, version, changed_at_ms: now_ms() }
    }

    /// Whether it stands for a range of products.
    pub fn is_range(&self) -> bool {
        self.kind == RANGE
    }
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
                "SELECT kind, id, last_id, version, changed_at_ms FROM pending_changes \
                 WHERE stored_on = '' ORDER BY version LIMIT $1"
            }
            ChangeOrder::Newest => {
                "SELECT kind, id, last_id, version, changed_at_ms FROM pending_changes \
                 WHERE stored_on = '' ORDER BY version DESC LIMIT $1"
            }
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(self.database.run_untraced(statement!(fetch_all, query_as(select).bind(limit))).await?)
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
        let now_ms = signed(now_ms);
        let update = async |connection: Connection<'_>| match connection {
            Connection::Sqlite(connection) => {
                let changes: Vec<_> = changes.iter().map(|it| (&it.kind, &it.id, it.version)).collect();
                let query = query(STORED_SQLITE).bind(rows(&changes)).bind(redis).bind(now_ms);
                query.execute(connection).await.map(drop)
            }
            Connection::Postgres(connection) => {
                let kinds: List<'_> = changes.iter().map(|it| it.kind.as_str()).collect();
                let ids: List<'_> = changes.iter().map(|it| it.id.as_str()).collect();
                let versions: Vec<i64> = changes.iter().map(|it| it.version).collect();
                let query = query(STORED_POSTGRES).bind(kinds).bind(ids).bind(versions);
                query.bind(redis).bind(now_ms).execute(connection).await.map(drop)
            }
        };
        self.database.run("UPDATE pending_changes", update).await
    }

    /// Makes keys of one kind pending, as if each had been changed with this version, unless it was changed with a higher
    /// one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn make_pending(&self, kind: Kind, ids: &[String], version: u64) -> Result<(), CatalogueError> {
        let insert = self.database.dialect(Dialects {
            sqlite: insert_pending!("json_each($2) AS keys"),
            postgres: insert_pending!("UNNEST($2) AS keys (value)"),
        });
        for ids in ids.chunks(MAX_ROWS) {
            let ids: List<'_> = ids.iter().map(String::as_str).collect();
            let (kind, version) = (kind.as_str(), signed(version));
            let insert = statement!(execute, query(insert).bind(kind).bind(ids).bind(version).bind(now_ms()));
            self.database.run("INSERT pending_changes", insert).await?;
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
        let update = self.database.dialect(Dialects {
            sqlite: reopen!(""),
            postgres: reopen!("FOR UPDATE OF pending_changes SKIP LOCKED"),
        });
        let update = statement!(execute, query(update).bind(redis).bind(MAINTENANCE_STEP));
        Ok(self.database.run_untraced(update).await?)
    }

    /// Removes changes that the Redis `redis` has held since before `before_ms`, by its clock. Returns how many; call
    /// it again while there are some.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn forget_changes(&self, redis: &str, before_ms: u64) -> Result<u64, CatalogueError> {
        let delete = self.database.dialect(Dialects {
            sqlite: forget!(""),
            postgres: forget!("FOR UPDATE OF pending_changes SKIP LOCKED"),
        });
        let before_ms = signed(before_ms);
        let delete = statement!(execute, query(delete).bind(redis).bind(before_ms).bind(MAINTENANCE_STEP));
        Ok(self.database.run_untraced(delete).await?)
    }
}
