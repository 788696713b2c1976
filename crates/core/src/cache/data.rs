//! The data of an entry: what is stored under a key, and how it is validated.

use serde::{Deserialize, Serialize};

use crate::money::{Currency, ExchangeRate, Money, Ppm};
use crate::price::{Market, Product, Rounding, RoundingMode};

/// Maximum length of an entry's data, in bytes: enough for the largest amounts. It also bounds how deep the parser can
/// recurse.
const MAX_DATA: usize = 64;
/// Versions are exact in Lua and in signed columns up to here.
pub(super) const MAX_VERSION: u64 = 1 << 53;

/// The data of a value.
pub(super) fn encode<T: CachedValue>(value: &T) -> String {
    let data =
        sonic_rs::to_string(&value.to_data()).expect("invariant: integers and plain strings serialize");
    debug_assert!(data.len() <= MAX_DATA, "{data}");
    data
}

/// The version of an entry; `None` if it is none, or 0, which only negative entries have.
pub(super) fn decode_version(version: &[u8]) -> Option<u64> {
    let version = std::str::from_utf8(version).ok()?.parse().ok()?;
    (1..=MAX_VERSION).contains(&version).then_some(version)
}

/// The value of a version and data, if the data is valid.
pub(super) fn decode_value<T: CachedValue>(version: u64, data: &[u8]) -> Option<T> {
    if data.len() > MAX_DATA {
        return None;
    }
    // For so few bytes faster than sonic-rs, which copies its input first.
    T::from_data(version, serde_json::from_slice(data).ok()?)
}

/// A value that the cache can hold. Decoding validates it as strictly as reading the database does.
pub(super) trait CachedValue: Sized {
    type Data<'d>: Serialize + Deserialize<'d>;

    fn to_data(&self) -> Self::Data<'_>;
    fn from_data(version: u64, data: Self::Data<'_>) -> Option<Self>;
}

/// Base price, list price, floor, ceiling, currency: an array, which is short enough with the longest amounts.
#[derive(Serialize, Deserialize)]
pub(super) struct ProductData<'a>(i64, Option<i64>, Option<i64>, Option<i64>, #[serde(borrow)] &'a str);

/// Multiplier, members' discount, currency, exchange rate in units of 10⁻¹², increment, mode, ending.
#[derive(Serialize, Deserialize)]
pub(super) struct MarketData<'a>(i64, i64, #[serde(borrow)] &'a str, Option<u64>, i64, u8, Option<i64>);

/// Rounding modes, by their number in an entry.
const MODES: [RoundingMode; 3] = [RoundingMode::HalfEven, RoundingMode::Up, RoundingMode::Down];

/// An optional value: `None` if there is one and it is invalid.
fn optional<T, U>(stored: Option<T>, parse: impl FnOnce(T) -> Option<U>) -> Option<Option<U>> {
    stored.map_or(Some(None), |stored| parse(stored).map(Some))
}

impl CachedValue for Product {
    type Data<'d> = ProductData<'d>;

    fn to_data(&self) -> ProductData<'_> {
        let minor = |money: Option<Money>| money.map(Money::minor);
        ProductData(
            self.base_price.minor(),
            minor(self.list_price),
            minor(self.floor),
            minor(self.ceiling),
            self.currency.as_str(),
        )
    }

    fn from_data(version: u64, data: ProductData<'_>) -> Option<Self> {
        let ProductData(base_price, list_price, floor, ceiling, currency) = data;
        Some(Self {
            base_price: Money::base(base_price)?,
            list_price: optional(list_price, Money::base)?,
            floor: optional(floor, Money::base)?,
            ceiling: optional(ceiling, Money::base)?,
            currency: Currency::parse(currency).ok()?,
            version,
        })
    }
}

impl CachedValue for Market {
    type Data<'d> = MarketData<'d>;

