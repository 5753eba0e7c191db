//! From another broker's packets to what the intake reads. Pure.

use std::sync::Arc;

use bytes::Bytes;
use rumqttc::{QoS, SubscribeReasonCode};

use crate::broker::{Origin, PACKET_BYTES, TopicFilter, TopicLimits, check_name};
use crate::hub::{Message, Properties, Qos};

/// No limit: a topic name that somebody enrolled must not be lost for being long.
const ANY_NAME: TopicLimits = TopicLimits {
    bytes: usize::MAX,
    levels: usize::MAX,
};

/// A message, and how it came to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) message: Message,
    pub(super) origin: Origin,
    /// The payload was larger than anybody reads; the rest is gone.
    pub(super) cut: bool,
}

/// Reads a PUBLISH; none where its topic is no name, and nobody could have enrolled it.
pub(super) fn heard(publish: &rumqttc::Publish) -> Option<Heard> {
    check_name(&publish.topic, ANY_NAME).ok()?;
    let cut = publish.payload.len() > PACKET_BYTES;
    let payload = if cut {
        // A copy, lest the rest stay in memory with it.
        Bytes::copy_from_slice(&publish.payload[..PACKET_BYTES])
    } else {
        publish.payload.clone()
    };
    let message = Message {
        topic: Arc::from(publish.topic.as_str()),
        payload,
        qos: match publish.qos {
            QoS::AtMostOnce => Qos::AtMostOnce,
            QoS::AtLeastOnce => Qos::AtLeastOnce,
            QoS::ExactlyOnce => Qos::ExactlyOnce,
        },
        retain: publish.retain,
        properties: Properties::default(),
    };
    let origin = if publish.retain {
        Origin::Kept
    } else {
        Origin::Live
    };
    Some(Heard {
        message,
        origin,
        cut,
    })
}

/// The filters that were not granted as asked, with what is wrong.
pub(super) fn refused(asked: &[TopicFilter], codes: &[SubscribeReasonCode]) -> Vec<String> {
    let mut refused = Vec::new();
    for (index, filter) in asked.iter().enumerate() {
        match codes.get(index) {
            Some(SubscribeReasonCode::Success(QoS::AtLeastOnce | QoS::ExactlyOnce)) => {}
            Some(SubscribeReasonCode::Success(QoS::AtMostOnce)) => {
                refused.push(format!("{filter} (at QoS 0 only)"));
            }
            Some(SubscribeReasonCode::Failure) | None => refused.push(filter.to_string()),
        }
    }
    refused
}

/// Whether nothing at all was granted.
pub(super) fn is_deaf(codes: &[SubscribeReasonCode]) -> bool {
    let granted = |code: &SubscribeReasonCode| match code {
        SubscribeReasonCode::Success(_) => true,
        SubscribeReasonCode::Failure => false,
    };
    !codes.iter().any(granted)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn publish(topic: &str, size: usize, retain: bool) -> rumqttc::Publish {
        let mut publish = rumqttc::Publish::new(topic, QoS::AtLeastOnce, vec![b'x'; size]);
        publish.retain = retain;
        publish
    }

    #[test]
    fn a_retained_copy_is_known_as_one() {
        let live = heard(&publish("a", 1, false)).unwrap();
        assert_eq!((live.origin, live.message.retain), (Origin::Live, false));
        let kept = heard(&publish("a", 1, true)).unwrap();
        assert_eq!((kept.origin, kept.message.retain), (Origin::Kept, true));
    }

    #[test]
    fn what_is_too_large_is_cut_and_what_is_no_topic_is_left_out() {
        let whole = heard(&publish("a", PACKET_BYTES, false)).unwrap();
        assert!(!whole.cut);
        let large = heard(&publish("a", PACKET_BYTES + 1, false)).unwrap();
        assert_eq!(
            (large.cut, large.message.payload.len()),
            (true, PACKET_BYTES)
        );
        for none in ["", "a/+", "#", "a\0"] {
            assert_eq!(heard(&publish(none, 1, false)), None);
        }
        let deep = "a/".repeat(400);
        assert!(heard(&publish(&deep, 1, false)).is_some());
    }

    #[test]
    fn filters_that_were_not_granted_as_asked_are_named() {
        let asked: Vec<_> = ["a", "b/#", "c", "d"]
            .map(|f| TopicFilter::parse(f).unwrap())
            .into();
        let granted = SubscribeReasonCode::Success;
        let codes = [
            granted(QoS::AtLeastOnce),
            SubscribeReasonCode::Failure,
            granted(QoS::AtMostOnce),
        ];
        let wrong = refused(&asked, &codes);
        assert_eq!(wrong, ["b/#", "c (at QoS 0 only)", "d"]);
        assert!(!is_deaf(&codes));
        assert!(is_deaf(&[SubscribeReasonCode::Failure]) && is_deaf(&[]));
    }
}
