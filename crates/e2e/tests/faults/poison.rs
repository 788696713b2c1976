//! Jobs that end their workers.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pricing_e2e::rounds::Rounds;
use pricing_harness::queue_bench::{QueueBench, quick};
use pricing_harness::redis_server::RedisServer;
use pricing_harness::waiting::eventually;
use pricing_queue::TaskState;
use rand::RngExt as _;

const DEADLINE: Duration = Duration::from_secs(60);
const SIGABRT: i32 = 6;
/// Tasks that do no harm, before and behind the one that does.
const INNOCENT: usize = 40;

#[tokio::test]
async fn a_job_that_aborts_its_process_is_dead_after_three_deliveries_and_the_others_go_on() {
    let mut rounds = Rounds::of(
        "a job aborts the process of its worker, which is started again each time",
        "it is dead after three deliveries, and the other jobs go on",
    );
    let bench = QueueBench::over(RedisServer::start_durable().await, quick());
    let mut starts = 0;
    while let Some(mut round) = rounds.next_round() {
        let poison = round.random.random_range(0..INNOCENT);
        let task = |n: usize| format!("r{}-t{n}", round.number);
        for n in 0..INNOCENT {
            // Those around it run for longer than it does, so they go down with it.
            let payload = match n.abs_diff(poison) {
                0 => "abort",
                1 => "slow",
                _ => "ok",
            };
            bench.enqueue(&task(n), payload).await;
        }
        let mut aborts = 0;
        let mut worker = start(&bench, &mut starts);
        eventually(DEADLINE, "all tasks to have ended", async || {
            if let Some(status) = worker.try_wait().expect("the worker is a child") {
                assert_eq!(status.signal(), Some(SIGABRT), "it ends for no other reason: {status}");
                aborts += 1;
                worker = start(&bench, &mut starts);
            }
            let depths = bench.queue.depths().await.expect("Redis answers");
            (depths.queued + depths.running + depths.retrying == 0).then_some(())
        })
        .await;
        let _ = worker.kill();
        let _ = worker.wait();
        for n in 0..INNOCENT {
            let record = bench.record(&task(n)).await;
            if n == poison {
                assert_eq!((record.state, record.attempts, aborts), (TaskState::Dead, 3, 3), "{record:?}");
                let error = record.error.unwrap();
                assert!(error.starts_with("poisoned: delivered 3 times without a run ending"), "{error}");
            } else {
                assert_eq!(record.state, TaskState::Succeeded, "{record:?}");
                rounds.count("others that were run more than once", usize::from(record.attempts > 1));
            }
        }
        rounds.count("aborts", aborts);
    }
}

#[tokio::test]
async fn innocent_jobs_beside_two_that_abort_their_worker_succeed() {
    let mut rounds = Rounds::of(
        "two jobs abort the process of their worker, and its connections to Redis are cut again and again",
        "both are dead after three deliveries, and no other job dies with them",
    );
    let bench = QueueBench::over(RedisServer::start_durable().await, quick());
    let mut starts = 0;
    while let Some(mut round) = rounds.next_round() {
        let first = round.random.random_range(0..INNOCENT - 2);
        let poison = [first, first + round.random.random_range(1..=2)];
        let task = |n: usize| format!("r{}-t{n}", round.number);
        for n in 0..INNOCENT {
            let payload = if poison.contains(&n) { "abort" } else { "slow" };
            let is_near = n.abs_diff(first) <= 4;
            bench.enqueue(&task(n), if is_near { payload } else { "ok" }).await;
        }
        let (mut aborts, mut cuts) = (0, 0);
        let mut redis = bench.redis.connection().await;
        let mut worker = start(&bench, &mut starts);
        eventually(DEADLINE, "all tasks to have ended", async || {
            if let Some(status) = worker.try_wait().expect("the worker is a child") {
                assert_eq!(status.signal(), Some(SIGABRT), "it ends for no other reason: {status}");
                aborts += 1;
                worker = start(&bench, &mut starts);
            }
            if round.random.random_bool(0.02) {
                let mut cut = redis::cmd("CLIENT");
                cut.arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]);
                let _: i64 = cut.query_async(&mut redis).await.expect("Redis answers");
                cuts += 1;
            }
            let depths = bench.queue.depths().await.ok()?; // this connection was cut, too
            (depths.queued + depths.running + depths.retrying == 0).then_some(())
        })
        .await;
        let _ = worker.kill();
        let _ = worker.wait();
        for n in 0..INNOCENT {
            let record =
                eventually(DEADLINE, "the record", async || bench.queue.task(&task(n)).await.ok().flatten())
                    .await;
            let state = if poison.contains(&n) { TaskState::Dead } else { TaskState::Succeeded };
            assert_eq!(record.state, state, "{record:?}");
        }
        rounds.count("aborts", aborts);
        rounds.count("cuts", cuts);
    }
}

fn start(bench: &QueueBench, starts: &mut u32) -> Child {
    *starts += 1;
    Command::new(env!("CARGO_BIN_EXE_aborting-worker"))
        .envs([("REDIS_URL", bench.redis.url()), ("REDIS_PREFIX", bench.redis.prefix().to_owned())])
        .env("START", starts.to_string())
        .stderr(Stdio::null())
        .spawn()
        .expect("cargo has built it")
}
