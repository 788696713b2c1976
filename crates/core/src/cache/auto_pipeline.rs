//! Auto-pipelining: what reads ask Redis for at the same time travels together.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value};
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::READ_TIMEOUT;
use super::entry::Key;

/// Entries that are asked for without waiting for more.
const FULL: usize = 256;
/// Entries that a lookup has room for at first.
const USUAL: usize = 32;
/// Bytes of a usual key.
const KEY: usize = 48;

/// The commands that read some entries.
pub(super) struct Lookup {
    mget: Cmd,
    entries: usize,
}

impl Lookup {
    /// With room for so many entries.
    pub(super) fn with_capacity(entries: usize) -> Self {
        let mut mget = Cmd::with_capacity(entries + 1, KEY * entries);
        mget.arg("MGET");
        Self { mget, entries: 0 }
    }

    /// Asks for an entry, and returns its place.
    pub(super) fn add(&mut self, key: Key<'_>) -> usize {
        self.mget.arg(key);
        self.entries += 1;
        self.entries - 1
    }

    /// What Redis holds under the keys, with its time; and its reply to `more`, which is asked last.
    pub(super) async fn send(
        self,
        more: Option<Cmd>,
        connection: &mut impl ConnectionLike,
    ) -> RedisResult<(Found, Option<Value>)> {
        let mut pipeline = Pipeline::with_capacity(3);
        // The time after the entries, so that what is left of their lives is never too long.
        pipeline.add_command(self.mget).cmd("TIME");
        if let Some(more) = more {
            pipeline.add_command(more);
        }
        let replies = connection.req_packed_commands(&pipeline, 0, pipeline.len()).await?;
        let mut replies = replies.into_iter();
        let mut next = || replies.next().unwrap_or(Value::Nil).extract_error();
        let entries = match next()? {
            Value::Array(entries) if entries.len() == self.entries => entries,
            _ => return Err((ErrorKind::UnexpectedReturnType, "MGET gives an entry for each key").into()),
        };
        let (seconds, micros): (u64, u64) = redis::from_redis_value(next()?)?;
        Ok((Found { entries, now_ms: seconds * 1_000 + micros / 1_000 }, replies.next()))
    }
}

/// What a lookup found.
pub(super) struct Found {
    /// For each key what Redis holds.
    entries: Vec<Value>,
    now_ms: u64,
}

/// What one read asked for, which may share the lookup with others.
pub(super) struct Replies {
    found: Arc<Found>,
    places: Places,
}

/// Places of entries among those of a lookup.
type Places = SmallVec<[usize; 2]>;

impl Replies {
    /// All that a lookup found.
    pub(super) fn all(found: Found) -> Self {
        Self { places: (0..found.entries.len()).collect(), found: Arc::new(found) }
    }

    /// What Redis holds under each key, in their order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Value> {
        self.places.iter().map(|place| &self.found.entries[*place])
    }

    /// The time of Redis in milliseconds since 1970, just after it looked.
    pub(super) fn now_ms(&self) -> u64 {
        self.found.now_ms
    }
}

/// A connection whose concurrent reads share one write, one time limit and one message to its task. The market of several
/// reads is asked for once.
///
/// Commands wait for the tasks that are ready to run on their thread, each of which may join. An error of the connection is
/// that of all reads that it ends; a read that is dropped takes nothing from others. Clones share the
/// connection.
#[derive(Clone)]
pub(super) struct AutoPipeline<C> {
    connection: C,
    waiting: Arc<Mutex<Option<Batch>>>,
}

/// What some reads ask for.
struct Batch {
    lookup: Lookup,
    /// The markets among it, by their ids.
    markets: Vec<(Box<str>, usize)>,
    reads: Vec<(Places, oneshot::Sender<RedisResult<Replies>>)>,
}

/// What a read is to its batch.
enum Joined {
    /// Its first read: who sends it when it has waited.
    First,
    Another,
    /// The read that has filled it: who sends it now.
    Last(Batch),
}

