//! What a server answers.

use std::ops::Range;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use memchr::memmem::Finder;

/// Most headers of an answer.
const MAX_HEADERS: usize = 32;

/// Where the body of an answer is, once all of it is there; any status but 200 is an error.
pub(super) fn body_of(answer: &[u8]) -> Result<Option<Range<usize>>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = head.parse(answer)? else { return Ok(None) };
    ensure!(head.code == Some(200), "an answer was not 200: {}", String::from_utf8_lossy(answer));
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("an answer has no length")?.value;
    let length: usize = std::str::from_utf8(length)?.parse()?;
    let body = end..end + length;
    Ok((body.end <= answer.len()).then_some(body))
}

/// Whether any price of an answer was not in the cache.
pub(super) fn is_from_database(body: &[u8]) -> bool {
    static FROM_DATABASE: LazyLock<Finder<'static>> =
        LazyLock::new(|| Finder::new(br#""source":"database""#));
    FROM_DATABASE.find(body).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_when_all_of_its_body_is_there() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(body_of(answer).unwrap().map(|body| &answer[body]), Some(&b"{}"[..]));
        assert_eq!(body_of(&answer[..answer.len() - 1]).unwrap(), None);
        assert_eq!(body_of(&answer[..20]).unwrap(), None);
        assert!(body_of(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").is_err());
    }
}
