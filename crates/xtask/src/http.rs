//! A small HTTP client: JSON in, text out, every status an answer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent, Body};

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// One server and the connections to it, which are kept alive.
pub(crate) struct Http {
    agent: Agent,
    base: String,
}

/// What a server answered, whatever its status.
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The `Content-Type` header, or nothing.
    pub(crate) content_type: String,
    /// The whole body.
    pub(crate) body: String,
    /// From sending the request to the body's last byte.
    pub(crate) elapsed: Duration,
}

impl Http {
    /// A client of the server at `base`, such as `http://localhost:8000`.
    pub(crate) fn new(base: &str) -> Self {
        let config =
            Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).build();
        Self { agent: config.new_agent(), base: base.trim_end_matches('/').to_owned() }
    }

    /// GET.
    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        self.call("GET", path, |url| self.agent.get(url).call())
    }

    /// POST of `body` as JSON.
    pub(crate) fn post(&self, path: &str, body: &impl Serialize) -> Result<Answer> {
        self.call("POST", path, |url| self.agent.post(url).send_json(body))
    }

    /// POST of `body` as it is, declared as JSON.
    pub(crate) fn post_text(&self, path: &str, body: &str) -> Result<Answer> {
        self.call("POST", path, |url| self.agent.post(url).content_type("application/json").send(body))
    }

    /// POST without a body.
    pub(crate) fn post_empty(&self, path: &str) -> Result<Answer> {
        self.call("POST", path, |url| self.agent.post(url).send_empty())
    }

    fn call(
        &self,
        method: &str,
        path: &str,
        send: impl FnOnce(&str) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Answer> {
        let url = format!("{}{path}", self.base);
        let started = Instant::now();
        let mut response = send(&url).with_context(|| format!("{method} {url}"))?;
        let body = response.body_mut().read_to_string().with_context(|| format!("{method} {url}"))?;
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        Ok(Answer {
            status: response.status().as_u16(),
            content_type: content_type.unwrap_or_default().to_owned(),
            elapsed: started.elapsed(),
            body,
        })
    }
}

impl Answer {
    /// The body of a 200 as JSON; any other status is an error that shows the body.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        ensure!(self.status == 200, "status {} instead of 200: {}", self.status, self.body);
        serde_json::from_str(&self.body)
            .with_context(|| format!("the answer is not what was agreed: {}", self.body))
    }
}
