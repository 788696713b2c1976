//! The codec of entries by itself, for its benchmark: programs read and write entries through the cache.

use super::data::{decode_value, decode_version, encode};
use crate::price::{Market, Product};

/// The data of a product's entry.
pub fn encode_product(product: &Product) -> String {
    encode(product)
}

/// The product of an entry with this version and data, if both are valid.
pub fn decode_product(version: &[u8], data: &[u8]) -> Option<Product> {
    decode_value(decode_version(version)?, data)
}

/// The data of a market's entry.
pub fn encode_market(market: &Market) -> String {
    encode(market)
}

/// The market of an entry with this version and data, if both are valid.
pub fn decode_market(version: &[u8], data: &[u8]) -> Option<Market> {
    decode_value(decode_version(version)?, data)
}