impl<C: ConnectionLike + Clone + Send + 'static> AutoPipeline<C> {
    pub(super) fn new(connection: C) -> Self {
        Self { connection, waiting: Arc::default() }
    }

    /// The replies for entries, in order.
    ///
    /// # Errors
    ///
    /// When Redis is away, or gives no answer within [`READ_TIMEOUT`].
    pub(super) async fn ask(&self, keys: impl Iterator<Item = Key<'_>>) -> RedisResult<Replies> {
        let (tell, told) = oneshot::channel();
        match self.join(keys, tell) {
            Joined::First => drop(tokio::spawn(self.clone().send_waiting())),
            Joined::Last(batch) => drop(tokio::spawn(batch.send(self.connection.clone()))),
            Joined::Another => {}
        }
        told.await.unwrap_or_else(|_| Err(RedisError::from((ErrorKind::Io, "the runtime ends"))))
    }

    fn join<'k>(
        &self,
        keys: impl Iterator<Item = Key<'k>>,
        tell: oneshot::Sender<RedisResult<Replies>>,
    ) -> Joined {
        let mut waiting = self.waiting();
        let is_first = waiting.is_none();
        let batch = waiting.get_or_insert_with(Batch::new);
        let places = keys.map(|key| batch.place(key)).collect();
        batch.reads.push((places, tell));
        match waiting.take_if(|batch| batch.lookup.entries >= FULL) {
            Some(batch) => Joined::Last(batch),
            None if is_first => Joined::First,
            None => Joined::Another,
        }
    }

    async fn send_waiting(self) {
        behind_the_others().await;
        let batch = self.waiting().take(); // none if it was full
        if let Some(batch) = batch {
            batch.send(self.connection).await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Batch>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for one turn of the tasks that are ready. (`yield_now` waits for the next look at the sockets as well, which on a
/// busy thread comes after 61 polls.)
async fn behind_the_others() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Batch {
    fn new() -> Self {
        Self { lookup: Lookup::with_capacity(USUAL), markets: Vec::new(), reads: Vec::with_capacity(USUAL) }
    }

    /// The place of an entry that is asked for.
    fn place(&mut self, key: Key<'_>) -> usize {
        let Some(market) = key.market_id() else { return self.lookup.add(key) };
        if let Some((_, place)) = self.markets.iter().find(|(known, _)| **known == *market) {
            return *place;
        }
        let place = self.lookup.add(key);
        self.markets.push((market.into(), place));
        place
    }

    async fn send(self, mut connection: impl ConnectionLike) {
        if self.reads.iter().all(|(_, read)| read.is_closed()) {
            return;
        }
        let answer = timeout(READ_TIMEOUT, self.lookup.send(None, &mut connection)).await;
        let answer = answer.unwrap_or_else(|elapsed| Err(io::Error::from(elapsed).into()));
        let answer = answer.map(|(found, _)| Arc::new(found));
        for (places, read) in self.reads {
            // Nobody waits for what a dropped read asked for.
            let _ = read.send(answer.clone().map(|found| Replies { found, places }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use redis::RedisFuture;

    use super::*;
    use crate::ids::{Location, ProductId};

    /// Holds under each key its place among those that are asked for together, and counts pipelines.
    #[derive(Clone, Default)]
    struct Counting {
        pipelines: Arc<AtomicUsize>,
        fails: bool,
        is_silent: bool,
    }

    impl ConnectionLike for Counting {
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
                false => {
                    let mget = pipeline.cmd_iter().next().expect("the lookup");
                    let keys = mget.args_iter().count() as i64 - 1;
                    let time = [7, 9_000].map(Value::Int).to_vec();
                    Ok(vec![Value::Array((0..keys).map(Value::Int).collect()), Value::Array(time)])
                }
            };
            if self.is_silent {
                return std::future::pending().boxed();
            }
            async { answer }.boxed()
        }

        fn get_db(&self) -> i64 {
            0
        }
    }

    fn product(number: usize) -> ProductId {
        ProductId::parse(format!("P-{number}")).unwrap()
    }

    async fn ask(
        reads: &AutoPipeline<Counting>,
        products: Range<usize>,
        market: &str,
    ) -> RedisResult<Vec<i64>> {
        let (products, market) =
            (products.map(product).collect::<Vec<_>>(), Location::parse(market).unwrap());
        let keys = products.iter().map(|id| Key::product("", id)).chain([Key::market("", &market)]);
        let replies = reads.ask(keys).await?;
        let number = |value: &Value| redis::from_redis_value::<i64>(value.clone()).unwrap();
        assert_eq!(replies.now_ms(), 7_009);
        Ok(replies.entries().map(number).collect())
    }

    #[tokio::test]
    async fn concurrent_reads_are_one_pipeline_that_asks_for_each_market_once() {
        let redis = Counting::default();
        let reads = AutoPipeline::new(redis.clone());
        let asked = [(0..1, "NY"), (1..3, "LA"), (3..4, "NY"), (4..4, "LA")];
        let answers = join_all(asked.map(|(products, market)| ask(&reads, products, market))).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, [vec![0, 1], vec![2, 3, 4], vec![5, 1], vec![4]]);
        assert_eq!(redis.pipelines.load(Ordering::Relaxed), 1);
        assert_eq!(ask(&reads, 0..1, "NY").await.unwrap(), [0, 1]);
        assert_eq!(redis.pipelines.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_read_that_is_dropped_takes_nothing_from_others() {
        let reads = AutoPipeline::new(Counting::default());
        let mut dropped = Box::pin(ask(&reads, 0..2, "NY"));
        assert!(futures_util::poll!(&mut dropped).is_pending());
        drop(dropped);
        assert_eq!(ask(&reads, 2..3, "NY").await.unwrap(), [3, 2]);
    }

    #[tokio::test]
    async fn a_full_pipeline_does_not_wait() {
        let redis = Counting::default();
        let reads = AutoPipeline::new(redis.clone());
        let answers = join_all((0..5).map(|_| ask(&reads, 0..FULL / 2, "NY"))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().len() == FULL / 2 + 1));
        assert_eq!(redis.pipelines.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_redis_is_waited_for_as_long_as_a_read_may_take() {
        let began = tokio::time::Instant::now();
        let reads = AutoPipeline::new(Counting { is_silent: true, ..Counting::default() });
        let answers = join_all((0..3).map(|_| ask(&reads, 0..1, "NY"))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(RedisError::is_timeout)));
        assert_eq!(began.elapsed(), READ_TIMEOUT);
    }

    #[tokio::test]
    async fn an_error_is_that_of_all_reads() {
        let reads = AutoPipeline::new(Counting { fails: true, ..Counting::default() });
        let answers = join_all((0..3).map(|_| ask(&reads, 0..1, "NY"))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(RedisError::is_io_error)));
    }
}
