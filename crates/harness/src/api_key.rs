//! The key that this process calls an api with.
//!
//! Tests, measurements and commands take it from `PRICING_API_KEY`, or from the file that `PRICING_API_KEY_FILE` names.
//! With a key, the stacks of tests have keys on, and the key all roles and no limits to speak of: so the whole suite
//! runs with keys as without.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use reqwest::Client;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::service::Environment;

/// Variable that holds the key.
pub const VARIABLE: &str = "PRICING_API_KEY";
/// All that a key may do.
pub const ALL_ROLES: &str = "read,publish,manage,operate";
/// Units a second that nothing in a test exceeds.
const NO_LIMIT: &str = "100000000";

/// The key of the environment, `None` when there is none.
///
/// # Errors
///
/// When its file cannot be read, or it is no key.
pub fn of_environment() -> Result<Option<String>> {
    let file = format!("{VARIABLE}_FILE");
    let key = match (std::env::var(VARIABLE), std::env::var(&file)) {
        (Ok(_), Ok(_)) => anyhow::bail!("{VARIABLE} and {file} are both set: set one of them"),
        (Ok(key), Err(_)) => key,
        (Err(_), Ok(path)) => {
            fs::read_to_string(&path).with_context(|| format!("{file}: cannot read {path}"))?
        }
        (Err(_), Err(_)) => return Ok(None),
    };
    let key = key.trim();
    ensure!(!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()), "{VARIABLE} holds no key");
    Ok(Some(key.to_owned()))
}

/// The key of the environment, read once. Panics when it cannot be read.
pub fn get() -> Option<&'static str> {
    static KEY: LazyLock<Option<String>> =
        LazyLock::new(|| of_environment().unwrap_or_else(|error| panic!("{error:#}")));
    KEY.as_deref()
}

/// An HTTP client that shows the key of the environment, if there is one.
pub fn client() -> Client {
    client_with(get())
}

/// An HTTP client that shows `key`, if there is one.
pub fn client_with(key: Option<&str>) -> Client {
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        let mut value = HeaderValue::from_str(&format!("Bearer {key}")).expect("a key is visible ASCII");
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Client::builder().default_headers(headers).build().expect("a client without special settings")
}

/// The header line of a request made by hand, with its end; empty without a key.
pub fn header_line() -> String {
    header_line_of(get())
}

/// The header line of a request made by hand that shows `key`, if there is one.
pub fn header_line_of(key: Option<&str>) -> String {
    key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default()
}

/// The line of a file of keys.
pub fn line(name: &str, roles: &str, key: &str) -> String {
    format!("{name} {roles} {}\n", hex::encode(Sha256::digest(key)))
}

/// Settings of an api that takes `key`, with all roles and no limits to speak of. The file of keys is made in
/// `directory`.
///
/// # Errors
///
/// When the file cannot be written.
pub fn settings(directory: &Path, key: &str) -> Result<Environment> {
    let file = directory.join("api-keys");
    fs::write(&file, line("tests", ALL_ROLES, key))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let settings = [
        ("API_KEYS_FILE", file.display().to_string()),
        ("RATE_LIMIT_PER_KEY", NO_LIMIT.to_owned()),
        ("RATE_LIMIT_PER_ADDRESS", NO_LIMIT.to_owned()),
    ];
    Ok(settings.map(|(name, value)| (name.to_owned(), value)).into())
}
