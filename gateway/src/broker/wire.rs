//! Between the protocol crate's packets and our own words, in both directions.
//!
//! The only module that names the crate. Owns the protocol state of one connection; never touches a socket
//! and takes only frames that [`super::frame`] has checked.

use std::num::NonZeroU16;

use bytes::{BufMut, Bytes, BytesMut};
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event};
use mqtt_protocol_core::mqtt::packet::{self, GenericPacketTrait, Packet, v3_1_1};
use mqtt_protocol_core::mqtt::result_code::{ConnectReturnCode, SubackReturnCode};
use mqtt_protocol_core::mqtt::{Connection, Version, role};

use super::{Limits, Qos};

/// What CONNECT asks for.
pub(super) struct Hello {
    pub(super) client_id: String,
    pub(super) clean_session: bool,
    /// Seconds; 0 = off.
    pub(super) keep_alive: u16,
    pub(super) username: Option<String>,
    pub(super) secret: Option<Vec<u8>>,
    pub(super) will: Option<Will>,
}

/// What to publish for a client that ends without DISCONNECT.
#[derive(Debug)]
pub(super) struct Will {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    pub(super) retain: bool,
}

/// A PUBLISH as it came in. A packet id means QoS 1.
pub(super) struct Arrival {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) packet_id: Option<NonZeroU16>,
    pub(super) retain: bool,
    pub(super) dup: bool,
}

/// A packet of the client.
pub(super) enum Incoming {
    Connect(Hello),
    Publish(Arrival),
    Subscribe { packet_id: u16, filters: usize },
    Unsubscribe { packet_id: u16 },
    Ping,
    Disconnect,
}

/// Answer to a CONNECT (MQTT 3.1.1 table 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectAnswer {
    Accepted,
    IdentifierRejected,
    ServerUnavailable,
    BadUserNameOrPassword,
    NotAuthorized,
}

/// The crate refused a frame or a packet of ours: the connection is beyond use.
#[derive(Debug, thiserror::Error)]
#[error("protocol state is broken")]
pub(super) struct Broken;

/// CONNACK that tells a client of another protocol level that only 3.1.1 is spoken here: return code 1
/// (MQTT-3.1.2-2), in MQTT 5 form from level 5 on (MQTT 5 section 3.2.2.2, reason 0x84).
pub(super) const fn refuse_level(level: u8) -> &'static [u8] {
    if level >= 5 {
        &[0x20, 0x03, 0x00, 0x84, 0x00]
    } else {
        &[0x20, 0x02, 0x00, 0x01]
    }
}

/// Protocol state of one connection. A new one for each socket, never used again.
pub(super) struct Protocol(Connection<role::Server>);

impl Protocol {
    pub(super) fn new(limits: &Limits) -> Self {
        let largest = u32::try_from(limits.packet_bytes).unwrap_or(u32::MAX);
        let options = ConnectionOptions::new().maximum_packet_size_recv(largest);
        let mut connection = Connection::with_options(Version::V3_1_1, options);
        connection.set_auto_ping_response(true);
        Self(connection)
    }

