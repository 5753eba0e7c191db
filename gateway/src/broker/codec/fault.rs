//! What can be wrong with the bytes of a packet, and the MQTT 5 code that says so.

use super::super::topic::{FilterFault, TopicFault};
use super::{Reason, Refused};

/// Why a packet is not taken. Each ends its connection and no other. Rule numbers are of MQTT 5 unless said
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::broker) enum Fault {
    /// Runs over four bytes, or on MQTT 5 takes more of them than needed (MQTT-1.5.5-1).
    #[error("variable byte integer is malformed")]
    VariableInteger,
    /// The frame claims more bytes than the limit. Found from the header alone.
    #[error("packet is too large")]
    Oversized,
    /// A packet type that a client may not send, or not at this point (MQTT-3.1.0-1, MQTT-3.1.0-2).
    #[error("packet type is not allowed here")]
    PacketType,
    /// Reserved bits of the first byte are wrong (MQTT-2.1.3-1).
    #[error("fixed header flags are wrong")]
    Flags,
    /// The packet ends inside a field.
    #[error("packet is too short for its fields")]
    Short,
    /// Bytes are left after the last field.
    #[error("packet is too long for its fields")]
    Leftover,
    /// Not UTF-8, or with U+0000 (MQTT-1.5.4-1, MQTT-1.5.4-2).
    #[error("text is malformed")]
    Text,
    /// Packet identifier zero (MQTT-2.2.1-3).
    #[error("packet identifier is zero")]
    PacketId,
    /// QoS 3 in a PUBLISH or a will (MQTT-3.3.1-4, MQTT-3.1.2-12).
    #[error("quality of service is 3")]
    Qos,
    /// DUP on QoS 0 (MQTT-3.3.1-2).
    #[error("DUP is set on QoS 0")]
    Duplicate,
    /// PUBLISH with neither topic name nor alias (section 3.3.2.1).
    #[error("neither topic nor alias")]
    NoTopic,
    /// Bad topic name in a PUBLISH or a will.
    #[error(transparent)]
    Topic(TopicFault),
    /// Response topic that is no topic name (MQTT-3.3.2-14).
    #[error("response topic: {0}")]
    ResponseTopic(TopicFault),
    /// Topic alias zero (MQTT-3.3.2-8).
    #[error("topic alias is zero")]
    TopicAlias,
    /// Subscription identifier in a PUBLISH of a client (MQTT-3.3.4-6).
    #[error("client publishes with a subscription identifier")]
    SubscriptionIdentifier,
    /// SUBSCRIBE or UNSUBSCRIBE without a filter (MQTT-3.8.3-2, MQTT-3.10.3-2).
    #[error("no topic filter")]
    NoFilters,
    /// Bad topic filter in a SUBSCRIBE or an UNSUBSCRIBE.
    #[error(transparent)]
    Filter(FilterFault),
    /// `$share/` not followed by a share name, `/` and a filter (MQTT-4.8.2-1, MQTT-4.8.2-2).
    #[error("shared subscription is malformed")]
    SharedFilter,
    /// No Local on a shared subscription (MQTT-3.8.3-4).
    #[error("no-local is set on a shared subscription")]
    SharedNoLocal,
    /// Reserved bits of the subscription options (MQTT-3.8.3-5; 3.1.1: MQTT-3-8.3-4, with QoS 3).
    #[error("subscription options are malformed")]
    SubscriptionOptions,
    /// Maximum QoS 3 in the subscription options (section 3.8.3.1).
    #[error("subscription asks for QoS 3")]
    SubscriptionQos,
    /// Retain handling 3 (section 3.8.3.1).
    #[error("retain handling is 3")]
    RetainHandling,
    /// The first packet names another protocol than MQTT (MQTT-3.1.2-1).
    #[error("protocol name is not MQTT")]
    ProtocolName,
    /// Another protocol level than 4 (3.1.1) and 5 (MQTT-3.1.2-2).
    #[error("protocol level {0} is not supported")]
    Level(u8),
    /// Connect flags contradict each other (MQTT-3.1.2-3, -11, -13; 3.1.1: MQTT-3.1.2-22 too).
    #[error("connect flags contradict each other")]
    ConnectFlags,
    /// 3.1.1: an empty client id that wants its session kept (MQTT 3.1.1: MQTT-3.1.3-7, -8).
    #[error("client id is empty without clean session")]
    ClientId,
    /// Unknown, or not for this packet type (section 2.2.2.2).
    #[error("property {0:#04x} is not allowed here")]
    Property(u8),
    /// Given twice where once is allowed (section 2.2.2.2).
    #[error("property {0:#04x} is given twice")]
    PropertyTwice(u8),
    /// A value that its section forbids, such as a receive maximum of 0.
    #[error("property {0:#04x} has a forbidden value")]
    PropertyValue(u8),
    /// Authentication data without a method, or AUTH without one (sections 3.1.2.11.10 and 3.15.2.2.2).
    #[error("authentication method is missing")]
    AuthenticationMethod,
    /// Not one of the reason codes for this packet type (MQTT-3.4.2-1 and its like).
    #[error("reason code {0:#04x} is not allowed here")]
    ReasonCode(u8),
}

