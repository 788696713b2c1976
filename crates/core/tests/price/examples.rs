//! The examples of docs/pricing.md, recomputed.

use pricing_core::money::{Amount, Currency, ExchangeRate, Ppm};
use pricing_core::price::{Market, Membership, Product, Rounding, RoundingMode, price};

const PAGE: &str = include_str!("../../../../docs/pricing.md");
const COLUMNS: &str = "list price | multiplier | member discount | exchange rate | increment | mode | ending \
                       | floor | ceiling | price | note";

/// The rows of the table of examples.
fn examples() -> Vec<Vec<&'static str>> {
    let rows = PAGE.lines().skip_while(|line| !line.contains(COLUMNS)).skip(2);
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    rows.take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn amount(number: &str, currency: Currency) -> Amount {
    Amount::base(number.parse().unwrap(), currency).unwrap()
}

fn with_currency(cell: &str) -> Amount {
    let (number, code) = cell.split_once(' ').unwrap();
    amount(number, Currency::parse(code).unwrap())
}

/// The price of a row, as its last but one cell says it.
fn computed(cells: &[&'static str]) -> (String, bool) {
    let [list_price, multiplier, discount, rate, increment, mode, ending, floor, ceiling, expected, _] =
        cells
    else {
        panic!("a row of another shape: {cells:?}")
    };
    let set = |cell: &&'static str| Some(*cell).filter(|cell| *cell != "–");
    let list_price = with_currency(list_price);
    let in_catalogue = |cell| set(cell).map(|cell| amount(cell, list_price.currency).money);
    let currency = with_currency(expected).currency;
    let minor = |cell: &str| amount(cell, currency).money.minor();
    let mode = RoundingMode::parse(mode).unwrap();
    let product = Product {
        floor: in_catalogue(floor),
        ceiling: in_catalogue(ceiling),
        ..Product::new(list_price.money, list_price.currency, 1)
    };
    let market = Market {
        member_discount: set(discount)
            .map_or(Ppm::ZERO, |cell| Ppm::parse_rate(cell.parse().unwrap()).unwrap()),
        exchange_rate: set(rate).map(|cell| ExchangeRate::parse(cell.parse().unwrap()).unwrap()),
        rounding: Rounding::new(minor(increment), mode, set(ending).map(minor)).unwrap(),
        ..Market::new(Ppm::parse_multiplier(multiplier.parse().unwrap()).unwrap(), currency, 1)
    };
    let detail = price(&product, &market, Membership::Prime).unwrap();
    let price = Amount { money: detail.final_price, currency: detail.currency };
    (format!("{price} {}", detail.currency), detail.bounds_conflict)
}

#[test]
fn every_example_of_the_page_is_right() {
    let examples = examples();
    assert!(examples.len() >= 20, "{} examples were found", examples.len());
    for cells in examples {
        let (price, conflict) = computed(&cells);
        assert_eq!(price, cells[9], "{}", cells.join(" | "));
        assert_eq!(conflict, cells[10].contains("counted"), "{}", cells.join(" | "));
    }
}
