//! Lines of bounded length.

use std::io::{self, BufRead};

/// Longest line, in bytes.
pub(super) const MAX_LINE: usize = 64 * 1024;

/// Reads lines that end with LF or CRLF.
pub(super) struct Lines<R> {
    input: R,
    line: Vec<u8>,
    /// Number of the line that was read last.
    pub(super) number: u64,
    /// Bytes read.
    pub(super) bytes: u64,
}

/// A line of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'l> {
    /// Its content, without its end, and without a byte order mark.
    Text(&'l [u8]),
    /// It is longer than [`MAX_LINE`], and was passed over.
    TooLong,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: Vec::new(), number: 0, bytes: 0 }
    }

    /// Reads the next line; `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut length = 0;
        loop {
            let chunk = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                chunk => chunk?,
            };
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            if length + part.len() <= MAX_LINE {
                self.line.extend_from_slice(part);
            }
            length += part.len();
            let (is_last, consumed) = (chunk.is_empty(), part.len() + usize::from(end.is_some()));
            self.input.consume(consumed);
            self.bytes += consumed as u64;
            if is_last && length == 0 {
                return Ok(None);
            }
            if is_last || end.is_some() {
                break;
            }
        }
        self.number += 1;
        if length > MAX_LINE {
            return Ok(Some(Line::TooLong));
        }
        let text = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let mark = if self.number == 1 { "\u{feff}" } else { "" };
        Ok(Some(Line::Text(text.strip_prefix(mark.as_bytes()).unwrap_or(text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<Option<String>> {
        let mut lines = Lines::new(io::BufReader::with_capacity(7, bytes));
        let mut read = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            read.push(match line {
                Line::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
                Line::TooLong => None,
            });
        }
        assert_eq!((lines.number, lines.bytes), (read.len() as u64, bytes.len() as u64));
        read
    }

    #[test]
    fn a_line_has_no_end_and_the_file_no_mark() {
        let text = |text: &str| Some(text.to_owned());
        let read = lines("\u{feff}a,b\r\n\n1234567890\nend".as_bytes());
        assert_eq!(read, [text("a,b"), text(""), text("1234567890"), text("end")]);
        assert_eq!(lines(b""), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        let (fits, long) = ("x".repeat(MAX_LINE), "x".repeat(MAX_LINE + 1));
        let read = lines(format!("{fits}\n{long}\nend\n").as_bytes());
        assert_eq!(read, [Some(fits), None, Some("end".to_owned())]);
    }
}
