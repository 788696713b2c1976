//! A Redis that dies, or is demoted.

use std::time::{Duration, Instant};

use pricing_e2e::read_load::{Demand, ReadLoad, Reading};
use pricing_e2e::rounds::{Round, Rounds};
use pricing_harness::load::{Load, Request};
use pricing_harness::redis_server::RedisServer;
use pricing_harness::service::Binary;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::{eventually, pause, poll};
use rand::RngExt as _;

use crate::catalogue::change_prices;
use crate::records::record;

const DEADLINE: Duration = Duration::from_secs(60);
/// Longest until a service uses Redis again after it is back.
const RECONNECT: Duration = Duration::from_secs(5);
/// What the clients of the load do.
const REQUESTS: [Request; 4] = [Request::Event, Request::Event, Request::Recalculation, Request::Price];

#[tokio::test]
async fn what_was_acknowledged_survives_a_redis_that_is_killed_under_load() {
    let mut rounds = Rounds::of(
        "kill -9 and restart of Redis (AOF, appendfsync always) under load",
        "acknowledged events and tasks survive; the services reconnect within 5 s without a restart",
    );
    let mut stack = Stack::builder()
        .redis(RedisServer::start_durable().await)
        .workers(2)
        .set_for(Binary::Worker, "RETRY_DELAY_SECONDS", 1)
        .start()
        .await;
    let catalogue = stack.database.open().await;
    while let Some(mut round) = rounds.next_round() {
        let load = Load::start(&stack, &REQUESTS);
        change_prices(&catalogue, &mut round.random).await;
        pause(Duration::from_millis(round.random.random_range(200..1_500))).await;
        stack.redis.stop();
        pause(outage(&rounds, &mut round)).await;
        stack.redis.restart().await;
        let back = Instant::now();
        let mut ids = vec![first_success(&stack, &mut rounds, back).await];
        pause(Duration::from_millis(200)).await;

        let answers = load.stop().await;
        rounds.count("acknowledged", answers.acknowledged.len());
        rounds.count("prices read", answers.prices);
        rounds.count("refused", answers.refused);
        ids.extend(answers.acknowledged);
        change_prices(&catalogue, &mut round.random).await;
        ids.push(stack.publish().await);
        rounds.record(stack.findings(&ids, DEADLINE).await);
        let services = stack.listeners.iter_mut().chain(&mut stack.workers).chain([&mut stack.api]);
        services.for_each(|service| assert_eq!(service.exit_status(), None, "no service has ended"));
    }
}

#[tokio::test]
async fn the_services_leave_a_redis_that_is_demoted_under_load() {
    let mut rounds = Rounds::of(
        "the primary of Redis is demoted under load and goes on as a replica; new connections lead to the promoted one",
        "every read is answered; all services are back within 5 s and no connection stays behind; acknowledged events and \
         tasks are done",
    );
    let mut stack = Stack::builder()
        .redis(RedisServer::start_durable().await)
        .redis_through_proxy()
        .workers(2)
        .set_for(Binary::Worker, "RETRY_DELAY_SECONDS", 1)
        .start()
        .await;
    let catalogue = stack.database.open().await;
    let demand = Demand {
        api: stack.api.address(),
        from: None,
        products: (100..150).map(|n| format!("P-{n}")).collect(),
        keeping: 4,
        connecting: 0,
        reads_per_second: 100,
    };
    let mut other = RedisServer::start_durable().await;
    other.replicate(stack.redis.address()).await;
    while let Some(mut round) = rounds.next_round() {
        let load = Load::start(&stack, &REQUESTS);
        let reads = ReadLoad::start(&demand);
        change_prices(&catalogue, &mut round.random).await;
        pause(Duration::from_millis(round.random.random_range(200..1_500))).await;
        stack.redis.fail_over_to(&other).await;
        pause(Duration::from_millis(round.random.random_range(0..1_000))).await;
        stack.redis_proxy.as_ref().expect("a proxy").switch_to(other.address());
        std::mem::swap(&mut stack.redis, &mut other);
        let back = Instant::now();
        let (mut ids, left) =
            tokio::join!(async { vec![first_success(&stack, &mut rounds, back).await] }, left(&other, back));
        rounds.measure("s until no connection was left", left.as_secs_f64());

        let answers = load.stop().await;
        rounds.count("acknowledged", answers.acknowledged.len());
        let readings = reads.finish().await;
        let failed: Vec<&Reading> = readings.iter().filter(|reading| !reading.succeeded()).collect();
        assert!(failed.is_empty(), "{} of {} reads failed: {failed:#?}", failed.len(), readings.len());
        rounds.count("prices read", readings.len());
        let missed = readings.iter().filter(|reading| reading.field("source") == "database");
        rounds.count("of them from the database", missed.count());
        rounds.count("refused", answers.refused);
        ids.extend(answers.acknowledged);
        change_prices(&catalogue, &mut round.random).await;
        ids.push(stack.publish().await);
        rounds.record(stack.findings(&ids, DEADLINE).await);
    }
}

/// How long it takes until no service has a connection to a Redis that was demoted.
async fn left(demoted: &RedisServer, since: Instant) -> Duration {
    let mut clients = Vec::new();
    let gone = poll(RECONNECT, async || {
        clients = demoted.clients().await;
        clients.is_empty().then(|| since.elapsed())
    });
    gone.await.unwrap_or_else(|| panic!("clients stay with the demoted Redis: {clients:#?}"))
}

/// How long Redis is away: mostly short, and sometimes longer than services wait for a connection.
fn outage(rounds: &Rounds, round: &mut Round) -> Duration {
    let longest = if round.number.is_multiple_of(10) { rounds.either(3.0, 30.0) } else { 2.0 };
    Duration::from_secs_f64(round.random.random_range(0.0..longest))
}

/// Waits until each service has used Redis again; returns the id of a task that was acknowledged meanwhile.
async fn first_success(stack: &Stack, rounds: &mut Rounds, back: Instant) -> String {
    let cached = async {
        eventually(DEADLINE, "a price from the cache", async || {
            (stack.price("P-100", "NY", false).await["source"] == "cache").then(|| back.elapsed())
        })
        .await
    };
    let published = async {
        let id =
            eventually(DEADLINE, "an event to be acknowledged", async || stack.try_publish().await).await;
        let acknowledged = back.elapsed();
        eventually(DEADLINE, "its job to be begun", async || {
            record(stack, &id).await.filter(|record| record.contains_key("started_at"))
        })
        .await;
        (id, acknowledged, back.elapsed())
    };
    let (cached, (id, acknowledged, begun)) = tokio::join!(cached, published);
    for (what, took) in [
        ("s to a price from the cache", cached),
        ("s to an acknowledged event", acknowledged),
        ("s to the run of its job", begun),
    ] {
        assert!(took <= RECONNECT, "{what}: {took:?}");
        rounds.measure(what, took.as_secs_f64());
    }
    id
}
