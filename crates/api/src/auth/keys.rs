//! Keys, and the file that lists them.

use std::collections::{HashMap, hash_map};
use std::hash::Hasher as _;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pricing_core::ids;
use sha2::{Digest as _, Sha256};
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::limits::{KeyLimit, Rate};
use super::role::{Roles, UnknownRole};

/// Longest file, in bytes.
pub(crate) const MAX_FILE: u64 = 1 << 20;
/// Longest key, in bytes.
const MAX_KEY: usize = 128;
/// What a key begins with, for those who search code and logs for secrets.
const PREFIX: &str = "prc_";
/// What audit and metrics call a caller when keys are off.
const NOBODY: &str = "anonymous";
/// Random bytes of a key. With its prefix a key fits into one block of SHA-256.
const RANDOM_BYTES: usize = 24;

/// SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a key.
    pub(crate) fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    fn parse(digits: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// In hexadecimal digits.
    pub(crate) fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// Makes a key from the operating system's randomness: 192 bits.
pub(crate) fn generate() -> String {
    format!("{PREFIX}{}", hex::encode(rand::random::<[u8; RANDOM_BYTES]>()))
}

/// Whether a text can be a key: 1 to 128 visible ASCII characters.
pub(crate) fn is_key(text: &[u8]) -> bool {
    (1..=MAX_KEY).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

/// A key, without the key itself. While a key is being replaced, two have the same name: they are one caller.
pub(crate) struct ApiKey {
    pub(crate) name: String,
    pub(crate) roles: Roles,
    /// Shared by all keys of this name.
    pub(crate) limit: Arc<KeyLimit>,
}

/// A line that is wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct InvalidLine {
    line: usize,
    reason: Reason,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("a line holds a name, its roles and a SHA-256, with spaces between them")]
    Fields,
    #[error("the name {0}")]
    Name(ids::InvalidId),
    #[error("the name {NOBODY} stands for callers without a key")]
    Nobody,
    #[error(transparent)]
    Roles(#[from] UnknownRole),
    #[error("the SHA-256 has 64 hexadecimal digits; `pricing-api keys hash` makes it of a key")]
    Fingerprint,
    #[error("the key is there twice")]
    Repeated,
}

/// The keys of a file, found by their fingerprint.
///
/// A key that was shown before is found by its SipHash of 128 bits under a secret of this process, which takes a tenth
/// of the instructions of SHA-256. Either way keys are compared as digests that nobody outside can compute in part.
pub(crate) struct Keys {
    by_fingerprint: HashMap<Fingerprint, Arc<ApiKey>>,
    limits: HashMap<String, Arc<KeyLimit>>,
    hasher: SipHasher24,
    /// Never more than there are keys.
    shown: ArcSwap<HashMap<u128, Arc<ApiKey>>>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            by_fingerprint: HashMap::new(),
            limits: HashMap::new(),
            hasher: SipHasher24::new_with_key(&rand::random()),
            shown: ArcSwap::default(),
        }
    }
}

