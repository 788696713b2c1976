//! Amounts as clients see them: in major units of a currency.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Currency, Decimal, DecimalError, Money};

/// An amount of money in its currency.
///
/// It serializes as a JSON number of major units that prints exactly, `54.99` for USD and `5499` for JPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// The amount in minor units.
    pub money: Money,
    /// Its currency.
    pub currency: Currency,
}

impl Amount {
    /// A base price, list price, cost, floor or ceiling as it was written, in major units.
    ///
    /// # Errors
    ///
    /// When the number has more decimals than the currency, or is above [`Money::MAX_BASE`].
    pub fn base(number: Decimal, currency: Currency) -> Result<Self, DecimalError> {
        let minor = number.scaled(currency.decimals()).ok_or(DecimalError::CurrencyDecimals(currency))?;
        let money = i64::try_from(minor).ok().and_then(Money::base);
        let money = money
            .ok_or_else(|| DecimalError::TooLarge(Self { money: Money::MAX_BASE, currency }.to_decimal()))?;
        Ok(Self { money, currency })
    }

    fn to_decimal(self) -> Decimal {
        Decimal::new(u128::from(self.money.minor().unsigned_abs()), self.currency.decimals())
    }
}

/// All decimals of the currency, such as `95.00` for USD.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minor, unit) = (self.money.minor(), 10_i64.pow(self.currency.decimals()));
        write!(f, "{}", minor / unit)?;
        match self.currency.decimals() as usize {
            0 => Ok(()),
            width => write!(f, ".{:0width$}", minor % unit),
        }
    }
}

impl Serialize for Amount {
    #[expect(clippy::cast_precision_loss, reason = "amounts stay below 2^53 minor units")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let minor = self.money.minor();
        match self.currency.decimals() {
            0 => serializer.serialize_i64(minor),
            decimals => serializer.serialize_f64(minor as f64 / 10_f64.powi(decimals as i32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn currency() -> impl Strategy<Value = Currency> {
        prop::sample::select(vec!["JPY", "USD", "KWD"]).prop_map(|code| Currency::parse(code).unwrap())
    }

    fn base(text: &str, code: &str) -> Result<String, String> {
        let amount = Amount::base(text.parse().unwrap(), Currency::parse(code).unwrap());
        amount.map(|amount| amount.money.minor().to_string()).map_err(|error| error.to_string())
    }

    fn json(minor: u128, code: &str) -> String {
        let money = Money::computed(minor).unwrap();
        serde_json::to_string(&Amount { money, currency: Currency::parse(code).unwrap() }).unwrap()
    }

    #[test]
    fn an_amount_has_the_decimals_of_its_currency() {
        assert_eq!(base("5499", "JPY").as_deref(), Ok("5499"));
        assert_eq!(base("54.99", "USD").as_deref(), Ok("5499"));
        assert_eq!(base("54.990", "USD").as_deref(), Ok("5499"));
        assert_eq!(base("54.999", "KWD").as_deref(), Ok("54999"));
        assert_eq!(base("54.991", "USD").unwrap_err(), "may have 2 decimals, for that is what USD has");
        assert_eq!(base("54.9", "JPY").unwrap_err(), "may have 0 decimals, for that is what JPY has");
        assert_eq!(
            base("54.990000000000001", "USD").unwrap_err(),
            "may have 2 decimals, for that is what USD has"
        );
    }

    #[test]
    fn an_amount_is_at_most_the_largest_base_price() {
        assert_eq!(base("9999999999.99", "USD").as_deref(), Ok("999999999999"));
        assert_eq!(base("10000000000", "USD").unwrap_err(), "must be at most 9999999999.99");
        assert_eq!(base("1e20", "JPY").unwrap_err(), "must be at most 999999999999");
        assert_eq!(base("1e37", "KWD").unwrap_err(), "must be at most 999999999.999");
    }

    #[test]
    fn json_has_the_number_that_is_meant() {
        assert_eq!(json(5_499, "JPY"), "5499");
        assert_eq!(json(5_499, "USD"), "54.99");
        assert_eq!(json(54_999, "KWD"), "54.999");
        assert_eq!(
            (json(9_500, "USD"), json(0, "USD"), json(0, "JPY")),
            ("95.0".into(), "0.0".into(), "0".into())
        );
        assert_eq!(json(1, "KWD"), "0.001");
        assert_eq!(json(999_999_999_999_999, "KWD"), "999999999999.999");
    }

    proptest! {
        #[test]
        fn every_amount_prints_as_itself(minor in 0..=Money::MAX.minor(), currency in currency()) {
            let amount = Amount { money: Money::computed(minor.unsigned_abs().into()).unwrap(), currency };
            let from = |text: &str| text.parse::<Decimal>().unwrap().scaled(currency.decimals());
            let minor = u128::from(minor.unsigned_abs());
            prop_assert_eq!(from(&serde_json::to_string(&amount).unwrap()), Some(minor));
            prop_assert_eq!(from(&sonic_rs::to_string(&amount).unwrap()), Some(minor));
            prop_assert_eq!(from(&amount.to_string()), Some(minor));
        }
    }
}
