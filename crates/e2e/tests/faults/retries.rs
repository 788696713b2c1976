//! Failures that go away.

use std::process::Stdio;
use std::time::Duration;

use pricing_e2e::rounds::Rounds;
use pricing_harness::redis_server::RedisServer;
use pricing_harness::service::Binary;
use pricing_harness::stack::Stack;
use redis::AsyncCommands as _;

use crate::records::{begun, due, failed, number};

const DEADLINE: Duration = Duration::from_secs(60);
const RETRY_DELAY_MS: u64 = 1_000;
/// Longest from the time a retry is due to its run: due retries are looked for once a second.
const PUNCTUAL_MS: u64 = 1_500;
/// How often a job fails, one number for each round.
const FAILURES: [u32; 6] = [6, 2, 5, 1, 3, 4];

#[tokio::test]
async fn a_job_that_fails_n_times_succeeds_at_the_next_attempt_or_is_dead_after_six() {
    let mut rounds = Rounds::of(
        "the job fails n times for a while, n = 1 … 6",
        "it succeeds at attempt n + 1, each retry is in time; dead after the sixth; a replay works",
    )
    .at_first(2);
    let stack = Stack::builder()
        .redis(RedisServer::start_durable().await)
        .set_for(Binary::Worker, "RETRY_DELAY_SECONDS", RETRY_DELAY_MS / 1_000)
        .start()
        .await;
    let mut replays = 0;
    while let Some(round) = rounds.next_round() {
        let failures = FAILURES[(round.number as usize - 1) % FAILURES.len()];
        stack.database.execute(&["ALTER TABLE markets RENAME TO markets_away"]).await;
        let id = stack.recalculate().await;
        for attempt in 1..=failures {
            let record = failed(&stack, &id, attempt).await;
            if attempt == 6 {
                assert_eq!(record["state"], "dead", "{record:?}");
                break;
            }
            let due = due(&stack, &id).await;
            let waits = due - number(&record, "started_at");
            assert!(
                (RETRY_DELAY_MS..RETRY_DELAY_MS + 1_000).contains(&waits),
                "due after {waits} ms: {record:?}"
            );
            if attempt == failures {
                stack.database.execute(&["ALTER TABLE markets_away RENAME TO markets"]).await;
            }
            let record = begun(&stack, &id, attempt + 1).await;
            let started = number(&record, "started_at");
            assert!((due..due + PUNCTUAL_MS).contains(&started), "due at {due}: {record:?}");
            rounds.measure("ms from due to begun", (started - due) as f64);
        }
        rounds.count("retries", failures.min(5) as usize);
        if failures == 6 {
            stack.database.execute(&["ALTER TABLE markets_away RENAME TO markets"]).await;
            let mut replay = Binary::Worker.command(&stack.environment(Binary::Worker));
            let replayed = replay.args(["tasks", "replay", &id]).stdout(Stdio::null()).status().unwrap();
            assert!(replayed.success());
            replays += 1;
            rounds.count("replays", 1);
        }
        let ids = [id];
        let mut found = stack.findings(&ids, DEADLINE).await;
        // A replay is a new request of the same task.
        found.twice.retain(|twice| !twice.contains("tasks were given") || replays == 0);
        rounds.record(found);
        let record = stack.records(&ids).await.pop().flatten().unwrap();
        assert_eq!(record["attempts"], (failures + 1).to_string(), "{record:?}");
    }
    let numbers: usize = stack
        .redis
        .connection()
        .await
        .get(stack.redis.key("queue:{recalculate}:last_request"))
        .await
        .unwrap();
    assert_eq!(numbers, stack.task_ids().await.len() + replays);
}
