//! Clients of the API that go on whatever happens, and remember what was acknowledged to them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::api_key;
use crate::stack::Stack;
use crate::waiting::pause;

/// Time between two requests of one client.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(20);
/// Longest a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// A market event is published.
    Event,
    /// A recalculation is queued.
    Recalculation,
    /// A price is read.
    Price,
}

/// What came of the requests of a load.
#[derive(Debug, Default, Clone)]
pub struct Answers {
    /// Ids of the tasks of events and recalculations that were acknowledged.
    pub acknowledged: Vec<String>,
    /// Prices that were read.
    pub prices: usize,
    /// Requests that were refused or not answered.
    pub refused: usize,
}

/// Clients at work. Dropping it ends them.
#[derive(Debug)]
pub struct Load {
    clients: JoinSet<()>,
    answers: Arc<Mutex<Answers>>,
}

impl Load {
    /// Starts one client for each request, which makes it again and again.
    pub fn start(stack: &Stack, requests: &[Request]) -> Self {
        let (http, answers) = (api_key::client(), Arc::<Mutex<Answers>>::default());
        let mut clients = JoinSet::new();
        for request in requests.iter().copied() {
            let (http, answers, api) = (http.clone(), answers.clone(), stack.api.url(""));
            clients.spawn(async move {
                loop {
                    let answer = ask(&http, &api, request).await;
                    note(&mut answers.lock().unwrap_or_else(PoisonError::into_inner), request, answer);
                    pause(BETWEEN_REQUESTS).await;
                }
            });
        }
        Self { clients, answers }
    }

    /// What came of it so far.
    pub fn answers(&self) -> Answers {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the clients; returns what came of it.
    pub async fn stop(mut self) -> Answers {
        self.clients.shutdown().await;
        self.answers()
    }
}

async fn ask(http: &reqwest::Client, api: &str, request: Request) -> reqwest::Result<(StatusCode, Value)> {
    let (path, body) = match request {
        Request::Event => ("/api/v1/publish-market-event", json!({})),
        Request::Recalculation => ("/api/v1/recalculate", json!({})),
        Request::Price => ("/api/v1/price", json!({"product_id": "P-100", "user_location": "NY"})),
    };
    let answer = http.post(format!("{api}{path}")).timeout(PATIENCE).json(&body).send().await?;
    Ok((answer.status(), answer.json().await?))
}

fn note(answers: &mut Answers, request: Request, answer: reqwest::Result<(StatusCode, Value)>) {
    match answer {
        Ok((StatusCode::OK, _)) if request == Request::Price => answers.prices += 1,
        Ok((StatusCode::OK, body)) => match body["task_id"].as_str() {
            Some(id) => answers.acknowledged.push(id.to_owned()),
            None => answers.refused += 1,
        },
        _ => answers.refused += 1,
    }
}
