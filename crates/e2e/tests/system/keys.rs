//! Keys: who may call what, how often, and what they see.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use pricing_e2e::otlp_receiver::OtlpReceiver;
use pricing_e2e::raw_http::RawConnection;
use pricing_harness::api_key::{ALL_ROLES, client_with, line};
use pricing_harness::service::{Binary, Environment, Service};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::{eventually, poll};
use reqwest::{Client, Method, StatusCode, header};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempPath};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const SECURITY: &str = include_str!("../../../../docs/security.md");
const ROLES: [&str; 4] = ["read", "publish", "manage", "operate"];
/// Longest until a changed file of keys is in use.
const RELOAD: Duration = Duration::from_secs(10);

/// The key with which the tests call for a name.
fn key(name: &str) -> String {
    format!("prc_0123456789abcdef-{name}")
}

fn file(lines: &[String]) -> TempPath {
    let mut file = NamedTempFile::new().expect("a file can be made");
    file.write_all(lines.concat().as_bytes()).expect("it can be written");
    file.into_temp_path()
}

/// A file with a key for each role, of the name of its role, and one for all of them.
fn keys_of_roles() -> Vec<String> {
    let of_role = ROLES.map(|role| line(role, role, &key(role)));
    of_role
        .into_iter()
        .chain([line("all", ALL_ROLES, &key("all")), line("left", ALL_ROLES, &key("left"))])
        .collect()
}

async fn locked(keys: &TempPath) -> Stack {
    Stack::builder().set_for(Binary::Api, "API_KEYS_FILE", keys.display()).start().await
}

/// A row of the table: a call, and what each column says.
struct Row {
    method: Method,
    path: String,
    columns: Vec<String>,
}

fn rows() -> Vec<Row> {
    let lines =
        SECURITY.lines().filter_map(|line| line.strip_prefix("| `")).filter(|line| line.contains(" /"));
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_end_matches('|').split('|').map(str::trim).collect();
        let (method, path) = cells[0].trim_matches('`').split_once(' ').expect("a method and a path");
        let columns = cells[1..].iter().map(|cell| (*cell).to_owned()).collect();
        Row { method: method.parse().expect("a method"), path: path.to_owned(), columns }
    };
    lines.map(row).collect()
}

async fn call(client: &Client, stack: &Stack, row: &Row, task: &str) -> StatusCode {
    let path =
        row.path.replace("{product_id}", "P-100").replace("{location}", "NY").replace("{task_id}", task);
    let path = if row.method == Method::GET { path + "?user_location=NY" } else { path };
    let body = match row.path.as_str() {
        "/api/v1/price" => json!({"product_id": "P-100", "user_location": "NY"}),
        "/api/v1/prices" => json!({"product_ids": ["P-100"], "user_location": "NY"}),
        "/api/v1/products/{product_id}" => json!({"base_price": 49.99}),
        "/api/v1/markets/{location}" => json!({"multiplier": 0.95}),
        "/api/v1/products/batch" => json!({"edits": [{"product_id": "P-101", "action": "delete"}]}),
        _ => json!({}),
    };
    let request = client.request(row.method.clone(), stack.api.url(&path));
    let request = match row.method {
        Method::POST | Method::PUT | Method::PATCH => request.json(&body),
        _ => request,
    };
    request.send().await.expect("an answer").status()
}

/// Publishes an event, and returns the id of its task.
async fn publish(stack: &Stack) -> String {
    let request = client_with(Some(&key("publish"))).post(stack.api.url("/api/v1/publish-market-event"));
    let event: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    event["task_id"].as_str().expect("a task").to_owned()
}

