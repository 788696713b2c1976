//! The envelope of a market event: CloudEvents 1.0 in JSON, with the distributed tracing extension.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::ids::{self, TaskId};
use crate::recalculation::{MAX_REASON, Recalculation};

/// Longest envelope, in bytes.
const MAX_ENVELOPE: usize = 64 * 1_024;
/// Bytes of the hash that names an event from outside.
const HASH: usize = 16;
/// Length of a W3C `traceparent` of version 00. Another text is not kept.
const TRACEPARENT: usize = 55;
const TYPE: &str = "pricing.market.changed";
const SOURCE: &str = "/pricing-api";

/// Something happened in a market, so prices must be recalculated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketEvent {
    /// Id of the event, and of its task: an event that arrives twice has one task.
    ///
    /// **Events of two sources have two ids**, and no event from outside has the id of a task of ours. The id of an
    /// event that our api published is the one that it answered; any other is derived from source and id.
    pub id: TaskId,
    /// What happened, at most [`MAX_REASON`] characters.
    pub reason: String,
    /// W3C `traceparent` of the publisher's span.
    pub traceparent: Option<String>,
    /// Name of the key of the caller of our api who published it.
    pub caller: Option<String>,
}

#[derive(Serialize)]
struct Written<'a> {
    specversion: &'a str,
    id: &'a str,
    source: &'a str,
    r#type: &'a str,
    time: String,
    datacontenttype: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a str>,
    data: Data,
}

#[derive(Deserialize)]
struct Read {
    specversion: String,
    id: String,
    source: String,
    traceparent: Option<String>,
    caller: Option<String>,
    data: Option<Data>,
}

#[derive(Default, Serialize, Deserialize)]
struct Data {
    reason: Option<String>,
}

impl MarketEvent {
    /// A new event with a new id.
    pub fn new(reason: impl Into<String>, traceparent: Option<String>) -> Self {
        Self { id: TaskId::generate(), reason: shortened(reason.into()), traceparent, caller: None }
    }

    /// The same event, published by the caller whose key has this name.
    #[must_use]
    pub fn by(self, caller: Option<String>) -> Self {
        Self { caller, ..self }
    }

    /// The request for the recalculation that the event means, made now.
    pub fn recalculation(&self) -> Recalculation {
        Recalculation::now(self.reason.as_str()).by(self.caller.clone())
    }

    /// The envelope as JSON.
    pub fn encode(&self) -> String {
        let written = Written {
            specversion: "1.0",
            id: self.id.as_str(),
            source: SOURCE,
            r#type: TYPE,
            time: OffsetDateTime::now_utc().format(&Rfc3339).expect("invariant: the year has four digits"),
            datacontenttype: "application/json",
            traceparent: self.traceparent.as_deref(),
            caller: self.caller.as_deref(),
            data: Data { reason: Some(self.reason.clone()) },
        };
        sonic_rs::to_string(&written).expect("invariant: strings serialize")
    }

    /// Reads a message of the channel or an entry of the log.
    ///
    /// Any text is an event. A text that is no CloudEvents 1.0 envelope, such as the seed's
    /// `Recalculate_Triggered_v1`, becomes the reason of an event with a new id.
    pub fn decode(text: &[u8]) -> Self {
        Self::from_envelope(text).unwrap_or_else(|| {
            let start = &text[..text.len().min(4 * MAX_REASON)]; // a character has 4 bytes at most
            Self::new(String::from_utf8_lossy(start), None)
        })
    }

    fn from_envelope(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_ENVELOPE {
            return None;
        }
        let read: Read = serde_json::from_slice(text).ok()?;
        if read.specversion != "1.0" {
            return None;
        }
        let own =
            Some(&read).filter(|read| read.source == SOURCE).and_then(|read| TaskId::generated(&read.id));
        let caller = read.caller.filter(|name| own.is_some() && ids::check(name).is_ok());
        let id = own.unwrap_or_else(|| derived_id(&read.source, &read.id));
        let reason = read.data.and_then(|data| data.reason).unwrap_or_else(|| read.source.clone());
        let traceparent = read.traceparent.filter(|text| text.len() == TRACEPARENT);
        Some(Self { id, reason: shortened(reason), traceparent, caller })
    }
}

/// An id that depends on source and id alone; CloudEvents makes the pair unique. No id of ours begins so.
fn derived_id(source: &str, id: &str) -> TaskId {
    let length = (source.len() as u64).to_be_bytes(); // so that no two pairs are the same bytes
    let hash = Sha256::new().chain_update(length).chain_update(source).chain_update(id).finalize();
    let hex = hex::encode(&hash[..HASH]);
    TaskId::parse(format!("ce-{hex}")).expect("invariant: `ce-` and hexadecimal digits are an id")
}

fn shortened(mut reason: String) -> String {
    if let Some((end, _)) = reason.char_indices().nth(MAX_REASON) {
        reason.truncate(end);
    }
    reason
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_event_reads_back() {
        let parent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
        let event = MarketEvent::new("competitor cut prices", parent).by(Some("shop".to_owned()));
        assert_eq!(MarketEvent::decode(event.encode().as_bytes()), event);
    }

    #[test]
    fn any_other_text_means_recalculate_all() {
        let event = MarketEvent::decode(b"Recalculate_Triggered_v1");
        assert_eq!((event.reason.as_str(), event.traceparent), ("Recalculate_Triggered_v1", None));
        for odd in
            [&b""[..], b"\xff\xfe", b"{}", br#"{"specversion":"2.0","id":"x","source":"y"}"#, &[b'['; 5_000]]
        {
            assert!(MarketEvent::decode(odd).reason.chars().count() <= MAX_REASON);
        }
    }

    fn id_of(source: &str, id: &str) -> String {
        let envelope = serde_json::json!({"specversion": "1.0", "id": id, "source": source, "type": "x"});
        MarketEvent::decode(envelope.to_string().as_bytes()).id.to_string()
    }

    #[test]
    fn the_same_foreign_event_has_the_same_id_each_time() {
        assert_eq!(id_of("erp", "order 17"), id_of("erp", "order 17"));
        assert_ne!(id_of("erp", "order 17"), id_of("erp", "order 18"));
    }

    #[test]
    fn two_sources_that_use_the_same_id_have_two_events() {
        assert_ne!(id_of("erp", "17"), id_of("shop", "17"));
        assert_ne!(id_of("erp", "\u{0}17"), id_of("erp\u{0}", "17"));
        let ours = MarketEvent::new("x", None).id;
        assert_ne!(id_of("erp", ours.as_str()), ours.as_str());
    }

    #[test]
    fn an_id_from_outside_is_never_one_of_ours() {
        for id in ["instead-of.7", "follow-up.0123456789abcdef", "x", "ce-0", "01j0000000000000000000000"] {
            for source in ["erp", SOURCE] {
                let event = id_of(source, id);
                assert!(
                    event.starts_with("ce-") && event.len() == 35 && event != id,
                    "{source} {id}: {event}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn a_reason_is_shortened_at_a_character(text in "\\PC{0,400}") {
            let reason = shortened(text.clone());
            prop_assert_eq!(reason.chars().count(), text.chars().count().min(MAX_REASON));
            prop_assert!(text.starts_with(&reason));
        }
    }
}
