//! What is recorded.

use std::fmt;
use std::net::IpAddr;

/// Maximum length of a caller, in characters.
const MAX_CALLER: usize = 128;
/// Maximum length of a subject, in characters.
const MAX_SUBJECT: usize = 128;
/// Maximum length of a detail, in characters.
const MAX_DETAIL: usize = 1_024;

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditCaller {
    /// The holder of an API key, by the name of the key.
    Key(String),
    /// A user of the operating system, at the command line.
    CommandLine(String),
    /// Anybody: the api runs without keys, on loopback or with `AUTH=off`.
    Anonymous,
}

/// As it is stored: the name of the key, `cli:USER` or `anonymous`.
impl fmt::Display for AuditCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(name) => f.write_str(&bounded(name, MAX_CALLER)),
            Self::CommandLine(user) => f.write_str(&bounded(&format!("cli:{user}"), MAX_CALLER)),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// What was done. A code that was stored once is never given another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditAction {
    /// A dead task was to be put back in the queue. The detail says why it was refused, if it was.
    TaskReplayed,
    /// Tasks of all callers were listed.
    TasksListed,
    /// A task was read with the role that sees those of all callers.
    TaskRead,
    /// A product was to be created or replaced.
    ProductPut,
    /// Fields of a product were to be changed.
    ProductPatched,
    /// A product was to be deleted.
    ProductDeleted,
    /// Many products were to be edited.
    ProductsEdited,
    /// A market was to be created or replaced.
    MarketPut,
    /// Terms of a market were to be changed.
    MarketPatched,
    /// A market was to be deleted.
    MarketDeleted,
    /// A file was imported into the catalogue. One row tells its size before the first change, and one after the last what
    /// was changed.
    CatalogueImported,
}

impl AuditAction {
    /// The code, as it is stored.
    pub fn code(self) -> &'static str {
        match self {
            Self::TaskReplayed => "task.replay",
            Self::TasksListed => "task.list",
            Self::TaskRead => "task.read",
            Self::ProductPut => "product.put",
            Self::ProductPatched => "product.patch",
            Self::ProductDeleted => "product.delete",
            Self::ProductsEdited => "product.batch",
            Self::MarketPut => "market.put",
            Self::MarketPatched => "market.patch",
            Self::MarketDeleted => "market.delete",
            Self::CatalogueImported => "catalogue.import",
        }
    }
}

/// What a caller does. The database adds the time.
///
/// Texts are cut to the length that the table takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub(super) caller: AuditCaller,
    pub(super) address: Option<IpAddr>,
    pub(super) action: AuditAction,
    pub(super) subject: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) trace_id: Option<String>,
}

impl AuditEntry {
    /// An entry without anything but the caller and the action.
    pub fn new(caller: AuditCaller, action: AuditAction) -> Self {
        Self { caller, address: None, action, subject: None, detail: None, trace_id: None }
    }

    /// Adds the address of the client.
    #[must_use]
    pub fn from_address(self, address: IpAddr) -> Self {
        Self { address: Some(address.to_canonical()), ..self }
    }

    /// Adds what was acted on, such as the id of a task.
    #[must_use]
    pub fn on(self, subject: &str) -> Self {
        Self { subject: Some(bounded(subject, MAX_SUBJECT)).filter(|text| !text.is_empty()), ..self }
    }

    /// Adds what else there is to know, such as the filter of a list.
    #[must_use]
    pub fn with_detail(self, detail: &str) -> Self {
        Self { detail: Some(bounded(detail, MAX_DETAIL)).filter(|text| !text.is_empty()), ..self }
    }

    /// Adds the id of the trace, 32 hexadecimal digits; any other text is no trace id and is left out.
    #[must_use]
    pub fn traced(self, trace_id: Option<&str>) -> Self {
        let is_trace_id = |id: &&str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        Self { trace_id: trace_id.filter(is_trace_id).map(str::to_owned), ..self }
    }
}

/// The first `max` characters of a text. NUL, which PostgreSQL cannot store, becomes U+FFFD.
fn bounded(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_stored_as_what_it_is() {
        assert_eq!(AuditCaller::Key("shop".to_owned()).to_string(), "shop");
        assert_eq!(AuditCaller::CommandLine("root".to_owned()).to_string(), "cli:root");
        assert_eq!(AuditCaller::Anonymous.to_string(), "anonymous");
    }

    #[test]
    fn a_mapped_address_is_the_address_that_it_stands_for() {
        let entry = AuditEntry::new(AuditCaller::Anonymous, AuditAction::TaskRead);
        let entry = entry.from_address("::ffff:10.0.0.7".parse().unwrap());
        assert_eq!(entry.address, Some("10.0.0.7".parse().unwrap()));
    }
}
