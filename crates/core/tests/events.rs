//! What the event log promises: an event that was published stays until a listener has dealt with it.

#![expect(clippy::unwrap_used, reason = "where a test unwraps, the panic is the report")]

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use pricing_core::events::{
    EventError, EventLog, EventReader, EventSettings, LOG_CAPACITY, LOG_CAPACITY_BYTES, LoggedEvent,
    MarketEvent,
};
use pricing_core::ids::TaskId;
use pricing_core::recalculation::RecalculationQueue;
use pricing_harness::redis_server::RedisServer;
use pricing_harness::waiting::eventually;
use pricing_queue::QueueOptions;
use redis::aio::{MultiplexedConnection, PubSub};

const CHANNEL: &str = "changes";
const DEADLINE: Duration = Duration::from_secs(20);

struct Bench {
    server: RedisServer,
    log: EventLog,
    queue: RecalculationQueue,
    connection: MultiplexedConnection,
}

impl Bench {
    async fn start() -> Self {
        let server = RedisServer::start().await;
        server.allow(server.prefix(), CHANNEL).await;
        let (redis, connection) = (server.connect(), server.connection().await);
        let queue = RecalculationQueue::new(&redis, QueueOptions::default());
        let settings = EventSettings { events_channel: CHANNEL.to_owned() };
        Self { log: EventLog::new(&redis, &settings), queue, connection, server }
    }

    /// Queues the task of an event, which takes its place in the log.
    async fn enqueue(&self, logged: &LoggedEvent) {
        let source = self.log.source(logged);
        self.queue.enqueue_from(source, &logged.event.id, &logged.event.recalculation()).await.unwrap();
    }

    async fn publish(&self, number: usize) -> Vec<TaskId> {
        let mut ids = Vec::new();
        for count in 0..number {
            let event = MarketEvent::new(format!("change {count}"), None);
            self.log.publish(&event).await.unwrap();
            ids.push(event.id);
        }
        ids
    }

    async fn subscribe(&self) -> PubSub {
        let mut subscription = self.server.client().get_async_pubsub().await.unwrap();
        subscription.subscribe(CHANNEL).await.unwrap();
        subscription
    }

    /// The texts in the log.
    async fn logged(&self) -> Vec<String> {
        let mut xrange = redis::cmd("XRANGE");
        xrange.arg(self.server.key("events")).arg(&["-", "+"]);
        let entries: Vec<(String, Vec<(String, String)>)> =
            xrange.query_async(&mut self.connection.clone()).await.unwrap();
        let texts = entries.into_iter().map(|(_, fields)| {
            assert_eq!(fields.len(), 1);
            fields.into_iter().find(|(name, _)| name == "event").unwrap().1
        });
        texts.collect()
    }

    /// What the group has handed out and not seen acknowledged.
    async fn pending(&self) -> Vec<String> {
        let mut xpending = redis::cmd("XPENDING");
        xpending.arg(self.server.key("events")).arg(&["listener", "-", "+", "1000"]);
        let entries: Vec<(String, String, u64, u64)> =
            xpending.query_async(&mut self.connection.clone()).await.unwrap();
        entries.into_iter().map(|(id, ..)| id).collect()
    }

    /// Whether a reader waits in a blocking read.
    async fn is_blocked(&self) -> bool {
        let mut info = redis::cmd("INFO");
        let info: String = info.arg("clients").query_async(&mut self.connection.clone()).await.unwrap();
        info.contains("blocked_clients:1")
    }

    /// Lets the pending entries look as if they had been handed out twenty seconds ago.
    async fn age_pending(&self, consumer: &str) {
        let mut xclaim = redis::cmd("XCLAIM");
        xclaim.arg(self.server.key("events")).arg(&["listener", consumer, "0"]).arg(self.pending().await);
        xclaim.arg(&["IDLE", "20000", "JUSTID"]);
        xclaim.query_async::<redis::Value>(&mut self.connection.clone()).await.unwrap();
    }
}

async fn read(reader: &mut EventReader) -> Vec<TaskId> {
    let batch = reader.next_batch().await.unwrap();
    batch.into_iter().map(|logged| logged.event.id).collect()
}

