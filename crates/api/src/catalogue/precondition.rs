//! The revision that an edit is based on, in its headers (RFC 9110, section 13).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use pricing_core::catalogue::Precondition;

use crate::problem::Problem;

/// The largest revision: versions are exact in a double up to here.
const MAX_REVISION: u64 = 1 << 53;
/// What is wrong with a number that is no revision.
pub(super) const NO_REVISION: &str = "must be a revision: 1 to 9007199254740992";

/// Whether a number can be a revision.
pub(super) fn is_revision(number: u64) -> bool {
    (1..=MAX_REVISION).contains(&number)
}

/// `If-Match` or `If-None-Match` of an edit.
pub(crate) struct EditPrecondition(Precondition);

impl<S: Send + Sync> FromRequestParts<S> for EditPrecondition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let revision = single(&parts.headers, header::IF_MATCH)?;
        let absent = single(&parts.headers, header::IF_NONE_MATCH)?;
        match (revision, absent) {
            (None, None) => Ok(Self(Precondition::None)),
            (Some("*"), None) => Ok(Self(Precondition::Exists)),
            (Some(tag), None) => match revision_of(tag) {
                Some(revision) => Ok(Self(Precondition::Revision(revision))),
                None => {
                    Err(Problem::malformed("If-Match takes one ETag of this service, such as \"17\", or *."))
                }
            },
            (None, Some("*")) => Ok(Self(Precondition::Absent)),
            (None, Some(_)) => Err(Problem::malformed("If-None-Match of a change takes *: only create it.")),
            (Some(_), Some(_)) => Err(Problem::malformed("If-Match and If-None-Match exclude each other.")),
        }
    }
}

impl EditPrecondition {
    /// The precondition, or the one that the body names.
    ///
    /// # Errors
    ///
    /// 400 when they differ, 422 when the body names no revision.
    pub(crate) fn or_revision(self, revision: Option<u64>) -> Result<Precondition, Problem> {
        if !revision.is_none_or(is_revision) {
            return Err(Problem::invalid_field("revision", NO_REVISION));
        }
        match (self.0, revision) {
            (Precondition::None, Some(revision)) => Ok(Precondition::Revision(revision)),
            (Precondition::Revision(one), Some(other)) if one != other => {
                Err(Problem::malformed("If-Match and the body name different revisions."))
            }
            (precondition, _) => Ok(precondition),
        }
    }
}

fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return match headers.contains_key(&name) {
            true => Err(Problem::malformed(format!("There is more than one {name} header."))),
            false => Ok(None),
        };
    };
    let text = value.to_str().map_err(|_| Problem::malformed(format!("The {name} header is no text.")))?;
    Ok(Some(text.trim()))
}

fn revision_of(tag: &str) -> Option<u64> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The `ETag` of a revision.
pub(crate) fn tag(revision: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{revision}\"")).expect("invariant: digits and quotes are a header")
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    async fn precondition(headers: &[(&str, &str)]) -> Result<Precondition, Problem> {
        let request =
            headers.iter().fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        EditPrecondition::from_request_parts(&mut parts, &()).await.map(|it| it.0)
    }

    #[tokio::test]
    async fn an_edit_names_what_it_is_based_on() {
        for (headers, expected) in [
            (&[][..], Precondition::None),
            (&[("if-match", "\"17\"")], Precondition::Revision(17)),
            (&[("if-match", "*")], Precondition::Exists),
            (&[("if-none-match", "*")], Precondition::Absent),
        ] {
            assert_eq!(precondition(headers).await, Ok(expected));
        }
        for bad in [
            &[("if-match", "17")][..],
            &[("if-match", "W/\"17\"")],
            &[("if-match", "\"17\", \"18\"")],
            &[("if-match", "\"99999999999999999999\"")],
            &[("if-match", "\"1\""), ("if-match", "\"1\"")],
            &[("if-match", "*"), ("if-none-match", "*")],
            &[("if-none-match", "\"1\"")],
        ] {
            assert!(precondition(bad).await.is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn the_body_may_name_it_too() {
        let based_on = |precondition| EditPrecondition(precondition).or_revision(Some(3));
        assert_eq!(based_on(Precondition::None), Ok(Precondition::Revision(3)));
        assert_eq!(based_on(Precondition::Revision(3)), Ok(Precondition::Revision(3)));
        assert!(based_on(Precondition::Revision(4)).is_err());
        assert!(EditPrecondition(Precondition::None).or_revision(Some(0)).is_err());
        assert_eq!(tag(17), "\"17\"");
    }
}
