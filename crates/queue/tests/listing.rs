//! Pages of tasks.

use pricing_harness::queue_bench::QueueBench;
use pricing_queue::{ListedState, QueueError, QueueOptions, TaskState};
use redis::AsyncCommands as _;

/// Ids of all pages of a list, with the number of pages.
async fn all(bench: &QueueBench, state: ListedState, limit: usize) -> (Vec<String>, usize) {
    let (mut ids, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = bench.queue.list(state, after.as_deref(), limit).await.expect("Redis lists tasks");
        assert!(page.tasks.len() <= limit && page.tasks.iter().all(|task| task.state == state.into()));
        ids.extend(page.tasks.into_iter().map(|task| task.id));
        pages += 1;
        after = page.next;
        if after.is_none() {
            return (ids, pages);
        }
    }
}

/// A bench with `count` dead tasks. `t0` died last and the one with the highest number before it; the others died at
/// the same time.
async fn with_dead(count: usize) -> QueueBench {
    let bench = QueueBench::start(QueueOptions::default()).await;
    let worker = bench.worker("w");
    for n in 0..count {
        bench.enqueue(&format!("t{n}"), "abort").await;
        bench.wait_for(&format!("t{n}"), TaskState::Dead).await;
    }
    worker.stop().await;
    let dead = bench.redis.key("queue:{bench}:dead");
    let mut redis = bench.redis.connection().await;
    for n in 1..count - 1 {
        let () = redis.zadd(&dead, format!("t{n}"), 2_000).await.expect("redis-server answers");
    }
    let () = redis.zadd(&dead, "t0", 9_000_000_000_000_u64).await.expect("redis-server answers");
    bench
}

#[tokio::test]
async fn pages_of_any_size_hold_each_task_once_from_the_latest_on() {
    let bench = with_dead(8).await;
    let order = ["t0", "t7", "t6", "t5", "t4", "t3", "t2", "t1"];
    for limit in 1..=9 {
        assert_eq!(
            all(&bench, ListedState::Dead, limit).await,
            (order.map(String::from).to_vec(), 8_usize.div_ceil(limit))
        );
    }
}

#[tokio::test]
async fn a_page_that_was_replayed_leaves_the_next_one_as_it_was() {
    let bench = with_dead(8).await;
    let first = bench.queue.list(ListedState::Dead, None, 3).await.unwrap();
    for task in &first.tasks {
        assert!(bench.queue.replay(&task.id).await.unwrap());
    }
    let second = bench.queue.list(ListedState::Dead, first.next.as_deref(), 3).await.unwrap();
    assert_eq!(second.tasks.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["t5", "t4", "t3"]);
    assert_eq!(all(&bench, ListedState::Queued, 2).await, (["t0", "t7", "t6"].map(String::from).to_vec(), 2));
}

#[tokio::test]
async fn a_foreign_cursor_is_refused() {
    let bench = QueueBench::start(QueueOptions::default()).await;
    for (state, cursor) in
        [(ListedState::Dead, "12-3"), (ListedState::Queued, "12:t"), (ListedState::Retrying, "x")]
    {
        assert!(
            matches!(bench.queue.list(state, Some(cursor), 1).await, Err(QueueError::Cursor)),
            "{cursor}"
        );
    }
}
