//! Payloads that this build did not write.

use std::time::Duration;

use pricing_core::recalculation::{InvalidPayload, QUEUE, Recalculation};
use pricing_e2e::rounds::{Round, Rounds};
use pricing_harness::redis_server::RedisServer;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use pricing_queue::{NewTask, Queue, QueueOptions, TaskRecord, TaskState};
use rand::RngExt as _;
use rand::rngs::StdRng;
use redis::AsyncCommands as _;

const DEADLINE: Duration = Duration::from_secs(30);
/// Damaged payloads of each round.
const MUTATIONS: usize = 40;

#[tokio::test]
async fn payloads_that_do_not_decode_are_dead_with_a_clear_error_and_the_worker_lives() {
    let mut rounds = Rounds::of(
        "payloads that do not decode, or come from an older or newer version",
        "dead at once with a clear error, or left to a worker of that version; the worker lives and goes on",
    );
    let mut stack = Stack::builder().redis(RedisServer::start_durable().await).start().await;
    let redis = stack.redis.connect();
    let options = QueueOptions::default();
    let queue = Queue::new(&redis.prefix, QUEUE, redis.commands.clone(), redis.pool.clone(), options);
    while let Some(mut round) = rounds.next_round() {
        let mut payloads = known_bad();
        payloads.extend((0..MUTATIONS).map(|_| damaged(&mut round.random)));
        for (n, payload) in payloads.iter().enumerate() {
            let id = format!("r{}-p{n}", round.number);
            queue.enqueue(NewTask { id: &id, payload, traceparent: None }).await.unwrap();
        }
        for (n, payload) in payloads.iter().enumerate() {
            let record = run(&queue, &format!("r{}-p{n}", round.number)).await;
            let (state, figure) = match Recalculation::decode(payload) {
                Ok(_) => (TaskState::Succeeded, "still readable"),
                Err(InvalidPayload::Schema(_)) => (TaskState::Retrying, "left to another version"),
                Err(_) => (TaskState::Dead, "dead at once"),
            };
            rounds.count(figure, 1);
            assert_eq!(record.state, state, "{payload:?}: {record:?}");
            if state != TaskState::Succeeded {
                assert_eq!((record.attempts > 1, record.retries), (false, 0), "{payload:?}: {record:?}");
                let error = record.error.unwrap();
                assert!(
                    error.contains("_payload: the payload cannot be decoded")
                        || error.starts_with("unknown_schema: "),
                    "{payload:?}: {error}"
                );
            }
        }
        let record = run(&queue, &bytes_that_are_no_text(&mut stack, &queue, &mut round).await).await;
        assert_eq!((record.state, record.attempts), (TaskState::Dead, 1), "{record:?}");
        assert!(record.error.unwrap().starts_with("invalid_payload: the payload cannot be decoded"));
        assert_eq!(stack.workers[0].exit_status(), None, "the worker lives");
        // An operator has looked at them, so that nothing but the rest is found.
        let lists = ["dead", "delayed"].map(|list| stack.redis.key(&format!("queue:{{recalculate}}:{list}")));
        let _: () = stack.redis.connection().await.del(&lists).await.unwrap();
        let ids = [stack.publish().await];
        rounds.record(stack.findings(&ids, DEADLINE).await);
    }
}

/// Queues a task whose payload somebody overwrites, before it is begun, with bytes that are no text.
async fn bytes_that_are_no_text(stack: &mut Stack, queue: &Queue, round: &mut Round) -> String {
    let id = format!("r{}-bytes", round.number);
    let record = stack.redis.key(&format!("queue:{{recalculate}}:task:{id}"));
    stack.workers[0].pause();
    queue.enqueue(NewTask { id: &id, payload: "{}", traceparent: None }).await.expect("Redis answers");
    let bytes: Vec<u8> = (0..20).map(|_| round.random.random_range(0x80..=0xff)).collect();
    let _: u8 = stack.redis.connection().await.hset(record, "payload", bytes).await.expect("Redis answers");
    stack.workers[0].resume();
    id
}

/// Payloads of every kind that is refused for a reason of its own.
fn known_bad() -> Vec<String> {
    let deep = format!(
        r#"{{"schema":1,"reason":"x","requested_at_ms":1,"x":{}{}}}"#,
        "[".repeat(500),
        "]".repeat(500)
    );
    let long = format!(r#"{{"schema":1,"reason":"{}","requested_at_ms":1}}"#, "x".repeat(60_000));
    let texts = [
        "",
        "\0",
        "null",
        "{}",
        "[]",
        "Recalculate_Triggered_v1",
        r#"{"schema":0,"reason":"x","requested_at_ms":1}"#,
        r#"{"schema":2,"reason":"x","requested_at_ms":1}"#,
        r#"{"schema":99,"why":{"text":"x"},"when":"2030-01-01T00:00:00Z"}"#,
        r#"{"schema":"1","reason":"x","requested_at_ms":1}"#,
        r#"{"schema":1,"reason":7,"requested_at_ms":1}"#,
        r#"{"schema":1,"reason":"x","requested_at_ms":"now"}"#,
        r#"{"schema":1,"reason":"x","requested_at_ms":1e300}"#,
        r#"{"schema":1,"reason":"x"}"#,
        r#"{"schema":1,"reason":"x","requested_at_ms":1"#,
        r#"{"schema":-1,"reason":"x","requested_at_ms":1}"#,
    ];
    texts.into_iter().map(str::to_owned).chain([deep, long]).collect()
}

/// A good payload, damaged at a few random places.
fn damaged(random: &mut StdRng) -> String {
    let mut bytes = Recalculation::now("market event").encode().into_bytes();
    for _ in 0..random.random_range(1..=3) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..4) {
            0 => bytes[at] = random.random(),
            1 if bytes.len() > 1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, random.random()),
            _ => bytes.truncate(at.max(1)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until a task has ended, or waits for another worker.
async fn run(queue: &Queue, id: &str) -> TaskRecord {
    eventually(DEADLINE, &format!("task {id} to be run"), async || {
        let record = queue.task(id).await.ok().flatten()?;
        let has_run = !matches!(record.state, TaskState::Queued | TaskState::Running);
        has_run.then_some(record)
    })
    .await
}
