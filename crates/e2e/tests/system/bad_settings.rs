//! A process with a bad setting prints one line that names the setting, and ends.

use pricing_harness::service::{Binary, Environment};

#[test]
fn a_bad_setting_is_one_line_without_a_backtrace() {
    for (binary, setting, value) in [
        (Binary::Api, "DATABASE_URL", "mysql://localhost/pricing"),
        (Binary::Api, "DATABASE_URL", "sqlite:///dev/null/pricing.db"),
        (Binary::Api, "DATABASE_URL", "sqlite://prices.db?mode=ro"),
        (Binary::Api, "REDIS_URL", "localhost"),
        (Binary::Api, "REQUEST_TIMEOUT_SECONDS", "1"),
        (Binary::Api, "API_ADDR", "192.0.2.1:1"),
        (Binary::Listener, "REDIS_URL", "localhost"),
        (Binary::Listener, "METRICS_ADDR", "192.0.2.1:1"),
        (Binary::Listener, "RUST_LOG", "pricing=loud"),
        (Binary::Worker, "LOCK_TTL_SECONDS", "1"),
        (Binary::Worker, "DATABASE_URL_FILE", "/no/such/file"),
        (Binary::Worker, "METRICS_ADDR", "192.0.2.1:1"),
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = if binary == Binary::Api { "API_ADDR" } else { "METRICS_ADDR" };
        let mut environment = Environment::from([
            (address.to_owned(), "127.0.0.1:0".to_owned()),
            ("RUST_BACKTRACE".to_owned(), "1".to_owned()),
        ]);
        environment.insert(setting.to_owned(), value.to_owned());
        let ended = binary.command(&environment).current_dir(&folder).output().expect("it is built");
        let text = String::from_utf8(ended.stderr).expect("text");
        assert_eq!(ended.status.code(), Some(1), "{setting}={value}: {text}");
        assert_eq!(text.lines().count(), 1, "{setting}={value}: {text}");
        assert!(text.starts_with("error: ") && text.contains(setting), "{setting}={value}: {text}");
    }
}
