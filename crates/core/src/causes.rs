//! Errors in log lines.

use std::error::Error;
use std::fmt;

/// An error with all its causes, `outermost: cause: its cause`, to be logged as `error = %causes(&error)`.
/// JSON log lines show only the outermost one of an error that is logged as a value.
pub fn causes(error: &(dyn Error + 'static)) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        write!(f, "{error}")?;
        let mut source = error.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    })
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
}
