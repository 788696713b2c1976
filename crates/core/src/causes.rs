//! Errors in log lines and on terminals.

use std::error::Error;
use std::fmt;
use std::iter::successors;

/// An error with its causes on one line, `outermost: cause: its cause`, to be logged as
/// `error = %causes(&error)`. JSON log lines show only the outermost one of an error that is logged as a value.
///
/// A cause is left out when the text before names it already, as errors of sqlx and redis do.
pub fn causes(error: &(dyn Error + 'static)) -> impl fmt::Display {
    let mut text = error.to_string();
    for cause in successors(error.source(), |&cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Text of unknown origin for a terminal, with all characters escaped that drive it, turn its direction or cannot be
/// seen.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => printable.push(c),
            _ => printable.extend(c.escape_debug()),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SecretError;

    #[test]
    fn causes_follow_the_error_in_order() {
        let source = std::io::Error::other("gone");
        assert_eq!(causes(&source).to_string(), "gone");
        let error = SecretError::Unreadable { name: "X", path: "/x".into(), source };
        assert_eq!(causes(&error).to_string(), "X_FILE: cannot read /x: gone");
    }

    #[test]
    fn text_from_outside_cannot_drive_the_terminal() {
        assert_eq!(printable("\u{1b}[2J\u{9b}1m\r\nß \"x\""), "\\u{1b}[2J\\u{9b}1m\\r\\nß \"x\"");
        assert_eq!(printable("a\u{202e}b\u{200b}c"), "a\\u{202e}b\\u{200b}c");
    }

    #[test]
    fn a_cause_that_the_text_names_already_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("error returned from database: {0}")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("(code: 1) no such table: products"));
        assert_eq!(
            causes(&error).to_string(),
            "error returned from database: (code: 1) no such table: products"
        );
    }
}
