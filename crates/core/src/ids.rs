//! Identifiers. They are parsed where they enter a process and need no check after that.

use std::fmt;
use std::sync::LazyLock;

/// Longest identifier, in bytes.
pub const MAX_ID_LEN: usize = 64;

/// The rule that a text breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The text is empty.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than [`MAX_ID_LEN`].
    #[error("must be at most {MAX_ID_LEN} characters long")]
    TooLong,
    /// The text holds a character outside `A-Z a-z 0-9 . _ -`.
    #[error("may only hold letters, digits, '.', '_' and '-'")]
    Character,
}

/// Checks `text` against the one rule of all identifiers: `[A-Za-z0-9._-]{1,64}`.
///
/// # Errors
///
/// The first rule that the text breaks.
pub fn check(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > MAX_ID_LEN {
        return Err(InvalidId::TooLong);
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    text.bytes().all(allowed).then_some(()).ok_or(InvalidId::Character)
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Parses an identifier.
            ///
            /// # Errors
            ///
            /// When the text breaks the rule of [`check`].
            pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidId> {
                let text = text.into();
                check(&text).map(|()| Self(text))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier! {
    /// Id of a product, such as `P-100`.
    ProductId
}
identifier! {
    /// Location of a market's customers, such as `NY`. It is the market's id.
    Location
}
identifier! {
    /// Id of a task in the queue, and of the market event that caused it: they share one id.
    TaskId
}

impl Location {
    /// The market for every location that has none: `default`.
    pub fn fallback() -> &'static Self {
        static FALLBACK: LazyLock<Location> = LazyLock::new(|| Location("default".into()));
        &FALLBACK
    }
}

impl TaskId {
    /// A new, unused id. It is a ULID, so ids sort by the time of their creation.
    pub fn generate() -> Self {
        Self(ulid::Ulid::generate().to_string().into_boxed_str())
    }

    /// Parses an id that [`TaskId::generate`] may have made; `None` for any other text.
    pub fn generated(text: &str) -> Option<Self> {
        let ulid = ulid::Ulid::from_string(text).ok().filter(|ulid| ulid.to_string() == text)?;
        Some(Self(ulid.to_string().into_boxed_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_contract_are_accepted() {
        let longest = "x".repeat(MAX_ID_LEN);
        for id in ["P-100", "a", "A.b_c-9", "...", longest.as_str()] {
            assert_eq!(check(id), Ok(()), "{id:?}");
        }
    }

    #[test]
    fn what_could_forge_a_redis_key_is_refused() {
        assert_eq!(check(""), Err(InvalidId::Empty));
        assert_eq!(check(&"x".repeat(MAX_ID_LEN + 1)), Err(InvalidId::TooLong));
        for id in ["a b", "a:b", "a\nb", "a\0b", "a\u{e9}", "{a}", "*", "a/b"] {
            assert_eq!(check(id), Err(InvalidId::Character), "{id:?}");
        }
    }

    #[test]
    fn a_generated_task_id_is_an_id() {
        let id = TaskId::generate();
        assert_eq!(check(id.as_str()), Ok(()));
        assert_eq!(TaskId::generated(id.as_str()), Some(id));
        for other in ["", "x", "instead-of.7", "01j00000000000000000000000", "81J00000000000000000000000"] {
            assert_eq!(TaskId::generated(other), None, "{other}");
        }
    }
}
