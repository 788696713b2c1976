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
/// Entries that a pipeline has room for at first.
const USUAL: usize = 32;

/// The commands that read some entries, two for each.
#[derive(Default)]
pub(super) struct Lookup {
    pipeline: Pipeline,
    entries: usize,
}

impl Lookup {
    /// With room for so many entries.
    pub(super) fn with_capacity(entries: usize) -> Self {
        Self { pipeline: Pipeline::with_capacity(2 * entries + 1), entries: 0 }
    }

    /// Asks for an entry, and returns its place.
    pub(super) fn add(&mut self, key: Key<'_>) -> usize {
        let mut fields = Cmd::with_capacity(4, 128);
        fields.arg("HMGET").arg(key).arg("v").arg("d");
        let mut ttl = Cmd::with_capacity(2, 128);
        ttl.arg("PTTL").arg(key);
        self.pipeline.add_command(fields).add_command(ttl);
        self.entries += 1;
        self.entries - 1
    }

    /// How many entries it asks for.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// The replies; that to `more`, which is asked last, is the last one.
    pub(super) async fn send(
        mut self,
        more: Option<Cmd>,
        connection: &mut impl ConnectionLike,
    ) -> RedisResult<Vec<Value>> {
        if let Some(more) = more {
            self.pipeline.add_command(more);
        }
        connection.req_packed_commands(&self.pipeline, 0, self.pipeline.len()).await
    }
}

/// The replies to one read, which may share them with others.
pub(super) struct Replies {
    all: Arc<Vec<Value>>,
    places: Places,
}

/// Places of entries among those of a lookup.
type Places = SmallVec<[usize; 2]>;

impl Replies {
    /// The replies of a lookup that is this read's alone.
    pub(super) fn of_one(all: Vec<Value>, entries: usize) -> Self {
        Self { all: Arc::new(all), places: (0..entries).collect() }
    }

    /// For each entry, in the order of the keys, its fields and what is left of its time.
    pub(super) fn entries(&self) -> impl Iterator<Item = RedisResult<(&Value, &Value)>> {
        self.places.iter().map(|place| match self.all.get(2 * place..2 * place + 2) {
            Some([fields, left]) => Ok((fields, left)),
            _ => Err((ErrorKind::UnexpectedReturnType, "fewer replies than commands").into()),
        })
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
        let answer = answer.unwrap_or_else(|elapsed| Err(io::Error::from(elapsed).into())).map(Arc::new);
        for (places, read) in self.reads {
            // Nobody waits for what a dropped read asked for.
            let _ = read.send(answer.clone().map(|all| Replies { all, places }));
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

    /// Answers each command with its place in the pipeline, and counts pipelines.
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
                false => Ok((0..count).map(|place| Value::Int(place as i64)).collect()),
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
        replies.entries().map(|entry| entry.map(|(fields, _)| number(fields) / 2)).collect()
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