    fn to_data(&self) -> MarketData<'_> {
        MarketData(
            self.multiplier.get(),
            self.member_discount.get(),
            self.currency.as_str(),
            self.exchange_rate.map(ExchangeRate::e12),
            self.rounding.increment().into(),
            MODES.iter().position(|mode| *mode == self.rounding.mode()).expect("invariant: every mode") as u8,
            self.rounding.ending().map(i64::from),
        )
    }

    fn from_data(version: u64, data: MarketData<'_>) -> Option<Self> {
        let MarketData(multiplier, member_discount, currency, exchange_rate, increment, mode, ending) = data;
        Some(Self {
            multiplier: Ppm::multiplier(multiplier)?,
            member_discount: Ppm::rate(member_discount)?,
            currency: Currency::parse(currency).ok()?,
            exchange_rate: optional(exchange_rate, ExchangeRate::from_e12)?,
            rounding: Rounding::new(increment, *MODES.get(usize::from(mode))?, ending)?,
            version,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn product(data: &[u8]) -> Option<Product> {
        decode_value(3, data)
    }

    fn market(data: &[u8]) -> Option<Market> {
        decode_value(3, data)
    }

    const PRODUCT: &[u8] = br#"[5499,null,1000,9000,"USD"]"#;
    const MARKET: &[u8] = br#"[950000,50000,"EUR",920000000000,100,1,99]"#;

    #[test]
    fn an_entry_holds_all_that_a_price_needs() {
        let product = product(PRODUCT).unwrap();
        let minor = |money: Option<Money>| money.map(Money::minor);
        assert_eq!((product.base_price.minor(), minor(product.list_price)), (5_499, None));
        assert_eq!((minor(product.floor), minor(product.ceiling)), (Some(1_000), Some(9_000)));
        assert_eq!((product.currency, product.version), (Currency::USD, 3));
        assert_eq!(encode(&product).as_bytes(), PRODUCT);

        let market = market(MARKET).unwrap();
        assert_eq!((market.multiplier.get(), market.member_discount.get()), (950_000, 50_000));
        assert_eq!(
            (market.currency.as_str(), market.exchange_rate.map(ExchangeRate::e12)),
            ("EUR", Some(920_000_000_000))
        );
        assert_eq!(Some(market.rounding), Rounding::new(100, RoundingMode::Up, Some(99)));
        assert_eq!(encode(&market).as_bytes(), MARKET);
    }

    #[test]
    fn a_product_that_breaks_the_contract_is_corrupt() {
        let bad: [&[u8]; 20] = [
            b"",
            b"[",
            b"[]",
            b"5499",
            br#"[5499,null,null,null,"US"#,
            br#"[5499,null,null,null]"#,
            br#"[5499,null,null,null,"USD",1]"#,
            br#"[5499,null,null,null,"USD"] []"#,
            br#"["5499",null,null,null,"USD"]"#,
            br#"[54.99,null,null,null,"USD"]"#,
            br#"[null,null,null,null,"USD"]"#,
            br#"[-1,null,null,null,"USD"]"#,
            br#"[NaN,null,null,null,"USD"]"#,
            br#"[5499,-1,null,null,"USD"]"#,
            br#"[5499,null,1000000000000,null,"USD"]"#,
            br#"[5499,null,null,99999999999999999999,"USD"]"#,
            br#"[5499,null,null,null,"usd"]"#,
            br#"[5499,null,null,null,"ABC"]"#,
            br#"{"base_price_minor":5499,"currency":"USD"}"#,
            &[0xff; 40],
        ];
        for data in bad {
            assert_eq!(product(data), None, "{}", String::from_utf8_lossy(data));
        }
        for version in ["0", "-1", "x", "", "9007199254740993", "99999999999999999999"] {
            assert_eq!(decode_version(version.as_bytes()), None, "version {version:?}");
        }
    }

    #[test]
    fn a_market_that_breaks_the_contract_is_corrupt() {
        for data in [
            r#"{"multiplier_ppm":950000}"#,
            r#"[100000001,50000,"EUR",null,1,0,null]"#,
            r#"[950000,1000001,"EUR",null,1,0,null]"#,
            r#"[950000,50000,"XAU",null,1,0,null]"#,
            r#"[950000,50000,"EUR",0,1,0,null]"#,
            r#"[950000,50000,"EUR",1000000000001,1,0,null]"#,
            r#"[950000,50000,"EUR",null,0,0,null]"#,
            r#"[950000,50000,"EUR",null,1,3,null]"#,
            r#"[950000,50000,"EUR",null,1,256,null]"#,
            r#"[950000,50000,"EUR",null,100,0,100]"#,
            r#"[950000,50000,"EUR",null,100,0,-1]"#,
        ] {
            assert_eq!(market(data.as_bytes()), None, "{data}");
        }
    }

    fn money() -> impl Strategy<Value = Money> {
        let minor = prop_oneof![0..=Money::MAX_BASE.minor(), Just(Money::MAX_BASE.minor())];
        minor.prop_map(|minor| Money::base(minor).unwrap())
    }

    fn rounding() -> impl Strategy<Value = Rounding> {
        let increment = prop_oneof![1..=Rounding::MAX_INCREMENT, Just(Rounding::MAX_INCREMENT)];
        let mode = prop::sample::select(MODES.to_vec());
        (increment, mode, option::of(0..Rounding::MAX_INCREMENT)).prop_map(|(increment, mode, ending)| {
            Rounding::new(increment, mode, ending.map(|ending| ending.min(increment - 1))).unwrap()
        })
    }

    proptest! {
        #[test]
        fn every_product_is_short_and_reads_back(
            base_price in money(), bounds in (option::of(money()), option::of(money()), option::of(money())),
            version in 1..=MAX_VERSION,
        ) {
            let (list_price, floor, ceiling) = bounds;
            let product =
                Product { list_price, floor, ceiling, ..Product::new(base_price, Currency::USD, version) };
            let data = encode(&product);
            prop_assert!(data.len() <= MAX_DATA, "{}", data);
            prop_assert_eq!(decode_value(version, data.as_bytes()), Some(product));
        }

        #[test]
        fn every_market_is_short_and_reads_back(
            multiplier in prop_oneof![0..=Ppm::MAX_MULTIPLIER.get(), Just(Ppm::MAX_MULTIPLIER.get())],
            discount in prop_oneof![0..=Ppm::ONE.get(), Just(Ppm::ONE.get())],
            digits in prop_oneof![1..=1_000_000_000_u64, Just(1_000_000_000)],
            thousands in 0..4_u32, rounding in rounding(), version in 1..=MAX_VERSION,
        ) {
            let market = Market {
                member_discount: Ppm::rate(discount).unwrap(),
                exchange_rate: ExchangeRate::from_e12(digits * 1_000_u64.pow(thousands)),
                rounding,
                ..Market::new(Ppm::multiplier(multiplier).unwrap(), Currency::USD, version)
            };
            let data = encode(&market);
            prop_assert!(data.len() <= MAX_DATA, "{}", data);
            prop_assert_eq!(decode_value(version, data.as_bytes()), Some(market));
        }
    }
}
