//! Digests under suite `s1` (SHA-256, HMAC-SHA-256): of signals, of journal bodies, of credentials.
//!
//! Owns the types that say what a 32-byte value is a digest of. Never holds a card number.

use std::fmt;

use ring::{digest, hmac};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The only suite shipped so far: SHA-256, Ed25519, AES-256-GCM (D9).
pub const SUITE: &str = "s1";

/// A SHA-256 value; lower-case hex in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The digest of the parts, one after the other.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        Self(out)
    }
}

/// A credential's number under the centre's key (D8): card numbers never rest anywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialDigest(pub [u8; 32]);

/// The key that hides a centre's card numbers.
#[derive(Clone)]
pub struct CredentialKey(hmac::Key);

impl CredentialKey {
    /// From the 32 bytes that ride in the centre's Config.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Hides one card number. Case, spaces and separators do not matter: `04:a1 b2` is `04A1B2`.
    #[must_use]
    pub fn hide(&self, number: &str) -> CredentialDigest {
        let plain: String = number
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let tag = hmac::sign(&self.0, plain.as_bytes());
        let mut out = [0; 32];
        out.copy_from_slice(tag.as_ref());
        CredentialDigest(out)
    }
}

impl fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialKey(..)")
    }
}

/// Lower-case hex of any bytes.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// Not an even number of hex digits, or not the expected length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the expected hex digits")]
pub struct NotHex;

/// Bytes of a hex text of either case.
///
/// # Errors
/// When a character is no hex digit or the count is odd.
pub fn from_hex(text: &str) -> Result<Vec<u8>, NotHex> {
    let nibble = |c: u8| {
        char::from(c)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return Err(NotHex);
    }
    bytes
        .chunks_exact(2)
        .map(|pair| match (nibble(pair[0]), nibble(pair[1])) {
            (Some(high), Some(low)) => Ok(high << 4 | low),
            (None, _) | (_, None) => Err(NotHex),
        })
        .collect()
}

/// Exactly 32 bytes of a hex text.
///
/// # Errors
/// When it is not 64 hex digits.
pub fn from_hex_32(text: &str) -> Result<[u8; 32], NotHex> {
    from_hex(text)?.try_into().map_err(|_| NotHex)
}

macro_rules! as_hex {
    ($($name:ident),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(input)?;
                from_hex_32(&text).map(Self).map_err(de::Error::custom)
            }
        }
    )+};
}

as_hex!(Sha256, CredentialDigest);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_the_standard_one() {
        assert_eq!(
            Sha256::of(&[b"a", b"bc"]).to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn one_card_has_one_digest_however_it_is_written() {
        let key = CredentialKey::new(&[7; 32]);
        assert_eq!(key.hide("04:a1:b2"), key.hide("04A1B2"));
        assert_ne!(key.hide("04A1B2"), key.hide("04A1B3"));
        assert_ne!(
            key.hide("04A1B2"),
            CredentialKey::new(&[8; 32]).hide("04A1B2")
        );
    }

    #[test]
    fn hex_reads_back_and_refuses_the_rest() {
        assert_eq!(from_hex(&to_hex(&[0, 255, 16])).unwrap(), [0, 255, 16]);
        for bad in ["0", "0g", "é1"] {
            assert_eq!(from_hex(bad), Err(NotHex));
        }
    }
}
