//! The audit keeps what was recorded, and is read and pruned in bounded steps.

use pricing_core::audit::{
    Audit, AuditAction, AuditCaller, AuditEntry, AuditFilter, AuditRow, MAX_AUDIT_PAGE,
};
use pricing_harness::databases::TestDatabase;

on_both_databases!(
    a_row_holds_what_was_recorded_and_the_time_of_the_database,
    texts_of_any_length_and_content_are_stored,
    pages_go_on_from_the_newest_row_to_the_oldest_whatever_is_added_meanwhile,
    a_filter_selects_by_caller_action_subject_and_time,
    old_rows_are_pruned_in_steps,
    a_row_that_cannot_be_written_is_an_error,
);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn key(name: &str) -> AuditCaller {
    AuditCaller::Key(name.to_owned())
}

async fn all(audit: &Audit, filter: &AuditFilter) -> Vec<AuditRow> {
    audit.page(None, MAX_AUDIT_PAGE, filter).await.unwrap().rows
}

fn subjects(rows: &[AuditRow]) -> Vec<&str> {
    rows.iter().map(|row| row.subject.as_deref().unwrap()).collect()
}

/// Adds a number of rows that are `step` ms apart, the first one at 1,000.
async fn add_rows(database: &TestDatabase, number: u32, step: u32) {
    let rows = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {}) \
         INSERT INTO audit (at_ms, caller, action, subject) \
         SELECT 1000 + {step} * n, 'shop', 'task.replay', 'T-' || n FROM numbers",
        number - 1
    );
    database.execute(&[&rows]).await;
}

async fn a_row_holds_what_was_recorded_and_the_time_of_the_database(database: &TestDatabase) {
    let audit = Audit::new(&database.open().await);
    let clock = if database.is_sqlite() {
        "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    } else {
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT"
    };
    let before = database.select(clock).await;
    let replay = AuditEntry::new(key("shop"), AuditAction::TaskReplayed);
    let replay = replay.from_address("10.0.0.7".parse().unwrap()).on("T-1").traced(Some(TRACE));
    audit.record(&replay.with_detail("twice")).await.unwrap();
    let bare = AuditEntry::new(AuditCaller::Anonymous, AuditAction::TasksListed);
    audit.record(&bare.traced(Some("no trace")).on("").with_detail("")).await.unwrap();
    let after = database.select(clock).await;

    let rows = all(&audit, &AuditFilter::default()).await;
    let [bare, replay] = &rows[..] else { panic!("{rows:?}") };
    // SQLite rounds the day that it counts times in.
    assert!(before - 1 <= replay.at_ms && replay.at_ms <= bare.at_ms && bare.at_ms <= after + 1, "{rows:?}");
    let expected = AuditRow {
        id: replay.id,
        at_ms: replay.at_ms,
        caller: "shop".to_owned(),
        address: Some("10.0.0.7".to_owned()),
        action: "task.replay".to_owned(),
        subject: Some("T-1".to_owned()),
        detail: Some("twice".to_owned()),
        trace_id: Some(TRACE.to_owned()),
    };
    assert_eq!(replay, &expected);
    let empty = (&bare.address, &bare.subject, &bare.detail, &bare.trace_id);
    assert_eq!((bare.caller.as_str(), bare.action.as_str()), ("anonymous", "task.list"));
    assert_eq!(empty, (&None, &None, &None, &None));
}

async fn texts_of_any_length_and_content_are_stored(database: &TestDatabase) {
    let audit = Audit::new(&database.open().await);
    for text in ["\u{1b}[2J\0'; DROP TABLE audit; --".to_owned(), "ü".repeat(5_000)] {
        let caller = AuditCaller::CommandLine(text.clone());
        let entry = AuditEntry::new(caller, AuditAction::TaskRead).on(&text).with_detail(&text);
        audit.record(&entry).await.unwrap();
    }
    let rows = all(&audit, &AuditFilter::default()).await;
    let lengths =
        |row: &AuditRow| [&row.subject, &row.detail].map(|text| text.as_deref().unwrap().chars().count());
    assert_eq!((rows[0].caller.chars().count(), lengths(&rows[0])), (128, [128, 1_024]));
    assert_eq!(rows[1].caller, "cli:\u{1b}[2J\u{fffd}'; DROP TABLE audit; --");
}

