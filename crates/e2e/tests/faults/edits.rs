//! Edits of the catalogue from everywhere, while those who make and follow them are killed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pricing_core::catalogue::{Catalogue, HistoryFilter, ProductChange};
use pricing_core::ids::ProductId;
use pricing_e2e::rounds::{Round, Rounds};
use pricing_harness::api_key;
use pricing_harness::databases::TestDatabase;
use pricing_harness::process::Process;
use pricing_harness::service::{Binary, Service};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::{eventually, pause};
use rand::RngExt as _;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);
/// Changes of a round.
const STEPS: usize = 20;
/// Changes of a product that are read of its history at a time.
const PAGE: u32 = 500;

const ON_SQLITE: &str = "products of an SQLite catalogue are put, deleted and put again over HTTP, by SQL and by imports, under recalculations, \
                     while api, worker and imports are killed";
const ON_POSTGRES: &str = "products of a PostgreSQL catalogue are put, deleted and put again over HTTP, by SQL and by imports, under recalculations, \
                     while api, worker and imports are killed";
const MUST_HOLD: &str = "whoever edits reads no older version; once it is quiet, both apis answer what the database holds, 404 \
                         exactly for what is deleted, and the history leads there in steps without a gap";

#[tokio::test]
async fn edits_of_an_sqlite_catalogue_are_kept_whatever_is_killed() {
    edits_are_kept(TestDatabase::sqlite(), Rounds::of(ON_SQLITE, MUST_HOLD)).await;
}

#[tokio::test]
async fn edits_of_a_postgresql_catalogue_are_kept_whatever_is_killed() {
    edits_are_kept(TestDatabase::postgres().await, Rounds::of(ON_POSTGRES, MUST_HOLD)).await;
}

async fn edits_are_kept(database: TestDatabase, mut rounds: Rounds) {
    let stack = Stack::builder().database(database).listeners(0).start().await;
    let another = stack.start_another(Binary::Api).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut shop =
        Shop { stack, another, folder, put: BTreeMap::new(), deleted: BTreeMap::new(), tasks: Vec::new() };
    let catalogue = shop.stack.database.open().await;
    while let Some(mut round) = rounds.next_round() {
        for _ in 0..STEPS {
            rounds.count(shop.step(&mut round).await, 1);
        }
        rounds.record(shop.stack.findings(&shop.tasks, DEADLINE).await);
        shop.assert_settled(&catalogue).await;
    }
}

/// A system with two apis, and what it has acknowledged.
struct Shop {
    stack: Stack,
    another: Service,
    folder: TempDir,
    /// Versions that products were given.
    put: BTreeMap<ProductId, Vec<i64>>,
    /// How often products were deleted.
    deleted: BTreeMap<ProductId, usize>,
    tasks: Vec<String>,
}

