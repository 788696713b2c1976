//! Auto-pipelining: what reads ask Redis for at the same time travels together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::oneshot;

/// Commands that are sent without waiting for more.
const FULL: usize = 512;

/// A connection that sends the commands of concurrent reads in one write, and so costs each of them a part of a system
/// call, of a time limit and of the way to the task of the connection and back.
///
/// Commands wait until the thread has nothing else to do and has looked for more requests: no longer than it would take to
/// come to them. Each read gets the replies to its own commands. An error of the connection is that of all reads that it
/// ends; a read that is dropped takes nothing from others. Clones share the connection.
#[derive(Clone)]
pub(super) struct AutoPipeline<C> {
    connection: C,
    waiting: Arc<Mutex<Option<Batch>>>,
}

/// The commands of some reads.
#[derive(Default)]
struct Batch {
    pipeline: Pipeline,
    reads: Vec<Waiting>,
}

/// A read that waits for its replies.
struct Waiting {
    commands: usize,
    replies: oneshot::Sender<RedisResult<Vec<Value>>>,
}

impl<C: ConnectionLike + Clone + Send + 'static> AutoPipeline<C> {
    pub(super) fn new(connection: C) -> Self {
        Self { connection, waiting: Arc::default() }
    }

    /// The replies to commands, in order; one that Redis refuses has its error as reply.
    ///
    /// # Errors
    ///
    /// When Redis is away or slow.
    pub(super) async fn send(&self, commands: impl Iterator<Item = Cmd>) -> RedisResult<Vec<Value>> {
        let (replies, told) = oneshot::channel();
        match self.join(commands, replies) {
            Joined::First => drop(tokio::spawn(self.clone().send_waiting())),
            Joined::Last(batch) => drop(tokio::spawn(batch.send(self.connection.clone()))),
            Joined::Another => {}
        }
        told.await.unwrap_or_else(|_| Err(RedisError::from((ErrorKind::Io, "the runtime ends"))))
    }

    fn join(
        &self,
        commands: impl Iterator<Item = Cmd>,
        replies: oneshot::Sender<RedisResult<Vec<Value>>>,
    ) -> Joined {
        let mut waiting = self.waiting();
        let is_first = waiting.is_none();
        let batch = waiting.get_or_insert_default();
        let before = batch.pipeline.len();
        for command in commands {
            batch.pipeline.add_command(command);
        }
        let commands = batch.pipeline.len() - before;
        batch.reads.push(Waiting { commands, replies });
        match waiting.take_if(|batch| batch.pipeline.len() >= FULL) {
            Some(batch) => Joined::Last(batch),
            None if is_first => Joined::First,
            None => Joined::Another,
        }
    }

    async fn send_waiting(self) {
        tokio::task::yield_now().await;
        let batch = self.waiting().take(); // none if it was full
        if let Some(batch) = batch {
            batch.send(self.connection).await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Batch>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a read is to its batch.
enum Joined {
    /// Its first read: who sends it when it has waited.
    First,
    Another,
    /// The read that has filled it: who sends it now.
    Last(Batch),
}

impl Batch {
    async fn send(self, mut connection: impl ConnectionLike) {
        let answer = connection.req_packed_commands(&self.pipeline, 0, self.pipeline.len()).await;
        match answer {
            Ok(replies) => {
                let mut replies = replies.into_iter();
                for Waiting { commands, replies: read } in self.reads {
                    // Nobody waits for what a dropped read asked for.
                    let _ = read.send(Ok(replies.by_ref().take(commands).collect()));
                }
            }
            Err(error) => self.reads.into_iter().for_each(|read| drop(read.replies.send(Err(error.clone())))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use redis::RedisFuture;

    use super::*;

    /// Answers each command with its place in the pipeline, and counts pipelines.
    #[derive(Clone, Default)]
    struct Places {
        pipelines: Arc<AtomicUsize>,
        fails: bool,
    }

    impl ConnectionLike for Places {
        fn req_packed_command<'a>(&'a mut self, _: &'a Cmd) -> RedisFuture<'a, Value> {
            unreachable!("pipelines only")
        }

        fn req_packed_commands<'a>(
            &'a mut self,
            pipeline: &'a Pipeline,
            _: usize,
            count: usize,
        ) -> RedisFuture<'a, Vec<Value>> {
            assert_eq!(pipeline.len(), count);
            self.pipelines.fetch_add(1, Ordering::Relaxed);
            let answer = match self.fails {
                true => Err(RedisError::from((ErrorKind::Io, "gone"))),
                false => Ok((0..count).map(|place| Value::Int(place as i64)).collect()),
            };
            async { answer }.boxed()
        }

        fn get_db(&self) -> i64 {
            0
        }
    }

    fn commands(count: usize) -> impl Iterator<Item = Cmd> {
        (0..count).map(|_| redis::cmd("PING"))
    }

    #[tokio::test]
    async fn concurrent_reads_are_one_pipeline_and_each_gets_its_own_replies() {
        let places = Places::default();
        let reads = AutoPipeline::new(places.clone());
        let dropped = tokio::spawn({
            let reads = reads.clone();
            async move { reads.send(commands(1)).await }
        });
        let answers = async {
            tokio::task::yield_now().await;
            join_all((1..=3).map(|count| reads.send(commands(count)))).await
        };
        let abort = async { dropped.abort() };
        let (answers, ()) = tokio::join!(answers, abort);
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        let last = answers.last().unwrap().last().unwrap().clone();
        let places_of = |range: std::ops::Range<i64>| range.map(Value::Int).collect::<Vec<_>>();
        let Value::Int(end) = last else { panic!("{last:?}") };
        assert_eq!(
            answers,
            [places_of(end - 5..end - 4), places_of(end - 4..end - 2), places_of(end - 2..end + 1)]
        );
        assert_eq!(places.pipelines.load(Ordering::Relaxed), 1);
        reads.send(commands(1)).await.unwrap();
        assert_eq!(places.pipelines.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_full_pipeline_does_not_wait() {
        let places = Places::default();
        let reads = AutoPipeline::new(places.clone());
        let answers = join_all((0..5).map(|_| reads.send(commands(FULL / 2)))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().len() == FULL / 2));
        assert_eq!(places.pipelines.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn an_error_is_that_of_all_reads() {
        let reads = AutoPipeline::new(Places { fails: true, ..Places::default() });
        let answers = join_all((0..3).map(|_| reads.send(commands(2)))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(RedisError::is_io_error)));
    }
}
