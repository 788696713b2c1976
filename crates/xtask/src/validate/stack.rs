//! The calls of the stack under validation, with the shapes that the contract gives their answers.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use pricing_harness::waiting::pause;
use serde::Deserialize;
use serde_json::{Number, json};

use crate::http::Http;

/// How often a task or a trace is looked at.
const POLL: Duration = Duration::from_millis(100);

/// The stack under validation.
pub(crate) struct Stack {
    http: Http,
    patience: Duration,
}

/// A price as the API must answer it: a missing field or a wrong type fails to parse.
#[derive(Deserialize)]
pub(crate) struct Price {
    pub(crate) product_id: String,
    pub(crate) final_price: Number,
    pub(crate) base_price: Number,
    pub(crate) discount_rate: Number,
    pub(crate) source: Source,
}

/// Where the inputs of a price came from.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    Cache,
    Database,
}

/// The part of a task record that is checked.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Task {
    pub(crate) task_id: String,
    pub(crate) state: String,
    pub(crate) result: Option<TaskResult>,
    pub(crate) error: Option<String>,
    pub(crate) trace_id: Option<String>,
    pub(crate) created_at: String,
    pub(crate) started_at: Option<String>,
    pub(crate) finished_at: Option<String>,
}

/// How a recalculation that did not fail ended.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TaskResult {
    pub(crate) status: String,
    pub(crate) updated_count: Option<u64>,
}

impl Task {
    /// `updated`, `skipped`, or nothing before it has ended.
    pub(crate) fn status(&self) -> &str {
        self.result.as_ref().map_or("", |result| &result.status)
    }
}

impl Stack {
    /// The stack whose API is at `api`; no check waits longer than `patience`.
    pub(crate) fn new(api: &str, patience: Duration) -> Self {
        Self { http: Http::new(api), patience }
    }

    /// The API.
    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    /// How long a check may wait for something to happen.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// One price, and how long the call took.
    pub(crate) async fn price(
        &self,
        product: &str,
        location: &str,
        is_prime: bool,
    ) -> Result<(Price, Duration)> {
        let request = json!({"product_id": product, "user_location": location, "is_prime_member": is_prime});
        let answer = self.http.post("/api/v1/price", Some(request.to_string())).await?;
        let price: Price = answer.json()?;
        ensure!(price.product_id == product, "asked for {product}, got the price of {}", price.product_id);
        Ok((price, answer.elapsed))
    }

    /// The record of a task once it has ended well; one that is dead is an error.
    pub(crate) async fn finished_task(&self, id: &str) -> Result<Task> {
        let path = format!("/api/v1/tasks/{id}");
        let deadline = Instant::now() + self.patience;
        loop {
            let answer = self.http.get(&path).await?;
            let state = match answer.status {
                404 => "unknown".to_owned(), // an event that the listener has not made a task yet
                _ => {
                    let task: Task = answer.json().context("the task record")?;
                    match task.state.as_str() {
                        "succeeded" => return Ok(task),
                        "dead" => bail!("task {id} is dead: {}", task.error.unwrap_or_default()),
                        _ => task.state,
                    }
                }
            };
            ensure!(
                Instant::now() < deadline,
                "task {id} is still {state} after {:?}: do a listener and a worker run?",
                self.patience
            );
            pause(POLL).await;
        }
    }
}

/// The demo catalogue's products, all of them once, in an order that differs from run to run.
pub(crate) fn demo_products() -> impl Iterator<Item = String> + Clone {
    const COUNT: u32 = 900;
    let start = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_micros() % COUNT);
    // 7 and 900 have no common factor, so the steps reach every product.
    (0..COUNT).map(move |step| format!("P-{}", 100 + (start + 7 * step) % COUNT))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Price, demo_products};

    #[test]
    fn demo_products_are_all_there_once() {
        let products: BTreeSet<String> = demo_products().collect();
        assert_eq!(products.len(), 900);
        assert!(products.contains("P-100") && products.contains("P-999"));
    }

    #[test]
    fn a_price_of_wrong_types_does_not_parse() {
        let right =
            r#"{"product_id":"P-1","final_price":1.5,"base_price":2,"discount_rate":0,"source":"cache"}"#;
        assert!(serde_json::from_str::<Price>(right).is_ok());
        let texts = [
            right.replace("1.5", "\"1.5\""),
            right.replace("cache", "disk"),
            right.replace("\"base_price\":2,", ""),
        ];
        for text in texts {
            assert!(serde_json::from_str::<Price>(&text).is_err(), "{text}");
        }
    }
}
