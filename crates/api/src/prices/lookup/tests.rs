use std::future::{pending, ready};
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::join_all;
use pricing_core::money::Ppm;
use tokio::time::{Instant, sleep};

use super::*;

const SLOW: Simulation = Simulation { io: true, failure_rate: 0.0 };

fn breaker() -> Breaker {
    Breaker::new("the database", "database")
}

async fn loaded<T>(value: T) -> Result<Input<T>, Arc<LookupError>> {
    Ok(Input::Loaded(value))
}

#[tokio::test(start_paused = true)]
async fn a_miss_takes_as_long_as_the_slower_lookup_not_the_sum() {
    let start = Instant::now();
    let lookup = async |millis| {
        sleep(Duration::from_millis(millis)).await;
        loaded(millis).await
    };
    assert_eq!(
        both(&breaker(), LOOKUP_TIMEOUT, lookup(50), lookup(40)).await.unwrap(),
        (Input::Loaded(50), Input::Loaded(40))
    );
    assert_eq!(start.elapsed().as_millis(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_simulated_miss_takes_20_to_50_ms() {
    for _ in 0..100 {
        let start = Instant::now();
        let product = unless_cached(None, SLOW.product_lookup(loaded(1)));
        let market = unless_cached(None, SLOW.market_lookup(loaded(2)));
        both(&breaker(), LOOKUP_TIMEOUT, product, market).await.unwrap();
        assert!((20..=51).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_cached_is_not_looked_up() {
    let start = Instant::now();
    let market = unless_cached(Some(2), SLOW.market_lookup(loaded(3)));
    let product = unless_cached(None, loaded(1));
    let inputs = both(&breaker(), LOOKUP_TIMEOUT, product, market).await.unwrap();
    assert_eq!(inputs, (Input::Loaded(1), Input::Cached(2)));
    assert_eq!((inputs.0.loaded(), inputs.1.loaded()), (Some(&1), None));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_silent_database_counts_as_away() {
    let (database, cached) = (breaker(), || ready(Ok(Input::Cached(()))));
    let silent = pending::<Result<Input<()>, _>>();
    let silent = both(&database, LOOKUP_TIMEOUT, silent, cached()).await.unwrap_err();
    assert!(matches!(*silent, LookupError::TimedOut));
    assert!(database.is_open());
    both(&database, LOOKUP_TIMEOUT, cached(), cached()).await.unwrap();
    assert!(database.is_open(), "it was not asked");
    let unknown = both(&database, LOOKUP_TIMEOUT, loaded(None::<()>), cached()).await;
    assert!(unknown.is_ok() && !database.is_open(), "to know of nothing is an answer");
}

#[tokio::test]
async fn many_that_ask_the_same_at_once_make_one_lookup() {
    let (flights, made) = (Flights::<ProductId, u32>::new("product", 10), AtomicU32::new(0));
    let id = ProductId::parse("P-1").unwrap();
    let ask = || {
        flights.join(&id, async {
            tokio::task::yield_now().await;
            Ok(made.fetch_add(1, Ordering::Relaxed))
        })
    };
    let answers = join_all((0..1_000).map(|_| ask())).await;
    assert_eq!(made.load(Ordering::Relaxed), 1);
    let ours = answers.iter().filter(|answer| matches!(answer, Ok(Input::Loaded(0)))).count();
    let shared = answers.iter().filter(|answer| matches!(answer, Ok(Input::Shared(0)))).count();
    assert_eq!((ours, shared), (1, 999));
    assert_eq!(ask().await.unwrap(), Input::Loaded(0), "it lingers for those who come a little late");
}

#[tokio::test]
async fn a_lookup_that_fails_or_is_dropped_is_not_kept() {
    let flights = Flights::<ProductId, u32>::new("product", 10);
    let id = ProductId::parse("P-1").unwrap();
    let failed = flights.join(&id, ready(Err(LookupError::NoDefaultMarket))).await.unwrap_err();
    assert!(matches!(*failed, LookupError::NoDefaultMarket));

    let mut dropped = Box::pin(flights.join(&id, pending()));
    assert!(futures_util::poll!(&mut dropped).is_pending());
    let mut waiting = Box::pin(flights.join(&id, ready(Ok(2))));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(dropped);
    assert_eq!(waiting.await.unwrap(), Input::Loaded(2));
}

#[test]
fn a_location_without_a_market_is_remembered_as_such() {
    let market = Market { multiplier: Ppm::ONE, version: 1 };
    let mars = Location::parse("Mars").unwrap();
    let own = FoundMarket { market, is_fallback: false };
    let entries: Vec<_> = own.entries(&mars).collect();
    assert!(matches!(entries[..], [Entry::Market(location, _)] if *location == mars));
    let other = FoundMarket { market, is_fallback: true };
    let entries: Vec<_> = other.entries(&mars).collect();
    let [Entry::Market(whose, _), Entry::UnknownMarket(unknown)] = entries[..] else { panic!("{entries:?}") };
    assert_eq!((whose, unknown), (Location::fallback(), &mars));
}
