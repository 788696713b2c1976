//! Short texts of a shop: categories and tags.

use std::collections::BTreeSet;

use serde::Serialize;

/// A category or a tag: 1 to 64 characters, without control characters and without spaces at its ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Label(String);

/// Why a text is no label, or a list no list of tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabel {
    /// Its length is out of bounds.
    #[error("must have 1 to 64 characters")]
    Length,
    /// It holds something that cannot be seen.
    #[error("must hold no control characters, and no spaces at its ends")]
    Character,
    /// The list is too long.
    #[error("must hold at most {} tags, and 2,048 characters altogether", Tags::MAX)]
    TooMany,
}

impl Label {
    /// Longest label, in characters.
    pub const MAX_LENGTH: usize = 64;

    /// Checks a text.
    ///
    /// # Errors
    ///
    /// When it is no label.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidLabel> {
        let text = text.into();
        if !(1..=Self::MAX_LENGTH).contains(&text.chars().count()) {
            return Err(InvalidLabel::Length);
        }
        if text.chars().any(char::is_control) || text.trim() != text {
            return Err(InvalidLabel::Character);
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The tags of a product, sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tags(BTreeSet<Label>);

impl Tags {
    /// Most tags of a product.
    pub const MAX: usize = 32;
    /// Longest JSON of all tags of a product, in characters, as the database bounds it.
    const MAX_JSON: usize = 2_048;

    /// Checks a list.
    ///
    /// # Errors
    ///
    /// When a text is no label, or the list is too long.
    pub fn parse(texts: Vec<String>) -> Result<Self, InvalidLabel> {
        let tags = Self(texts.into_iter().map(Label::parse).collect::<Result<_, _>>()?);
        let is_short = tags.0.len() <= Self::MAX && tags.to_json().chars().count() <= Self::MAX_JSON;
        if is_short { Ok(tags) } else { Err(InvalidLabel::TooMany) }
    }

    /// The tags of a JSON array, as the database holds them.
    pub(crate) fn from_json(json: &str) -> Option<Self> {
        Self::parse(serde_json::from_str(json).ok()?).ok()
    }

    /// The tags as a JSON array.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("invariant: texts are JSON")
    }

    /// The texts.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Label::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_short_text_that_can_be_seen() {
        for good in ["shoes", "Männer / Schuhe", "靴", &"x".repeat(64)] {
            assert_eq!(Label::parse(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", InvalidLabel::Length),
            (&*"x".repeat(65), InvalidLabel::Length),
            ("a\nb", InvalidLabel::Character),
            ("a\0", InvalidLabel::Character),
            (" a", InvalidLabel::Character),
        ] {
            assert_eq!(Label::parse(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn tags_are_sorted_and_bounded() {
        let tags = Tags::parse(["b", "a", "b"].map(String::from).to_vec()).unwrap();
        assert_eq!(tags.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(Tags::from_json(&tags.to_json()), Some(tags));
        let many = (0..=Tags::MAX).map(|n| n.to_string()).collect();
        assert_eq!(Tags::parse(many), Err(InvalidLabel::TooMany));
        let long = (0..Tags::MAX).map(|n| format!("{n:\"<64}")).collect();
        assert_eq!(Tags::parse(long), Err(InvalidLabel::TooMany), "quotes take two characters in JSON");
    }
}
