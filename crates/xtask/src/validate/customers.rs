//! What one customer's price must never depend on: who asked before.

use anyhow::{Result, ensure};

use crate::validate::money;
use crate::validate::report::{Finding, passed};
use crate::validate::stack::Stack;

/// The members' discount in hundredths of a percent.
const PRIME_DISCOUNT: i64 = 500;

/// Every location with and without membership, so ordered that each follows an unlike one.
const CUSTOMERS: [(&str, bool); 6] =
    [("LA", true), ("NY", false), ("MIA", true), ("LA", false), ("NY", true), ("MIA", false)];

/// Each customer is asked for twice, in this order and backwards, and pays exactly their own price each time.
pub(crate) fn own_prices(stack: &Stack, product: &str) -> Result<Finding> {
    let mut paid = [0, 0];
    for &(location, is_prime) in CUSTOMERS.iter().chain(CUSTOMERS.iter().rev()) {
        let (price, _) = stack.price(product, location, is_prime)?;
        let who = if is_prime { "a prime member" } else { "a non-member" };
        let discount = money::scaled(&price.discount_rate, 4)?;
        ensure!(
            discount == if is_prime { PRIME_DISCOUNT } else { 0 },
            "{who} in {location} got the discount {}",
            price.discount_rate
        );
        let right = money::final_cents(money::scaled(&price.base_price, 2)?, discount);
        let actual = money::scaled(&price.final_price, 2)?;
        ensure!(
            actual == right,
            "{who} in {location} pays {} for base {}: {}.{:02} is right",
            price.final_price,
            price.base_price,
            right / 100,
            right % 100
        );
        paid[usize::from(is_prime)] = actual;
    }
    let [others, members] = paid.map(|cents| format!("{}.{:02}", cents / 100, cents % 100));
    passed(format!("{} reads of {product}: members {members}, others {others}", 2 * CUSTOMERS.len()))
}