    /// Takes one whole, checked frame. Writes what the protocol answers by itself to `output`.
    pub(super) fn receive(
        &mut self,
        frame: &[u8],
        output: &mut BytesMut,
    ) -> Result<Incoming, Broken> {
        let events = self.0.recv(&mut Cursor::new(frame));
        let mut incoming = None;
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => incoming = Some(read(packet)?),
                Event::RequestSendPacket { packet, .. } => write(&packet, output),
                Event::NotifyError(_) | Event::RequestClose => return Err(Broken),
                // Keep-alive is ours, and packet ids of the server's side are not in use.
                Event::RequestTimerReset { .. }
                | Event::RequestTimerCancel(_)
                | Event::NotifyPacketIdReleased(_) => {}
            }
        }
        incoming.ok_or(Broken)
    }

    pub(super) fn answer_connect(
        &mut self,
        answer: ConnectAnswer,
        output: &mut BytesMut,
    ) -> Result<(), Broken> {
        let code = match answer {
            ConnectAnswer::Accepted => ConnectReturnCode::Accepted,
            ConnectAnswer::IdentifierRejected => ConnectReturnCode::IdentifierRejected,
            ConnectAnswer::ServerUnavailable => ConnectReturnCode::ServerUnavailable,
            ConnectAnswer::BadUserNameOrPassword => ConnectReturnCode::BadUserNameOrPassword,
            ConnectAnswer::NotAuthorized => ConnectReturnCode::NotAuthorized,
        };
        let packet = v3_1_1::Connack::builder()
            .session_present(false)
            .return_code(code)
            .build();
        self.send(packet.map_err(|_| Broken)?.into(), output)
    }

    pub(super) fn acknowledge(
        &mut self,
        packet_id: NonZeroU16,
        output: &mut BytesMut,
    ) -> Result<(), Broken> {
        let packet = v3_1_1::Puback::builder().packet_id(packet_id.get()).build();
        self.send(packet.map_err(|_| Broken)?.into(), output)
    }

    /// Answers a SUBSCRIBE: failure for each filter, since nothing is handed out.
    pub(super) fn refuse_filters(
        &mut self,
        packet_id: u16,
        filters: usize,
        output: &mut BytesMut,
    ) -> Result<(), Broken> {
        let packet = v3_1_1::Suback::builder()
            .packet_id(packet_id)
            .return_codes(vec![SubackReturnCode::Failure; filters])
            .build();
        self.send(packet.map_err(|_| Broken)?.into(), output)
    }

    pub(super) fn confirm_unsubscribe(
        &mut self,
        packet_id: u16,
        output: &mut BytesMut,
    ) -> Result<(), Broken> {
        let packet = v3_1_1::Unsuback::builder().packet_id(packet_id).build();
        self.send(packet.map_err(|_| Broken)?.into(), output)
    }

    fn send(&mut self, packet: Packet, output: &mut BytesMut) -> Result<(), Broken> {
        for event in self.0.send(packet) {
            match event {
                Event::RequestSendPacket { packet, .. } => write(&packet, output),
                Event::NotifyError(_) => return Err(Broken),
                // Follows a refusing CONNACK, after which the caller closes anyway.
                Event::RequestClose
                | Event::NotifyPacketReceived(_)
                | Event::RequestTimerReset { .. }
                | Event::RequestTimerCancel(_)
                | Event::NotifyPacketIdReleased(_) => {}
            }
        }
        Ok(())
    }
}

fn write(packet: &Packet, output: &mut BytesMut) {
    for part in packet.to_buffers() {
        output.put_slice(&part);
    }
}

/// Other packets than these do not pass the frame check.
fn read(packet: Packet) -> Result<Incoming, Broken> {
    if let Packet::V3_1_1Publish(publish) = packet {
        Ok(Incoming::Publish(read_publish(&publish)?))
    } else if let Packet::V3_1_1Pingreq(_) = packet {
        Ok(Incoming::Ping)
    } else if let Packet::V3_1_1Connect(connect) = packet {
        Ok(Incoming::Connect(read_connect(&connect)))
    } else if let Packet::V3_1_1Subscribe(subscribe) = packet {
        Ok(Incoming::Subscribe {
            packet_id: subscribe.packet_id(),
            filters: subscribe.entries().len(),
        })
    } else if let Packet::V3_1_1Unsubscribe(unsubscribe) = packet {
        Ok(Incoming::Unsubscribe {
            packet_id: unsubscribe.packet_id(),
        })
    } else if let Packet::V3_1_1Disconnect(_) = packet {
        Ok(Incoming::Disconnect)
    } else {
        Err(Broken)
    }
}

fn read_publish(publish: &v3_1_1::Publish) -> Result<Arrival, Broken> {
    let packet_id = match publish.qos() {
        packet::Qos::AtMostOnce => None,
        packet::Qos::AtLeastOnce => Some(
            publish
                .packet_id()
                .and_then(NonZeroU16::new)
                .ok_or(Broken)?,
        ),
        packet::Qos::ExactlyOnce => return Err(Broken),
    };
    Ok(Arrival {
        topic: publish.topic_name().to_owned(),
        payload: Bytes::copy_from_slice(publish.payload().as_slice()),
        packet_id,
        retain: publish.retain(),
        dup: publish.dup(),
    })
}

fn read_connect(connect: &v3_1_1::Connect) -> Hello {
    let will = connect.will_topic().map(|topic| Will {
        topic: topic.to_owned(),
        payload: Bytes::copy_from_slice(connect.will_payload().unwrap_or_default()),
        qos: match connect.will_qos() {
            packet::Qos::AtMostOnce => Qos::AtMostOnce,
            packet::Qos::AtLeastOnce | packet::Qos::ExactlyOnce => Qos::AtLeastOnce,
        },
        retain: connect.will_retain(),
    });
    Hello {
        client_id: connect.client_id().to_owned(),
        clean_session: connect.clean_session(),
        keep_alive: connect.keep_alive(),
        username: connect.user_name().map(str::to_owned),
        secret: connect.password().map(<[u8]>::to_vec),
        will,
    }
}
