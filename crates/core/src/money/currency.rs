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

/// All codes of ISO 4217 with their number of decimals, if they have any, sorted.
static CODES: LazyLock<Vec<([u8; 3], Option<u16>)>> = LazyLock::new(|| {
    // Numeric codes have three digits.
    let currencies = (0..1_000).filter_map(iso_currency::Currency::from_numeric);
    let entry = |currency: iso_currency::Currency| {
        Some((currency.code().as_bytes().try_into().ok()?, currency.exponent()))
    };
    let mut codes: Vec<_> = currencies.filter_map(entry).collect();
    codes.sort_unstable();
    codes
});

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
        let found = CODES.binary_search_by_key(&code, |(code, _)| *code);
        match CODES[found.map_err(|_| CurrencyError::Unknown)?].1 {
            None => Err(CurrencyError::WithoutMinorUnit),
            Some(decimals @ (0 | 2 | 3)) => Ok(Self { code, decimals: decimals as u8 }),
            Some(_) => Err(CurrencyError::UnsupportedDecimals),
        }
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
    fn the_table_has_every_code_once() {
        let letters = || b'A'..=b'Z';
        let codes = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
        let known = codes.filter_map(|code| {
            let currency = iso_currency::Currency::from_code(std::str::from_utf8(&code).unwrap())?;
            Some((code, currency.exponent()))
        });
        assert_eq!(*CODES, known.collect::<Vec<_>>());
    }
}
