//! No output of a process holds a password, token or key: not its log, its errors, its help, its metrics, its health,
//! its answers, its spans or its command line.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use pricing_e2e::otlp_receiver::OtlpReceiver;
use pricing_harness::api_key;
use pricing_harness::databases::TestDatabase;
use pricing_harness::redis_server::RedisServer;
use pricing_harness::service::{Binary, Environment, Service};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::{eventually, poll};
use redis::aio::MultiplexedConnection;
use reqwest::Client;
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(20);
const BINARIES: [Binary; 3] = [Binary::Api, Binary::Listener, Binary::Worker];
/// What each secret holds, and nothing else does.
const SECRET: &str = "hush-hush";

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn assert_silent(what: &str, output: &str) {
    let line = output.lines().find(|line| line.contains(SECRET));
    assert!(line.is_none(), "{what}: {}", line.unwrap_or_default());
}

/// The answer to `GET path`, with its headers; empty when there is none.
async fn answer(client: &Client, url: String) -> String {
    let Ok(answer) = client.get(url).send().await else { return String::new() };
    let head = format!("{:?}", answer.headers());
    head + &answer.text().await.unwrap_or_default()
}

/// Makes the api use Redis and the database, and fail to; returns what it answers.
async fn drive(client: &Client, api: &Service) -> String {
    let mut answers = answer(client, api.url("/api/v1/price/P-100?user_location=NY")).await;
    for path in ["/api/v1/publish-market-event", "/api/v1/recalculate", "/api/v1/price"] {
        let Ok(answer) = client.post(api.url(path)).json(&json!({})).send().await else { continue };
        answers += &answer.text().await.unwrap_or_default();
    }
    answers
        + &answer(client, api.url("/api/v1/tasks/nobody")).await
        + &answer(client, api.url("/docs/")).await
}

/// Fails if anything that a running process shows holds a secret.
async fn assert_process_is_silent(client: &Client, service: &Service, what: &str) {
    let what = format!("{what}: {}", service.name());
    for path in ["/metrics", "/health/ready", "/health/live"] {
        assert_silent(&format!("{what}: {path}"), &answer(client, service.url(path)).await);
    }
    let command_line = std::fs::read(format!("/proc/{}/cmdline", service.id())).unwrap_or_default();
    assert_silent(&format!("{what}: command line"), &String::from_utf8_lossy(&command_line));
    assert_silent(&format!("{what}: log"), &service.log());
}

/// Forgets the logins that Redis refused: they were meant to be.
async fn forget_refusals(administration: &mut MultiplexedConnection) {
    let mut reset = redis::cmd("ACL");
    reset.arg("LOG").arg("RESET").exec_async(administration).await.expect("Redis answers");
}

/// The file of keys of an api.
fn key_file(directory: &Path, key: &str) -> String {
    let file = directory.join("keys");
    std::fs::write(&file, api_key::line("shop", api_key::ALL_ROLES, key)).expect("it can be written");
    file.display().to_string()
}