async fn pages_go_on_from_the_newest_row_to_the_oldest_whatever_is_added_meanwhile(database: &TestDatabase) {
    let audit = Audit::new(&database.open().await);
    add_rows(database, 5, 0).await; // at the same time: their numbers tell them apart
    let mut read = Vec::new();
    let mut after = None;
    loop {
        let page = audit.page(after, 2, &AuditFilter::default()).await.unwrap();
        read.extend(subjects(&page.rows).iter().map(|&subject| subject.to_owned()));
        audit.record(&AuditEntry::new(key("shop"), AuditAction::TaskRead).on("new")).await.unwrap();
        let Some(next) = page.next else { break };
        after = Some(next.to_string().parse().unwrap());
    }
    assert_eq!(read, ["T-4", "T-3", "T-2", "T-1", "T-0"]);

    add_rows(database, 1_500, 1).await;
    let page = audit.page(None, u16::MAX, &AuditFilter::default()).await.unwrap();
    assert!(page.rows.len() == usize::from(MAX_AUDIT_PAGE) && page.next.is_some());
    assert_eq!(audit.page(None, 0, &AuditFilter::default()).await.unwrap().rows.len(), 1);
}

async fn a_filter_selects_by_caller_action_subject_and_time(database: &TestDatabase) {
    let audit = Audit::new(&database.open().await);
    add_rows(database, 4, 100).await;
    for (caller, subject) in [("shop", "mine"), ("other", "mine"), ("other", "theirs")] {
        audit.record(&AuditEntry::new(key(caller), AuditAction::TaskRead).on(subject)).await.unwrap();
    }
    let text = |text: &str| Some(text.to_owned());
    let filter = AuditFilter { since_ms: Some(1_200), action: text("task.replay"), ..AuditFilter::default() };
    assert_eq!(subjects(&all(&audit, &filter).await), ["T-3", "T-2"]);
    let filter = AuditFilter { caller: text("other"), ..AuditFilter::default() };
    assert_eq!(subjects(&all(&audit, &filter).await), ["theirs", "mine"]);
    let filter = AuditFilter { subject: text("mine"), ..filter };
    assert_eq!(subjects(&all(&audit, &filter).await), ["mine"]);
    let filter = AuditFilter { caller: text("nobody' OR '1'='1"), ..AuditFilter::default() };
    assert!(all(&audit, &filter).await.is_empty());
}

async fn old_rows_are_pruned_in_steps(database: &TestDatabase) {
    let audit = Audit::new(&database.open().await);
    add_rows(database, 1_500, 1).await;
    assert_eq!(audit.prune(1_000).await.unwrap(), 0);
    assert_eq!(audit.prune(2_400).await.unwrap(), 1_000);
    assert_eq!(audit.prune(2_400).await.unwrap(), 400);
    assert_eq!(audit.prune(2_400).await.unwrap(), 0);
    let rows = all(&audit, &AuditFilter::default()).await;
    assert_eq!((rows.len(), rows.last().unwrap().at_ms), (100, 2_400));
}

async fn a_row_that_cannot_be_written_is_an_error(database: &TestDatabase) {
    let audit = Audit::new(&database.open().await);
    database.execute(&["ALTER TABLE audit RENAME TO audit_away"]).await;
    let entry = AuditEntry::new(AuditCaller::Anonymous, AuditAction::TaskRead);
    assert!(audit.record(&entry).await.is_err());
    assert!(audit.page(None, 1, &AuditFilter::default()).await.is_err());
}