#[tokio::test]
async fn every_call_takes_exactly_the_keys_of_the_table() {
    let mut lines = keys_of_roles();
    let keys = file(&lines);
    let stack = locked(&keys).await;
    let rows = rows();

    let mut described = BTreeSet::from(["GET /docs".to_owned(), "GET /openapi.json".to_owned()]);
    let document: Value = reqwest::get(stack.api.url("/openapi.json")).await.unwrap().json().await.unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        described.extend(
            item.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())),
        );
    }
    let listed: BTreeSet<_> = rows.iter().map(|row| format!("{} {}", row.method, row.path)).collect();
    assert_eq!(listed, described, "the table lists every call");

    // A key that was taken out of the file opens nothing any more.
    let left = client_with(Some(&key("left")));
    assert_eq!(left.get(stack.api.url("/metrics")).send().await.unwrap().status(), StatusCode::OK);
    lines.pop();
    std::fs::write(&keys, lines.concat()).unwrap();
    eventually(RELOAD, "the key to be revoked", async || {
        let status = left.get(stack.api.url("/metrics")).send().await.unwrap().status();
        (status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;

    let mut one_bit_off = key("all").into_bytes();
    *one_bit_off.last_mut().unwrap() ^= 1;
    let strangers =
        [None, Some(key("left")), Some(String::from_utf8(one_bit_off).unwrap()), Some("x".repeat(4_000))];
    let columns = strangers.iter().map(|key| (0, key.clone()));
    let columns: Vec<_> =
        columns.chain(ROLES.iter().enumerate().map(|(index, role)| (index + 1, Some(key(role))))).collect();
    for row in &rows {
        for (column, key) in &columns {
            let client = client_with(key.as_deref());
            // An event is dear: with one for each call, the publisher would exceed its limit.
            let task = if row.path.contains("{task_id}") { publish(&stack).await } else { String::new() };
            let status = call(&client, &stack, row, &task).await.as_u16();
            let (said, what) = (&row.columns[*column], format!("{} {} with {key:?}", row.method, row.path));
            match said.as_str() {
                "yes" => assert!(!matches!(status, 401 | 403 | 429 | 500..), "{what}: {status}"),
                "its own" => assert!(matches!(status, 200 | 404), "{what}: {status}"), // before and after it is queued
                refused => assert_eq!(status.to_string(), refused, "{what}"),
            }
        }
    }
    let all = client_with(Some(&key("all")));
    for row in &rows {
        let status = call(&all, &stack, row, "T-1").await;
        assert!(!matches!(status.as_u16(), 401 | 403), "{} {}: {status}", row.method, row.path);
    }
    // Requests are counted by the reason of their refusal.
    let metrics = all.get(stack.api.url("/metrics")).send().await.unwrap().text().await.unwrap();
    for reason in ["no_key", "unknown_key", "role"] {
        assert!(
            metrics.contains(&format!(r#"pricing_requests_refused_total{{reason="{reason}"}}"#)),
            "{reason}"
        );
    }
    for name in ROLES {
        assert!(
            !stack.api.log().contains(&key(name)) && !metrics.contains(&key(name)),
            "a key in log or metrics"
        );
    }
}

#[tokio::test]
async fn a_refusal_is_a_problem_that_says_what_is_needed() {
    let keys = file(&keys_of_roles());
    let stack = locked(&keys).await;
    let answer = reqwest::get(stack.api.url("/api/v1/price/P-100?user_location=NY")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Bearer realm=\"pricing\"");
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["status"], &problem["title"]), (&json!(401), &json!("Unauthorized")));

    let reader = client_with(Some(&key("read")));
    let answer = reader.post(stack.api.url("/api/v1/recalculate")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["detail"], "The key has no role that allows this call.");
}

#[tokio::test]
async fn a_changed_file_of_keys_is_taken_without_a_refused_request_and_a_broken_one_is_not() {
    let old = line("shop", "read", &key("old"));
    let keys = file(std::slice::from_ref(&old));
    let stack = locked(&keys).await;
    let url = stack.api.url("/api/v1/price/P-100?user_location=NY");
    let read = async |name: &str| client_with(Some(&key(name))).get(&url).send().await.unwrap().status();
    assert_eq!((read("old").await, read("new").await), (StatusCode::OK, StatusCode::UNAUTHORIZED));

    // The command adds the key; the old one goes on.
    let environment: Environment = [("API_KEYS_FILE".to_owned(), keys.display().to_string())].into();
    let made =
        Binary::Api.command(&environment).args(["keys", "new", "shop", "--roles", "read"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let new = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let client = client_with(Some(&new));
    eventually(RELOAD, "the new key to be known", async || {
        assert_eq!(read("old").await, StatusCode::OK);
        client.get(&url).send().await.unwrap().status().is_success().then_some(())
    })
    .await;

    let good = std::fs::read_to_string(&keys).unwrap();
    assert!(!good.contains(&new), "only its SHA-256 is kept");
    std::fs::write(&keys, format!("{good}shop everything 12\n")).unwrap();
    eventually(RELOAD, "the broken file to be seen", async || {
        stack.api.log().contains("API_KEYS_FILE: ").then_some(())
    })
    .await;
    assert_eq!(read("old").await, StatusCode::OK);
    let check = Binary::Api.command(&environment).args(["keys", "check"]).output().unwrap();
    let error = String::from_utf8(check.stderr).unwrap();
    assert!(!check.status.success() && error.contains("line 3: the roles are"), "{error}");

    std::fs::write(&keys, good.replace(&old, "")).unwrap();
    eventually(RELOAD, "the old key to be revoked", async || {
        assert!(client.get(&url).send().await.unwrap().status().is_success());
        (read("old").await == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    for without_keys in ["# nobody\n", ""] {
        std::fs::write(&keys, &good).unwrap();
        let status = async || client.get(&url).send().await.unwrap().status();
        eventually(RELOAD, "the keys to be back", async || status().await.is_success().then_some(())).await;
        std::fs::write(&keys, without_keys).unwrap();
        eventually(RELOAD, "the last key to be revoked", async || {
            (status().await == StatusCode::UNAUTHORIZED).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_key_has_a_limit_and_others_do_not_feel_it() {
    let names = ["greedy", "modest"];
    let keys = file(&names.map(|name| line(name, "read,publish", &key(name))));
    let stack = Stack::builder()
        .set_for(Binary::Api, "API_KEYS_FILE", keys.display())
        .set_for(Binary::Api, "RATE_LIMIT_PER_KEY", 100)
        .set_for(Binary::Api, "RATE_LIMIT_PER_ADDRESS", 1_000_000)
        .start()
        .await;
    let [greedy, modest] = names.map(|name| client_with(Some(&key(name))));
    let batch = |products: usize| json!({"product_ids": vec!["P-100"; products], "user_location": "NY"});
    let post = async |client: &Client, path: &str, body: &Value| {
        client.post(stack.api.url(path)).json(body).send().await.unwrap()
    };
    // A bucket holds 1,000 units at least: two batches of 500 products take all of them.
    for _ in 0..2 {
        assert_eq!(post(&greedy, "/api/v1/prices", &batch(500)).await.status(), StatusCode::OK);
    }
    let refused = post(&greedy, "/api/v1/prices", &batch(500)).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    // Whoever waits as told is served soon: it waits for the 60 units of a large batch, then for all of its 500.
    let (mut answer, mut waits) = (refused, 0);
    while answer.status() == StatusCode::TOO_MANY_REQUESTS && waits < 3 {
        let seconds = answer.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        answer = post(&greedy, "/api/v1/prices", &batch(500)).await;
        waits += 1;
    }
    assert_eq!(answer.status(), StatusCode::OK, "after {waits} waits");
    assert_eq!(post(&modest, "/api/v1/prices", &batch(500)).await.status(), StatusCode::OK);
    // An event costs 100: there are 500 left for the modest one.
    let events = async |number: usize| {
        let mut refused = 0;
        for _ in 0..number {
            let status = post(&modest, "/api/v1/publish-market-event", &json!({})).await.status();
            refused += usize::from(status == StatusCode::TOO_MANY_REQUESTS);
        }
        refused
    };
    assert!(events(12).await >= 4, "500 units and those of a second or two are no more than 8 events");
}

/// The statuses of large batches that clients send one after another, until `ending`.
async fn batches_until(
    ending: CancellationToken,
    client: Client,
    url: String,
    products: usize,
) -> BTreeMap<u16, usize> {
    let batch = json!({"product_ids": vec!["P-100"; products], "user_location": "NY"});
    let mut statuses = BTreeMap::new();
    while !ending.is_cancelled() {
        let answer = client.post(&url).json(&batch).send().await.expect("an answer");
        *statuses.entry(answer.status().as_u16()).or_default() += 1;
    }
    statuses
}

#[tokio::test]
async fn an_exhausted_key_takes_no_batch_slot_from_others() {
    let names = ["greedy", "modest"];
    let keys = file(&names.map(|name| line(name, "read", &key(name))));
    let stack = Stack::builder()
        .listeners(0)
        .workers(0)
        .set_for(Binary::Api, "API_KEYS_FILE", keys.display())
        .set_for(Binary::Api, "RATE_LIMIT_PER_KEY", 1_000)
        .set_for(Binary::Api, "RATE_LIMIT_PER_ADDRESS", 1_000_000)
        .start()
        .await;
    let [greedy, modest] = names.map(|name| client_with(Some(&key(name))));
    let (ending, url) = (CancellationToken::new(), stack.api.url("/api/v1/prices"));
    let mut attack = JoinSet::new();
    for _ in 0..200 {
        attack.spawn(batches_until(ending.clone(), greedy.clone(), url.clone(), 500));
    }
    eventually(RELOAD, "the greedy key to be exhausted", async || {
        let read = greedy.get(stack.api.url("/api/v1/price/P-100?user_location=NY")).send().await.unwrap();
        (read.status() == StatusCode::TOO_MANY_REQUESTS).then_some(())
    })
    .await;
    // 20 batches of 100 products take the 2,000 units of a bucket.
    let batch = json!({"product_ids": vec!["P-100"; 100], "user_location": "NY"});
    for number in 0..20 {
        let answer = modest.post(&url).json(&batch).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "batch {number}");
    }
    ending.cancel();
    let mut refused = 0;
    for statuses in attack.join_all().await {
        refused += statuses.get(&429).copied().unwrap_or(0);
    }
    assert!(refused > 1_000, "{refused} refused");
}

#[tokio::test]
async fn a_refused_caller_with_a_key_is_told_why_also_when_it_is_still_sending() {
    let keys = file(&keys_of_roles());
    let stack = locked(&keys).await;
    let request = |key: &str, length: usize| {
        let head = format!(
            "POST /api/v1/recalculate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\
             Origin: https://evil.example\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        [head.into_bytes(), vec![b' '; length]].concat()
    };
    for (length, closes) in [(60_000, false), (1_000_000, true)] {
        let mut connection = RawConnection::open(stack.api.address()).await.unwrap();
        let answer = connection.exchange(&request(&key("read"), length), false, false).await.unwrap();
        assert_eq!((answer.status, answer.closes()), (403, closes), "{length} bytes");
        if !closes {
            let next = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
            assert_eq!(connection.exchange(next, false, false).await.unwrap().status, 200);
        }
    }
    let mut connection = RawConnection::open(stack.api.address()).await.unwrap();
    let head = String::from_utf8(request("unknown", 1_000)).unwrap();
    let answer = connection.exchange(head.trim_end_matches(' ').as_bytes(), false, false).await.unwrap();
    assert!(answer.status == 403 && answer.closes(), "{answer:?}");
}

#[tokio::test]
async fn an_address_has_a_limit_unless_it_is_a_trusted_proxy_which_names_its_clients() {
    let keys = file(&keys_of_roles());
    let builder = || {
        Stack::builder().set_for(Binary::Api, "API_KEYS_FILE", keys.display()).set_for(
            Binary::Api,
            "RATE_LIMIT_PER_ADDRESS",
            1,
        )
    };
    let exhaust = async |stack: &Stack, client: &str| {
        let all = client_with(Some(&key("all")));
        let batch = json!({"product_ids": vec!["P-100"; 500], "user_location": "NY"});
        let mut statuses = Vec::new();
        for _ in 0..3 {
            let request =
                all.post(stack.api.url("/api/v1/prices")).header("X-Forwarded-For", client).json(&batch);
            statuses.push(request.send().await.unwrap().status().as_u16());
        }
        statuses
    };
    let direct = builder().start().await;
    assert_eq!(exhaust(&direct, "203.0.113.1").await, [200, 200, 429]);
    assert_eq!(exhaust(&direct, "203.0.113.2").await, [429; 3], "a stranger names nobody");
    assert_eq!(reqwest::get(direct.api.url("/health/ready")).await.unwrap().status(), StatusCode::OK);
    drop(direct);
    let behind_proxy = builder().set_for(Binary::Api, "TRUSTED_PROXIES", "127.0.0.0/8").start().await;
    assert_eq!(exhaust(&behind_proxy, "203.0.113.1").await, [200, 200, 429]);
    assert_eq!(exhaust(&behind_proxy, "203.0.113.2").await, [200, 200, 429]);
}

#[tokio::test]
async fn a_caller_sees_its_own_tasks_and_the_operator_all_with_the_causes_of_their_errors() {
    let keys = file(&[
        line("shop", "publish", &key("shop")),
        line("rival", "publish", &key("rival")),
        line("sre", "operate", &key("sre")),
    ]);
    let stack = Stack::builder()
        .set_for(Binary::Api, "API_KEYS_FILE", keys.display())
        .set("RETRY_MAX", 0)
        .set("SIMULATE_FAILURE_RATE", 1)
        .start()
        .await;
    let [shop, rival, sre] = ["shop", "rival", "sre"].map(|name| client_with(Some(&key(name))));
    let get = async |client: &Client, path: &str| {
        let answer = client.get(stack.api.url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let post = async |client: &Client, path: &str| {
        let answer = client.post(stack.api.url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    // By the listener and by the queue alone, a task belongs to the key that asked for it.
    for path in ["/api/v1/publish-market-event", "/api/v1/recalculate"] {
        let task = post(&shop, path).await.1["task_id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/tasks/{task}");
        let seen = eventually(Duration::from_secs(30), "the task to fail", async || {
            let (status, record) = get(&shop, &path).await;
            (status == 200 && record["state"] == "dead").then_some(record)
        })
        .await;
        assert_eq!(seen["error"], "external_timeout: An external service did not answer in time.");
        assert!(seen.get("causes").is_none(), "{seen}");
        assert_eq!(get(&rival, &path).await.0, 404);
        let (status, record) = get(&sre, &path).await;
        assert_eq!(status, 200);
        assert!(record["causes"].as_str().unwrap().contains("ExternalApiTimeout"), "{record}");
    }

    let (_, first) = get(&sre, "/api/v1/tasks?state=dead&limit=1").await;
    let next = first["next"].as_str().unwrap();
    let (_, second) = get(&sre, &format!("/api/v1/tasks?limit=1&after={next}")).await;
    assert_eq!((first["tasks"].as_array().unwrap().len(), second["next"].clone()), (1, Value::Null));
    let task = second["tasks"][0]["task_id"].as_str().unwrap();
    assert_ne!(first["tasks"][0]["task_id"], task);
    assert_eq!(get(&sre, "/api/v1/tasks?after=nonsense").await.0, 422);
    assert_eq!(get(&sre, "/api/v1/tasks?state=succeeded").await.0, 422);

    let replay = format!("/api/v1/tasks/{task}/replay");
    assert_eq!(post(&shop, &replay).await.0, 403);
    assert_eq!(post(&sre, &replay).await, (200, json!({"status": "queued", "task_id": task})));
    let again = poll(Duration::from_secs(30), async || {
        let (_, record) = get(&sre, &format!("/api/v1/tasks/{task}")).await;
        (record["state"] == "dead" && record["attempts"] == 2).then_some(())
    });
    again.await.expect("the replayed task fails again");
    assert_eq!(post(&sre, "/api/v1/tasks/T-0/replay").await.0, 404);

    // What the operator did is in the audit; what the shops did is not.
    let audit = Binary::Worker.command(&stack.environment(Binary::Worker)).arg("audit").output().unwrap();
    let audit = String::from_utf8(audit.stdout).unwrap();
    let replayed: Vec<_> = audit.lines().filter(|line| line.contains("task.replay")).collect();
    let [refused, replayed] = &replayed[..] else { panic!("{audit}") };
    assert!(["sre", "127.0.0.1", task].iter().all(|part| replayed.contains(part)), "{audit}");
    assert!(refused.contains("T-0") && refused.ends_with("refused: no such task"), "{audit}");
    assert!(audit.contains("task.read") && audit.contains("task.list"), "{audit}");
    assert!(!audit.contains("shop") && !audit.contains("rival"), "{audit}");
}

#[tokio::test]
async fn a_page_of_another_site_cannot_make_a_browser_call() {
    let stack = Stack::builder().listeners(0).workers(0).start().await;
    let client = pricing_harness::api_key::client();
    let publish = async |name: &str, value: &str| {
        let request = client.post(stack.api.url("/api/v1/publish-market-event")).header(name, value);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(publish("Sec-Fetch-Site", "cross-site").await, 403);
    assert_eq!(publish("Origin", "https://evil.example").await, 403);
    assert_eq!(publish("Origin", "null").await, 403);
    assert_eq!(publish("Origin", &stack.api.url("")).await, 200);
    // A name that was made to lead to this host: to the browser it is one origin.
    let rebound = async |request: reqwest::RequestBuilder| {
        let request = request.header("Host", "evil.example").header("Origin", "http://evil.example");
        request.send().await.unwrap().status().as_u16()
    };
    let url = |path: &str| stack.api.url(path);
    let with_keys = pricing_harness::api_key::get().is_some(); // a page has none
    if !with_keys {
        assert_eq!(rebound(client.post(url("/api/v1/publish-market-event"))).await, 403);
        assert_eq!(rebound(client.get(url("/api/v1/tasks"))).await, 403);
    }
    assert_eq!(rebound(client.get(url("/health/live"))).await, 200);
    assert_eq!(publish("Accept", "*/*").await, 200, "the seed's bare POST");
    let page = client.get(stack.api.url("/docs/")).send().await.unwrap();
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
}

#[tokio::test]
async fn without_keys_the_api_does_not_leave_its_host() {
    let directory = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", directory.path().join("prices.db").display());
    let settings =
        [("REDIS_URL", "redis://127.0.0.1:1"), ("DATABASE_URL", &database), ("PUBLISHED_ADDR", "192.0.2.1")];
    let mut environment: Environment =
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let refused = Binary::Api.command(&environment).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(error.contains("PUBLISHED_ADDR (192.0.2.1)") && error.contains("API_KEYS_FILE"), "{error}");
    // Something in front decides: it starts, and says what is open.
    environment.insert("AUTH".to_owned(), "off".to_owned());
    let open = Service::start(Binary::Api, &environment).await;
    assert!(open.log().contains("keys are off"), "{}", open.log());
}

#[tokio::test]
async fn metrics_have_a_port_of_their_own_that_takes_no_key() {
    let port = pricing_harness::ports::Port::reserve();
    let keys = file(&keys_of_roles());
    let stack = Stack::builder()
        .listeners(0)
        .workers(0)
        .set_for(Binary::Api, "API_KEYS_FILE", keys.display())
        .set_for(Binary::Api, "METRICS_ADDR", port.address())
        .start()
        .await;
    let status = async |url: String| reqwest::get(url).await.unwrap().status().as_u16();
    assert_eq!(status(format!("http://{}/metrics", port.address())).await, 200);
    assert_eq!(status(format!("http://{}/health/ready", port.address())).await, 200);
    assert_eq!(status(format!("http://{}/api/v1/price/P-100?user_location=NY", port.address())).await, 404);
    assert_eq!(status(stack.api.url("/metrics")).await, 401);
}

#[tokio::test]
async fn only_a_caller_with_a_key_decides_what_is_sampled() {
    let receiver = OtlpReceiver::start().await;
    let keys = file(&keys_of_roles());
    let stack = Stack::builder()
        .listeners(0)
        .workers(0)
        .traced_by(&receiver.endpoint())
        .set("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        .set_for(Binary::Api, "API_KEYS_FILE", keys.display())
        .start()
        .await;
    let read = async |key: Option<&str>, trace: &str| {
        let request = client_with(key).get(stack.api.url("/api/v1/price/P-100?user_location=NY"));
        let request = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
        request.send().await.unwrap().status().as_u16()
    };
    let (strange, known) = ("1".repeat(32), "2".repeat(32));
    assert_eq!(read(None, &strange).await, 401);
    assert_eq!(read(Some(&key("read")), &known).await, 200);
    let spans = receiver.wait_until(RELOAD, "the read", |spans| {
        spans.iter().any(|span| span.kind == "SERVER" && span.trace_id == known)
    });
    // Spans are exported in the order in which they ended, so that of the stranger would be there.
    assert!(spans.await.iter().all(|span| span.trace_id == known));
}
