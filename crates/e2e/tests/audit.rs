//! Replays leave a row in the audit, which the command line prints and the worker prunes.

use std::time::Duration;

use pricing_harness::databases::TestDatabase;
use pricing_harness::service::Binary;
use pricing_harness::stack::{Stack, StackBuilder};
use pricing_harness::waiting::eventually;

const DEADLINE: Duration = Duration::from_secs(20);

/// Runs `pricing-worker` with arguments: whether it succeeded, and what it printed.
fn run(stack: &Stack, arguments: &[&str]) -> (bool, String) {
    let mut command = Binary::Worker.command(&stack.environment(Binary::Worker));
    let output = command.args(arguments).output().expect("it is built");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("text"))
}

/// A system in which every task dies at once.
fn failing() -> StackBuilder {
    Stack::builder().listeners(0).set_for(Binary::Worker, "SIMULATE_FAILURE_RATE", 1).set_for(
        Binary::Worker,
        "RETRY_MAX",
        0,
    )
}

async fn dead_task(stack: &Stack) -> String {
    let id = stack.recalculate().await;
    assert_eq!(stack.wait_for_task(&id).await["state"], "dead");
    id
}

async fn rows(database: &TestDatabase) -> i64 {
    database.select("SELECT COUNT(*) FROM audit").await
}

#[tokio::test]
async fn each_replay_leaves_a_row_and_nothing_else_at_the_command_line_does() {
    let database = TestDatabase::postgres().await;
    let stack = failing().database(database).start().await;
    let ids = [dead_task(&stack).await, dead_task(&stack).await];
    assert!(run(&stack, &["tasks", "list"]).0 && run(&stack, &["tasks", "show", &ids[0]]).0);
    assert!(!run(&stack, &["tasks", "replay", "nobody"]).0, "there is no such task");
    assert_eq!(run(&stack, &["audit"]), (true, String::new()));

    for id in &ids {
        assert_eq!(run(&stack, &["tasks", "replay", id]), (true, format!("{id} is queued again\n")));
    }
    let (printed, audit) =
        run(&stack, &["audit", "--action", "task.replay", "--since", "2020-01-01T00:00:00Z"]);
    let lines: Vec<&str> = audit.lines().collect();
    assert!(printed && lines.len() == 2, "{audit}");
    assert!(lines[0].contains(&ids[1]) && lines[1].contains(&ids[0]), "newest first: {audit}");
    assert!(lines.iter().all(|line| line.contains("  cli:") && line.contains("  task.replay  ")), "{audit}");

    let (_, page) = run(&stack, &["audit", "--limit", "1"]);
    let (row, more) = page.trim_end().split_once("\nmore: --after ").expect("there is more");
    assert_eq!(row, lines[0]);
    assert_eq!(run(&stack, &["audit", "--after", more]).1.trim_end(), lines[1]);
    assert_eq!(run(&stack, &["audit", "--caller", "nobody"]), (true, String::new()));
    assert_eq!(run(&stack, &["audit", "--subject", &ids[0]]).1.trim_end(), lines[1]);
    assert_eq!(run(&stack, &["audit", "--since", "2999-01-01T00:00:00Z"]), (true, String::new()));
    for bad in [["--since", "yesterday"], ["--after", "x"], ["--limit", "0"], ["--limit", "1001"]] {
        let (accepted, message) = run(&stack, &["audit", bad[0], bad[1]]);
        assert!(!accepted && message.contains(bad[0]), "{message}");
    }
}

#[tokio::test]
async fn a_replay_without_a_row_is_refused() {
    let stack = failing().start().await;
    let id = dead_task(&stack).await;
    stack.database.execute(&["ALTER TABLE audit RENAME TO audit_away"]).await;
    let (replayed, message) = run(&stack, &["tasks", "replay", &id]);
    assert!(!replayed, "{message}");
    assert!(
        message.starts_with("error: the replay was refused: its row in the audit cannot be written: "),
        "{message}"
    );
    let task = stack.task(&id).await.expect("the task is kept");
    assert_eq!((task["state"].as_str(), task["attempts"].as_u64()), (Some("dead"), Some(1)), "{task}");
}

#[tokio::test]
async fn the_worker_removes_rows_that_are_older_than_audit_days() {
    let database = TestDatabase::sqlite();
    database.open().await.close().await;
    let at = |days: i64| format!("CAST((julianday('now') - 2440587.5 - {days}) * 86400000 AS INTEGER)");
    for days in [1, 6, 8, 500] {
        let insert =
            format!("INSERT INTO audit (at_ms, caller, action) VALUES ({}, 'shop', 'task.read')", at(days));
        database.execute(&[&insert]).await;
    }
    let builder = Stack::builder().listeners(0).database(database);
    let stack = builder.set_for(Binary::Worker, "AUDIT_DAYS", 7).start().await;
    eventually(DEADLINE, "the old rows to be removed", async || {
        (rows(&stack.database).await == 2).then_some(())
    })
    .await;
    let oldest = format!("SELECT COUNT(*) FROM audit WHERE at_ms < {}", at(7));
    assert_eq!(stack.database.select(&oldest).await, 0);
}
