//! Listeners that die.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use pricing_e2e::rounds::Rounds;
use pricing_harness::load::{Load, Request};
use pricing_harness::redis_server::RedisServer;
use pricing_harness::service::Binary;
use pricing_harness::settled::is_follow_up;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::pause;
use rand::RngExt as _;

use crate::catalogue::change_prices;

const DEADLINE: Duration = Duration::from_secs(60);
/// Requests to the API at a time.
const CLIENTS: usize = 8;

#[tokio::test]
async fn a_listener_that_was_dead_makes_every_event_one_job() {
    let mut rounds = Rounds::of(
        "the listener is dead while 1,000 events are published, then started",
        "every event becomes one job, and each job ends once",
    );
    let events = rounds.either(200, 1_000);
    let mut stack = Stack::builder().redis(RedisServer::start_durable().await).listeners(0).start().await;
    while let Some(_round) = rounds.next_round() {
        let before = stack.task_ids().await;
        let ids: Vec<String> =
            stream::iter(0..events).map(|_| stack.publish()).buffer_unordered(CLIENTS).collect().await;
        stack.listeners.push(stack.start_another(Binary::Listener).await);
        rounds.record(stack.findings(&ids, DEADLINE).await);
        let mut made: Vec<String> = stack.task_ids().await.difference(&before).cloned().collect();
        made.retain(|id| !is_follow_up(id));
        assert_eq!(made.len(), events, "one job for each event, and no other");
        rounds.count("events", events);
        stack.listeners.clear();
    }
}

#[tokio::test]
async fn events_survive_listeners_that_are_killed_again_and_again() {
    let mut rounds = Rounds::of(
        "kill -9 of the listener at random moments under a stream of events",
        "no event is lost, and none becomes two jobs",
    );
    let mut stack = Stack::builder().redis(RedisServer::start_durable().await).start().await;
    let catalogue = stack.database.open().await;
    while let Some(mut round) = rounds.next_round() {
        let load = Load::start(&stack, &[Request::Event; 4]);
        for _ in 0..3 {
            change_prices(&catalogue, &mut round.random).await;
            pause(Duration::from_millis(round.random.random_range(50..500))).await;
            stack.listeners[0].kill();
            rounds.count("kills", 1);
            stack.listeners[0] = stack.start_another(Binary::Listener).await;
        }
        let mut ids = load.stop().await.acknowledged;
        ids.push(stack.publish().await);
        // What a dead listener had read is read again after ten seconds.
        rounds.record(stack.findings(&ids, DEADLINE).await);
        let records = stack.records(&ids).await;
        assert!(records.iter().flatten().all(|record| record["attempts"] == "1"), "each job is run once");
        rounds.count("events", ids.len());
    }
}
