//! What a fault left behind when the dust has settled: tasks that were lost, prices that are stale.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use pricing_core::money::{ExchangeRate, Money};
use pricing_core::price::recalculated_list_price;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use crate::cache_entry::CacheEntry;
use crate::stack::Stack;
use crate::waiting::poll;

/// Longest until the queue and the log are empty and the lock is free, once all tasks have ended.
const CALM_DEADLINE: Duration = Duration::from_secs(20);
/// Counts the changes that the cache does not hold.
const PENDING: &str = "SELECT COUNT(*) FROM pending_changes WHERE stored_on = ''";
/// Changes that the history holds more than once.
const REPEATED: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM product_history \
                        GROUP BY product_id, version HAVING COUNT(*) > 1) AS repeated";
/// Keys looked at in one round trip.
const BATCH: usize = 500;

/// What must not be there.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Events, tasks and requests that were acknowledged and are not done.
    pub lost: Vec<String>,
    /// Cache entries and list prices that do not agree with the database.
    pub stale: Vec<String>,
    /// What took effect more than once.
    pub twice: Vec<String>,
}

/// Whether a task was queued by a run that left requests uncovered, not by anybody who was acknowledged.
pub fn is_follow_up(id: &str) -> bool {
    id.contains('.')
}

impl Stack {
    /// The ids of all tasks that have a record.
    ///
    /// # Panics
    ///
    /// When Redis does not answer.
    pub async fn task_ids(&self) -> HashSet<String> {
        let prefix = self.redis.key("queue:{recalculate}:task:");
        let keys: Vec<String> =
            self.redis.connection().await.keys(format!("{prefix}*")).await.expect("Redis answers");
        keys.iter().filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// The records of tasks, in one round trip for many; `None` for those that have none.
    ///
    /// # Panics
    ///
    /// When Redis does not answer.
    pub async fn records(&self, ids: &[String]) -> Vec<Option<HashMap<String, String>>> {
        let mut redis = self.redis.connection().await;
        let mut records = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH) {
            let keys = ids.iter().map(|id| self.redis.key(&format!("queue:{{recalculate}}:task:{id}")));
            let mut pipe = redis::pipe();
            for key in keys {
                pipe.hgetall(key);
            }
            let hashes: Vec<HashMap<String, String>> =
                pipe.query_async(&mut redis).await.expect("Redis answers");
            records.extend(hashes.into_iter().map(|hash| (!hash.is_empty()).then_some(hash)));
        }
        records
    }

    /// Waits until all tasks have succeeded, for at most `deadline`; returns those that have not, with what
    /// is known of them.
    ///
    /// # Panics
    ///
    /// When Redis does not answer.
    pub async fn not_succeeded(&self, ids: &[String], deadline: Duration) -> Vec<String> {
        let mut open = ids.to_vec();
        let all = poll(deadline, async || {
            let records = self.records(&open).await;
            let has_succeeded = |record: &Option<HashMap<String, String>>| {
                record.as_ref().is_some_and(|record| record["state"] == "succeeded")
            };
            let mut succeeded = records.iter().map(has_succeeded);
            open.retain(|_| !succeeded.next().unwrap_or_default());
            open.is_empty().then_some(())
        });
        if all.await.is_some() {
            return Vec::new();
        }
        let records = self.records(&open).await;
        open.iter().zip(records).map(|(id, record)| format!("task {id}: {record:?}")).collect()
    }

    /// What is lost or stale after the tasks `ids`, whose requests were acknowledged, have had until
    /// `deadline` to succeed. The last change of the catalogue must have been followed by one of them, and
    /// no task may be dead.
    ///
    /// # Panics
    ///
    /// When Redis or the database does not answer.
    pub async fn findings(&self, ids: &[String], deadline: Duration) -> Findings {
        let mut lost = self.not_succeeded(ids, deadline).await;
        if lost.is_empty() {
            lost.extend(self.unrest().await);
        }
        Findings { lost, stale: self.stale().await, twice: self.twice().await }
    }

    /// Requests that were given two numbers, and changes that are in the history twice.
    async fn twice(&self) -> Vec<String> {
        let numbers: Option<u64> = self
            .redis
            .connection()
            .await
            .get(self.redis.key("queue:{recalculate}:last_request"))
            .await
            .expect("Redis answers");
        let (tasks, dropped) = (self.task_ids().await.len() as u64, self.dropped().await);
        let mut twice = Vec::new();
        if numbers.unwrap_or(0) != tasks + dropped {
            twice.push(format!(
                "{tasks} tasks were given {numbers:?} numbers, {dropped} messages were dropped"
            ));
        }
        let repeated = self.database.select(REPEATED).await;
        if repeated > 0 {
            twice.push(format!("{repeated} changes of list prices are in the history more than once"));
        }
        twice
    }