#[tokio::test]
async fn an_event_is_appended_to_the_log_and_published_with_the_same_text() {
    let bench = Bench::start().await;
    let mut subscription = bench.subscribe().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned();
    let event = MarketEvent::new("competitor \"cut\" prices\n", Some(parent));
    bench.log.publish(&event).await.unwrap();

    let message = tokio::time::timeout(DEADLINE, subscription.on_message().next()).await.unwrap().unwrap();
    let published: String = message.get_payload().unwrap();
    assert_eq!(bench.logged().await, [published.as_str()]);
    assert_eq!(MarketEvent::decode(published.as_bytes()), event);
    let json: serde_json::Value = serde_json::from_str(&published).unwrap();
    assert_eq!((json["specversion"].as_str(), json["id"].as_str()), (Some("1.0"), Some(event.id.as_str())));
    assert_eq!(bench.log.backlog().await.unwrap(), 1);
}

#[tokio::test]
async fn a_reader_gets_what_was_published_before_and_after_it_started_in_order() {
    let bench = Bench::start().await;
    let mut ids = bench.publish(3).await;
    let mut reader = bench.log.reader("one").await.unwrap();
    ids.extend(bench.publish(2).await);
    assert_eq!(read(&mut reader).await, ids);
    assert_eq!(read(&mut reader).await, [], "each is read once");
    let more = bench.publish(1).await;
    assert_eq!(read(&mut reader).await, more);
}

