//! The fast read path: the database once, then the cache.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pricing_harness::waiting::pause;

use crate::validate::report::{Finding, passed};
use crate::validate::stack::{Price, Source, Stack, demo_products};

/// The promise: the 95th percentile of so many cached reads.
const P95_LIMIT: Duration = Duration::from_millis(5);
const LATENCY_READS: usize = 1_000;

/// Between two tries while everything is cached, and between two words about it.
const RETRY_EVERY: Duration = Duration::from_millis(250);
const SAY_EVERY: Duration = Duration::from_secs(10);

/// A product that is not cached is read from the database; hands that product on.
///
/// A recalculation fills the whole cache for about a minute, so this may have to wait for an entry to expire.
pub(crate) async fn first(stack: &Stack) -> Result<Finding<String>> {
    let started = Instant::now();
    let mut said = started;
    let mut products = demo_products().cycle();
    while started.elapsed() < stack.patience() {
        let product = products.next().context("the demo catalogue has no products")?;
        let (price, elapsed) = stack.price(&product, "NY", false).await?;
        if price.source == Source::Database {
            let figure = format!("source=database {} ({product})", milliseconds(elapsed));
            return Ok(Finding { figure, value: product });
        }
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            let left = stack.patience().saturating_sub(started.elapsed()).as_secs();
            println!("...   every product is cached; waiting for one to expire, {left} s at most");
        }
        pause(RETRY_EVERY).await;
    }
    bail!("every product that was tried within {:?} was cached already", stack.patience())
}

/// The same product again comes from the cache.
pub(crate) async fn second(stack: &Stack, product: &str) -> Result<Finding> {
    cached(stack, product).await
}

/// Reads on one connection that is kept open: the median and the 95th percentile.
pub(crate) async fn latency(stack: &Stack, product: &str) -> Result<Finding> {
    let times = read_times(stack, product).await?;
    let (median, p95) = (times[LATENCY_READS / 2], times[LATENCY_READS * 95 / 100]);
    let figure =
        format!("p50 {} p95 {}, {LATENCY_READS} reads in a row", milliseconds(median), milliseconds(p95));
    ensure!(p95 < P95_LIMIT, "{figure}");
    passed(figure)
}

/// How long each read took, the fastest first.
async fn read_times(stack: &Stack, product: &str) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(LATENCY_READS);
    let mut from_cache = 0;
    for _ in 0..LATENCY_READS {
        let (price, elapsed) = stack.price(product, "NY", false).await?;
        from_cache += usize::from(price.source == Source::Cache);
        times.push(elapsed);
    }
    // An entry may expire during the reads: the product's, and the market's at another time.
    ensure!(
        from_cache >= LATENCY_READS - 2,
        "only {from_cache} of {LATENCY_READS} reads were from the cache"
    );
    times.sort_unstable();
    Ok(times)
}

/// The two forms of the price call are one.
pub(crate) async fn get_and_post_agree(stack: &Stack, product: &str) -> Result<Finding> {
    let (posted, _) = stack.price(product, "LA", true).await?;
    let path = format!("/api/v1/price/{product}?user_location=LA&is_prime_member=true");
    let got: Price = stack.http().get(&path).await?.json()?;
    ensure!(
        got.final_price == posted.final_price && got.base_price == posted.base_price,
        "GET says {}, POST says {}",
        got.final_price,
        posted.final_price
    );
    passed(format!("final_price={}", got.final_price))
}

/// A recalculation has written the cache, so that nobody pays for a miss.
pub(crate) async fn after_recalculation(stack: &Stack) -> Result<Finding> {
    let product = demo_products().next().context("the demo catalogue has no products")?;
    cached(stack, &product).await
}

async fn cached(stack: &Stack, product: &str) -> Result<Finding> {
    let (price, elapsed) = stack.price(product, "NY", false).await?;
    ensure!(price.source == Source::Cache, "{product} came from the database");
    passed(format!("source=cache {} ({product})", milliseconds(elapsed)))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