impl Keys {
    /// Parses a file: on each line a name, roles with commas between them, and the SHA-256 of the key; empty lines and
    /// those that begin with `#` are left out. A name that `before` knows keeps its token bucket.
    ///
    /// # Errors
    ///
    /// The first line that is wrong.
    pub(crate) fn parse(text: &str, rate: Rate, before: &Self) -> Result<Self, InvalidLine> {
        let mut keys = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                keys.add(line, rate, before).map_err(|reason| InvalidLine { line: index + 1, reason })?;
            }
        }
        Ok(keys)
    }

    fn add(&mut self, line: &str, rate: Rate, before: &Self) -> Result<(), Reason> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[name, roles, fingerprint] = &fields[..] else { return Err(Reason::Fields) };
        ids::check(name).map_err(Reason::Name)?;
        if name == NOBODY {
            return Err(Reason::Nobody);
        }
        let roles = roles.parse()?;
        let fingerprint = Fingerprint::parse(fingerprint).ok_or(Reason::Fingerprint)?;
        let limit = self.limits.entry(name.to_owned()).or_insert_with(|| match before.limits.get(name) {
            Some(limit) => limit.clone(),
            None => Arc::new(KeyLimit::new(rate)),
        });
        match self.by_fingerprint.entry(fingerprint) {
            hash_map::Entry::Occupied(_) => Err(Reason::Repeated),
            hash_map::Entry::Vacant(place) => {
                place.insert(Arc::new(ApiKey { name: name.to_owned(), roles, limit: limit.clone() }));
                Ok(())
            }
        }
    }

    /// The key that a caller shows, `None` when it is unknown.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Arc<ApiKey>> {
        let mut hasher = self.hasher;
        hasher.write(key);
        let hash = hasher.finish128().as_u128();
        if let Some(shown) = self.shown.load().get(&hash) {
            return Some(shown.clone());
        }
        let found = self.by_fingerprint.get(&Fingerprint::of(key))?;
        self.shown.rcu(|shown| {
            let mut shown = HashMap::clone(shown);
            shown.insert(hash, found.clone());
            shown
        });
        Some(found.clone())
    }

    /// All keys, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ApiKey> {
        self.by_fingerprint.values().map(|key| &**key)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_fingerprint.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::role::Role;

    fn parse(text: &str) -> Result<Keys, String> {
        Keys::parse(text, Rate::default(), &Keys::default()).map_err(|error| error.to_string())
    }

    fn line(name: &str, roles: &str, key: &str) -> String {
        format!("{name} {roles} {}\n", Fingerprint::of(key.as_bytes()).hex())
    }

    #[test]
    fn a_key_is_found_by_its_digest_only() {
        // SHA-256 of "abc", FIPS 180-2, B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let keys = parse(&format!("# our shop\n\n  shop\tread,publish  {abc}  \n")).unwrap();
        assert_eq!(keys.find(b"abc").unwrap().name, "shop");
        let key = keys.find(b"abc").expect("also when it was shown before");
        assert_eq!((key.name.as_str(), key.roles), ("shop", Roles::of(&[Role::Read, Role::Publish])));
        assert!(
            keys.find(b"abd").is_none() && keys.find(b"").is_none() && keys.find(abc.as_bytes()).is_none()
        );
    }

    #[test]
    fn a_wrong_line_is_named() {
        let good = line("shop", "read", "one");
        for (bad, reason) in [
            ("shop read", "a line holds"),
            (&*line("anonymous", "read", "x"), "the name anonymous stands"),
            ("shop read 00 more", "a line holds"),
            ("shop read 00", "the SHA-256 has 64"),
            (&*line("shop", "write", "x"), "the roles are"),
            (&*line("sh:op", "read", "x"), "the name "),
            (&*good, "the key is there twice"),
        ] {
            let error = parse(&format!("{good}{bad}")).err().unwrap();
            assert!(error.starts_with(&format!("line 2: {reason}")), "{bad}: {error}");
        }
    }

    #[test]
    fn keys_of_one_name_share_a_bucket_also_after_a_reload() {
        let one = parse(&line("shop", "read", "old")).unwrap();
        let both = line("shop", "read", "old") + &line("shop", "read", "new");
        let both = Keys::parse(&both, Rate::default(), &one).unwrap();
        let (before, old, new) =
            (one.find(b"old").unwrap(), both.find(b"old").unwrap(), both.find(b"new").unwrap());
        assert!(Arc::ptr_eq(&before.limit, &old.limit) && Arc::ptr_eq(&old.limit, &new.limit));
    }

    #[test]
    fn a_new_key_is_a_key_that_no_other_is() {
        let (one, other) = (generate(), generate());
        assert!(is_key(one.as_bytes()) && one != other && one.len() <= 55, "{} bytes", one.len());
        for bad in [&b""[..], b"a b", b"a\n", b"\xc3\xa9", &[b'x'; MAX_KEY + 1]] {
            assert!(!is_key(bad), "{bad:?}");
        }
    }
}
