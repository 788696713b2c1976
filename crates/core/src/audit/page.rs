//! Reading the audit, from the newest row on.

use std::fmt;
use std::str::FromStr;

use sqlx::query_as;

use super::Audit;
use crate::catalogue::CatalogueError;
use crate::catalogue::database::statement;

/// Maximum rows of a page.
pub const MAX_AUDIT_PAGE: u16 = 1_000;

/// A row of the audit. Its texts come from callers: escape them where they drive a terminal.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AuditRow {
    /// Number of the row.
    pub id: i64,
    /// Time by the clock of the database, in milliseconds since 1970.
    pub at_ms: i64,
    /// The name of a key, `cli:USER` or `anonymous`.
    pub caller: String,
    /// Address of the client; `None` at the command line.
    pub address: Option<String>,
    /// Code of the action, such as `task.replay`. A newer build may have written one that this build does not know.
    pub action: String,
    /// What was acted on.
    pub subject: Option<String>,
    /// What else there is to know.
    pub detail: Option<String>,
    /// Id of the trace.
    pub trace_id: Option<String>,
}

/// Which rows to read. The default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only rows of this caller, as it is stored.
    pub caller: Option<String>,
    /// Only rows of the action with this code.
    pub action: Option<String>,
    /// Only rows about this subject.
    pub subject: Option<String>,
    /// Only rows from this time on, in milliseconds since 1970.
    pub since_ms: Option<i64>,
}

/// Where a page ended, and the next one begins. Its text is `TIME-ROW`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCursor {
    at_ms: i64,
    id: i64,
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no cursor of the audit: take the one that the page before ended with")]
pub struct InvalidCursor;

impl FromStr for AuditCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let number = |digits: &str| {
            let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or(InvalidCursor)
        };
        let (at_ms, id) = text.split_once('-').ok_or(InvalidCursor)?;
        Ok(Self { at_ms: number(at_ms)?, id: number(id)? })
    }
}

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at_ms, self.id)
    }
}

/// A part of the audit, newest row first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// The rows.
    pub rows: Vec<AuditRow>,
    /// Where to go on; `None` when there are no more.
    pub next: Option<AuditCursor>,
}

impl Audit {
    /// Reads at most `limit` rows, and no more than [`MAX_AUDIT_PAGE`], from the newest on or from where the page
    /// before ended. Rows that are written meanwhile move no other row to another page.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn page(
        &self,
        after: Option<AuditCursor>,
        limit: u16,
        filter: &AuditFilter,
    ) -> Result<AuditPage, CatalogueError> {
        let limit = limit.clamp(1, MAX_AUDIT_PAGE);
        let after = after.unwrap_or(AuditCursor { at_ms: i64::MAX, id: i64::MAX });
        let AuditFilter { caller, action, subject, since_ms } = filter;
        let select = "SELECT id, at_ms, caller, address, action, subject, detail, trace_id FROM audit \
                      WHERE at_ms >= $1 AND (at_ms, id) < ($2, $3) AND ($5 IS NULL OR caller = $5) \
                          AND ($6 IS NULL OR action = $6) AND ($7 IS NULL OR subject = $7) \
                      ORDER BY at_ms DESC, id DESC LIMIT $4";
        let since_ms = since_ms.unwrap_or(i64::MIN);
        let select = statement!(
            fetch_all,
            query_as::<_, AuditRow>(select)
                .bind(since_ms)
                .bind(after.at_ms)
                .bind(after.id)
                .bind(i64::from(limit) + 1)
                .bind(caller)
                .bind(action)
                .bind(subject)
        );
        let mut rows = self.database.run("SELECT audit", select).await?;
        let is_last = rows.len() <= usize::from(limit);
        rows.truncate(usize::from(limit));
        let next = rows.last().filter(|_| !is_last).map(|row| AuditCursor { at_ms: row.at_ms, id: row.id });
        Ok(AuditPage { rows, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_is_one() {
        let cursor = AuditCursor { at_ms: 1_795_375_221_123, id: 42 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for other in ["", "-", "1", "1-", "-1-2", "1-2-3", "+1-2", "1-x", "99999999999999999999-1"] {
            assert_eq!(other.parse::<AuditCursor>(), Err(InvalidCursor), "{other}");
        }
    }
}
