//! The audit at the command line.

use anyhow::{Context as _, Result};
use nix::unistd::{Uid, User};
use pricing_core::audit::{
    Audit, AuditAction, AuditCaller, AuditCursor, AuditEntry, AuditFilter, AuditRow, MAX_AUDIT_PAGE,
};
use pricing_core::causes::printable;
use pricing_core::clock::rfc3339;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Which rows to print.
#[derive(Debug, Clone, clap::Args)]
pub struct AuditArgs {
    /// Maximum number of rows
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_AUDIT_PAGE)))]
    limit: u16,
    /// Where to go on: the cursor that the page before ended with
    #[arg(long)]
    after: Option<AuditCursor>,
    /// Only rows from this time on, such as 2026-11-26T00:00:00Z
    #[arg(long, value_parser = parse_time)]
    since: Option<OffsetDateTime>,
    /// Only rows of this caller: the name of a key, cli:USER or anonymous
    #[arg(long)]
    caller: Option<String>,
    /// Only rows of this action, such as task.replay
    #[arg(long)]
    action: Option<String>,
    /// Only rows about this subject, such as the id of a task
    #[arg(long)]
    subject: Option<String>,
}

pub(crate) fn parse_time(text: &str) -> Result<OffsetDateTime, time::error::Parse> {
    OffsetDateTime::parse(text, &Rfc3339)
}

impl AuditArgs {
    #[expect(clippy::print_stdout, reason = "the answer of a command line")]
    pub(crate) async fn run(&self, audit: &Audit) -> Result<()> {
        let since_ms = self.since.map(|since| since.unix_timestamp_nanos() / 1_000_000);
        let filter = AuditFilter {
            caller: self.caller.clone(),
            action: self.action.clone(),
            subject: self.subject.clone(),
            since_ms: since_ms.map(i64::try_from).transpose()?,
        };
        let page = audit.page(self.after, self.limit, &filter).await.context("the audit cannot be read")?;
        for row in page.rows {
            println!("{}", line(&row));
        }
        if let Some(next) = page.next {
            println!("more: --after {next}");
        }
        Ok(())
    }
}

/// One line: time, caller, address, action, subject, trace id, detail.
fn line(row: &AuditRow) -> String {
    let text = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), printable);
    let cells = [
        rfc3339(row.at_ms).unwrap_or_else(|| row.at_ms.to_string()),
        printable(&row.caller),
        text(&row.address),
        printable(&row.action),
        text(&row.subject),
        text(&row.trace_id),
        text(&row.detail),
    ];
    cells.join("  ")
}

/// The row of a replay by the user of this process.
pub(crate) fn replaying() -> AuditEntry {
    AuditEntry::new(user(), AuditAction::TaskReplayed)
}

/// The user of the operating system that runs this process, by name or else by number.
pub(crate) fn user() -> AuditCaller {
    let id = Uid::current();
    let name = User::from_uid(id).ok().flatten().map(|user| user.name);
    AuditCaller::CommandLine(name.unwrap_or_else(|| id.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line_that_cannot_drive_the_terminal() {
        let row = AuditRow {
            id: 7,
            at_ms: 1_795_375_221_123,
            caller: "shop\u{1b}[2J".to_owned(),
            address: None,
            action: "task.replay".to_owned(),
            subject: Some("T-1\nT-2".to_owned()),
            detail: None,
            trace_id: None,
        };
        assert_eq!(line(&row), "2026-11-22T19:20:21.123Z  shop\\u{1b}[2J  -  task.replay  T-1\\nT-2  -  -");
    }
}
