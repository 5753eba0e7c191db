//! The codes we answer with, one enum for each place where the standard allows a different set of them.
//!
//! Owns the numbers of both versions. Decides nothing about when to say which.

use super::Qos;

/// Why we end a connection (MQTT 5 section 3.14.2.1: those that a server may send).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::broker) enum Reason {
    Malformed = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecific = 0x83,
    ServerShuttingDown = 0x8B,
    KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E,
    TopicNameInvalid = 0x90,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    AdministrativeAction = 0x98,
}

/// Why a CONNECT is refused (MQTT 5 section 3.2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::broker) enum Refused {
    Malformed = 0x81,
    ProtocolError = 0x82,
    UnsupportedVersion = 0x84,
    ClientIdNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    BadAuthenticationMethod = 0x8C,
    TopicNameInvalid = 0x90,
    PacketTooLarge = 0x95,
}

impl Refused {
    /// Return code of 3.1.1 (table 3.1). None where that version closes without CONNACK (section 3.2.2.3:
    /// only a well-formed CONNECT is answered).
    pub(super) const fn return_code(self) -> Option<u8> {
        match self {
            Self::UnsupportedVersion => Some(1),
            Self::ClientIdNotValid => Some(2),
            Self::ServerUnavailable => Some(3),
            Self::BadUserNameOrPassword => Some(4),
            Self::NotAuthorized | Self::BadAuthenticationMethod => Some(5),
            Self::Malformed
            | Self::ProtocolError
            | Self::TopicNameInvalid
            | Self::PacketTooLarge => None,
        }
    }
}

/// What becomes of a PUBLISH of QoS 1 or 2 (MQTT 5 sections 3.4.2.1 and 3.5.2.1). From 0x80 on the client
/// must not send it again; 3.1.1 has no word for that and takes every answer for a yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::broker) enum PublishAnswer {
    Success = 0x00,
    NotAuthorized = 0x87,
}

/// Second half of QoS 2 (MQTT 5 sections 3.6.2.1 and 3.7.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::broker) enum ReleaseAnswer {
    Success = 0x00,
    PacketIdNotFound = 0x92,
}

/// Answer to one filter of a SUBSCRIBE (MQTT 5 section 3.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Granted {
    Qos(Qos),
    NotAuthorized,
    QuotaExceeded,
}

impl Granted {
    /// Code of MQTT 5. 3.1.1 knows 0x80 for every failure.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Qos(qos) => qos as u8,
            Self::NotAuthorized => 0x87,
            Self::QuotaExceeded => 0x97,
        }
    }
}

/// Answer to one filter of an UNSUBSCRIBE (MQTT 5 section 3.11.3). Not said on 3.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::broker) enum Unsubscribed {
    Success = 0x00,
    NoSubscriptionExisted = 0x11,
}
