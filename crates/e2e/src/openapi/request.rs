//! A request, down to its bytes.

use std::fmt;

/// A request that may be wrong in any way.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// The path and the query, as they are sent.
    pub target: Vec<u8>,
    /// Its header fields, without those of its [`Framing`] and without `Host`.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its body.
    pub body: Vec<u8>,
    /// How the end of the body is told.
    pub framing: Framing,
    /// What is sent in place of all this, if it is to be no proper HTTP.
    pub nonsense: Option<Vec<u8>>,
    /// What was done to it, for the report.
    pub damage: Vec<&'static str>,
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length.
    Length,
    /// By an empty chunk, after chunks of this size, or of a larger one if they would be very many.
    Chunks(usize),
}

/// Longest request after which a connection can be used again: a server that refuses a request without
/// reading its body closes, unless all of it came with the head.
const MAX_REUSED: usize = 4 * 1_024;

impl Request {
    /// A request without a body.
    pub fn new(method: &str, target: impl Into<Vec<u8>>) -> Self {
        Self {
            method: method.to_owned(),
            target: target.into(),
            headers: Vec::new(),
            body: Vec::new(),
            framing: Framing::Length,
            nonsense: None,
            damage: Vec::new(),
        }
    }

    /// The path, without the query.
    pub fn path(&self) -> &[u8] {
        self.target.split(|byte| *byte == b'?').next().unwrap_or_default()
    }

    /// What follows the first question mark.
    pub fn query(&self) -> &[u8] {
        let start = self.target.iter().position(|byte| *byte == b'?');
        start.map_or(&[], |start| &self.target[start + 1..])
    }

    /// All values of a header field.
    pub fn header(&self, name: &str) -> Vec<&[u8]> {
        let same = self.headers.iter().filter(|(named, _)| named.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_slice()).collect()
    }

    /// Bytes before the body.
    pub fn head_length(&self) -> usize {
        self.encode_head().len()
    }

    /// Whether its answer comes without a body.
    pub fn is_head(&self) -> bool {
        self.method == "HEAD" && self.nonsense.is_none()
    }

    /// Whether the connection can be used for another request.
    pub fn leaves_connection(&self) -> bool {
        let is_whole = self.framing == Framing::Length && self.head_length() + self.body.len() <= MAX_REUSED;
        self.nonsense.is_none() && is_whole
    }

    /// The bytes to be sent.
    pub fn encode(&self) -> Vec<u8> {
        if let Some(bytes) = &self.nonsense {
            return bytes.clone();
        }
        let mut bytes = self.encode_head();
        match self.framing {
            Framing::Length => bytes.extend(&self.body),
            Framing::Chunks(size) => {
                for chunk in self.body.chunks(size.max(self.body.len() / MAX_CHUNKS)) {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n\r\n");
            }
        }
        bytes
    }

    fn encode_head(&self) -> Vec<u8> {
        let mut bytes = format!("{} ", self.method).into_bytes();
        bytes.extend(&self.target);
        bytes.extend(b" HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in &self.headers {
            bytes.extend(name.as_bytes());
            bytes.extend(b": ");
            bytes.extend(value);
            bytes.extend(b"\r\n");
        }
        match self.framing {
            Framing::Length if self.body.is_empty() && self.method != "POST" => {}
            Framing::Length => bytes.extend(format!("Content-Length: {}\r\n", self.body.len()).as_bytes()),
            Framing::Chunks(_) => bytes.extend(b"Transfer-Encoding: chunked\r\n"),
        }
        bytes.extend(b"\r\n");
        bytes
    }
}

/// Most chunks of a body.
const MAX_CHUNKS: usize = 1_000;

/// Longest request that is printed in full.
const MAX_PRINTED: usize = 4 * 1_024;

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.encode();
        let shown = &bytes[..bytes.len().min(MAX_PRINTED)];
        writeln!(f, "{} bytes, {:?}:\n{}", bytes.len(), self.damage, shown.escape_ascii())
    }
}
