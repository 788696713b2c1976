//! In which order products are asked for.

use anyhow::{Context as _, Result};
use pricing_harness::http_load::Products;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::Zipf;

use crate::measure::catalogue::DIGITS;

/// Spreads products over the catalogue: a prime that is longer than any catalogue is large.
const STRIDE: u64 = 15_485_863;
/// Zipf's law itself.
const EXPONENT: f64 = 1.0;

/// The product at a place of an order without neighbours.
fn spread(place: u64, products: u32) -> u32 {
    u32::try_from(place * STRIDE % u64::from(products))
        .expect("invariant: it is less than the number of products")
}

/// The first products of the demo catalogue.
pub(super) fn hot(products: u32) -> Products {
    Products::new(3, 100..100 + products)
}

/// Each product once.
pub(super) fn each_once(products: u32) -> Products {
    Products::new(DIGITS, (0..u64::from(products)).map(|place| spread(place, products)))
}

/// So many reads of products by Zipf's law: the n-th most popular one is asked for 1/n times as often as the first.
pub(super) fn zipf(products: u32, reads: usize) -> Result<Products> {
    let ranks = Zipf::new(f64::from(products), EXPONENT).context("Zipf's law needs a product")?;
    let reads = StdRng::seed_from_u64(1).sample_iter(ranks).take(reads);
    Ok(Products::new(DIGITS, reads.map(|rank| spread(rank as u64 - 1, products))))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_product_is_asked_for_twice() {
        for products in [1_000, 300_000] {
            let order: HashSet<u32> = (0..u64::from(products)).map(|place| spread(place, products)).collect();
            assert_eq!(order.len(), products as usize);
        }
    }
}
