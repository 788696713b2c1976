//! The requests of a load: one text, in which only the digits of product ids change.

use std::sync::Arc;

use crate::api_key;

/// The products that are asked for, one after the other and then from the first one on again.
#[derive(Debug, Clone)]
pub struct Products {
    digits: usize,
    order: Arc<[u32]>,
}

impl Products {
    /// The demo catalogue, `P-100` … `P-999`.
    pub fn demo() -> Self {
        Self::new(3, 100..1_000)
    }

    /// Products `P-` and a number of so many digits.
    pub fn new(digits: usize, order: impl IntoIterator<Item = u32>) -> Self {
        Self { digits, order: order.into_iter().collect() }
    }

    /// How many there are until the first one comes again.
    pub fn count(&self) -> usize {
        self.order.len()
    }
}

/// Requests for prices in NY, for a member.
#[derive(Debug, Clone)]
pub struct Requests {
    text: Vec<u8>,
    /// Where the digits of each product begin.
    places: Vec<usize>,
    products: Products,
    next: usize,
}

impl Requests {
    /// `POST /api/v1/price`, each for the next product, with a key or without.
    pub fn prices(products: Products, key: Option<&str>) -> Self {
        Self::new("/api/v1/price", [r#"{"product_id":"#, ""], 1, products, key)
    }

    /// `POST /api/v1/prices`, each for the next `size` products, with a key or without.
    pub fn batches(products: Products, size: usize, key: Option<&str>) -> Self {
        Self::new("/api/v1/prices", [r#"{"product_ids":["#, "]"], size, products, key)
    }

    fn new(path: &str, around: [&str; 2], size: usize, products: Products, key: Option<&str>) -> Self {
        let [before, after] = around;
        let id = format!(r#""P-{:0digits$}""#, 0, digits = products.digits);
        let ids = vec![id.as_str(); size].join(",");
        let body = format!(r#"{before}{ids}{after},"user_location":"NY","is_prime_member":true}}"#);
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{}\r\n",
            body.len(),
            api_key::header_line_of(key)
        );
        let first = head.len() + before.len() + r#""P-"#.len();
        let places = (0..size).map(|number| first + number * (id.len() + 1)).collect();
        Self { text: (head + &body).into_bytes(), places, products, next: 0 }
    }

    /// Products in one request.
    pub fn size(&self) -> usize {
        self.places.len()
    }

    /// The next request.
    pub fn next_request(&mut self) -> &[u8] {
        for place in &self.places {
            let mut number = self.products.order[self.next];
            self.next = (self.next + 1) % self.products.order.len();
            for digit in self.text[*place..*place + self.products.digits].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn body(request: &[u8]) -> Value {
        let text = std::str::from_utf8(request).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())), "{text}");
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn each_request_asks_for_the_next_product() {
        let mut requests = Requests::prices(Products::new(4, [7, 1_234]), Some("secret"));
        assert_eq!(body(requests.next_request())["product_id"], "P-0007");
        assert!(
            String::from_utf8_lossy(requests.next_request()).contains("\r\nAuthorization: Bearer secret\r\n")
        );
        let again = json!({"product_id": "P-0007", "user_location": "NY", "is_prime_member": true});
        assert_eq!(body(requests.next_request()), again);
    }

    #[test]
    fn a_batch_asks_for_many_products() {
        let mut requests = Requests::batches(Products::new(3, [100, 200, 300]), 2, None);
        assert_eq!(requests.size(), 2);
        assert_eq!(body(requests.next_request())["product_ids"], json!(["P-100", "P-200"]));
        assert_eq!(body(requests.next_request())["product_ids"], json!(["P-300", "P-100"]));
    }
}
