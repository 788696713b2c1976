//! Clocks that jump by ten minutes.

use std::time::Duration;

use pricing_core::catalogue::Catalogue;
use pricing_e2e::rounds::{Round, Rounds};
use pricing_harness::clock::FakeClock;
use pricing_harness::redis_server::RedisServer;
use pricing_harness::service::Binary;
use pricing_harness::stack::{Stack, StackBuilder};
use pricing_harness::waiting::{eventually, pause};
use rand::RngExt as _;

use crate::catalogue::change_prices;
use crate::records::{begun, due, failed, number};

const DEADLINE: Duration = Duration::from_secs(60);
/// Seconds that a clock jumps.
const JUMP: i64 = 600;
const RETRY_DELAY_MS: u64 = 2_000;
/// Longest from the time a retry is due to its run: due retries are looked for once a second.
const PUNCTUAL_MS: u64 = 1_500;
/// Products beside the demo catalogue, so that a run takes long enough for a clock to jump in its middle.
const MORE_PRODUCTS: u32 = 5_000;

fn builder(redis: RedisServer) -> StackBuilder {
    Stack::builder()
        .redis(redis)
        .workers(2)
        .set_for(Binary::Worker, "RETRY_DELAY_SECONDS", RETRY_DELAY_MS / 1_000)
        .set_for(Binary::Worker, "VISIBILITY_TIMEOUT_SECONDS", 3)
        .set_for(Binary::Worker, "LOCK_TTL_SECONDS", 8)
}

/// Has a job fail and wait to be tried again; the failure is gone before that.
async fn job_that_waits(stack: &Stack) -> String {
    stack.database.execute(&["ALTER TABLE markets RENAME TO markets_away"]).await;
    let id = stack.recalculate().await;
    failed(stack, &id, 1).await;
    stack.database.execute(&["ALTER TABLE markets_away RENAME TO markets"]).await;
    id
}

/// Has a job run, up to a random moment of its run.
async fn job_that_runs(stack: &Stack, catalogue: &Catalogue, round: &mut Round) -> String {
    change_prices(catalogue, &mut round.random).await;
    let id = stack.publish().await;
    begun(stack, &id, 1).await;
    pause(Duration::from_millis(round.random.random_range(0..300))).await;
    id
}

#[tokio::test]
async fn the_clocks_of_the_services_may_jump() {
    let mut rounds = Rounds::of(
        "the clocks of the hosts of all services jump by ± 10 minutes",
        "nothing changes: retries are in time, no run is taken over, no lock is lost, no price is stale",
    );
    let clock = FakeClock::right();
    let stack = builder(RedisServer::start_durable().await).clock(&clock).start().await;
    stack.database.add_products(MORE_PRODUCTS).await;
    let catalogue = stack.database.open().await;
    let mut offset = 0;
    while let Some(mut round) = rounds.next_round() {
        let mut jump = |round: &mut Round| {
            offset += if offset == 0 && round.random.random() || offset < 0 { JUMP } else { -JUMP };
            clock.set(offset);
        };
        let id = job_that_waits(&stack).await;
        let due = due(&stack, &id).await;
        jump(&mut round);
        let record = begun(&stack, &id, 2).await;
        let late = number(&record, "started_at").checked_sub(due).expect("no retry before its time");
        assert!(late < PUNCTUAL_MS, "{late} ms late");
        rounds.measure("ms from due to begun", late as f64);
        let mut ids = vec![id];

        let id = job_that_runs(&stack, &catalogue, &mut round).await;
        jump(&mut round);
        ids.push(id);
        rounds.record(stack.findings(&ids, DEADLINE).await);
        let record = stack.records(&ids).await.pop().flatten().unwrap();
        assert_eq!(record["attempts"], "1", "nobody took the run over: {record:?}");
        for worker in &stack.workers {
            assert_eq!(worker.metric("pricing_lock_lost_total").await, 0.0);
        }
        let price = stack.price("P-100", "NY", false).await;
        assert!(price["source"] == "cache" && price["stale"].is_null(), "{price}");
        rounds.count("jumps", 2);
    }
}

#[tokio::test]
async fn the_clock_of_redis_may_jump_and_nothing_is_lost_or_done_twice() {
    let mut rounds = Rounds::of(
        "the clock of Redis jumps by ± 10 minutes and back",
        "nothing is lost, done twice or stale; forward retries come early and a run may be taken over, \
         backward what waits comes late by the jump",
    );
    let clock = FakeClock::right();
    let redis = RedisServer::start_durable_in(clock.environment()).await;
    let stack = builder(redis).start().await;
    stack.database.add_products(MORE_PRODUCTS).await;
    let catalogue = stack.database.open().await;
    while let Some(mut round) = rounds.next_round() {
        // Forward while a retry waits: it comes early.
        let id = job_that_waits(&stack).await;
        let was_due = due(&stack, &id).await;
        clock.set(JUMP);
        let record = begun(&stack, &id, 2).await;
        assert!(number(&record, "started_at") >= was_due);
        let mut ids = vec![id];
        rounds.record(stack.findings(&ids, DEADLINE).await);

        // Back while a job runs: it goes on.
        ids.push(job_that_runs(&stack, &catalogue, &mut round).await);
        clock.set(0);
        let jumped = stack.redis.now_ms().await;
        rounds.record(stack.findings(&ids, DEADLINE).await);
        measure_attempts(&stack, &ids, "attempts of a run while the clock jumped back", &mut rounds).await;
        rounds.measure(
            "ms to the end of a run after a jump back",
            (stack.redis.now_ms().await - jumped) as f64,
        );

        // Back while a retry waits: it comes as much later, and in time when the clock is right again.
        let id = job_that_waits(&stack).await;
        let was_due = due(&stack, &id).await;
        clock.set(-JUMP);
        let left = was_due - stack.redis.now_ms().await;
        rounds.measure("s that a retry waits after a jump back", left as f64 / 1_000.0);
        ids.push(job_that_runs(&stack, &catalogue, &mut round).await);
        clock.set(0);
        begun(&stack, &id, 2).await;
        ids.push(id);
        rounds.record(stack.findings(&ids, DEADLINE).await);

        // Forward while a job runs: its lease and its lock end early, and it is run again.
        ids.push(job_that_runs(&stack, &catalogue, &mut round).await);
        clock.set(JUMP);
        rounds.record(stack.findings(&ids, DEADLINE).await);
        measure_attempts(&stack, &ids, "attempts of a run while the clock jumped forward", &mut rounds).await;
        clock.set(0);
        // After a jump back, a blocking read lasts as much longer: workers give it up and connect again.
        let jumped = stack.redis.now_ms().await;
        ids.push(stack.publish().await);
        eventually(DEADLINE, "an event after a jump back to be a job", async || {
            stack.records(&ids).await.pop().flatten().filter(|record| record.contains_key("started_at"))
        })
        .await;
        rounds.measure(
            "ms to begin the next job after a jump back",
            (stack.redis.now_ms().await - jumped) as f64,
        );
        rounds.record(stack.findings(&ids, DEADLINE).await);
        rounds.count("jumps", 6);
    }
}

/// How often the last task was begun.
async fn measure_attempts(stack: &Stack, ids: &[String], figure: &'static str, rounds: &mut Rounds) {
    let record = stack.records(ids).await.pop().flatten().expect("the task has a record");
    assert!(number(&record, "attempts") <= 2, "taken over once at most: {record:?}");
    rounds.measure(figure, number(&record, "attempts") as f64);
}
