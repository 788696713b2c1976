//! Currencies of ISO 4217.

use std::fmt;
use std::sync::LazyLock;

use serde::{Serialize, Serializer};

/// A currency of ISO 4217, with 0, 2 or 3 decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency {
    code: [u8; 3],
    decimals: u8,
}

/// Why a text is no currency to price in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CurrencyError {
    /// ISO 4217 has no such code.
    #[error("must be a currency code of ISO 4217, three capital letters such as USD")]
    Unknown,
    /// The code is of something without minor units, such as gold.
    #[error("must be a currency with minor units, such as USD")]
    WithoutMinorUnit,
    /// Prices have 0, 2 or 3 decimals.
    #[error("must be a currency with 0, 2 or 3 decimals")]
    UnsupportedDecimals,
}

/// The decimals of each code of three capital letters, by its [`index`]: every cached price looks two up.
static DECIMALS: LazyLock<Vec<Result<u8, CurrencyError>>> = LazyLock::new(|| {
    let mut decimals = vec![Err(CurrencyError::Unknown); 26 * 26 * 26];
    // Numeric codes have three digits.
    for currency in (0..1_000).filter_map(iso_currency::Currency::from_numeric) {
        let code = currency.code().as_bytes().try_into().ok().and_then(index);
        decimals[code.expect("invariant: ISO 4217 has codes of three capital letters")] =
            decimals_of(currency);
    }
    decimals
});

fn decimals_of(currency: iso_currency::Currency) -> Result<u8, CurrencyError> {
    match currency.exponent() {
        None => Err(CurrencyError::WithoutMinorUnit),
        Some(decimals @ (0 | 2 | 3)) => Ok(decimals as u8),
        Some(_) => Err(CurrencyError::UnsupportedDecimals),
    }
}

/// The position of a code among all of three capital letters.
fn index(code: [u8; 3]) -> Option<usize> {
    let letter = |byte: u8| byte.is_ascii_uppercase().then(|| usize::from(byte - b'A'));
    Some((letter(code[0])? * 26 + letter(code[1])?) * 26 + letter(code[2])?)
}

impl Currency {
    /// US dollars, the currency of the demo catalogue.
    pub const USD: Self = Self { code: *b"USD", decimals: 2 };

    /// Parses a code.
    ///
    /// # Errors
    ///
    /// When it is no code of ISO 4217, or its currency has neither 0, 2 nor 3 decimals.
    pub fn parse(code: &str) -> Result<Self, CurrencyError> {
        let code: [u8; 3] = code.as_bytes().try_into().map_err(|_| CurrencyError::Unknown)?;
        let index = index(code).ok_or(CurrencyError::Unknown)?;
        Ok(Self { code, decimals: DECIMALS[index]? })
    }

    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.code).expect("invariant: a code is ASCII letters")
    }

    /// Number of decimals of an amount in major units: 0, 2 or 3.
    pub const fn decimals(self) -> u32 {
        self.decimals as u32
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_has_its_number_of_decimals() {
        for (decimals, codes) in [
            (0, ["JPY", "KRW", "VND", "ISK", "CLP"]),
            (2, ["USD", "EUR", "GBP", "HUF", "CHF"]),
            (3, ["KWD", "BHD", "OMR", "JOD", "TND"]),
        ] {
            for code in codes {
                let currency = Currency::parse(code).unwrap();
                assert_eq!((currency.as_str(), currency.decimals()), (code, decimals));
            }
        }
        assert_eq!(Currency::parse("USD"), Ok(Currency::USD));
    }

    #[test]
    fn what_prices_cannot_be_in_is_refused() {
        for bad in ["", "usd", "Usd", "US", "USDT", "U D", "€", "ABC", "QQQ", "\0\0\0"] {
            assert_eq!(Currency::parse(bad), Err(CurrencyError::Unknown), "{bad:?}");
        }
        for code in ["XAU", "XXX", "XDR"] {
            assert_eq!(Currency::parse(code), Err(CurrencyError::WithoutMinorUnit), "{code}");
        }
        for code in ["CLF", "UYW"] {
            assert_eq!(Currency::parse(code), Err(CurrencyError::UnsupportedDecimals), "{code}");
        }
    }

    #[test]
    fn every_code_is_found() {
        let letters = || b'A'..=b'Z';
        let codes = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
        for code in codes {
            let code = std::str::from_utf8(&code).unwrap();
            let currency = iso_currency::Currency::from_code(code).ok_or(CurrencyError::Unknown);
            let parsed = Currency::parse(code).map(|currency| currency.decimals);
            assert_eq!(parsed, currency.and_then(decimals_of), "{code}");
        }
    }
}
