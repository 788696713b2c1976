//! What one cache entry holds, and how long.

use std::time::Duration;

use redis::RedisResult;
use serde::{Deserialize, Serialize};

use crate::ids::{Location, ProductId};
use crate::json::is_shallow;
use crate::money::{Currency, Money, Ppm};
use crate::price::{Market, Product};

/// Longest data of an entry, in bytes. Ours take about fifty.
const MAX_DATA: usize = 1_024;
/// Data of an entry that says that there is no such thing: JSON's word for it.
const UNKNOWN: &str = "null";
/// How long a location stays remembered as having no market of its own.
pub(super) const UNKNOWN_MARKET_LIFE: Duration = Duration::from_secs(10);
/// How long a product stays remembered as not existing: one that is created without an event is found then.
pub(super) const UNKNOWN_PRODUCT_LIFE: Duration = Duration::from_secs(2);
/// An entry that denies something for longer is none of ours.
const LONGEST_UNKNOWN: Duration = UNKNOWN_MARKET_LIFE;
/// Versions are exact in Lua and in signed columns up to here.
const MAX_VERSION: u64 = 1 << 53;

/// What the cache says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached<T> {
    /// Within its time to live.
    Fresh {
        /// The cached value.
        value: T,
        /// Time since it was written.
        age: Duration,
    },
    /// Past its time to live, but good enough while the database is away.
    Stale {
        /// The cached value.
        value: T,
        /// Time since it was written.
        age: Duration,
    },
    /// Known not to exist in the database.
    Unknown,
    /// Not in the cache.
    Absent,
    /// There was an entry that does not decode. It has been removed.
    Corrupt,
}

/// An entry to write.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'a> {
    /// A product.
    Product(&'a ProductId, &'a Product),
    /// A market.
    Market(&'a Location, &'a Market),
    /// A location without a market of its own. Any real market replaces it.
    UnknownMarket(&'a Location),
    /// A product that does not exist, and the version that the cache last knew it in, 0 if it did not. It
    /// replaces that version, and any newer one replaces it.
    UnknownProduct(&'a ProductId, u64),
}

impl Entry<'_> {
    pub(super) fn version(&self) -> u64 {
        match self {
            Entry::Product(_, product) => product.version,
            Entry::Market(_, market) => market.version,
            Entry::UnknownMarket(_) => 0,
            Entry::UnknownProduct(_, version) => *version,
        }
    }

    pub(super) fn data(&self) -> String {
        let data = match self {
            Entry::Product(_, product) => sonic_rs::to_string(&ProductData {
                base_price_minor: product.base_price.minor(),
                currency: product.currency.as_str(),
            }),
            Entry::Market(_, market) => {
                sonic_rs::to_string(&MarketData { multiplier_ppm: market.multiplier.get() })
            }
            Entry::UnknownMarket(_) | Entry::UnknownProduct(..) => return UNKNOWN.to_owned(),
        };
        data.unwrap_or_default() // integers and plain strings always serialize
    }
}

/// A value that can be read from an entry's version and data; the contract that cached data must keep.
pub(super) trait Decode: Sized {
    fn decode(version: u64, data: &[u8]) -> Option<Self>;
}

#[derive(Serialize, Deserialize)]
struct ProductData<'a> {
    base_price_minor: i64,
    #[serde(borrow)]
    currency: &'a str,
}

#[derive(Serialize, Deserialize)]
struct MarketData {
    multiplier_ppm: i64,
}

impl Decode for Product {
    fn decode(version: u64, data: &[u8]) -> Option<Self> {
        let data: ProductData<'_> = sonic_rs::from_slice(data).ok()?;
        let base_price = Money::base(data.base_price_minor)?;
        Some(Self { base_price, currency: Currency::parse(data.currency)?, version })
    }
}

impl Decode for Market {
    fn decode(version: u64, data: &[u8]) -> Option<Self> {
        let data: MarketData = sonic_rs::from_slice(data).ok()?;
        Some(Self { multiplier: Ppm::multiplier(data.multiplier_ppm)?, version })
    }
}

/// Version and data of an entry as Redis returns them.
pub(super) type Reply = RedisResult<(Option<Vec<u8>>, Option<Vec<u8>>)>;

/// How long entries are fresh, and how much longer they are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lives {
    pub(super) fresh: Duration,
    pub(super) spare: Duration,
}

impl Lives {
    /// The whole life of an entry: fresh ± 10 %, so that entries written together do not expire together,
    /// plus the spare time. It depends on the key alone, so a reader can tell an entry's age.
    pub(super) fn life(&self, key: &str) -> Duration {
        self.fresh.mul_f64(0.9 + 0.2 * spread(key)) + self.spare
    }