#[tokio::test]
async fn a_waiting_reader_gets_an_event_at_once() {
    let bench = Bench::start().await;
    let mut reader = bench.log.reader("one").await.unwrap();
    let (ids, ()) = tokio::join!(read(&mut reader), async {
        eventually(DEADLINE, "the reader to wait", async || bench.is_blocked().await.then_some(())).await;
        bench.publish(1).await;
    });
    assert_eq!(ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_readers_share_the_log_without_overlap() {
    let bench = Bench::start().await;
    let published = bench.publish(450).await;
    let readers = ["one", "two"].map(async |name| {
        let mut reader = bench.log.reader(name).await.unwrap();
        let mut ids = Vec::new();
        loop {
            let batch = reader.next_batch().await.unwrap();
            if batch.is_empty() {
                return ids;
            }
            for logged in batch {
                bench.enqueue(&logged).await;
                ids.push(logged.event.id);
            }
        }
    });
    let read = futures_util::future::join_all(readers).await.concat();
    assert_eq!(read.len(), published.len(), "none twice");
    assert_eq!(read.iter().collect::<BTreeSet<_>>(), published.iter().collect());
    assert_eq!(bench.log.backlog().await.unwrap(), 0);
}

#[tokio::test]
async fn an_entry_whose_task_is_queued_leaves_the_log_and_any_other_stays() {
    let bench = Bench::start().await;
    bench.publish(3).await;
    let mut reader = bench.log.reader("one").await.unwrap();
    let batch = reader.next_batch().await.unwrap();
    bench.enqueue(&batch[1]).await;
    assert_eq!(bench.log.backlog().await.unwrap(), 2);
    assert_eq!(bench.pending().await.len(), 2);
    for logged in &batch {
        bench.enqueue(logged).await;
    }
    assert_eq!(bench.log.backlog().await.unwrap(), 0);
    assert!(bench.pending().await.is_empty());
}

#[tokio::test]
async fn entries_of_a_dead_reader_are_taken_over_once_they_are_old_enough() {
    let bench = Bench::start().await;
    let ids = bench.publish(5).await;
    let (mut dead, mut alive) =
        (bench.log.reader("dead").await.unwrap(), bench.log.reader("alive").await.unwrap());
    let old = dead.next_batch().await.unwrap();
    assert!(alive.abandoned().await.unwrap().is_empty(), "they were handed out just now");

    bench.age_pending("dead").await;
    let taken = alive.abandoned().await.unwrap();
    assert_eq!(taken.iter().map(|logged| logged.event.id.clone()).collect::<Vec<_>>(), ids);
    assert!(alive.abandoned().await.unwrap().is_empty(), "they are handed out anew");
    for logged in &taken {
        bench.enqueue(logged).await;
    }
    // Should the dead one wake up, it does no harm.
    bench.enqueue(&old[0]).await;
    assert!(bench.logged().await.is_empty() && bench.pending().await.is_empty());
}

#[tokio::test]
async fn a_reader_that_leaves_takes_no_entry_with_it() {
    let bench = Bench::start().await;
    let ids = bench.publish(2).await;
    let mut leaving = bench.log.reader("leaving").await.unwrap();
    leaving.next_batch().await.unwrap();
    leaving.leave().await.unwrap();
    bench.age_pending("leaving").await;
    let mut staying = bench.log.reader("staying").await.unwrap();
    let taken = staying.abandoned().await.unwrap();
    assert_eq!(taken.iter().map(|logged| logged.event.id.clone()).collect::<Vec<_>>(), ids);

    // The one whose entries are all acknowledged leaves the group altogether.
    for logged in &taken {
        bench.enqueue(logged).await;
    }
    staying.leave().await.unwrap();
    let mut consumers = redis::cmd("XINFO");
    consumers.arg("CONSUMERS").arg(bench.server.key("events")).arg("listener");
    let consumers: Vec<redis::Value> = consumers.query_async(&mut bench.connection.clone()).await.unwrap();
    assert_eq!(consumers.len(), 1, "{consumers:?}");
}

#[tokio::test]
async fn a_full_log_refuses_events_and_publishes_none_of_them() {
    let bench = Bench::start().await;
    let fill = redis::Script::new(
        "for _ = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'event', 'x') end",
    );
    let mut fill = fill.key(bench.server.key("events"));
    fill.arg(LOG_CAPACITY - 1).invoke_async::<()>(&mut bench.connection.clone()).await.unwrap();
    let mut subscription = bench.subscribe().await;
    let last = bench.publish(1).await;
    let refused = bench.log.publish(&MarketEvent::new("one too many", None)).await;
    assert!(matches!(refused, Err(EventError::LogFull)), "{refused:?}");
    assert_eq!(bench.log.backlog().await.unwrap(), LOG_CAPACITY);

    let mut reader = bench.log.reader("one").await.unwrap();
    let batch = reader.next_batch().await.unwrap();
    bench.enqueue(&batch[0]).await;
    let next = bench.publish(1).await;
    assert_eq!(messages(&mut subscription, 2).await, [last, next].concat());
}

#[tokio::test]
async fn a_log_is_full_by_its_bytes_too() {
    let bench = Bench::start().await;
    let fill = redis::Script::new(
        "for _ = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'event', string.rep('x', 60000)) end",
    );
    let mut fill = fill.key(bench.server.key("events"));
    fill.arg(LOG_CAPACITY_BYTES / 60_000).invoke_async::<()>(&mut bench.connection.clone()).await.unwrap();
    let refused = bench.log.publish(&MarketEvent::new("one too many", None)).await;
    assert!(matches!(refused, Err(EventError::LogFull)), "{refused:?}");
}

#[tokio::test]
async fn a_redis_without_memory_takes_neither_half_of_an_event() {
    let bench = Bench::start().await;
    let mut subscription = bench.subscribe().await;
    let mut connection = bench.connection.clone();
    let mut limit = async |bytes: &str| {
        let mut config = redis::cmd("CONFIG");
        config.arg(&["SET", "maxmemory", bytes]).query_async::<()>(&mut connection).await.unwrap();
    };
    limit("1").await;
    let refused = bench.log.publish(&MarketEvent::new("no room", None)).await;
    assert!(matches!(refused, Err(EventError::Redis(_))), "{refused:?}");
    limit("0").await;
    assert!(bench.logged().await.is_empty());
    let next = bench.publish(1).await;
    assert_eq!(messages(&mut subscription, 1).await, next);
}

/// The ids of the next messages on the channel.
async fn messages(subscription: &mut PubSub, number: usize) -> Vec<TaskId> {
    let messages = subscription.on_message().take(number).collect::<Vec<_>>();
    let messages = tokio::time::timeout(DEADLINE, messages).await.unwrap();
    messages.iter().map(|message| MarketEvent::decode(message.get_payload_bytes()).id).collect()
}
