//! Sealing of what must not rest in clear: names and the centres' card keys (AES-256-GCM, suite `s1`).
//!
//! A sealed value names its suite and key, and is bound to the row it belongs to, so it opens nowhere
//! else. Owns the keys; never decides who may open what.

use std::path::Path;

use ambient::{Entropy, NoEntropy};
use domain::digest::{SUITE, Sha256, from_hex_32, to_hex};
use domain::id::{CentreId, ChildId, PersonId};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::{KeyError, read_text};

/// Bytes of a key's name: the head of SHA-256 over the key.
const KEY_ID_LEN: usize = 4;

/// What a sealed value belongs to; part of what is authenticated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sealed {
    /// A person's name.
    Person(PersonId),
    /// A child's names.
    Child(ChildId),
    /// What a person is called on the pages of boxes.
    BoxName(PersonId),
    /// The key that hides a centre's card numbers.
    CardKey(CentreId),
}

impl Sealed {
    fn context(self) -> String {
        match self {
            Self::Person(id) => format!("person:{id}"),
            Self::Child(id) => format!("child:{id}"),
            Self::BoxName(id) => format!("box-name:{id}"),
            Self::CardKey(id) => format!("card-key:{id}"),
        }
    }
}

/// Why a value cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No randomness for a nonce.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The cipher refused.
    #[error("cannot be sealed")]
    Refused,
}

/// Why a sealed value cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not a sealed value of a suite we know.
    #[error("not a sealed value of suite {SUITE}")]
    NotSealed,
    /// Its key is not in the file.
    #[error("sealed with key {0}, which the key file does not hold")]
    NoKey(String),
    /// Altered, or moved from another row.
    #[error("altered, or not of this row")]
    Altered,
}

/// The keys that open; the last one seals.
pub struct SealingKeys {
    keys: Vec<([u8; KEY_ID_LEN], LessSafeKey)>,
}

impl SealingKeys {
    /// The content of a new key file.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn make(entropy: &Entropy) -> Result<String, NoEntropy> {
        Ok(to_hex(&entropy.bytes::<32>()?) + "\n")
    }

    /// Reads the key file.
    ///
    /// # Errors
    /// When it cannot be read or holds no key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::of_text(&read_text(path)?).ok_or_else(|| KeyError::Unreadable {
            path: path.to_owned(),
            wanted: "one or more lines of 64 hex digits",
        })
    }

    fn of_text(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys = lines.map(|line| {
            let bytes = from_hex_32(line).ok()?;
            let mut id = [0; KEY_ID_LEN];
            id.copy_from_slice(&Sha256::of(&[&bytes]).0[..KEY_ID_LEN]);
            let key = UnboundKey::new(&AES_256_GCM, &bytes).ok()?;
            Some((id, LessSafeKey::new(key)))
        });
        let keys = keys.collect::<Option<Vec<_>>>()?;
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// Seals a value for one row: suite, ':', key name, nonce, ciphertext with tag.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn seal(&self, entropy: &Entropy, of: Sealed, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let (id, key) = self.keys.last().ok_or(SealError::Refused)?;
        let nonce = entropy.bytes::<NONCE_LEN>()?;
        let head = head(*id);
        let mut body = plain.to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from([&head[..], of.context().as_bytes()].concat()),
            &mut body,
        )
        .map_err(|_| SealError::Refused)?;
        Ok([&head[..], &nonce, &body].concat())
    }

    /// Opens a value of one row.
    ///
    /// # Errors
    /// Names why; never tells the content.
    pub fn open(&self, of: Sealed, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let rest = sealed
            .strip_prefix(SUITE.as_bytes())
            .and_then(|rest| rest.strip_prefix(b":"))
            .ok_or(OpenError::NotSealed)?;
        let (id, rest) = rest
            .split_first_chunk::<KEY_ID_LEN>()
            .ok_or(OpenError::NotSealed)?;
        let (nonce, body) = rest
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(OpenError::NotSealed)?;
        let known = self.keys.iter().find(|(known, _)| known == id);
        let (_, key) = known.ok_or_else(|| OpenError::NoKey(to_hex(id)))?;
        let mut body = body.to_vec();
        let plain = key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from([&head(*id)[..], of.context().as_bytes()].concat()),
                &mut body,
            )
            .map_err(|_| OpenError::Altered)?;
        Ok(plain.to_vec())
    }
}

fn head(id: [u8; KEY_ID_LEN]) -> Vec<u8> {
    [SUITE.as_bytes(), b":", &id].concat()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LI: Sealed = Sealed::Person(PersonId(uuid::Uuid::from_u128(1)));

    fn keys(numbers: &[u8]) -> SealingKeys {
        let lines = numbers.iter().map(|n| to_hex(&[*n; 32]) + "\n");
        SealingKeys::of_text(&lines.collect::<String>()).unwrap()
    }

    #[test]
    fn a_value_opens_in_its_own_row_only_and_names_suite_and_key() {
        let keys = keys(&[1]);
        let sealed = keys.seal(&Entropy::seeded(1), LI, "李".as_bytes()).unwrap();
        assert!(sealed.starts_with(b"s1:"));
        assert_eq!(keys.open(LI, &sealed).unwrap(), "李".as_bytes());
        let other = Sealed::Child(ChildId(uuid::Uuid::from_u128(1)));
        assert_eq!(keys.open(other, &sealed), Err(OpenError::Altered));
        for i in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[i] ^= 1;
            assert!(keys.open(LI, &bent).is_err(), "byte {i}");
            assert!(keys.open(LI, &sealed[..i]).is_err(), "cut at {i}");
        }
    }

    #[test]
    fn a_new_key_seals_and_the_old_one_still_opens() {
        let entropy = Entropy::seeded(1);
        let old = keys(&[1]).seal(&entropy, LI, b"x").unwrap();
        let both = keys(&[1, 2]);
        assert_eq!(both.open(LI, &old).unwrap(), b"x");
        let new = both.seal(&entropy, LI, b"x").unwrap();
        assert_eq!(keys(&[2]).open(LI, &new).unwrap(), b"x");
        assert!(matches!(
            keys(&[1]).open(LI, &new),
            Err(OpenError::NoKey(_))
        ));
    }

    #[test]
    fn a_file_without_a_whole_key_is_refused() {
        for bad in ["", "\n", "00", "zz"] {
            assert!(SealingKeys::of_text(bad).is_none(), "{bad:?}");
        }
    }
}
