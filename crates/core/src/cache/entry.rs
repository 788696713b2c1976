//! One cache entry: its key and its time to live.

use std::io::Write as _;
use std::time::Duration;

use redis::{RedisWrite, ToRedisArgs, Value};

use super::data::{CachedValue, decode_value, decode_version, encode};
use super::{MAX_CACHE_TTL_SECONDS, MAX_STALE_TTL_SECONDS};
use crate::clock::millis;
use crate::ids::{Location, ProductId};
use crate::price::{Market, Product};

/// What the keys of products begin with. The number is the version of the encoding: builds that write different entries
/// do not take each other's for corrupt.
pub(super) const PRODUCT: &str = "product:4:";
/// What the keys of markets begin with.
pub(super) const MARKET: &str = "market:4:";
/// Data of a negative entry.
const NEGATIVE: &str = "null";
/// TTL of a negative entry that a reader writes.
const NEGATIVE_TTL: Duration = Duration::from_secs(10);
/// TTL of a negative entry that a deletion leaves.
const DELETED_TTL: Duration = Duration::from_secs(60);
/// Maximum age of a read whose rows may be stored, less than [`DELETED_TTL`] by what clocks may differ: what was read
/// before a deletion is refused by the negative entry, and after that by its age.
const MAX_READ_AGE: Duration = Duration::from_secs(50);
/// Maximum TTL of a negative entry; anything longer is corrupt.
const MAX_NEGATIVE_TTL: Duration = DELETED_TTL;

/// Maximum life of any entry, by the largest settings: entries of other settings live on after a change. Anything longer is
/// corrupt.
const MAX_LIFE: Duration = Duration::from_secs(MAX_CACHE_TTL_SECONDS * 11 / 10 + MAX_STALE_TTL_SECONDS);

/// Longest since the end of an entry that is still there: the time is asked for after it. Anything longer is corrupt: Redis
/// will not remove it.
const MAX_OVER: Duration = Duration::from_secs(1);

/// What the cache holds under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached<T> {
    /// A value within its time to live.
    Fresh {
        /// The cached value.
        value: T,
        /// Time since it was written.
        age: Duration,
        /// Time for which it is fresh.
        left: Duration,
    },
    /// A value past its time to live, kept for an outage of the database.
    Stale {
        /// The cached value.
        value: T,
        /// Time since it was written.
        age: Duration,
    },
    /// A negative entry: the database has no such row.
    Negative,
    /// No entry.
    Absent,
    /// An entry that did not decode. It has been removed.
    Corrupt,
}

impl<T: Copy> Cached<T> {
    /// The value, if it is within its time to live.
    pub fn fresh(&self) -> Option<T> {
        match self {
            Self::Fresh { value, .. } => Some(*value),
            Self::Stale { .. } | Self::Negative | Self::Absent | Self::Corrupt => None,
        }
    }

    /// The value, fresh or stale.
    pub fn value(&self) -> Option<T> {
        match self {
            Self::Fresh { value, .. } | Self::Stale { value, .. } => Some(*value),
            Self::Negative | Self::Absent | Self::Corrupt => None,
        }
    }

    /// Whether the entry can serve as fresh: a fresh value or a negative entry.
    pub fn is_current(&self) -> bool {
        matches!(self, Self::Fresh { .. } | Self::Negative)
    }
}

/// An entry with what only the cache asks about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decoded<T> {
    pub(super) cached: Cached<T>,
    /// Its version; 0 if it has none.
    pub(super) version: u64,
    /// How long it is valid, or fresh.
    pub(super) left: Duration,
}

impl<T> Decoded<T> {
    /// Without a value.
    fn nothing(cached: Cached<T>) -> Self {
        Self { cached, version: 0, left: Duration::ZERO }
    }
}

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A product.
    Product,
    /// A market.
    Market,
}

impl Kind {
    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Market => "market",
        }
    }
}