impl Shop {
    /// Makes one random change. Returns what it was, for the report.
    async fn step(&mut self, round: &mut Round) -> &'static str {
        let random = &mut round.random;
        let ids = ids();
        let (id, cents) = (&ids[random.random_range(0..ids.len())], random.random_range(100..100_000));
        match random.random_range(0..12) {
            0..=3 => self.put(id, cents).await,
            4 => self.put_while_the_api_is_killed(id, cents, random.random_range(0..3_000)).await,
            5 => self.delete(id).await,
            6 => self.sql(&format!("UPDATE products SET base_price_minor = {cents} WHERE id = '{id}'")).await,
            7 => self.sql(&format!("DELETE FROM products WHERE id = '{id}'")).await,
            // It is refused if there is one.
            8 => {
                self.sql(&format!("INSERT INTO products (id, base_price_minor) VALUES ('{id}', {cents})"))
                    .await
            }
            9 => {
                self.tasks.push(self.stack.recalculate().await);
                "recalculations"
            }
            10 => {
                self.stack.workers.remove(0).kill();
                let worker = self.stack.start_another(Binary::Worker).await;
                self.stack.workers.push(worker);
                "kills of the worker"
            }
            _ => {
                let kill_after = random.random_bool(0.5).then(|| random.random_range(0..300));
                self.import(cents, kill_after.map(Duration::from_millis)).await
            }
        }
    }

    async fn put(&mut self, id: &ProductId, cents: i32) -> &'static str {
        let answer = edit(&self.stack.api, Method::PUT, id, Some(cents)).await.expect("the api answers");
        let version = self.acknowledge(id, answer).await.expect("it is put");
        let (status, price) = price(&self.stack.api, id).await;
        // Somebody else may have changed or deleted it since.
        assert!(
            status == StatusCode::NOT_FOUND || price["version"].as_i64() >= Some(version),
            "{version}: {price}"
        );
        "puts"
    }

    async fn put_while_the_api_is_killed(&mut self, id: &ProductId, cents: i32, micros: u64) -> &'static str {
        let put = edit(&self.another, Method::PUT, id, Some(cents));
        let put = tokio::spawn(put);
        pause(Duration::from_micros(micros)).await;
        self.another.kill();
        if let Ok(answer) = put.await.expect("no panic") {
            self.acknowledge(id, answer).await;
        }
        self.another = self.stack.start_another(Binary::Api).await;
        "kills of an api that edits"
    }

    /// Takes down the version that an answer gives, unless it broke off.
    async fn acknowledge(&mut self, id: &ProductId, answer: Response) -> Option<i64> {
        let status = answer.status();
        let body: Value = answer.json().await.ok()?;
        assert!(status.is_success(), "{status}: {body}");
        let version = body["revision"].as_i64().expect("a revision");
        self.put.entry(id.clone()).or_default().push(version);
        Some(version)
    }

    async fn delete(&mut self, id: &ProductId) -> &'static str {
        let answer = edit(&self.another, Method::DELETE, id, None).await.expect("the api answers");
        match answer.status() {
            StatusCode::NO_CONTENT => *self.deleted.entry(id.clone()).or_default() += 1,
            status => assert_eq!(status, StatusCode::NOT_FOUND),
        }
        "deletions"
    }

    async fn sql(&self, statement: &str) -> &'static str {
        self.stack.database.try_execute(statement).await;
        "changes by SQL"
    }

    /// Imports all products with one price, and kills the import in the middle or not.
    async fn import(&self, cents: i32, kill_after: Option<Duration>) -> &'static str {
        let path = self.file(cents);
        let mut command = Binary::Worker.command(&self.stack.environment(Binary::Worker));
        command.arg("import").arg(path).stdout(Stdio::null());
        let mut import = Process::spawn("an import", command).expect("it is built");
        match kill_after {
            Some(after) => {
                pause(after).await;
                import.kill();
                "kills of an import"
            }
            None => {
                assert!(import.wait().await.success());
                "imports"
            }
        }
    }

    fn file(&self, cents: i32) -> PathBuf {
        let mut csv = "product_id,base_price\n".to_owned();
        for id in ids() {
            writeln!(csv, "{id},{}.{:02}", cents / 100, cents % 100).expect("a text takes all");
        }
        let path = self.folder.path().join("products.csv");
        std::fs::write(&path, csv).expect("a file is written");
        path
    }

    /// Once it is quiet: reads equal the database, and the history holds all that was acknowledged and leads there.
    async fn assert_settled(&self, catalogue: &Catalogue) {
        eventually(DEADLINE, "the worker to follow all changes", async || {
            let pending = "SELECT COUNT(*) FROM pending_changes WHERE stored_on = ''";
            (self.stack.database.select(pending).await == 0).then_some(())
        })
        .await;
        for id in ids() {
            let product = catalogue.product(&id).await.expect("the database answers");
            for api in [&self.stack.api, &self.another] {
                let (status, answer) = price(api, &id).await;
                match &product {
                    None => assert_eq!(status, StatusCode::NOT_FOUND, "{id}: {answer}"),
                    Some(product) => assert_eq!(answer["version"], json!(product.version), "{id}: {answer}"),
                }
            }
            let history = history(catalogue, &id).await;
            assert_replays(&id, &history, product.map(|product| product.base_price.minor()));
            for version in self.put.get(&id).into_iter().flatten() {
                assert!(
                    history.iter().any(|change| change.version == *version),
                    "{id} {version} is lost: {history:?}"
                );
            }
            let deletions = history.iter().filter(|change| change.change == "deleted");
            let over_http = deletions.filter(|change| !change.changed_by.starts_with("sql")).count();
            assert_eq!(over_http, self.deleted.get(&id).copied().unwrap_or(0), "{id}: {history:?}");
        }
    }
}

fn ids() -> Vec<ProductId> {
    (100..110).map(|number| ProductId::parse(format!("P-{number}")).expect("an id")).collect()
}

fn edit(
    api: &Service,
    method: Method,
    id: &ProductId,
    cents: Option<i32>,
) -> impl Future<Output = reqwest::Result<Response>> + use<> {
    let request = api_key::client().request(method, api.url(&format!("/api/v1/products/{id}")));
    let fields = cents.map(|cents| json!({"base_price": f64::from(cents) / 100.0}));
    fields.iter().fold(request, |request, fields| request.json(fields)).send()
}

async fn price(api: &Service, id: &ProductId) -> (StatusCode, Value) {
    let client: Client = api_key::client();
    let url = api.url(&format!("/api/v1/price/{id}?user_location=NY"));
    let answer = client.get(url).send().await.expect("the api answers");
    (answer.status(), answer.json().await.expect("JSON"))
}

/// The whole history of a product, oldest change first.
async fn history(catalogue: &Catalogue, id: &ProductId) -> Vec<ProductChange> {
    let (mut changes, mut filter) = (Vec::new(), HistoryFilter { limit: PAGE, ..HistoryFilter::default() });
    loop {
        let page = catalogue.product_history(id, &filter).await.expect("the database answers");
        let is_last = page.len() < PAGE as usize;
        changes.extend(page);
        match changes.last() {
            Some(last) if !is_last => filter.before_id = last.id,
            _ => break,
        }
    }
    changes.reverse();
    changes
}

/// Each change begins with what the one before it ended with, and the last one ends with what there is.
fn assert_replays(id: &ProductId, history: &[ProductChange], now: Option<i64>) {
    let mut last = None;
    for change in history {
        let old = change.old_base_price_minor;
        assert_eq!(old, last, "{id} at version {}: {history:?}", change.version);
        assert_eq!(old.is_none(), change.change == "created", "{change:?}");
        last = change.base_price_minor;
    }
    assert_eq!(last, now, "{id}: {history:?}");
}
