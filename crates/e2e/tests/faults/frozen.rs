//! Workers that freeze in the middle of a recalculation.

use std::time::{Duration, Instant};

use pricing_e2e::rounds::Rounds;
use pricing_harness::databases::TestDatabase;
use pricing_harness::service::Service;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::{eventually, pause};
use rand::RngExt as _;

use crate::catalogue::{change_all_list_prices, change_prices};
use crate::named_worker::{NamedWorker, runner};
use crate::records::record;
use crate::worker::{DEADLINE, LOCK_TTL, MORE_PRODUCTS, scan_time, stack};

/// What a worker logs when a run of it ends without effect.
const STOPPED: &str = "lease lost: another worker runs the task";
/// Transactions whose process does nothing.
const IDLE: &str = "SELECT COUNT(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND state = 'idle in transaction'";

#[tokio::test]
async fn a_holder_that_was_frozen_beyond_the_life_of_its_lock_writes_nothing_stale() {
    let mut rounds = Rounds::of(
        "the holder of the lock is frozen (SIGSTOP) beyond the lock's life and thaws after newer changes",
        "it stops, and neither a row nor an entry is stale",
    );
    // A process that freezes in a transaction of SQLite keeps the whole file from everybody.
    let stack = stack().await.database(TestDatabase::postgres().await).start().await;
    stack.database.add_products(MORE_PRODUCTS).await;
    let catalogue = stack.database.open().await;
    let mut workers = vec![NamedWorker::start(&stack).await, NamedWorker::start(&stack).await];
    let scan = scan_time(&stack).await;
    while let Some(mut round) = rounds.next_round() {
        // So that the holder has something to write, and rows locked while it does.
        change_all_list_prices(&catalogue, &mut round.random).await;
        let mut ids = vec![stack.publish().await];
        let Some(holder) = runner(&stack, &workers, &ids[0]).await else { continue };
        let service = &mut workers[holder].service;
        if round.number.is_multiple_of(2) {
            pause(scan.mul_f64(round.random.random_range(0.0..1.0))).await;
            service.pause();
        } else {
            let hit = freeze_in_transaction(&stack, service, &ids[0]).await;
            rounds.count("frozen in a transaction", usize::from(hit));
        }
        let frozen = Instant::now();
        // Two newer changes: one for the run that takes over, and one after it.
        for _ in 0..2 {
            change_prices(&catalogue, &mut round.random).await;
            ids.push(stack.publish().await);
            rounds.record(stack.findings(&ids, DEADLINE).await);
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
        rounds.record(stack.findings(&ids, DEADLINE).await);
    }
}

/// Freezes a worker while it has a transaction open, at the latest when its task has ended. Returns whether it
/// has.
async fn freeze_in_transaction(stack: &Stack, worker: &mut Service, id: &str) -> bool {
    eventually(DEADLINE, "a transaction to freeze in, or the end of the task", async || {
        worker.pause();
        if stack.database.select(IDLE).await > 0 {
            return Some(true);
        }
        if record(stack, id).await.is_some_and(|record| record["state"] == "succeeded") {
            return Some(false);
        }
        worker.resume();
        None
    })
    .await
}
