//! Edits of products and markets, each under the revision that its author has seen.

pub(super) mod markets;
pub(super) mod product_rows;
pub(super) mod products;

use sqlx::query;

use super::database::{Connection, List, Transaction};
use super::{FieldError, SuspiciousChange};

pub use markets::{CatalogueMarket, MarketEdit};
pub use products::{CatalogueProduct, ProductEdit};

/// What an edit does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<F> {
    /// Creates the entry with these fields, or replaces all fields of an existing one.
    Put(F),
    /// Changes some fields of an existing entry.
    Patch(F),
    /// Creates the entry with these fields, or changes some fields of an existing one.
    Upsert(F),
    /// Deletes the entry.
    Delete,
}

/// What must hold of the stored entry before it is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precondition {
    /// Anything.
    #[default]
    None,
    /// It has this revision.
    Revision(u64),
    /// There is one.
    Exists,
    /// There is none.
    Absent,
}

impl Precondition {
    fn check(self, revision: Option<u64>) -> Result<(), EditRefusal> {
        let holds = match self {
            Self::None => true,
            Self::Revision(expected) => revision == Some(expected),
            Self::Exists => revision.is_some(),
            Self::Absent => revision.is_none(),
        };
        if holds { Ok(()) } else { Err(EditRefusal::Precondition { revision }) }
    }
}

/// Why an edit is refused. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditRefusal {
    /// There is nothing to patch or delete.
    #[error("it does not exist")]
    NotFound,
    /// The precondition does not hold.
    #[error("it has been changed: {}", revision_text(*revision))]
    Precondition {
        /// The current revision, `None` if there is no entry.
        revision: Option<u64>,
    },
    /// Fields are wrong.
    #[error("{}", fields_text(.0))]
    Fields(Vec<FieldError>),
    /// The change must be confirmed for the revision that its author has seen.
    #[error("{change}, under revision {revision}")]
    Suspicious {
        /// The change.
        change: SuspiciousChange,
        /// The current revision.
        revision: u64,
    },
    /// The market `default` prices all locations without a market.
    #[error("the market `default` cannot be deleted: it prices all locations without a market of their own")]
    DefaultMarket,
}

fn revision_text(revision: Option<u64>) -> String {
    revision.map_or("it does not exist".to_owned(), |revision| format!("its revision is {revision}"))
}

fn fields_text(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What an edit has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edited<T> {
    /// The entry as it is now. `created` tells whether it is new.
    Stored {
        /// The entry.
        entry: T,
        /// Whether it did not exist before.
        created: bool,
    },
    /// The entry was deleted, by the change of this version.
    Deleted {
        /// Version of the deletion.
        version: u64,
    },
}

/// What to do with the stored entry.
enum Decision<T> {
    Write(T),
    Delete,
}

/// Decides what an edit makes of the terms that are stored under a revision.
fn decide<T, F>(
    stored: Option<(&T, u64)>,
    action: &Action<F>,
    precondition: Precondition,
    parse: impl FnOnce(Option<&T>, F) -> Result<T, Vec<FieldError>>,
) -> Result<Decision<T>, EditRefusal>
where
    F: Clone,
{
    let existing = stored.map(|(terms, _)| terms);
    if matches!(action, Action::Patch(_) | Action::Delete) && existing.is_none() {
        return Err(EditRefusal::NotFound);
    }
    let written = match action {
        Action::Delete => None,
        Action::Put(fields) => Some((None, fields)),
        Action::Patch(fields) | Action::Upsert(fields) => Some((existing, fields)),
    };
    // What is wrong whatever the revision is said first (RFC 9110, section 13.2.1).
    let decision = match written {
        None => Decision::Delete,
        Some((before, fields)) => {
            Decision::Write(parse(before, fields.clone()).map_err(EditRefusal::Fields)?)
        }
    };
    precondition.check(stored.map(|(_, revision)| revision))?;
    Ok(decision)
}

/// Lets one transaction at a time create entries with keys like these, until its end: a key that does not exist has no row
/// to lock, and of two creations the second must find what the first has made. Returns whether others may have created them
/// meanwhile: SQLite has one writer at a time.
async fn lock_creations(
    transaction: &mut Transaction<'_>,
    kind: &str,
    keys: impl Iterator<Item = &str>,
) -> sqlx::Result<bool> {
    let keys: List<'_> = keys.collect();
    transaction
        .run(async |connection| match connection {
            Connection::Sqlite(_) => Ok(false),
            Connection::Postgres(connection) => {
                // A bounded number of locks, whatever the number of keys; all take them in the same order.
                let lock = "SELECT pg_advisory_xact_lock(hashtext('pricing create ' || $1), bucket) \
                            FROM (SELECT DISTINCT hashtext(key) & 63 AS bucket FROM UNNEST($2) AS keys (key) ORDER BY 1) \
                            AS buckets";
                query(lock).bind(kind).bind(keys).execute(connection).await?;
                Ok(true)
            }
        })
        .await
}