#[tokio::test]
async fn a_system_that_uses_secrets_shows_none() {
    let (receiver, redis, database) =
        (OtlpReceiver::start().await, RedisServer::start().await, TestDatabase::postgres().await);
    let mut administration = redis.connection().await;
    let tenant = ["tenant", "on", &format!(">{SECRET}-redis"), "~*", "&*", "+@all"];
    redis::cmd("ACL").arg("SETUSER").arg(&tenant).exec_async(&mut administration).await.expect("a new user");
    let redis_url = format!("redis://tenant:{SECRET}-redis@{}/?protocol=resp2", redis.address());
    let (server, name) = database.url().rsplit_once('/').expect("a URL has a path");
    let (_, server) = server.rsplit_once('@').expect("a URL of PostgreSQL names a user");
    let database_url = format!("postgres://postgres:{SECRET}-postgres@{server}/{name}");
    let directory = tempfile::tempdir().expect("a directory can be made");
    let key = format!("{SECRET}-key");
    let mut stack = Stack::builder()
        .redis(redis)
        .database(database)
        .traced_by(&receiver.endpoint())
        .set("REDIS_URL", &redis_url)
        .set("DATABASE_URL", &database_url)
        .set("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer {SECRET}-collector"))
        .set("RUST_LOG", "debug")
        .set_for(Binary::Api, "API_KEYS_FILE", key_file(directory.path(), &key))
        .set_for(Binary::Worker, "SIMULATE_FAILURE_RATE", 1)
        .set_for(Binary::Worker, "RETRY_MAX", 0)
        .start()
        .await;
    let client = api_key::client_with(Some(&key));
    let stranger = api_key::client_with(Some(&format!("{key}-changed")));
    let answers = drive(&client, &stack.api).await;
    assert!(answers.contains("task_id"), "the key opens: {answers}");
    assert_silent("answers", &(answers + &drive(&stranger, &stack.api).await));

    let dead = || async { stack.workers[0].metric("pricing_tasks_dead_total").await >= 1.0 };
    eventually(DEADLINE, "a dead task", async || dead().await.then_some(())).await;
    let recalculated = |spans: &[pricing_e2e::otlp_receiver::Span]| {
        spans.iter().any(|span| span.name == "process recalculate" && span.has_failed)
    };
    let spans = receiver.wait_until(DEADLINE, "a failed job", recalculated).await;
    assert_silent("spans", &spans.iter().map(|span| format!("{span:?}\n")).collect::<String>());

    // Both go away, so that errors are logged.
    let mut rotation = redis::cmd("ACL");
    rotation.arg("SETUSER").arg("tenant").arg("resetpass").arg(format!(">{SECRET}-rotated"));
    rotation.exec_async(&mut administration).await.expect("the user is there");
    let _: usize = redis::cmd("CLIENT")
        .arg(&["KILL", "USER", "tenant"])
        .query_async(&mut administration)
        .await
        .expect("clients can be closed");
    stack.database.execute(&["ALTER TABLE products RENAME TO products_away"]).await;
    assert_silent("answers of a failing system", &drive(&client, &stack.api).await);
    let refused = || stack.api.log().contains("Password authentication failed");
    eventually(DEADLINE, "Redis to refuse the password", async || refused().then_some(())).await;
    for service in [&stack.api, &stack.listeners[0], &stack.workers[0]] {
        assert_process_is_silent(&client, service, "a failing system").await;
    }
    for command in [&["tasks", "list"][..], &["tasks", "replay", "x"], &["audit"], &["healthcheck"]] {
        let environment = stack.environment(Binary::Worker);
        let output = Binary::Worker.command(&environment).args(command).output().expect("it is built");
        let text = [output.stdout, output.stderr].concat();
        assert_silent(&format!("{command:?}"), &String::from_utf8_lossy(&text));
    }
    stack.api.kill();
    stack.listeners.clear();
    stack.workers.clear();
    forget_refusals(&mut administration).await;
}

/// Starts a binary, makes it use its settings, and looks at all that it shows until it has logged a failure or has
/// ended. Returns whether it did in time.
async fn shows_a_failure(binary: Binary, settings: &Environment, what: &str) -> bool {
    let mut service = Service::spawn(binary, settings);
    let client = Client::new();
    let failed = poll(DEADLINE, async || {
        if binary == Binary::Api {
            assert_silent(&format!("{what}: answers"), &drive(&client, &service).await);
        }
        let has_ended = service.exit_status().is_some();
        let complains = |line: &str| line.contains("ERROR") || line.contains("WARN");
        let has_failed = service.log().lines().any(|line| complains(line) && !line.contains("keys are off"));
        (has_ended || has_failed).then_some(())
    });
    let failed = failed.await.is_some();
    assert_process_is_silent(&client, &service, what).await;
    failed
}

