//! The whole system: Redis, a database with the demo catalogue, and the three services.

mod standing;

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api_key;
use crate::clock::FakeClock;
use crate::databases::TestDatabase;
use crate::proxy::Proxy;
use crate::redis_server::RedisServer;
use crate::service::{Binary, Environment, Service};
use crate::waiting::eventually;

/// Longest a task may take in [`Stack::wait_for_task`].
const TASK_DEADLINE: Duration = Duration::from_secs(60);

/// A running system. Fields may be replaced, for example by [`Stack::start_another`].
#[derive(Debug)]
pub struct Stack {
    /// The one API.
    pub api: Service,
    /// The listeners.
    pub listeners: Vec<Service>,
    /// The workers.
    pub workers: Vec<Service>,
    /// The Redis of all of them.
    pub redis: RedisServer,
    /// The database of all of them.
    pub database: TestDatabase,
    /// What the services reach Redis through, if they do.
    pub redis_proxy: Option<Proxy>,
    /// What the services reach the database through, if they do.
    pub database_proxy: Option<Proxy>,
    http: reqwest::Client,
    environments: Environments,
    /// Holds the file of keys, if there is one.
    _keys: Option<TempDir>,
}

/// What a system is to be made of. The default is one service of each kind over a Redis that keeps nothing
/// on disk and an SQLite database.
#[derive(Debug, Default)]
pub struct StackBuilder {
    redis: Option<RedisServer>,
    database: Option<TestDatabase>,
    listeners: Option<usize>,
    workers: Option<usize>,
    redis_through_proxy: bool,
    database_through_proxy: bool,
    environments: Environments,
}

#[derive(Debug, Default)]
struct Environments {
    shared: Environment,
    own: BTreeMap<Binary, Environment>,
}