/// An entry to write.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'a> {
    /// A product.
    Product(&'a ProductId, &'a Product),
    /// A market.
    Market(&'a Location, &'a Market),
    /// A reader found that the product does not exist. The negative entry replaces nothing, and any product replaces it.
    NegativeProduct(&'a ProductId),
    /// A reader found that the location has no market, likewise.
    NegativeMarket(&'a Location),
    /// The product was deleted, by the change of this version.
    DeletedProduct(&'a ProductId, u64),
    /// The market was deleted, by the change of this version.
    DeletedMarket(&'a Location, u64),
}

impl Entry<'_> {
    /// Appends the entry's key, version, data and TTL in milliseconds to a call of `store.lua`.
    pub(super) fn append_to(&self, call: &mut redis::ScriptInvocation<'_>, prefix: &str, ttls: &Ttls) {
        let negative = |key, version, ttl| (key, version, NEGATIVE.to_owned(), Some(ttl));
        let (key, version, data, ttl) = match self {
            Entry::Product(id, product) => {
                (Key::product(prefix, id), product.version, encode(*product), None)
            }
            Entry::Market(location, market) => {
                (Key::market(prefix, location), market.version, encode(*market), None)
            }
            Entry::NegativeProduct(id) => negative(Key::product(prefix, id), 0, NEGATIVE_TTL),
            Entry::NegativeMarket(location) => negative(Key::market(prefix, location), 0, NEGATIVE_TTL),
            Entry::DeletedProduct(id, version) => negative(Key::product(prefix, id), *version, DELETED_TTL),
            Entry::DeletedMarket(location, version) => {
                negative(Key::market(prefix, location), *version, DELETED_TTL)
            }
        };
        let ttl = ttl.unwrap_or_else(|| ttls.of(&key));
        call.key(key).arg(version).arg(data).arg(millis(ttl));
    }
}

/// The Redis key of an entry, written without an allocation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a>([&'a str; 3]);

impl<'a> Key<'a> {
    pub(super) fn product(prefix: &'a str, id: &'a ProductId) -> Self {
        Self([prefix, PRODUCT, id.as_str()])
    }

    pub(super) fn market(prefix: &'a str, location: &'a Location) -> Self {
        Self([prefix, MARKET, location.as_str()])
    }

    /// The location, if this is the key of a market.
    pub(super) fn market_id(&self) -> Option<&'a str> {
        let [_, kind, id] = self.0;
        (kind == MARKET).then_some(id)
    }

    /// A number in 0 … 1 that looks random and depends on the key alone: FNV-1a, finished like MurmurHash3, without which
    /// keys that differ in their last digit would lie close together.
    fn spread(&self) -> f64 {
        let bytes = self.0.iter().flat_map(|part| part.bytes());
        let hash =
            bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let mixed = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        let mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
        f64::from(mixed ^ (mixed >> 16)) / f64::from(u32::MAX)
    }
}

impl ToRedisArgs for Key<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut argument = out.writer_for_next_arg();
        for part in self.0 {
            argument.write_all(part.as_bytes()).expect("invariant: memory takes every write");
        }
    }
}

impl redis::ToSingleRedisArg for Key<'_> {}

/// How long entries are fresh, and how much longer they are kept as stale.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ttls {
    pub(super) fresh_ttl: Duration,
    pub(super) stale_ttl: Duration,
}

impl Ttls {
    /// The TTL of an entry in Redis: fresh ± 10 %, so that entries written together do not expire together, plus
    /// the stale time. It depends on the key alone, so a reader can tell an entry's age.
    pub(super) fn of(&self, key: &Key<'_>) -> Duration {
        self.fresh_ttl.mul_f64(0.9 + 0.2 * key.spread()) + self.stale_ttl
    }

    /// Maximum age of a read whose rows may be stored: no longer than the entry lives that would refuse them.
    pub(super) fn max_read_age(&self) -> Duration {
        MAX_READ_AGE.min(self.fresh_ttl.mul_f64(0.9) + self.stale_ttl)
    }

    /// The longest TTL of any entry.
    pub(super) fn longest(&self) -> Duration {
        self.fresh_ttl.mul_f64(1.1) + self.stale_ttl
    }

    /// Decodes what Redis holds under a key, at its time `now_ms`.
    pub(super) fn decode<T: CachedValue>(&self, key: &Key<'_>, entry: &Value, now_ms: u64) -> Decoded<T> {
        let corrupt = Decoded::nothing(Cached::Corrupt);
        match entry {
            Value::Nil => Decoded::nothing(Cached::Absent),
            Value::BulkString(text) => self.decode_text(key, text, now_ms).unwrap_or(corrupt),
            _ => corrupt,
        }
    }

    /// Decodes the text of an entry; `None` if it is corrupt.
    fn decode_text<T: CachedValue>(&self, key: &Key<'_>, text: &[u8], now_ms: u64) -> Option<Decoded<T>> {
        let (version, expires_at_ms, data) = split(text)?;
        let left = Duration::from_millis(expires_at_ms.saturating_sub(now_ms));
        let over = Duration::from_millis(now_ms.saturating_sub(expires_at_ms));
        if left > MAX_LIFE || over > MAX_OVER {
            return None;
        }
        if left.is_zero() {
            return Some(Decoded::nothing(Cached::Absent));
        }
        if data == NEGATIVE.as_bytes() {
            let version = if version == b"0" { 0 } else { decode_version(version)? };
            return (left <= MAX_NEGATIVE_TTL).then_some(Decoded { cached: Cached::Negative, version, left });
        }
        let version = decode_version(version)?;
        let value = decode_value(version, data)?;
        let age = self.of(key).saturating_sub(left);
        let left = left.saturating_sub(self.stale_ttl);
        let cached = match left.is_zero() {
            false => Cached::Fresh { value, age, left },
            true => Cached::Stale { value, age },
        };
        Some(Decoded { cached, version, left })
    }
}

