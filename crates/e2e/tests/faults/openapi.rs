//! Requests of every kind, made from the description that the service gives of itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pricing_e2e::openapi::document::Document;
use pricing_e2e::openapi::generator::Generator;
use pricing_e2e::openapi::request::Request;
use pricing_e2e::openapi::sample::Sampler;
use pricing_e2e::openapi::verdict::Judge;
use pricing_e2e::raw_http::{NoAnswer, RawAnswer, RawConnection};
use pricing_e2e::rounds::Rounds;
use pricing_e2e::stack::Stack;
use rand::RngExt as _;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 8;
/// Longest for an answer: longer than the API gives a request.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
const MAX_MEMORY: u64 = 100 << 20;
/// Most wrong answers that are printed.
const MAX_PRINTED: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_asked_the_answer_is_one_that_the_description_allows() {
    let mut rounds = Rounds::of(
        "50,000 random and damaged requests, made from the OpenAPI document",
        "every answer is one that the document allows, none is a 5xx, and the process lives",
    )
    .one_of(u32::MAX);
    let requests = rounds.either(2_000, 50_000);
    let mut stack = Stack::builder().start().await;
    let (_, description) = stack.get("/openapi.json").await;
    while let Some(mut round) = rounds.next_round() {
        let document = Document::new(&description);
        let judge = Judge::new(&document);
        let sampler = Sampler::new(known_values(&stack).await);
        let generator = Generator { document, sampler, seed: round.random.random() };
        let interview = Arc::new(Interview {
            generator,
            judge,
            requests,
            next: AtomicU64::new(0),
            notes: Mutex::default(),
        });
        let mut connections = JoinSet::new();
        for _ in 0..CONNECTIONS {
            connections.spawn(interview.clone().ask_all(stack.api.address()));
        }
        connections.join_all().await;

        let notes = std::mem::take(&mut *interview.notes());
        for (status, answers) in &notes.answers {
            let refused = (400..500).contains(status);
            rounds.count(if refused { "answers 4xx" } else { "answers 2xx" }, *answers);
        }
        let printed = notes.wrong[..notes.wrong.len().min(MAX_PRINTED)].join("\n");
        assert!(notes.wrong.is_empty(), "{} wrong answers:\n{printed}", notes.wrong.len());
        assert_eq!(stack.api.exit_status(), None, "the API has ended");
        assert!(!stack.api.log().contains("panicked"), "a handler panicked");
        if let Some(bytes) = stack.api.resident_memory() {
            rounds.measure("resident MiB", bytes as f64 / f64::from(1 << 20));
            assert!(bytes < MAX_MEMORY, "the API holds {bytes} bytes");
        }
        assert_eq!(stack.price("P-100", "NY", false).await["final_price"], 47.49);
    }
}

/// All the requests of a round, and what came of them.
struct Interview {
    generator: Generator,
    judge: Judge,
    requests: u64,
    next: AtomicU64,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// How many answers there were, by their status.
    answers: BTreeMap<u16, usize>,
    wrong: Vec<String>,
}

impl Interview {
    /// Sends requests until all are sent, over one connection as long as it stays open.
    async fn ask_all(self: Arc<Self>, api: SocketAddr) {
        let mut open = None;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.requests {
                return;
            }
            let request = self.generator.request(number);
            let is_used = open.is_some();
            let mut connection = match open.take() {
                Some(connection) => connection,
                None => RawConnection::open(api).await.expect("the API accepts connections"),
            };
            let Ok(outcome) = tokio::time::timeout(ANSWER_DEADLINE, ask(&mut connection, &request)).await
            else {
                self.note_wrong(number, &request, "no answer in time");
                continue;
            };
            if let Err(what) = self.judge.check(&self.generator.document, &request, &outcome) {
                self.note_wrong(
                    number,
                    &request,
                    &format!("{what} (used before: {is_used}): {}", shown(&outcome)),
                );
            }
            if let Ok(answer) = &outcome {
                *self.notes().answers.entry(answer.status).or_default() += 1;
                open = (request.leaves_connection() && !answer.closes()).then_some(connection);
            }
        }
    }

    fn note_wrong(&self, number: u64, request: &Request, what: &str) {
        self.notes().wrong.push(format!("---- request {number}: {what}\n{request}"));
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(connection: &mut RawConnection, request: &Request) -> Result<RawAnswer, NoAnswer> {
    connection.exchange(&request.encode(), request.nonsense.is_some(), request.is_head()).await
}

fn shown(outcome: &Result<RawAnswer, NoAnswer>) -> String {
    match outcome {
        Ok(RawAnswer { status, headers, body }) => {
            format!("{status} {headers:?} {}", body[..body.len().min(1_000)].escape_ascii())
        }
        Err(none) => format!("{none:?}"),
    }
}

/// Values that exist, so that requests find something.
async fn known_values(stack: &Stack) -> BTreeMap<&'static str, Vec<String>> {
    let products: Vec<String> = (100..1_000).map(|n| format!("P-{n}")).collect();
    let locations = ["NY", "LA", "default", "Mars"].map(String::from).to_vec();
    let tasks = vec![stack.publish().await, stack.recalculate().await];
    for task in &tasks {
        stack.wait_for_task(task).await;
    }
    BTreeMap::from([
        ("product_id", products.clone()),
        ("product_ids", products),
        ("user_location", locations),
        ("task_id", tasks),
    ])
}