    /// Judges an entry that has `left_ms` of its life left.
    pub(super) fn decode<T: Decode>(&self, key: &str, reply: &Reply, left_ms: i64) -> Cached<T> {
        let (version, data) = match reply {
            Ok((None, None)) => return Cached::Absent,
            Ok((Some(version), Some(data))) => (version, data),
            Ok(_) | Err(_) => return Cached::Corrupt,
        };
        let Ok(left) = u64::try_from(left_ms).map(Duration::from_millis) else {
            return if left_ms == -2 { Cached::Absent } else { Cached::Corrupt };
        };
        if data == UNKNOWN.as_bytes() && left <= LONGEST_UNKNOWN {
            return Cached::Unknown;
        }
        let version = std::str::from_utf8(version).ok().and_then(|text| text.parse().ok());
        let version = version.filter(|version| (1..=MAX_VERSION).contains(version));
        let readable = data.len() <= MAX_DATA && is_shallow(data);
        let Some(value) = version.filter(|_| readable).and_then(|version| T::decode(version, data)) else {
            return Cached::Corrupt;
        };
        let age = self.life(key).saturating_sub(left);
        if left > self.spare { Cached::Fresh { value, age } } else { Cached::Stale { value, age } }
    }
}

/// A number in 0 … 1 that looks random and depends on the key alone (FNV-1a).
fn spread(key: &str) -> f64 {
    let hash =
        key.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    f64::from(hash) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIVES: Lives = Lives { fresh: Duration::from_secs(60), spare: Duration::from_secs(600) };
    const KEY: &str = "pricing:product:P-100";

    fn decode(version: &str, data: &[u8], left_ms: i64) -> Cached<Product> {
        LIVES.decode(KEY, &Ok((Some(version.into()), Some(data.to_vec()))), left_ms)
    }

    const GOOD: &[u8] = br#"{"base_price_minor":5499,"currency":"USD"}"#;

    #[test]
    fn an_entry_is_fresh_then_stale_by_its_remaining_life() {
        assert!(matches!(decode("3", GOOD, 600_001), Cached::Fresh { value, .. } if value.version == 3));
        assert!(matches!(decode("3", GOOD, 600_000), Cached::Stale { .. }));
        assert_eq!(decode("3", GOOD, -2), Cached::Absent, "expired between the two commands");
        assert_eq!(decode("3", GOOD, -1), Cached::Corrupt, "would never expire");
    }

    #[test]
    fn an_entry_may_deny_a_thing_for_a_short_while_only() {
        let id = ProductId::parse("P-100").unwrap();
        let entry = Entry::UnknownProduct(&id, 7);
        assert_eq!(entry.version(), 7);
        assert_eq!(decode("7", entry.data().as_bytes(), 2_000), Cached::Unknown);
        assert_eq!(decode("7", entry.data().as_bytes(), 10_001), Cached::Corrupt);
    }

    #[test]
    fn data_that_breaks_the_contract_is_corrupt() {
        let bad: [&[u8]; 9] = [
            b"",
            br#"{"base_price_minor":5499,"curr"#,
            br#"{"base_price_minor":"5499","currency":"USD"}"#,
            br#"{"base_price_minor":54.99,"currency":"USD"}"#,
            br#"{"base_price_minor":-1,"currency":"USD"}"#,
            br#"{"base_price_minor":NaN,"currency":"USD"}"#,
            br#"{"base_price_minor":5499,"currency":"dollars"}"#,
            br#"{"base_price_minor":5499}"#,
            &[0xff; 40],
        ];
        for data in bad {
            assert_eq!(decode("3", data, 650_000), Cached::Corrupt, "{}", String::from_utf8_lossy(data));
        }
        for version in ["0", "-1", "x", "", "99999999999999999999"] {
            assert_eq!(decode(version, GOOD, 650_000), Cached::Corrupt, "version {version:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(minor in 0..=Money::MAX_BASE.minor(), version in 1..MAX_VERSION) {
            let product = Product { base_price: Money::base(minor).unwrap(), currency: Currency::USD, version };
            let id = ProductId::parse("P-100").unwrap();
            let entry = Entry::Product(&id, &product);
            let read = decode(&entry.version().to_string(), entry.data().as_bytes(), 650_000);
            let same = matches!(read, Cached::Fresh { value, .. } if value == product);
            prop_assert!(same, "{:?}", read);
        }

        #[test]
        fn no_data_is_ever_misread(data in prop::collection::vec(any::<u8>(), 0..200), left in any::<i64>()) {
            let _ = decode("1", &data, left);
        }

        #[test]
        fn a_life_is_within_ten_per_cent(key in "[a-z]{1,20}") {
            let fresh = LIVES.life(&key) - LIVES.spare;
            prop_assert!((54_000..=66_000).contains(&fresh.as_millis()), "{:?}", fresh);
        }
    }
}
