//! The channel of market events: a flood of messages is bounded, and another deployment can have another channel.

#![expect(clippy::unwrap_used, reason = "where a test unwraps, the panic is the report")]

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use pricing_harness::redis_server::RedisServer;
use pricing_harness::service::Binary;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(60);
/// Messages of a flood, and their length: 200 MB together.
const FLOOD: usize = 100_000;
const LENGTH: usize = 2_000;
/// Messages that wait in a listener, with the one that it handles.
const WAITING: usize = 1_024 + 1;
/// Memory that a listener may take for messages that wait.
const ROOM: u64 = 32 * 1_024 * 1_024;

async fn config(redis: &mut MultiplexedConnection, name: &str, value: &str) {
    let mut set = redis::cmd("CONFIG");
    let () = set.arg("SET").arg(name).arg(value).query_async(redis).await.unwrap();
}

async fn subscribers(redis: &mut MultiplexedConnection, channel: &str) -> u64 {
    let mut numsub = redis::cmd("PUBSUB");
    let counts: HashMap<String, u64> = numsub.arg("NUMSUB").arg(channel).query_async(redis).await.unwrap();
    counts[channel]
}

/// Messages of the channel that had this outcome.
async fn outcome(stack: &Stack, outcome: &str) -> usize {
    let series = format!("outcome=\"{outcome}\"");
    let metrics = stack.listeners[0].metrics().await;
    let of_channel = metrics.lines().filter(|line| {
        line.starts_with("pricing_events_received_total{")
            && line.contains("source=\"channel\"")
            && line.contains(&series)
    });
    of_channel.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

#[tokio::test]
async fn a_flood_that_cannot_be_queued_is_bounded_and_one_task_covers_what_was_dropped() {
    let redis = RedisServer::start().await;
    let mut connection = redis.connection().await;
    config(&mut connection, "client-output-buffer-limit", "pubsub 0 0 0").await;
    let stack = Stack::builder().redis(redis).workers(0).start().await;
    let subscribed =
        async || (subscribers(&mut connection.clone(), "market_events").await == 1).then_some(());
    eventually(DEADLINE, "the listener to subscribe", subscribed).await;

    // Nothing can be written, and messages can be published.
    config(&mut connection, "maxmemory", "1").await;
    let before = stack.listeners[0].resident_memory();
    let message = "x".repeat(LENGTH);
    for _ in 0..FLOOD / 1_000 {
        let mut pipe = redis::pipe();
        for _ in 0..1_000 {
            pipe.publish("market_events", &message).ignore();
        }
        let () = pipe.query_async(&mut connection).await.unwrap();
    }
    eventually(DEADLINE, "Redis to have sent them all", async || {
        let mut list = redis::cmd("CLIENT");
        let list: String =
            list.arg("LIST").arg("TYPE").arg("pubsub").query_async(&mut connection).await.ok()?;
        list.contains(" omem=0 ").then_some(())
    })
    .await;
    let grown = stack.listeners[0].resident_memory().zip(before).map(|(now, then)| now.saturating_sub(then));
    assert!(grown.is_none_or(|grown| grown < ROOM), "{grown:?} bytes for {FLOOD} messages that wait");

    let dropped = FLOOD - WAITING;
    let counted = async || (outcome(&stack, "overflow").await == dropped).then_some(());
    eventually(DEADLINE, "all others to be dropped", counted).await;

    config(&mut connection, "maxmemory", "0").await;
    let queued = async || (outcome(&stack, "queued").await == WAITING + 1).then_some(());
    eventually(DEADLINE, "a task for each that waited, and one for all others", queued).await;
    let ids: Vec<String> = stack.task_ids().await.into_iter().collect();
    let records = stack.records(&ids).await.into_iter().flatten();
    let covering: Vec<_> = records.filter(|record| record["payload"].contains("were dropped")).collect();
    let [covering] = &covering[..] else { panic!("{covering:?}") };
    assert!(covering["payload"].contains(&format!("{dropped} messages")), "{covering:?}");
}

#[tokio::test]
async fn a_deployment_with_a_channel_of_its_own_hears_no_other() {
    let redis = RedisServer::start().await;
    redis.allow(redis.prefix(), "shop-2").await;
    let stack = Stack::builder().redis(redis).set("EVENTS_CHANNEL", "shop-2").workers(0).start().await;
    let mut redis = stack.redis.connection().await;
    let subscribed = async || (subscribers(&mut redis.clone(), "shop-2").await == 1).then_some(());
    eventually(DEADLINE, "the listener to subscribe", subscribed).await;
    let heard: u64 = redis.publish("market_events", "Recalculate_Triggered_v1").await.unwrap();
    assert_eq!(heard, 0);

    let mut subscription = stack.redis.client().get_async_pubsub().await.unwrap();
    subscription.subscribe("shop-2").await.unwrap();
    let (_, answer) = stack.post("/api/v1/publish-market-event", &json!({})).await;
    assert_eq!(answer["channel"], "shop-2");
    let message = subscription.on_message().next().await.unwrap().get_payload::<String>().unwrap();
    assert!(message.contains(answer["event_id"].as_str().unwrap()), "{message}");

    let event = r#"{"specversion":"1.0","id":"erp-17","source":"erp","type":"price.changed"}"#;
    let _: u64 = redis.publish("shop-2", event).await.unwrap();
    eventually(DEADLINE, "the task of the event", async || {
        let ids = stack.task_ids().await;
        (ids.len() == 2).then_some(())
    })
    .await;
}

#[test]
fn a_channel_that_is_no_name_is_refused() {
    for binary in [Binary::Api, Binary::Listener] {
        let environment = [("EVENTS_CHANNEL".to_owned(), "market events".to_owned())].into();
        let ended = binary.command(&environment).output().unwrap();
        let text = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success() && text.contains("EVENTS_CHANNEL"), "{text}");
    }
}
