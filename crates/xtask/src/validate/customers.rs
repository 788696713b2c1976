//! Nobody's price depends on who asked before.

use anyhow::{Context, Result, ensure};

use crate::validate::report::{Finding, passed};
use crate::validate::stack::Stack;

/// The base prices of the demo catalogue, and the final prices of members and of others, in all its markets.
const PRICES: [(&str, &str, &str); 10] = [
    ("49.99", "45.12", "47.49"),
    ("50.99", "46.02", "48.44"),
    ("51.99", "46.92", "49.39"),
    ("52.99", "47.82", "50.34"),
    ("53.99", "48.73", "51.29"),
    ("54.99", "49.63", "52.24"),
    ("55.99", "50.53", "53.19"),
    ("56.99", "51.43", "54.14"),
    ("57.99", "52.34", "55.09"),
    ("58.99", "53.24", "56.04"),
];

/// Every location with and without membership, so ordered that each follows an unlike one.
const CUSTOMERS: [(&str, bool); 6] =
    [("LA", true), ("NY", false), ("MIA", true), ("LA", false), ("NY", true), ("MIA", false)];

/// Each customer is asked for twice, in this order and backwards, and pays exactly their own price each time.
pub(crate) async fn own_prices(stack: &Stack, product: &str) -> Result<Finding> {
    let (mut members, mut others) = ("", "");
    for &(location, is_prime) in CUSTOMERS.iter().chain(CUSTOMERS.iter().rev()) {
        let (price, _) = stack.price(product, location, is_prime).await?;
        let base = price.base_price.to_string();
        let row = PRICES.iter().find(|row| row.0 == base);
        (_, members, others) =
            *row.with_context(|| format!("{base} is no base price of the demo catalogue"))?;
        let (who, right, discount) =
            if is_prime { ("a prime member", members, 0.05) } else { ("a non-member", others, 0.0) };
        ensure!(
            price.discount_rate.as_f64() == Some(discount),
            "{who} in {location} got the discount {}",
            price.discount_rate
        );
        ensure!(
            price.final_price.to_string() == right,
            "{who} in {location} pays {} for base {base}: {right} is right",
            price.final_price
        );
    }
    passed(format!("{} reads of {product}: members {members}, others {others}", 2 * CUSTOMERS.len()))
}
