//! Bad input: refused with a problem document, never a failure of the service.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::validate::report::{Finding, passed};
use crate::validate::stack::Stack;

/// A request body that must be refused, and how.
pub(crate) struct Refusal {
    /// The line of the report.
    pub(crate) title: &'static str,
    body: &'static str,
    status: u16,
}

/// The kinds of refusal that a client must tell apart.
pub(crate) const ALL: [Refusal; 3] = [
    Refusal { title: "malformed JSON is refused", body: r#"{"product_id": "P-100", "#, status: 400 },
    Refusal {
        title: "an unknown product is not found",
        body: r#"{"product_id": "no-such-product", "user_location": "NY"}"#,
        status: 404,
    },
    Refusal {
        title: "a bad product id is refused",
        body: r#"{"product_id": "P 100\n", "user_location": "NY"}"#,
        status: 422,
    },
];

impl Refusal {
    /// The answer has the right status, and a problem document that repeats it.
    pub(crate) async fn check(&self, stack: &Stack) -> Result<Finding> {
        let answer = stack.http().post("/api/v1/price", Some(self.body.to_owned())).await?;
        ensure!(
            answer.status == self.status,
            "status {} instead of {}: {}",
            answer.status,
            self.status,
            answer.body
        );
        ensure!(
            answer.content_type.starts_with("application/problem+json"),
            "the answer is {}",
            answer.content_type
        );
        let problem: Value = serde_json::from_str(&answer.body).context("the answer is no JSON")?;
        ensure!(problem["status"] == self.status, "the document says status {}", problem["status"]);
        passed(format!("{} {}", answer.status, problem["title"].as_str().unwrap_or_default()))
    }
}
