//! What the cloud may change on the box: its Config, whole, signed, newer, and for this box.
//!
//! Pure. Owns the judgement and what follows for the MQTT server; applying it is for `intake`, which owns the
//! site.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::config::{Config, ConfigFault, Enrolment, MqttCredential};
use domain::digest::{SUITE, from_hex_32};
use domain::id::{CentreId, GatewayId, Username};
use domain::wire::SignedConfig;
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::adapter::{Wish, can_be_told, order};
use crate::broker::{Access, Credential, FilterFault, TopicFilter};

/// A Config that can be taken as it is.
#[derive(Debug)]
pub struct Checked {
    /// The Config.
    pub config: Arc<Config>,
    /// Who may speak on the MQTT server.
    pub access: Access,
}

/// What the box is and has.
#[derive(Clone, Debug)]
pub struct Present {
    /// The box.
    pub gateway: GatewayId,
    /// The key that signs Configs.
    pub signing: [u8; 32],
    /// Centre and version in force, if any.
    pub config: Option<(CentreId, u64)>,
}

/// Why a Config is not taken; the old one stays.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Signed in a way this program does not know.
    #[error("unknown signature suite")]
    UnknownSuite,
    /// Not signed by the deployment.
    #[error("the signature is not good")]
    BadSignature,
    /// The document is not usable.
    #[error(transparent)]
    Document(#[from] ConfigFault),
    /// For another box.
    #[error("it is for gateway {0}")]
    OtherGateway(GatewayId),
    /// For another centre: the state kept here belongs to the old one. A box that moves gets a new identity
    /// and an empty data directory.
    #[error("it is for centre {0}")]
    OtherCentre(CentreId),
    /// The very version in force.
    #[error("it is in force already")]
    InForce,
    /// Older than the one in force.
    #[error("it is older than version {0}, which is in force")]
    Older(u64),
    /// A secret's digest is none.
    #[error("the secret of user {0} is not 64 hex digits")]
    BadSecret(Username),
    /// A topic filter is none.
    #[error("a topic filter of user {0} is not one")]
    BadFilter(Username, #[source] FilterFault),
}

/// Judges a Config from the cloud.
///
/// # Errors
/// See [`Refusal`].
pub fn check(signed: &SignedConfig, present: &Present) -> Result<Checked, Refusal> {
    if signed.suite != SUITE {
        return Err(Refusal::UnknownSuite);
    }
    let document = signed.document.as_bytes();
    let signature = STANDARD
        .decode(&signed.signature)
        .map_err(|_| Refusal::BadSignature)?;
    UnparsedPublicKey::new(&ED25519, &present.signing)
        .verify(document, &signature)
        .map_err(|_| Refusal::BadSignature)?;
    let config = Config::read(document)?;
    if config.gateway != present.gateway {
        return Err(Refusal::OtherGateway(config.gateway));
    }
    if let Some((centre, version)) = present.config {
        if config.centre != centre {
            return Err(Refusal::OtherCentre(config.centre));
        }
        if config.version == version {
            return Err(Refusal::InForce);
        }
        if config.version < version {
            return Err(Refusal::Older(version));
        }
    }
    ready(config)
}

/// What follows from a Config that was checked before.
///
/// # Errors
/// When a log-in in it is unusable.
pub fn ready(config: Config) -> Result<Checked, Refusal> {
    let obeyed = Arc::new(obeyed(&config));
    let credentials = config.mqtt_credentials.iter();
    let access = credentials
        .map(|credential| log_in(&config, credential, &obeyed))
        .collect::<Result<Access, _>>()?;
    Ok(Checked {
        config: Arc::new(config),
        access,
    })
}

/// The version a document claims, for telling which one was refused; 0 when it claims none.
#[must_use]
pub fn claimed_version(signed: &SignedConfig) -> u64 {
    #[derive(serde::Deserialize)]
    struct Claim {
        version: u64,
    }
    serde_json::from_str(&signed.document).map_or(0, |claim: Claim| claim.version)
}

/// A log-in has the reserved slots when an enrolment it may speak for has a life-safety role (D3).
fn log_in(
    config: &Config,
    credential: &MqttCredential,
    obeyed: &Arc<HashSet<String>>,
) -> Result<Credential, Refusal> {
    let username = &credential.username;
    let secret_sha256 =
        from_hex_32(&credential.secret_sha256).map_err(|_| Refusal::BadSecret(username.clone()))?;
    let filters = credential.publish.iter().map(|text| {
        TopicFilter::parse(text).map_err(|fault| Refusal::BadFilter(username.clone(), fault))
    });
    let publish = filters.collect::<Result<Vec<_>, _>>()?;
    let speaks_for = |address: &str| publish.iter().any(|filter| filter.matches(address));
    let reserved = config
        .enrolments
        .iter()
        .any(|enrolment| enrolment.role.is_life_safety() && speaks_for(&enrolment.address));
    Ok(Credential {
        username: username.as_str().to_owned(),
        secret_sha256,
        reserved,
        publish,
        never: Arc::clone(obeyed),
    })
}

/// The topics on which sirens, lamps and locks are told what to do: only the box may.
fn obeyed(config: &Config) -> HashSet<String> {
    let topics = |enrolment: &Enrolment| {
        let wishes = Wish::ALL
            .into_iter()
            .filter(|wish| can_be_told(enrolment, *wish));
        let orders = wishes.filter_map(|wish| order(enrolment, wish, ""));
        orders.map(|order| order.topic).collect::<Vec<_>>()
    };
    config.enrolments.iter().flat_map(topics).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::testing::{GATEWAY, Signer, config, enrolment};
    use domain::config::Role;

    fn present(signer: &Signer, version: u64) -> Present {
        Present {
            gateway: GATEWAY,
            signing: signer.public(),
            config: (version > 0).then_some((config(1).centre, version)),
        }
    }

    #[test]
    fn a_newer_signed_config_for_this_box_is_taken() {
        let signer = Signer::new();
        let signed = signer.sign(&config(3));
        for version in [0, 2] {
            let checked = check(&signed, &present(&signer, version)).unwrap();
            assert_eq!(checked.config.version, 3);
        }
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let signer = Signer::new();
        let here = present(&signer, 3);
        let refusal = |signed: &SignedConfig| check(signed, &here).unwrap_err();
        let good = signer.sign(&config(4));
        let mut other = config(4);
        other.gateway = GatewayId(uuid::Uuid::from_u128(99));
        assert!(matches!(
            refusal(&signer.sign(&other)),
            Refusal::OtherGateway(_)
        ));
        let mut other = config(4);
        other.centre = CentreId(uuid::Uuid::from_u128(99));
        assert!(matches!(
            refusal(&signer.sign(&other)),
            Refusal::OtherCentre(_)
        ));
        assert!(matches!(
            refusal(&signer.sign(&config(3))),
            Refusal::InForce
        ));
        assert!(matches!(
            refusal(&signer.sign(&config(2))),
            Refusal::Older(3)
        ));
        let forged = Signer::new().sign(&config(4));
        assert!(matches!(refusal(&forged), Refusal::BadSignature));
        let mut touched = good.clone();
        touched.document.push(' ');
        assert!(matches!(refusal(&touched), Refusal::BadSignature));
        let mut unknown = good;
        unknown.suite = "s2".into();
        assert!(matches!(refusal(&unknown), Refusal::UnknownSuite));
        let nonsense = signer.sign_text("[]");
        assert!(matches!(refusal(&nonsense), Refusal::Document(_)));
        assert_eq!(claimed_version(&nonsense), 0);
        assert_eq!(claimed_version(&signer.sign(&config(9))), 9);
    }

    #[test]
    fn an_unusable_log_in_refuses_the_whole() {
        let signer = Signer::new();
        let refusal = |spoil: fn(&mut MqttCredential)| {
            let mut spoilt = config(4);
            spoil(&mut spoilt.mqtt_credentials[0]);
            check(&signer.sign(&spoilt), &present(&signer, 3)).unwrap_err()
        };
        let secret = refusal(|c| c.secret_sha256 = "12".into());
        assert!(matches!(secret, Refusal::BadSecret(_)));
        let filter = refusal(|c| c.publish = vec!["a/#/b".into()]);
        assert!(matches!(filter, Refusal::BadFilter(..)));
    }

    #[test]
    fn only_the_box_tells_a_lock_what_to_do() {
        let mut config = config(1);
        config.enrolments = vec![enrolment("lock", "antuo/v1/lock/x", Role::Lock)];
        config.mqtt_credentials = vec![crate::testing::credential("lock", "antuo/#")];
        let access = ready(config).unwrap().access;
        let lock = access.get("lock").unwrap();
        assert!(lock.may_publish("antuo/v1/lock/x"));
        assert!(!lock.may_publish("antuo/v1/lock/x/set"));
        assert!(lock.may_subscribe("antuo/v1/lock/x/set"));
    }

    #[test]
    fn the_reserve_is_for_log_ins_that_speak_for_life_safety() {
        let mut config = config(1);
        config.enrolments = vec![
            enrolment("btn", "antuo/v1/btn/button", Role::PanicButton),
            enrolment("door", "antuo/v1/door/contact", Role::Door),
        ];
        config.mqtt_credentials = [
            ("btn", "antuo/v1/btn/#"),
            ("door", "antuo/v1/door/#"),
            ("all", "antuo/#"),
        ]
        .map(|(user, filter)| crate::testing::credential(user, filter))
        .to_vec();
        let access = ready(config).unwrap().access;
        let reserved = |user| access.get(user).unwrap().reserved;
        assert_eq!(
            (reserved("btn"), reserved("door"), reserved("all")),
            (true, false, true)
        );
    }
}