#[tokio::test]
async fn a_process_whose_secrets_do_not_work_says_so_without_them() {
    let (redis, database) = (RedisServer::start().await, TestDatabase::postgres().await);
    let at = redis.address();
    let (server, name) = database.url().rsplit_once('/').expect("a URL has a path");
    let (_, server) = server.rsplit_once('@').expect("a URL of PostgreSQL names a user");
    let bad_redis = [
        format!("redis://default:{SECRET}@127.0.0.1:1"),
        format!("redis://default:{SECRET}@no-such-host.invalid"),
        format!("redis://nobody:{SECRET}@{at}"),
        format!("redis://default:{SECRET}@127.0.0.1:port"),
        format!("redis://default:{SECRET}@[::"),
        format!("redis://:{SECRET}@{at}/{SECRET}"),
        format!("default:{SECRET}@{at}"),
        format!("rediss://default:{SECRET}@{at}#insecure"),
        SECRET.to_owned(),
    ];
    let bad_databases = [
        format!("postgres://pricing:{SECRET}@127.0.0.1:1/pricing"),
        format!("postgres://pricing:{SECRET}@no-such-host.invalid/pricing"),
        format!("postgres://nobody:{SECRET}@{server}/{name}"),
        format!("postgres://pricing:{SECRET}@127.0.0.1:port/pricing"),
        format!("postgres://pricing:{SECRET}@[::/pricing"),
        format!("postgres://{server}/{name}?user=nobody&password={SECRET}"),
        format!("postgres://{server}/{name}?pasword={SECRET}"),
        format!("postgres://{server}/{name}?{SECRET}"),
        format!("postgres://pricing:pa?{SECRET}@{server}/{name}"),
        format!("postgres://pricing:pa?{SECRET}=x@{server}/{name}"),
        format!("sqlite://prices.db?{SECRET}"),
        format!("mysql://pricing:{SECRET}@localhost/pricing"),
        format!("sqlite://prices.db?key={SECRET}"),
        SECRET.to_owned(),
    ];
    let redis_cases = bad_redis.iter().map(|url| ("REDIS_URL", url, &BINARIES[..]));
    let uses_database = [Binary::Api, Binary::Worker];
    let database_cases = bad_databases.iter().map(|url| ("DATABASE_URL", url, &uses_database[..]));
    for (setting, url, binaries) in redis_cases.chain(database_cases) {
        let good = [
            ("REDIS_URL", redis.url()),
            ("REDIS_PREFIX", redis.prefix().to_owned()),
            ("DATABASE_URL", database.url().to_owned()),
        ];
        let mut settings: Environment = good.map(|(name, value)| (name.to_owned(), value)).into();
        settings.insert(setting.to_owned(), url.clone());
        let what = format!("{setting}={url}");
        let failed = binaries.iter().map(|binary| shows_a_failure(*binary, &settings, &what));
        for (binary, failed) in binaries.iter().zip(join_all(failed).await) {
            assert!(failed, "{what}: {} has no complaint", binary.name());
        }
    }
    forget_refusals(&mut redis.connection().await).await;
}

#[test]
fn a_secret_is_no_option_and_the_help_names_its_variable() {
    let secrets = environment(&[
        ("REDIS_URL", &format!("redis://:{SECRET}@127.0.0.1:1")),
        ("DATABASE_URL", &format!("postgres://pricing:{SECRET}@127.0.0.1:1/pricing")),
        ("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization={SECRET}")),
    ]);
    for binary in BINARIES {
        let run = |argument: &str| {
            let output = binary.command(&secrets).arg(argument).output().expect("it is built");
            let text = [output.stdout, output.stderr].concat();
            (output.status.code(), String::from_utf8(text).expect("text"))
        };
        for argument in ["--help", "-h", "--version"] {
            let (code, text) = run(argument);
            assert_eq!(code, Some(0), "{text}");
            assert_silent(argument, &text);
        }
        let mut names = vec!["REDIS_URL"];
        if binary != Binary::Listener {
            names.push("DATABASE_URL");
        }
        for name in names {
            assert!(run("--help").1.contains(&format!("environment variable {name}")), "{}", binary.name());
            let option = format!("--{}", name.to_lowercase().replace('_', "-"));
            let (code, text) = run(&format!("{option}={SECRET}"));
            assert_eq!(code, Some(2), "{option} is no option: {text}");
            assert_silent(&option, &text);
        }
    }
}
