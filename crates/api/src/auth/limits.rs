//! Token buckets: what a key and an address may cost.

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{DefaultDirectRateLimiter, InsufficientCapacity, NotUntil, Quota, RateLimiter};
use pricing_service::http::limited_network;

/// What a market event costs, in units. A read costs one, a batch one for each product.
pub(crate) const EVENT_UNITS: u32 = 100;
/// What a recalculation costs, in units.
pub(crate) const RECALCULATION_UNITS: u32 = 100;
/// What every bucket holds at least: the most expensive call twice over.
const MIN_BURST: u32 = 1_000;
/// Buckets for addresses: 512 KiB.
const ADDRESS_BUCKETS: usize = 1 << 16;

/// Units a second. A bucket holds those of two seconds, and [`MIN_BURST`] at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) NonZeroU32);

impl Default for Rate {
    fn default() -> Self {
        Self(NonZeroU32::MIN.saturating_add(4_999))
    }
}

impl Rate {
    fn quota(self) -> Quota {
        let burst = self.0.get().saturating_mul(2).max(MIN_BURST);
        Quota::per_second(self.0).allow_burst(NonZeroU32::new(burst).unwrap_or(self.0))
    }
}

/// A bucket does not hold what a call has to pay. It will after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted(pub(crate) Duration);

/// The bucket of a key.
pub(crate) struct KeyLimit {
    bucket: DefaultDirectRateLimiter,
    rate: Rate,
}

impl KeyLimit {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { bucket: RateLimiter::direct(rate.quota()), rate }
    }

    /// Takes what `cost` has to pay out of the bucket, or nothing.
    pub(crate) fn take(&self, cost: Cost) -> Result<(), Exhausted> {
        outcome(self.bucket.check_n(cost.due), self.bucket.clock(), self.rate, cost)
    }
}

/// What a call costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Units that the call has paid. It pays them again when it is made again.
    pub(crate) paid: u32,
    /// Units that it has to pay.
    pub(crate) due: NonZeroU32,
}

fn outcome(
    checked: Result<Result<(), NotUntil<<DefaultClock as Clock>::Instant>>, InsufficientCapacity>,
    clock: &DefaultClock,
    rate: Rate,
    cost: Cost,
) -> Result<(), Exhausted> {
    match checked {
        Ok(taken) => taken.map_err(|not_until| {
            Exhausted(
                not_until.wait_time_from(clock.now()) + Duration::from_secs(1) * cost.paid / rate.0.get(),
            )
        }),
        Err(_) => Err(Exhausted(Duration::MAX)), // never: no call costs more than a full bucket
    }
}

/// The buckets of addresses, in memory that does not grow with their number: a fixed table, in which an address has a
/// place by a hash that nobody outside can predict. Addresses that meet in one place share its bucket. The addresses of
/// one IPv6 network (/64), which belong to one customer of a provider, are one.
pub(crate) struct AddressLimits {
    buckets: RateLimiter<Opening, Buckets, DefaultClock>,
    rate: Rate,
}

struct Buckets {
    places: Box<[InMemoryState]>,
    hasher: RandomState,
}

/// An address, and what its bucket is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Opening {
    address: IpAddr,
    mode: Mode,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Mode {
    Look,
    Take,
}

impl StateStore for Buckets {
    type Key = Opening;

    fn measure_and_replace<T, F, E>(&self, Opening { address, mode }: &Opening, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let place = self.hasher.hash_one(limited_network(*address)) as usize % self.places.len();
        let bucket = &self.places[place];
        match mode {
            Mode::Take => bucket.measure_and_replace(&NotKeyed::NonKey, decide),
            // Errors leave a bucket as it is.
            Mode::Look => {
                let looked = bucket.measure_and_replace(&NotKeyed::NonKey, |state| {
                    Err::<(Infallible, _), _>(decide(state).map(|(taken, _)| taken))
                });
                looked.map_or_else(|decision| decision, |never| match never {})
            }
        }
    }
}

impl AddressLimits {
    pub(crate) fn new(rate: Rate) -> Self {
        let places = (0..ADDRESS_BUCKETS).map(|_| InMemoryState::default()).collect();
        let buckets = Buckets { places, hasher: RandomState::new() };
        Self { buckets: RateLimiter::new(rate.quota(), buckets, DefaultClock::default()), rate }
    }

    /// Whether the bucket of `address` holds what `cost` has to pay.
    pub(crate) fn look(&self, address: IpAddr, cost: Cost) -> Result<(), Exhausted> {
        self.open(Opening { address, mode: Mode::Look }, cost)
    }

    /// Takes what `cost` has to pay out of the bucket of `address`, or nothing.
    pub(crate) fn take(&self, address: IpAddr, cost: Cost) -> Result<(), Exhausted> {
        self.open(Opening { address, mode: Mode::Take }, cost)
    }

    fn open(&self, opening: Opening, cost: Cost) -> Result<(), Exhausted> {
        let checked = self.buckets.check_key_n(&opening, cost.due);
        outcome(checked, self.buckets.clock(), self.rate, cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prices::MAX_PRODUCTS;

    fn units(units: u32) -> NonZeroU32 {
        NonZeroU32::new(units).unwrap()
    }

    fn due(due: u32) -> Cost {
        Cost { paid: 0, due: units(due) }
    }

    #[test]
    fn a_bucket_gives_what_it_holds_and_says_when_there_is_more() {
        let limit = KeyLimit::new(Rate(units(10)));
        limit.take(due(500)).unwrap();
        limit.take(due(500)).unwrap();
        let Exhausted(wait) = limit.take(due(EVENT_UNITS)).unwrap_err();
        assert!(wait > Duration::from_secs(9) && wait <= Duration::from_secs(10), "{wait:?}");
        let Exhausted(wait) = limit.take(Cost { paid: 60, due: units(EVENT_UNITS) }).unwrap_err();
        assert!(wait > Duration::from_secs(15), "what it has paid is to be paid again: {wait:?}");
    }

    #[test]
    fn an_address_has_a_bucket_of_its_own_and_a_network_shares_one() {
        let limits = AddressLimits::new(Rate(units(1)));
        let take = |address: &str| limits.take(address.parse().unwrap(), due(1_000)).is_ok();
        let look = |address: &str| limits.look(address.parse().unwrap(), due(1_000)).is_ok();
        assert!(look("203.0.113.1") && look("203.0.113.1"), "a look takes nothing");
        assert!(take("203.0.113.1") && !take("203.0.113.1") && !look("203.0.113.1"));
        assert!(take("2001:db8:0:1::1") && !take("2001:db8:0:1:ffff::2"));
        let others = (0..=255_u8).filter(|last| take(&format!("198.51.100.{last}"))).count();
        assert!(
            others > 240,
            "hardly any of 256 addresses meet in one of 65,536 places: {others} had their own"
        );
    }

    #[test]
    fn every_call_fits_into_the_smallest_bucket() {
        let largest = EVENT_UNITS.max(RECALCULATION_UNITS).max(u32::try_from(MAX_PRODUCTS).unwrap());
        assert!(KeyLimit::new(Rate(units(1))).take(due(largest)).is_ok());
    }
}
