//! Connections with TLS: to Redis, PostgreSQL and the collector of traces.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use pricing_e2e::otlp_receiver::OtlpReceiver;
use pricing_harness::certificates::{CertificateAuthority, Identity, ServerTls};
use pricing_harness::databases::TestDatabase;
use pricing_harness::postgres::{Cluster, programs};
use pricing_harness::redis_server::RedisServer;
use pricing_harness::service::{Binary, Environment, Service};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;

const DEADLINE: Duration = Duration::from_secs(30);
/// Also a part of the passwords of Redis.
const PASSWORD: &str = "hush";

/// How a server or its client is at fault, and what the log says of it.
struct Fault {
    tls: ServerTls,
    /// The authority that the client trusts.
    trusted: std::path::PathBuf,
    says: &'static [&'static str],
}

/// All faults, of a server whose clients need a certificate if it can ask for one.
fn faults(authority: &CertificateAuthority, another: &CertificateAuthority) -> Vec<Fault> {
    let fault = |identity: Identity, trusted: &CertificateAuthority, says| Fault {
        tls: ServerTls { identity, client_ca: None },
        trusted: trusted.file(),
        says,
    };
    let without_certificate = Fault {
        tls: ServerTls { identity: authority.server(), client_ca: Some(authority.file()) },
        trusted: authority.file(),
        says: &["CertificateRequired", "certificate required", "requires a valid client certificate"],
    };
    vec![
        fault(authority.server_of_another_name(), authority, &["not valid for name"]),
        fault(authority.expired_server(), authority, &["expired"]),
        fault(authority.server(), another, &["UnknownIssuer"]),
        without_certificate,
    ]
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn environment(variables: &[(&str, String)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// Waits until the log gives one of the reasons. It never holds the password.
async fn logs(service: &Service, reasons: &[&str]) {
    eventually(DEADLINE, &format!("one of {reasons:?} in the log"), async || {
        reasons.iter().any(|reason| service.log().contains(reason)).then_some(())
    })
    .await;
    assert!(!service.log().contains(PASSWORD), "{}", service.log());
}

fn postgres_url(cluster: &Cluster, database: &TestDatabase, parameters: &str) -> String {
    let (_, name) = database.url().rsplit_once('/').expect("a database has a name");
    format!("postgres://postgres:{PASSWORD}@{}/{name}?sslmode=verify-full&{parameters}", cluster.address())
}

async fn postgres(tls: &ServerTls) -> (Cluster, TestDatabase) {
    let programs = programs().expect("PostgreSQL is installed");
    let cluster = Cluster::start_with_tls(&programs, tls).await.expect("PostgreSQL starts");
    let database = TestDatabase::postgres_in(format!("{}?sslmode=disable", cluster.url())).await;
    (cluster, database)
}

#[tokio::test]
async fn everything_works_over_tls_with_certificates_of_a_private_authority_on_both_sides() {
    let authority = CertificateAuthority::new();
    let tls = ServerTls { identity: authority.server(), client_ca: Some(authority.file()) };
    let (ca, client) = (text(&authority.file()), authority.client());
    let (certificate, key) = (text(&client.certificate), text(&client.key));
    let redis = RedisServer::start_with_tls(&tls).await;
    let redis_url = redis.tls_url_of(Binary::Api);
    let (cluster, database) = postgres(&tls).await;
    let parameters = format!("sslrootcert={ca}&sslcert={certificate}&sslkey={key}");
    let collector = OtlpReceiver::start_with_tls(&tls).await;
    let stack = Stack::builder()
        .set_for(Binary::Api, "REDIS_URL", &redis_url)
        .set_for(Binary::Listener, "REDIS_URL", redis.tls_url_of(Binary::Listener))
        .set_for(Binary::Worker, "REDIS_URL", redis.tls_url_of(Binary::Worker))
        .set("REDIS_CA_FILE", &ca)
        .set("REDIS_CERT_FILE", &certificate)
        .set("REDIS_KEY_FILE", &key)
        .set("DATABASE_URL", postgres_url(&cluster, &database, &parameters))
        .traced_by(&collector.endpoint())
        .set("OTEL_EXPORTER_OTLP_CERTIFICATE", &ca)
        .set("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &certificate)
        .set("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key)
        .redis(redis)
        .start()
        .await;
    stack.price("P-100", "NY", true).await;
    let task = stack.publish().await;
    assert_eq!(stack.wait_for_task(&task).await["state"], "succeeded");
    collector
        .wait_until(DEADLINE, "spans of all three services", |spans| {
            ["pricing-api-service", "pricing-listener-service", "pricing-worker-service"]
                .iter()
                .all(|service| spans.iter().any(|span| span.service == *service))
        })
        .await;

    let (_, address) = redis_url.rsplit_once('@').expect("the URL has a login");
    let tls_address = format!("laddr={address}");
    let clients = stack.redis.clients().await;
    assert!(clients.len() >= 6, "{clients:?}");
    let plain: Vec<_> = clients.iter().filter(|client| !client.contains(&tls_address)).collect();
    assert!(plain.len() <= 1, "more than this test's own connection is unencrypted: {plain:?}");
}

#[tokio::test]
async fn a_redis_that_cannot_be_trusted_is_refused_and_the_log_says_why() {
    let (authority, another) = (CertificateAuthority::new(), CertificateAuthority::new());
    for Fault { tls, trusted, says } in faults(&authority, &another) {
        let redis = RedisServer::start_with_tls(&tls).await;
        let url = redis.tls_url_of(Binary::Listener);
        let environment = environment(&[("REDIS_URL", url), ("REDIS_CA_FILE", text(&trusted))]);
        let listener = Service::spawn(Binary::Listener, &environment);
        logs(&listener, says).await;
    }
}

#[tokio::test]
async fn a_postgresql_that_cannot_be_trusted_is_refused_and_the_log_says_why() {
    let (authority, another) = (CertificateAuthority::new(), CertificateAuthority::new());
    for Fault { tls, trusted, says } in faults(&authority, &another) {
        let (cluster, database) = postgres(&tls).await;
        let url = postgres_url(&cluster, &database, &format!("sslrootcert={}", text(&trusted)));
        let environment = environment(&[("DATABASE_URL", url), ("METRICS_ADDR", "127.0.0.1:0".to_owned())]);
        let mut worker = Binary::Worker.command(&environment);
        let ended = tokio::task::spawn_blocking(move || worker.output().expect("it is built")).await;
        let Output { status, stderr, .. } = ended.expect("no panic");
        let stderr = String::from_utf8(stderr).expect("text");
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(says.iter().any(|reason| stderr.contains(reason)), "{says:?}: {stderr}");
        assert!(stderr.contains("DATABASE_URL") && !stderr.contains(PASSWORD), "{stderr}");
    }
}

#[tokio::test]
async fn a_collector_that_cannot_be_trusted_gets_no_span_and_the_log_says_why() {
    let (authority, another) = (CertificateAuthority::new(), CertificateAuthority::new());
    for Fault { tls, trusted, says } in faults(&authority, &another) {
        let collector = OtlpReceiver::start_with_tls(&tls).await;
        let stack = Stack::builder()
            .listeners(0)
            .workers(0)
            .traced_by(&collector.endpoint())
            .set_for(Binary::Api, "OTEL_EXPORTER_OTLP_CERTIFICATE", text(&trusted))
            .set_for(Binary::Api, "OTEL_EXPORTER_OTLP_HEADERS", format!("authorization={PASSWORD}"))
            .start()
            .await;
        stack.price("P-100", "NY", true).await;
        // With TLS 1.3 a server asks for the certificate after the client's handshake has ended: it
        // may have closed the connection before the client, which writes first, reads its reason.
        let closed: &[_] = match tls.client_ca {
            Some(_) => &["connection closed", "broken pipe", "Connection reset"],
            None => &[],
        };
        let says = [says, closed].concat();
        logs(&stack.api, &says).await;
        assert!(collector.spans().is_empty());
    }
}

#[tokio::test]
async fn an_unencrypted_connection_to_a_public_address_is_warned_of_once_without_its_password() {
    let warning = "may be unencrypted";
    // An address of documentation, which leads nowhere.
    let url = format!("redis://:{PASSWORD}@192.0.2.1:6379");
    let endpoint = "http://192.0.2.2:4317".to_owned();
    let settings = [("REDIS_URL", url), ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)];
    let mut listener = Service::spawn(Binary::Listener, &environment(&settings));
    logs(&listener, &["192.0.2.2"]).await;
    listener.wait_until_ready().await;
    let log = listener.log();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains(warning)).collect();
    assert_eq!(warnings.len(), 2, "{log}");
    assert!(warnings[0].contains("REDIS_URL") && warnings[0].contains("192.0.2.1"), "{log}");
    assert!(warnings[1].contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{log}");

    let stack = Stack::builder().workers(0).start().await;
    assert!(!stack.listeners[0].log().contains(warning), "{}", stack.listeners[0].log());
}
