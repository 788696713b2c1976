//! A small HTTP client: JSON in, text out, every status an answer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pricing_harness::api_key;
use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;

/// Longest one call may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// One server and the connections to it, which are kept alive.
pub(crate) struct Http {
    client: Client,
    base: String,
}

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Empty when the header is missing.
    pub(crate) content_type: String,
    pub(crate) body: String,
    /// From sending the request to the body's last byte.
    pub(crate) elapsed: Duration,
}

impl Http {
    /// A client of the server at `base`, such as `http://localhost:8000`, which shows the key of the environment.
    pub(crate) fn new(base: &str) -> Self {
        Self { client: api_key::client(), base: base.trim_end_matches('/').to_owned() }
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        let url = format!("{}{path}", self.base);
        answer(self.client.get(&url)).await.with_context(|| format!("GET {url}"))
    }

    /// POST of `body`, declared as JSON; without a body when there is none.
    pub(crate) async fn post(&self, path: &str, body: Option<String>) -> Result<Answer> {
        let url = format!("{}{path}", self.base);
        let mut request = self.client.post(&url);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        answer(request).await.with_context(|| format!("POST {url}"))
    }
}

async fn answer(request: RequestBuilder) -> Result<Answer> {
    let started = Instant::now();
    let response = request.timeout(TIMEOUT).send().await?;
    let status = response.status().as_u16();
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let body = response.text().await?;
    Ok(Answer { status, content_type, body, elapsed: started.elapsed() })
}

impl Answer {
    /// The body of a 200 as JSON; any other status is an error that shows the body.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        ensure!(self.status == 200, "status {} instead of 200: {}", self.status, self.body);
        serde_json::from_str(&self.body)
            .with_context(|| format!("the answer is not what was agreed: {}", self.body))
    }
}