/// What the standard calls a fault, as far as its codes tell faults apart.
enum Kind {
    /// Cannot be parsed (section 1.2).
    Malformed,
    /// Can be parsed and must not be said (section 1.2).
    Protocol,
    TooLarge,
    TopicName,
    TopicAlias,
    Version,
    ClientId,
}

impl Fault {
    /// For the DISCONNECT that answers it.
    pub(in crate::broker) const fn reason(self) -> Reason {
        match self.kind() {
            Kind::Malformed => Reason::Malformed,
            // The last two come from CONNECT only, which is answered with `refusal`.
            Kind::Protocol | Kind::Version | Kind::ClientId => Reason::ProtocolError,
            Kind::TooLarge => Reason::PacketTooLarge,
            Kind::TopicName => Reason::TopicNameInvalid,
            Kind::TopicAlias => Reason::TopicAliasInvalid,
        }
    }

    /// For the CONNACK that answers it, when it is CONNECT that is at fault.
    pub(in crate::broker) const fn refusal(self) -> Refused {
        match self.kind() {
            Kind::Malformed => Refused::Malformed,
            // No alias in CONNECT.
            Kind::Protocol | Kind::TopicAlias => Refused::ProtocolError,
            Kind::TooLarge => Refused::PacketTooLarge,
            Kind::TopicName => Refused::TopicNameInvalid,
            Kind::Version => Refused::UnsupportedVersion,
            Kind::ClientId => Refused::ClientIdNotValid,
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::VariableInteger
            | Self::Flags
            | Self::Short
            | Self::Leftover
            | Self::Text
            | Self::Qos
            | Self::Filter(_)
            | Self::SharedFilter
            | Self::SubscriptionOptions
            | Self::ConnectFlags
            | Self::Property(_)
            | Self::ReasonCode(_) => Kind::Malformed,
            Self::PacketType
            | Self::PacketId
            | Self::Duplicate
            | Self::NoTopic
            | Self::SubscriptionIdentifier
            | Self::NoFilters
            | Self::SharedNoLocal
            | Self::SubscriptionQos
            | Self::RetainHandling
            | Self::PropertyTwice(_)
            | Self::PropertyValue(_)
            | Self::AuthenticationMethod => Kind::Protocol,
            Self::Oversized => Kind::TooLarge,
            Self::Topic(fault) | Self::ResponseTopic(fault) => match fault {
                // A text with it is malformed wherever it stands (MQTT-1.5.4-2).
                TopicFault::Nul => Kind::Malformed,
                TopicFault::Empty
                | TopicFault::Wildcard
                | TopicFault::TooLong
                | TopicFault::TooDeep => Kind::TopicName,
            },
            Self::TopicAlias => Kind::TopicAlias,
            Self::ProtocolName | Self::Level(_) => Kind::Version,
            Self::ClientId => Kind::ClientId,
        }
    }
}
