//! Workers that die or freeze in the middle of a recalculation.

use std::time::{Duration, Instant};

use pricing_e2e::process::Binary;
use pricing_e2e::redis_server::RedisServer;
use pricing_e2e::rounds::Rounds;
use pricing_e2e::settled::Findings;
use pricing_e2e::stack::{Stack, StackBuilder};
use pricing_e2e::waiting::{eventually, pause};
use rand::RngExt as _;

use crate::catalogue::change_prices;
use crate::named_worker::{NamedWorker, runner};

const DEADLINE: Duration = Duration::from_secs(60);
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(3);
/// The shortest that goes with the visibility timeout.
const LOCK_TTL: Duration = Duration::from_secs(8);
/// Products beside the demo catalogue, so that a scan takes long enough to be hit in its middle.
const MORE_PRODUCTS: u32 = 5_000;

/// What a worker logs when a run of it ends without effect.
const STOPPED: &str = "the lease of a run was lost";

/// A stack whose workers are to be started one by one.
async fn stack() -> StackBuilder {
    Stack::builder()
        .redis(RedisServer::start_durable().await)
        .workers(0)
        .set_for(Binary::Worker, "VISIBILITY_TIMEOUT_SECONDS", VISIBILITY_TIMEOUT.as_secs())
        .set_for(Binary::Worker, "LOCK_TTL_SECONDS", LOCK_TTL.as_secs())
        .set_for(Binary::Worker, "RETRY_DELAY_SECONDS", 1)
}

/// How long a recalculation takes that finds little changed. All prices are recorded after it.
async fn scan_time(stack: &Stack) -> Duration {
    let ids = [stack.publish().await, stack.publish().await];
    assert_eq!(stack.findings(&ids, DEADLINE).await, Findings::default());
    let ids = [stack.publish().await];
    assert_eq!(stack.findings(&ids, DEADLINE).await, Findings::default());
    let record = stack.records(&ids).await.pop().flatten().expect("the task has a record");
    let at = |field: &str| record[field].parse::<u64>().expect("a time");
    Duration::from_millis(at("finished_at") - at("started_at"))
}

#[tokio::test]
async fn a_recalculation_of_a_killed_worker_ends_on_another_in_time() {
    let mut rounds = Rounds::of(
        "kill -9 of the worker at a random moment of a recalculation",
        "the job ends on the other worker within the visibility timeout + 5 s",
    );
    let stack = stack().await.start().await;
    stack.database.add_products(MORE_PRODUCTS).await;
    let catalogue = stack.database.open().await;
    let mut workers = vec![NamedWorker::start(&stack).await, NamedWorker::start(&stack).await];
    let scan = scan_time(&stack).await;
    while let Some(mut round) = rounds.next_round() {
        change_prices(&catalogue, &mut round.random).await;
        let id = stack.publish().await;
        let Some(victim) = runner(&stack, &workers, &id).await else { continue };
        pause(scan.mul_f64(round.random.random_range(0.0..1.0))).await;
        workers.swap_remove(victim).service.kill();
        let killed = stack.redis.now_ms().await;
        let ids = [id];
        rounds.judge(stack.findings(&ids, DEADLINE).await);
        let record = stack.records(&ids).await.pop().flatten().unwrap();
        if record["attempts"] == "2" {
            let until = |field: &str| {
                Duration::from_millis(record[field].parse::<u64>().unwrap().saturating_sub(killed))
            };
            let (begun, ended) = (until("started_at"), until("finished_at"));
            assert!(ended <= VISIBILITY_TIMEOUT + Duration::from_secs(5), "after {ended:?}: {record:?}");
            rounds.count("taken over", 1);
            rounds.measure("s from kill to takeover", begun.as_secs_f64());
            rounds.measure("s from kill to end", ended.as_secs_f64());
        } else {
            assert_eq!(record["attempts"], "1", "it had ended before its worker: {record:?}");
        }
        workers.push(NamedWorker::start(&stack).await);
    }
}

#[tokio::test]
async fn a_holder_that_was_frozen_beyond_the_life_of_its_lock_writes_nothing_stale() {
    let mut rounds = Rounds::of(
        "the holder of the lock is frozen (SIGSTOP) beyond the lock's life and thaws after newer changes",
        "it stops, and neither a row nor an entry is stale",
    );
    let stack = stack().await.start().await;
    stack.database.add_products(MORE_PRODUCTS).await;
    let catalogue = stack.database.open().await;
    let mut workers = vec![NamedWorker::start(&stack).await, NamedWorker::start(&stack).await];
    let scan = scan_time(&stack).await;
    while let Some(mut round) = rounds.next_round() {
        change_prices(&catalogue, &mut round.random).await;
        let mut ids = vec![stack.publish().await];
        let Some(holder) = runner(&stack, &workers, &ids[0]).await else { continue };
        pause(scan.mul_f64(round.random.random_range(0.0..1.0))).await;
        workers[holder].service.pause();
        let frozen = Instant::now();
        // Two newer changes: one for the run that takes over, and one after it.
        for _ in 0..2 {
            change_prices(&catalogue, &mut round.random).await;
            ids.push(stack.publish().await);
            rounds.judge(stack.findings(&ids, DEADLINE).await);
        }
        pause((LOCK_TTL + Duration::from_secs(1)).saturating_sub(frozen.elapsed())).await;
        let service = &mut workers[holder].service;
        let stopped_before = service.log().matches(STOPPED).count();
        service.resume();
        let record = stack.records(&ids).await.swap_remove(0).unwrap();
        if record["attempts"] != "1" {
            rounds.count("taken over", 1);
            eventually(DEADLINE, "the thawed run to stop", async || {
                (service.log().matches(STOPPED).count() > stopped_before).then_some(())
            })
            .await;
        }
        rounds.judge(stack.findings(&ids, DEADLINE).await);
    }
}

#[tokio::test]
async fn an_event_in_the_middle_of_a_recalculation_is_in_its_prices() {
    let mut rounds = Rounds::of(
        "an event in the middle of a recalculation, whose own job is skipped",
        "its change is in the prices without a further event",
    )
    .at_first(3);
    let stack = stack().await.workers(2).start().await;
    stack.database.add_products(MORE_PRODUCTS).await;
    let catalogue = stack.database.open().await;
    let scan = scan_time(&stack).await;
    while let Some(mut round) = rounds.next_round() {
        let first = stack.publish().await;
        pause(scan.mul_f64(round.random.random_range(0.0..1.0))).await;
        change_prices(&catalogue, &mut round.random).await;
        let ids = [first, stack.publish().await];
        rounds.judge(stack.findings(&ids, DEADLINE).await);
        let record = stack.records(&ids).await.pop().flatten().unwrap();
        if record["result"].contains("lock_held_by_another_worker") {
            rounds.count("skipped", 1);
        }
    }
}
