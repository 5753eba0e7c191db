//! Who may log in and what they may publish: one immutable table, swapped whole.
//!
//! Owns the credentials' digests. Never sees a socket and never keeps a secret that was presented.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use ring::{digest, hmac};

use super::topic::TopicFilter;

/// One log-in for a device or a bridge.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The MQTT user name.
    pub username: String,
    /// SHA-256 of the secret. Secrets are 128 random bits of our making (decisions.md D10), so a plain
    /// digest is enough and 200 devices can log in at once after a power cut.
    pub secret_sha256: [u8; 32],
    /// A life-safety role stands behind it: it may use the reserved connection slots (decisions.md D3).
    pub reserved: bool,
    /// Topics it may publish and subscribe to, its will included, but for [`Self::never`]. None listed means none allowed.
    pub publish: Vec<TopicFilter>,
    /// Topics that are the box's own to publish to, whatever the filters say: what sirens, lamps and locks obey.
    pub never: Arc<HashSet<String>>,
}

impl Credential {
    /// Says whether this credential may publish to `topic`.
    #[must_use]
    pub fn may_publish(&self, topic: &str) -> bool {
        self.publish.iter().any(|filter| filter.matches(topic)) && !self.never.contains(topic)
    }

    /// Says whether every topic under `filter`, a well-formed one, is one of this credential's.
    #[must_use]
    pub fn may_subscribe(&self, filter: &str) -> bool {
        self.publish.iter().any(|own| own.covers(filter))
    }
}

/// Leaves the digest out: it must not reach a log.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("username", &self.username)
            .field("reserved", &self.reserved)
            .field("publish", &self.publish)
            .finish_non_exhaustive()
    }
}

/// All credentials of the box. Built by collecting [`Credential`]s; of two with one user name the later wins.
#[derive(Clone, Debug, Default)]
pub struct Access {
    by_username: HashMap<String, Arc<Credential>>,
}

impl FromIterator<Credential> for Access {
    fn from_iter<I: IntoIterator<Item = Credential>>(credentials: I) -> Self {
        let by_username = credentials
            .into_iter()
            .map(|credential| (credential.username.clone(), Arc::new(credential)))
            .collect();
        Self { by_username }
    }
}

/// Why a log-in is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LoginFault {
    /// No user name given, or none of ours.
    #[error("unknown user")]
    UnknownUser,
    /// The user exists and the secret is missing or is not theirs.
    #[error("wrong secret")]
    WrongSecret,
}

impl Access {
    /// The credential of this user name.
    #[must_use]
    pub fn get(&self, username: &str) -> Option<&Arc<Credential>> {
        self.by_username.get(username)
    }

    /// Checks a user name and the secret presented with it, without a data-dependent compare.
    pub(super) fn log_in(
        &self,
        username: Option<&str>,
        secret: Option<&[u8]>,
    ) -> Result<Arc<Credential>, LoginFault> {
        let credential = username
            .and_then(|name| self.get(name))
            .ok_or(LoginFault::UnknownUser)?;
        let secret = secret.ok_or(LoginFault::WrongSecret)?;
        if digest_is(&credential.secret_sha256, secret) {
            Ok(Arc::clone(credential))
        } else {
            Err(LoginFault::WrongSecret)
        }
    }
}

/// Compares in constant time. `ring` offers its compare only inside a MAC check, so both digests go through
/// one; the key is no secret and only separates this use.
fn digest_is(expected: &[u8; 32], secret: &[u8]) -> bool {
    let presented = digest::digest(&digest::SHA256, secret);
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"antuo broker log-in");
    let tag = hmac::sign(&key, presented.as_ref());
    hmac::verify(&key, expected, tag.as_ref()).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn credential(username: &str, secret: &[u8], publish: &[&str]) -> Credential {
        Credential {
            username: username.to_owned(),
            secret_sha256: digest::digest(&digest::SHA256, secret)
                .as_ref()
                .try_into()
                .unwrap(),
            reserved: false,
            publish: publish
                .iter()
                .map(|f| TopicFilter::parse(f).unwrap())
                .collect(),
            never: Arc::default(),
        }
    }

    #[test]
    fn only_the_right_secret_of_a_known_user_logs_in() {
        let access: Access = [
            credential("btn", b"s3", &[]),
            credential("door", b"s4", &[]),
        ]
        .into_iter()
        .collect();
        let outcome = |user, secret| access.log_in(user, secret).map(|c| c.username.clone());
        assert_eq!(outcome(Some("btn"), Some(b"s3")), Ok("btn".to_owned()));
        assert_eq!(
            outcome(Some("btn"), Some(b"s4")),
            Err(LoginFault::WrongSecret)
        );
        assert_eq!(
            outcome(Some("btn"), Some(b"")),
            Err(LoginFault::WrongSecret)
        );
        assert_eq!(outcome(Some("btn"), None), Err(LoginFault::WrongSecret));
        assert_eq!(
            outcome(Some("BTN"), Some(b"s3")),
            Err(LoginFault::UnknownUser)
        );
        assert_eq!(outcome(None, Some(b"s3")), Err(LoginFault::UnknownUser));
    }

    #[test]
    fn a_digest_presented_as_the_secret_does_not_log_in() {
        let one = credential("btn", b"s3", &[]);
        let stolen = one.secret_sha256;
        let access: Access = [one].into_iter().collect();
        assert_eq!(
            access.log_in(Some("btn"), Some(&stolen)).err(),
            Some(LoginFault::WrongSecret)
        );
    }

    #[test]
    fn publishing_is_allowed_only_under_a_listed_filter() {
        let bridge = credential("z2m", b"x", &["zigbee2mqtt/#", "antuo/v1/+/button"]);
        assert!(bridge.may_publish("zigbee2mqtt/nap_smoke"));
        assert!(bridge.may_publish("antuo/v1/hall/button"));
        assert!(!bridge.may_publish("antuo/v1/hall/smoke"));
        assert!(!bridge.may_publish("zigbee2mqtt2/nap_smoke"));
        assert!(!credential("mute", b"x", &[]).may_publish("a"));
    }

    #[test]
    fn debug_output_shows_no_digest() {
        let mut one = credential("btn", b"s3", &[]);
        one.secret_sha256 = [0xAB; 32];
        let shown = format!("{one:?}");
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("ab, "));
        assert!(shown.contains("btn"));
    }
}