impl Environments {
    fn of(&self, binary: Binary) -> Environment {
        let own = self.own.get(&binary).into_iter().flatten();
        self.shared.iter().chain(own).map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl StackBuilder {
    /// Uses this database instead of SQLite.
    #[must_use]
    pub fn database(self, database: TestDatabase) -> Self {
        Self { database: Some(database), ..self }
    }

    /// Uses this Redis.
    #[must_use]
    pub fn redis(self, redis: RedisServer) -> Self {
        Self { redis: Some(redis), ..self }
    }

    /// Starts so many listeners.
    #[must_use]
    pub fn listeners(self, number: usize) -> Self {
        Self { listeners: Some(number), ..self }
    }

    /// Starts so many workers.
    #[must_use]
    pub fn workers(self, number: usize) -> Self {
        Self { workers: Some(number), ..self }
    }

    /// Puts a proxy between the services and Redis. One that is given a `REDIS_URL` of its own goes its way.
    #[must_use]
    pub fn redis_through_proxy(self) -> Self {
        Self { redis_through_proxy: true, ..self }
    }

    /// Puts a proxy between the services and the database, which must be PostgreSQL.
    #[must_use]
    pub fn database_through_proxy(self) -> Self {
        Self { database_through_proxy: true, ..self }
    }

    /// Gives a setting to all services.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.environments.shared.insert(name.to_owned(), value.to_string());
        self
    }

    /// Gives a setting to one kind of service.
    #[must_use]
    pub fn set_for(mut self, binary: Binary, name: &str, value: impl ToString) -> Self {
        self.environments.own.entry(binary).or_default().insert(name.to_owned(), value.to_string());
        self
    }

    /// Has all services go by this clock.
    #[must_use]
    pub fn clock(mut self, clock: &FakeClock) -> Self {
        self.environments.shared.extend(clock.environment());
        self
    }

    /// Has all spans exported to this OTLP endpoint, soon after they end.
    #[must_use]
    pub fn traced_by(self, endpoint: &str) -> Self {
        let traced = self.set("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        traced.set("OTEL_TRACES_SAMPLER", "always_on").set("OTEL_BSP_SCHEDULE_DELAY", 100)
    }

    /// Starts everything and waits until all services are ready.
    pub async fn start(self) -> Stack {
        let redis = match self.redis {
            Some(redis) => redis,
            None => RedisServer::start().await,
        };
        let database = self.database.unwrap_or_else(TestDatabase::sqlite);
        let redis_proxy = self.redis_through_proxy.then(|| Proxy::in_front_of(&redis.url()));
        let database_proxy = self.database_through_proxy.then(|| Proxy::in_front_of(database.url()));
        let through = |proxy: &Option<Proxy>, url: &str| match proxy {
            Some(proxy) => proxy.in_place_of(url),
            None => url.to_owned(),
        };
        let mut environments = self.environments;
        if !environments.shared.contains_key("REDIS_URL") {
            for binary in [Binary::Api, Binary::Listener, Binary::Worker] {
                let url = through(&redis_proxy, &redis.url_of(binary));
                environments.own.entry(binary).or_default().entry("REDIS_URL".to_owned()).or_insert(url);
            }
        }
        for (name, value) in [
            ("REDIS_PREFIX", redis.prefix().to_owned()),
            ("DATABASE_URL", through(&database_proxy, database.url())),
            ("DEMO_CATALOGUE", "true".to_owned()),
        ] {
            environments.shared.entry(name.to_owned()).or_insert(value);
        }
        let api = environments.own.entry(Binary::Api).or_default();
        let keys = match api_key::get() {
            Some(key) if !api.contains_key("API_KEYS_FILE") && !api.contains_key("AUTH") => {
                let directory = tempfile::tempdir().expect("a directory can be made");
                let settings =
                    api_key::settings(directory.path(), key).unwrap_or_else(|error| panic!("{error:#}"));
                for (name, value) in settings {
                    api.entry(name).or_insert(value);
                }
                Some(directory)
            }
            _ => None,
        };
        let spawn = |binary| Service::spawn(binary, &environments.of(binary));
        let many = |binary, number: Option<usize>| (0..number.unwrap_or(1)).map(move |_| spawn(binary));
        let mut stack = Stack {
            api: spawn(Binary::Api),
            listeners: many(Binary::Listener, self.listeners).collect(),
            workers: many(Binary::Worker, self.workers).collect(),
            redis,
            database,
            redis_proxy,
            database_proxy,
            http: api_key::client(),
            environments,
            _keys: keys,
        };
        for service in stack.services_mut() {
            service.wait_until_ready().await;
        }
        stack
    }
}

impl Stack {
    /// A system to be described and started.
    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    /// The environment that services of a kind are started in, to run a subcommand in.
    pub fn environment(&self, binary: Binary) -> Environment {
        self.environments.of(binary)
    }

    /// Starts one more process of a service and waits until it is ready.
    pub async fn start_another(&self, binary: Binary) -> Service {
        Service::start(binary, &self.environment(binary)).await
    }

    /// `GET path`: status and body.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.http.get(self.api.url(path)), path).await
    }

    /// `POST path` with a JSON body: status and body.
    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.http.post(self.api.url(path)).json(body), path).await
    }

    /// The price of a product for a customer.
    pub async fn price(&self, product: &str, location: &str, prime: bool) -> Value {
        let body = json!({"product_id": product, "user_location": location, "is_prime_member": prime});
        succeeded(self.post("/api/v1/price", &body).await)
    }

    /// Publishes a market event; returns the id of its task.
    pub async fn publish(&self) -> String {
        task_id(&succeeded(self.post("/api/v1/publish-market-event", &json!({})).await))
    }

    /// Like [`Stack::publish`], `None` when it is refused.
    pub async fn try_publish(&self) -> Option<String> {
        let (status, body) = self.post("/api/v1/publish-market-event", &json!({})).await;
        (status == StatusCode::OK).then(|| task_id(&body))
    }

    /// Queues a recalculation; returns the id of its task.
    pub async fn recalculate(&self) -> String {
        task_id(&succeeded(self.post("/api/v1/recalculate", &json!({})).await))
    }

    /// The record of a task, `None` when there is none.
    pub async fn task(&self, id: &str) -> Option<Value> {
        match self.get(&format!("/api/v1/tasks/{id}")).await {
            (StatusCode::NOT_FOUND, _) => None,
            answer => Some(succeeded(answer)),
        }
    }

    /// Waits until a task has ended, in success or not; returns its record.
    pub async fn wait_for_task(&self, id: &str) -> Value {
        eventually(TASK_DEADLINE, &format!("task {id} to end"), async || {
            let task = self.task(id).await?;
            matches!(task["state"].as_str(), Some("succeeded" | "dead")).then_some(task)
        })
        .await
    }
}

async fn answer(request: reqwest::RequestBuilder, path: &str) -> (StatusCode, Value) {
    let answer = request.send().await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
    let status = answer.status();
    let body = answer.text().await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
    let json = serde_json::from_str(&body);
    (status, json.unwrap_or_else(|error| panic!("{path} answered {status}, {error}: {body}")))
}

fn succeeded((status, body): (StatusCode, Value)) -> Value {
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

fn task_id(body: &Value) -> String {
    body["task_id"].as_str().unwrap_or_else(|| panic!("no task_id in {body}")).to_owned()
}
