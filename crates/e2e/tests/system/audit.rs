//! Replays and looks leave a row in the audit, which the command line prints and the worker prunes.

use std::io::Write as _;
use std::time::Duration;

use pricing_harness::api_key::{ALL_ROLES, client_with, line};
use pricing_harness::databases::TestDatabase;
use pricing_harness::service::Binary;
use pricing_harness::stack::{Stack, StackBuilder};
use pricing_harness::waiting::eventually;
use reqwest::StatusCode;
use serde_json::Value;
use tempfile::NamedTempFile;

/// The key of an operator.
const KEY: &str = "prc_0123456789abcdef-sre";
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
async fn each_replay_leaves_a_row_also_a_refused_one_and_nothing_else_at_the_command_line_does() {
    let database = TestDatabase::postgres().await;
    let stack = failing().database(database).start().await;
    let ids = [dead_task(&stack).await, dead_task(&stack).await];
    assert!(run(&stack, &["tasks", "list"]).0 && run(&stack, &["tasks", "show", &ids[0]]).0);
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
    assert!(!run(&stack, &["tasks", "replay", "nobody"]).0, "there is no such task");
    let (_, refused) = run(&stack, &["audit", "--subject", "nobody"]);
    assert!(refused.contains("nobody") && refused.trim_end().ends_with("refused: no such task"), "{refused}");
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
async fn without_the_audit_a_look_is_logged_and_a_replay_is_refused() {
    const LOOKS: usize = 50;
    let mut keys = NamedTempFile::new().expect("a file can be made");
    keys.write_all(line("sre", ALL_ROLES, KEY).as_bytes()).expect("it can be written");
    let stack = failing().set_for(Binary::Api, "API_KEYS_FILE", keys.path().display()).start().await;
    let client = client_with(Some(KEY));
    let recalculation: Value = {
        let request = client.post(stack.api.url("/api/v1/recalculate"));
        request.send().await.unwrap().json().await.unwrap()
    };
    let id = recalculation["task_id"].as_str().unwrap();
    let read = async |id: &str| {
        let answer = client.get(stack.api.url(&format!("/api/v1/tasks/{id}"))).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    eventually(DEADLINE, "the task to die", async || {
        let (status, task) = read(id).await;
        (status == 200 && task["state"] == "dead").then_some(())
    })
    .await;
    assert_eq!(rows(&stack.database).await, 0, "its own task is nothing to look at");

    stack.database.execute(&["ALTER TABLE audit RENAME TO audit_away"]).await;
    for look in 0..LOOKS {
        assert_eq!(read(&format!("T-{look}")).await.0, 404);
    }
    let log = stack.api.log();
    for look in 0..LOOKS {
        let subject = format!("Some(\\\"T-{look}\\\")");
        let lines = log.lines().filter(|line| line.contains("not in the audit") && line.contains(&subject));
        assert_eq!(lines.count(), 1, "look {look}: {log}");
    }
    let replay = client.post(stack.api.url(&format!("/api/v1/tasks/{id}/replay"))).send().await.unwrap();
    assert_eq!(replay.status(), StatusCode::SERVICE_UNAVAILABLE);
    let (status, task) = read(id).await;
    assert_eq!((status, task["state"].as_str()), (200, Some("dead")), "{task}");
    let request = client.get(stack.api.url("/metrics"));
    let failed = format!("pricing_audit_failures_total {}", LOOKS + 1);
    eventually(DEADLINE, "the failures to be counted", async || {
        let metrics = request.try_clone()?.send().await.unwrap().text().await.unwrap();
        metrics.lines().any(|line| line == failed).then_some(())
    })
    .await;
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
