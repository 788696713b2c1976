//! Workers that die in the middle of a recalculation.

use std::time::Duration;

use pricing_e2e::rounds::Rounds;
use pricing_harness::redis_server::RedisServer;
use pricing_harness::service::Binary;
use pricing_harness::settled::Findings;
use pricing_harness::stack::{Stack, StackBuilder};
use pricing_harness::waiting::pause;
use rand::RngExt as _;

use crate::catalogue::change_prices;
use crate::named_worker::{NamedWorker, runner};
use crate::records::begun;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(3);
/// The shortest that goes with the visibility timeout.
pub(crate) const LOCK_TTL: Duration = Duration::from_secs(8);
/// Products beside the demo catalogue, so that a scan takes long enough to be hit in its middle.
pub(crate) const MORE_PRODUCTS: u32 = 5_000;

/// A stack whose workers are to be started one by one.
pub(crate) async fn stack() -> StackBuilder {
    Stack::builder()
        .redis(RedisServer::start_durable().await)
        .workers(0)
        .set_for(Binary::Worker, "VISIBILITY_TIMEOUT_SECONDS", VISIBILITY_TIMEOUT.as_secs())
        .set_for(Binary::Worker, "LOCK_TTL_SECONDS", LOCK_TTL.as_secs())
        .set_for(Binary::Worker, "RETRY_DELAY_SECONDS", 1)
}

/// How long a recalculation takes that finds little changed. All prices are recorded after it.
pub(crate) async fn scan_time(stack: &Stack) -> Duration {
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
        "the other worker takes the job over within the visibility timeout (3 s) + 5 s and ends it",
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
        rounds.record(stack.findings(&ids, DEADLINE).await);
        let record = stack.records(&ids).await.pop().flatten().unwrap();
        if record["attempts"] == "2" {
            let until = |field: &str| {
                Duration::from_millis(record[field].parse::<u64>().unwrap().saturating_sub(killed))
            };
            let (taken_over, ended) = (until("started_at"), until("finished_at"));
            assert!(
                taken_over <= VISIBILITY_TIMEOUT + Duration::from_secs(5),
                "after {taken_over:?}: {record:?}"
            );
            rounds.count("taken over", 1);
            rounds.measure("s from kill to takeover", taken_over.as_secs_f64());
            rounds.measure("s from kill to end", ended.as_secs_f64());
        } else {
            assert_eq!(record["attempts"], "1", "it had ended before its worker: {record:?}");
        }
        workers.push(NamedWorker::start(&stack).await);
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
        begun(&stack, &first, 1).await;
        pause(scan.mul_f64(round.random.random_range(0.0..0.8))).await;
        change_prices(&catalogue, &mut round.random).await;
        let ids = [first, stack.publish().await];
        rounds.record(stack.findings(&ids, DEADLINE).await);
        let record = stack.records(&ids).await.pop().flatten().unwrap();
        if record["result"].contains("lock_held_by_another_worker") {
            rounds.count("skipped", 1);
        }
    }
}