    /// Messages that the listeners dropped because the queue was full. Each is a request with a number.
    ///
    /// # Panics
    ///
    /// When a listener does not answer.
    pub async fn dropped(&self) -> u64 {
        let mut dropped = 0;
        for listener in &self.listeners {
            let metrics = listener.metrics().await;
            let lines = metrics.lines().filter(|line| line.contains(r#"outcome="dropped""#));
            dropped += lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>();
        }
        dropped
    }

    /// What does not come to rest although it should.
    async fn unrest(&self) -> Option<String> {
        let mut redis = self.redis.connection().await;
        let mut unrest = None;
        let calm = poll(CALM_DEADLINE, async || {
            unrest = self.look_for_unrest(&mut redis).await;
            unrest.is_none().then_some(())
        });
        match calm.await {
            Some(()) => None,
            None => unrest,
        }
    }

    async fn look_for_unrest(&self, redis: &mut MultiplexedConnection) -> Option<String> {
        let key = |name: &str| self.redis.key(name);
        let mut pipe = redis::pipe();
        pipe.xlen(key("events")).xlen(key("queue:{recalculate}:stream"));
        pipe.zcard(key("queue:{recalculate}:delayed")).zcard(key("queue:{recalculate}:dead"));
        pipe.exists(key("recalculate_global_lock"));
        pipe.get(key("recalculate_covered")).get(key("recalculate_skipped"));
        type Answer = (u64, u64, u64, u64, bool, Option<u64>, Option<u64>);
        let answer: Answer = pipe.query_async(redis).await.expect("Redis answers");
        let (logged, queued, delayed, dead, locked, covered, skipped) = answer;
        let pending = self.database.select(PENDING).await;
        let calm = logged + queued + delayed + dead == 0 && !locked && covered >= skipped && pending == 0;
        (!calm).then(|| {
            format!(
                "{logged} events logged; tasks: {queued} queued or running, {delayed} delayed, {dead} dead; \
                 lock held: {locked}; covered {covered:?}, skipped {skipped:?}; {pending} changes are not cached"
            )
        })
    }

    /// Cache entries and list prices that do not agree with the database.
    async fn stale(&self) -> Vec<String> {
        let catalogue = self.database.open().await;
        let mut stale = Vec::new();
        let (mut markets, mut last) = (HashMap::new(), None);
        loop {
            let page = catalogue.markets_after(last.as_deref(), 500).await.expect("the database answers");
            for (location, market) in page.rows {
                let rounding = market.rounding;
                let data = json!([
                    market.multiplier.get(),
                    market.member_discount.get(),
                    market.currency.as_str(),
                    market.exchange_rate.map(ExchangeRate::e12),
                    rounding.increment(),
                    rounding.mode() as u8,
                    rounding.ending(),
                ]);
                markets.insert(location.to_string(), (market.version, data));
            }
            last = page.last;
            if last.is_none() {
                break;
            }
        }
        let mut products = HashMap::new();
        loop {
            let page = catalogue.products_after(last.as_deref(), 500).await.expect("the database answers");
            for row in page.rows {
                let product = &row.product;
                let listed = recalculated_list_price(product).minor();
                if product.list_price().minor() != listed {
                    let found = product.list_price().minor();
                    stale.push(format!("list price of {}: {found} instead of {listed}", row.id));
                }
                let minor = |money: Option<Money>| money.map(Money::minor);
                let data = json!([
                    product.base_price.minor(),
                    minor(product.list_price),
                    minor(product.floor),
                    minor(product.ceiling),
                    product.currency.as_str(),
                ]);
                products.insert(row.id.to_string(), (product.version, data));
            }
            last = page.last;
            if last.is_none() {
                break;
            }
        }
        catalogue.close().await;
        stale.extend(self.stale_entries("market:4:", &markets).await);
        stale.extend(self.stale_entries("product:4:", &products).await);
        stale
    }

    /// Entries below `kind` that differ from the rows of the database, which are versions and data by id.
    async fn stale_entries(&self, kind: &str, rows: &HashMap<String, (u64, Value)>) -> Vec<String> {
        let (mut redis, prefix) = (self.redis.connection().await, self.redis.key(kind));
        let keys: Vec<String> = redis.keys(format!("{prefix}*")).await.expect("Redis answers");
        let mut stale = Vec::new();
        for keys in keys.chunks(BATCH) {
            let entries: Vec<Option<String>> = redis.mget(keys).await.expect("Redis answers");
            for (key, entry) in keys.iter().zip(entries) {
                let row = rows.get(key.strip_prefix(&prefix).unwrap_or(key));
                let Some(entry) = entry else { continue }; // expired between the two looks
                let agrees = match (entry.parse::<CacheEntry>(), row) {
                    (Ok(entry), None) => entry.data == "null", // known not to exist
                    (Ok(entry), Some((version, data))) => {
                        entry.version == version.to_string()
                            && serde_json::from_str::<Value>(&entry.data).is_ok_and(|found| found == *data)
                    }
                    (Err(_), _) => false,
                };
                if !agrees {
                    stale.push(format!("{key}: {entry:?} instead of {row:?}"));
                }
            }
        }
        stale
    }
}
