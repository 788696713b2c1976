//! The demo catalogue's prices, computed again in exact integers.

use anyhow::{Context, Result};
use serde_json::Number;

/// The market multiplier of the demo catalogue, 0.95, in hundredths.
const MULTIPLIER_HUNDREDTHS: i64 = 95;

/// What a customer must pay, in cents: `round(base × 0.95 × (1 − discount), 2)`, halves to even.
///
/// `base` is in cents, `discount` in hundredths of a percent: 500 is 5 %.
pub(crate) fn final_cents(base: i64, discount: i64) -> i64 {
    round_half_even(base * MULTIPLIER_HUNDREDTHS * (10_000 - discount), 100 * 10_000)
}

/// A JSON number as an exact multiple of `10^-places`; an error when it has more decimal places.
pub(crate) fn scaled(number: &Number, places: usize) -> Result<i64> {
    parse_scaled(&number.to_string(), places)
        .with_context(|| format!("{number} is not a decimal with at most {places} places"))
}

fn parse_scaled(text: &str, places: usize) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    if whole.is_empty() || fraction.len() > places {
        return None;
    }
    format!("{whole}{fraction:0<places$}").parse().ok()
}

/// `numerator / denominator` as the nearest integer, the even one of two equally near; neither may be negative.
fn round_half_even(numerator: i64, denominator: i64) -> i64 {
    let (quotient, rest) = (numerator / denominator, numerator % denominator);
    let is_above_half = 2 * rest > denominator;
    let is_half_of_odd = 2 * rest == denominator && quotient % 2 == 1;
    quotient + i64::from(is_above_half || is_half_of_odd)
}

#[cfg(test)]
mod tests {
    use super::{final_cents, parse_scaled, round_half_even};

    #[test]
    fn halves_round_to_the_even_neighbour() {
        let rounded = [4, 5, 6, 14, 15, 16, 25].map(|numerator| round_half_even(numerator, 10));
        assert_eq!(rounded, [0, 0, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn decimals_are_read_exactly() {
        assert_eq!(parse_scaled("49.99", 2), Some(4999));
        assert_eq!(parse_scaled("50", 2), Some(5000));
        assert_eq!(parse_scaled("50.0", 2), Some(5000));
        assert_eq!(parse_scaled("0.05", 4), Some(500));
    }

    #[test]
    fn what_is_no_such_decimal_is_refused() {
        for text in ["49.991", "1e5", "", "NaN"] {
            assert_eq!(parse_scaled(text, 2), None, "{text:?}");
        }
    }

    #[test]
    fn the_formula_is_the_catalogues() {
        // 49.99 × 0.95 = 47.4905, and × 0.95 again = 45.115975.
        assert_eq!(final_cents(4999, 0), 4749);
        assert_eq!(final_cents(4999, 500), 4512);
        // 50.00 × 0.95 × 0.95 = 45.125: the half goes to the even cent.
        assert_eq!(final_cents(5000, 500), 4512);
    }
}