/// Version, time of expiry in milliseconds since 1970, and data of an entry.
fn split(text: &[u8]) -> Option<(&[u8], u64, &[u8])> {
    let mut parts = text.splitn(3, |byte| *byte == b' ');
    let (version, expires_at_ms, data) = (parts.next()?, parts.next()?, parts.next()?);
    Some((version, str::from_utf8(expires_at_ms).ok()?.parse().ok()?, data))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TTLS: Ttls = Ttls { fresh_ttl: Duration::from_secs(60), stale_ttl: Duration::from_secs(600) };
    const KEY: Key<'_> = Key(["pricing:", "product:", "P-100"]);

    const NOW_MS: u64 = 1_764_000_000_000;

    fn decode(version: &str, data: &[u8], left_ms: i64) -> Cached<Product> {
        let expires_at_ms = NOW_MS.saturating_add_signed(left_ms);
        let text = [format!("{version} {expires_at_ms} ").as_bytes(), data].concat();
        TTLS.decode(&KEY, &Value::BulkString(text), NOW_MS).cached
    }

    const GOOD: &[u8] = br#"[5499,null,null,null,"USD"]"#;

    #[test]
    fn an_entry_is_fresh_then_stale_by_its_remaining_life() {
        assert!(matches!(decode("3", GOOD, 600_001), Cached::Fresh { value, .. } if value.version == 3));
        assert!(matches!(decode("3", GOOD, 600_000), Cached::Stale { .. }));
        assert!(matches!(decode("3", GOOD, 1), Cached::Stale { .. }));
        assert_eq!(decode("3", GOOD, 0), Cached::Absent);
        assert_eq!(decode("3", GOOD, -1_000), Cached::Absent);
    }

    #[test]
    fn an_entry_that_does_not_end_when_it_should_is_corrupt() {
        let longest = i64::try_from(MAX_LIFE.as_millis()).unwrap();
        assert!(matches!(decode("3", GOOD, longest), Cached::Fresh { .. }));
        for left_ms in [longest + 1, i64::MAX, -1_001, i64::MIN] {
            assert_eq!(decode("3", GOOD, left_ms), Cached::Corrupt, "{left_ms}");
        }
    }

    #[test]
    fn a_negative_entry_is_valid_for_a_short_while_only() {
        assert_eq!(decode("7", NEGATIVE.as_bytes(), 2_000), Cached::Negative);
        assert_eq!(decode("0", NEGATIVE.as_bytes(), 2_000), Cached::Negative, "a reader found none");
        assert_eq!(decode("7", NEGATIVE.as_bytes(), 60_001), Cached::Corrupt);
        for version in ["", "x", "-1", "99999999999999999999"] {
            assert_eq!(decode(version, NEGATIVE.as_bytes(), 2_000), Cached::Corrupt, "{version}");
        }
    }

    #[test]
    fn what_is_no_entry_is_corrupt() {
        let text = |text: &str| Value::BulkString(text.into());
        let numbers = ["", "3", "3 ", "3 x []", "3 -1 []", "3 99999999999999999999 []"];
        let others = [Value::Int(1), Value::Array(vec![Value::Nil])];
        for entry in numbers.map(text).into_iter().chain(others) {
            assert_eq!(TTLS.decode::<Product>(&KEY, &entry, NOW_MS).cached, Cached::Corrupt, "{entry:?}");
        }
        assert_eq!(TTLS.decode::<Product>(&KEY, &Value::Nil, NOW_MS).cached, Cached::Absent);
    }

    proptest! {
        #[test]
        fn no_data_is_ever_misread(data in prop::collection::vec(any::<u8>(), 0..200), left in any::<i64>()) {
            let _ = decode("1", &data, left);
            let _ = TTLS.decode::<Product>(&KEY, &Value::BulkString(data), NOW_MS);
        }

        #[test]
        fn a_ttl_is_within_ten_per_cent(id in "[a-z]{1,20}") {
            let id = ProductId::parse(id).unwrap();
            let fresh = TTLS.of(&Key::product("pricing:", &id)) - TTLS.stale_ttl;
            prop_assert!((54_000..=66_000).contains(&fresh.as_millis()), "{:?}", fresh);
        }
    }
}
