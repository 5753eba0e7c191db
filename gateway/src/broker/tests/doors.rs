//! TLS and WebSocket: the same broker behind every door, and what comes of those who do not get through.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use tokio_tungstenite::WebSocketStream;

use super::super::frames::{self, Frames};
use super::super::line::{Line, drain};
use super::stranger::{self, Stream};
use super::*;

/// A client over each door, logged in.
async fn behind_every_door(bench: &Bench) -> Vec<Raw<Box<dyn Stream>>> {
    let mut clients: Vec<Raw<Box<dyn Stream>>> = vec![
        Raw(Box::new(bench.tcp().await)),
        Raw(Box::new(bench.tls().await)),
        Raw(Box::new(Frames::new(bench.websocket().await))),
        Raw(Box::new(Frames::new(bench.websocket_tls().await))),
    ];
    for (number, client) in clients.iter_mut().enumerate() {
        let connect = Connect::new("btn", &format!("client {number}"));
        client.send(&connect.bytes()).await;
        client.expect(&CONNACK_OK).await;
    }
    clients
}

#[tokio::test]
async fn behind_every_door_an_acknowledgement_waits_for_the_disk() {
    let mut bench = Bench::start(Limits::default()).await;
    for mut client in behind_every_door(&bench).await {
        let mut sent = publish("btn/hall", 1, b"pressed");
        sent.extend(PINGREQ);
        client.send(&sent).await;
        let pressed = bench.publish().await;
        client.expect(&PINGRESP).await;
        pressed.ack.committed();
        client.expect(&puback(1)).await;
        client
            .send(&publish("btn/hall", 2, b"the disk is gone"))
            .await;
        bench.publish().await.ack.failed();
        client.expect_close().await;
    }
    bench.closed(CloseReason::CommitFailed, 4).await;
    bench.open_sockets(0).await;
}

#[tokio::test]
async fn clients_behind_all_doors_hear_each_other_whole() {
    let mut bench = Bench::start(Limits::default()).await;
    let committing = bench.commit_all();
    let mut clients = behind_every_door(&bench).await;
    for client in &mut clients {
        let mut filter = vec![0, 1];
        filter.extend(text("btn/#"));
        filter.push(0);
        client.send(&packet(0x82, &filter)).await;
        client.expect(&[0x90, 3, 0, 1, 0]).await;
    }
    // More than one message, one TLS record and one socket buffer of ours at a time.
    let body = vec![0x5A; 200_000];
    for number in 0..clients.len() {
        let message = publish_qos0("btn/hall", &body);
        clients[number].send(&message).await;
        for client in &mut clients {
            client.expect(&message).await;
        }
    }
    bench.shutdown.send_replace(true);
    for client in &mut clients {
        client.expect_close().await;
    }
    timeout(HANG, bench.served).await.unwrap().unwrap();
    committing.abort();
}

#[tokio::test]
async fn what_is_no_handshake_is_counted_and_closed() {
    let bench = Bench::start(Limits::default()).await;
    let connect = Connect::new("btn", "c").bytes();
    let get = |path: &str, more: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: box\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        )
        .into_bytes()
    };
    let mqtt = "Sec-WebSocket-Protocol: mqtt\r\n";
    let mut noise = Seeded(7);
    for said in [&connect, &get("/mqtt", mqtt), &noise.bytes(300)] {
        let mut stranger = Raw(TcpStream::connect(bench.doors.tls[0]).await.unwrap());
        stranger.send(said).await;
        let answer = stranger.rest().await;
        // Nothing, or an alert (record type 21).
        assert!(answer.first().is_none_or(|first| *first == 21));
    }
    bench.closed(CloseReason::Refused, 3).await;
    assert_eq!(bench.refused(Refusal::Tls), 3);
    for (said, status) in [
        (connect.clone(), ""),
        (noise.bytes(300), ""),
        (b"GET /mqtt HTTP/1.1\r\nHost: box\r\n\r\n".to_vec(), ""),
        (get("/", mqtt), "HTTP/1.1 404"),
        (get("/mqtt/x", mqtt), "HTTP/1.1 404"),
        (get("/mqtt", ""), "HTTP/1.1 400"),
        (
            get("/mqtt", "Sec-WebSocket-Protocol: mqttv3.1\r\n"),
            "HTTP/1.1 400",
        ),
    ] {
        let mut stranger = Raw(TcpStream::connect(bench.doors.websocket[0]).await.unwrap());
        stranger.send(&said).await;
        let answer = stranger.rest().await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(status), "{answer}");
        assert_eq!(answer.is_empty(), status.is_empty(), "{answer}");
    }
    bench.closed(CloseReason::Refused, 10).await;
    assert_eq!(bench.refused(Refusal::WebSocket), 7);
    // One offer of several will do, and the answer names it.
    let mut guest = Raw(TcpStream::connect(bench.doors.websocket[0]).await.unwrap());
    let offers = "Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n";
    guest.send(&get("/mqtt?x=1", offers)).await;
    guest.0.shutdown().await.unwrap();
    let answer = String::from_utf8(guest.rest().await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let chosen = "sec-websocket-protocol: mqtt\r\n";
    assert!(answer.contains(chosen), "{answer}");
    bench.closed(CloseReason::PeerClosed, 1).await;
}

/// Whoever stops on the way has as long as a plain client has for its CONNECT, all in all.
#[tokio::test]
async fn a_slow_handshake_is_closed_in_time() {
    let limits = Limits {
        connect_deadline: Duration::from_millis(150),
        ..Limits::default()
    };
    let bench = Bench::start(limits).await;
    let mut slow = Vec::new();
    for (door, said) in [
        (bench.doors.tls[0], &[0x16, 3, 1, 0, 200, 1][..]),
        (bench.doors.websocket[0], b"GET /mqtt HTTP/1.1\r\nHost:"),
        (bench.doors.websocket_tls[0], &[]),
    ] {
        let mut stranger = Raw(TcpStream::connect(door).await.unwrap());
        stranger.send(said).await;
        slow.push(stranger);
    }
    let mut silent = bench.websocket_tls().await;
    for stranger in &mut slow {
        stranger.expect_close().await;
    }
    while let Ok(Some(Ok(_))) = timeout(HANG, silent.next()).await {}
    bench.closed(CloseReason::ConnectTimeout, 4).await;
}

#[tokio::test]
async fn a_handshake_under_way_counts_as_not_logged_in() {
    let limits = Limits {
        unidentified: 2,
        ..Limits::default()
    };
    let bench = Bench::start(limits).await;
    let mut waiting = Vec::new();
    for door in [bench.doors.tls[0], bench.doors.websocket[0]] {
        waiting.push(Raw(TcpStream::connect(door).await.unwrap()));
    }
    until("both to be in", || count(&bench.counters.open) == 2).await;
    let mut button = Raw::log_in(&bench, "btn", "c").await;
    button.ping().await;
    waiting[0].expect_close().await;
    bench.closed(CloseReason::Evicted, 1).await;
}

#[tokio::test]
async fn a_text_frame_ends_its_connection() {
    let bench = Bench::start(Limits::default()).await;
    let mut socket = bench.websocket().await;
    let connect = Connect::new("btn", "c").bytes();
    socket.send(Message::binary(connect)).await.unwrap();
    let connack = timeout(HANG, socket.next()).await.unwrap().unwrap();
    assert_eq!(connack.unwrap(), Message::binary(CONNACK_OK.to_vec()));
    let text = String::from_utf8(vec![b'0', 0]).unwrap();
    socket.send(Message::text(text)).await.unwrap();
    bench.closed(CloseReason::Framing, 1).await;
    bench.open_sockets(0).await;
}

#[tokio::test]
async fn packets_and_messages_need_not_agree() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut socket = bench.websocket().await;
    for byte in Connect::new("btn", "c").bytes() {
        socket.send(Message::binary(vec![byte])).await.unwrap();
        socket.send(Message::binary(vec![])).await.unwrap();
    }
    let next = async |socket: &mut WebSocketStream<TcpStream>| {
        let message = timeout(HANG, socket.next()).await.unwrap().unwrap();
        message.unwrap()
    };
    assert_eq!(
        next(&mut socket).await,
        Message::binary(CONNACK_OK.to_vec())
    );
    // Two packets and a half in a message of two fragments, with a ping between them.
    let mut bytes = publish("btn/hall", 1, b"one");
    bytes.extend(publish("btn/hall", 2, b"two"));
    bytes.extend(&PINGREQ[..1]);
    let (head, tail) = bytes.split_at(9);
    let fragment = |bytes: &[u8], data, last| {
        Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(data), last))
    };
    let (ping, first) = (
        Message::Ping("?".into()),
        fragment(head, Data::Binary, false),
    );
    for message in [first, ping, fragment(tail, Data::Continue, true)] {
        socket.send(message).await.unwrap();
    }
    assert_eq!(next(&mut socket).await, Message::Pong("?".into()));
    for body in [b"one", b"two"] {
        let publish = bench.publish().await;
        assert_eq!(&publish.message.payload[..], body);
        publish.ack.committed();
    }
    let rest = Message::binary(PINGREQ[1..].to_vec());
    socket.send(rest).await.unwrap();
    let mut answers = Vec::new();
    while answers.len() < 10 {
        answers.extend(next(&mut socket).await.into_data());
    }
    assert_eq!(answers, [&puback(1)[..], &puback(2), &PINGRESP].concat());
    // A close is answered, and ends it like any client that goes without DISCONNECT.
    socket.close(None).await.unwrap();
    while let Ok(Some(Ok(_))) = timeout(HANG, socket.next()).await {}
    bench.closed(CloseReason::PeerClosed, 1).await;
    bench.open_sockets(0).await;
}

#[tokio::test]
async fn a_message_beyond_the_limit_ends_its_connection() {
    let limits = Limits {
        packet_bytes: 1_000,
        ..Limits::default()
    };
    let bench = Bench::start(limits).await;
    let mut guest = Raw(Frames::new(bench.websocket().await));
    guest.send(&Connect::new("btn", "c").bytes()).await;
    guest.expect(&CONNACK_OK).await;
    let flood = PINGREQ.repeat(500);
    guest.send(&flood).await;
    guest.expect(&PINGRESP.repeat(500)).await;
    guest.send(&[&flood[..], &PINGREQ].concat()).await;
    bench.closed(CloseReason::Oversized, 1).await;
    // The fragments of one message count together.
    let mut socket = bench.websocket().await;
    let piece = Frame::message(vec![0; 600], OpCode::Data(Data::Binary), false);
    socket.send(Message::Frame(piece)).await.unwrap();
    let piece = Frame::message(vec![0; 600], OpCode::Data(Data::Continue), false);
    let _ = socket.send(Message::Frame(piece)).await;
    bench.closed(CloseReason::Oversized, 2).await;
}

#[tokio::test]
async fn a_stranger_cannot_make_us_hold_a_large_message() {
    let bench = Bench::start(Limits::default()).await;
    // Larger than a CONNECT may be, not than a message.
    let mut socket = bench.websocket().await;
    let large = Message::binary(vec![0x10; CONNECT_BYTES + 1]);
    socket.send(large).await.unwrap();
    bench.closed(CloseReason::Oversized, 1).await;
    let head = format!("GET /mqtt HTTP/1.1\r\nX: {}", "x".repeat(CONNECT_BYTES));
    let mut stranger = Raw(TcpStream::connect(bench.doors.websocket[0]).await.unwrap());
    stranger.send(head.as_bytes()).await;
    stranger.expect_close().await;
    assert_eq!(bench.refused(Refusal::WebSocket), 1);
    // The same bytes are no offence of a client that is logged in.
    let mut guest = Raw(Frames::new(bench.websocket().await));
    guest.send(&Connect::new("btn", "c").bytes()).await;
    guest.expect(&CONNACK_OK).await;
    let many = PINGREQ.repeat(CONNECT_BYTES);
    guest.send(&many).await;
    guest.expect(&PINGRESP.repeat(CONNECT_BYTES)).await;
}

#[tokio::test]
async fn whoever_goes_without_a_word_is_gone_on_every_door() {
    let bench = Bench::start(Limits::default()).await;
    let clients = behind_every_door(&bench).await;
    drop(clients);
    bench.closed(CloseReason::PeerClosed, 4).await;
    let mut said = bench.tls().await;
    said.write_all(&Connect::new("btn", "c").bytes())
        .await
        .unwrap();
    said.shutdown().await.unwrap();
    bench.closed(CloseReason::PeerClosed, 5).await;
    bench.open_sockets(0).await;
}

#[tokio::test]
async fn a_peer_behind_tls_that_does_not_read_is_closed() {
    let limits = Limits {
        output_bytes: 4 * 1024,
        output_patience: Duration::from_millis(200),
        ..Limits::default()
    };
    let bench = Bench::start(limits).await;
    let mut deaf = Frames::new(bench.websocket_tls().await);
    let connect = Connect::new("btn", "c").bytes();
    deaf.write_all(&connect).await.unwrap();
    let flood = PINGREQ.repeat(4_000);
    let ended =
        async { while deaf.write_all(&flood).await.is_ok() && deaf.flush().await.is_ok() {} };
    timeout(HANG, ended)
        .await
        .expect("the flood is taken for ever");
    bench.closed(CloseReason::OutputStalled, 1).await;
}

/// The layers below us take more than the socket does, and have to be told to part with it.
#[tokio::test]
async fn the_last_bytes_leave_through_a_socket_that_is_full() {
    let (near, far) = tokio::io::duplex(16);
    let config = Some(frames::config(PACKET_BYTES));
    let near = WebSocketStream::from_raw_socket(near, Role::Server, config).await;
    let far = WebSocketStream::from_raw_socket(far, Role::Client, config).await;
    let (reader, writer) = tokio::io::split(Frames::new(near));
    let mut line = Line::new(reader, writer);
    let body = Seeded(1).bytes(40_000);
    line.output.extend_from_slice(&body);
    let sending = async {
        while line.owes() {
            let Line {
                writer,
                output,
                flushed,
                ..
            } = &mut line;
            drain(writer, output, flushed).await.unwrap();
        }
    };
    let mut far = Raw(Frames::new(far));
    let both = async { tokio::join!(sending, far.expect(&body)) };
    timeout(HANG, both).await.unwrap();
}

#[tokio::test]
async fn who_does_not_take_our_certificate_is_told_apart() {
    let mut bench = Bench::start(Limits::default()).await;
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let connector = stranger::connector(other.cert.der());
    let socket = TcpStream::connect(bench.doors.tls[0]).await.unwrap();
    let refused = connector.connect("localhost".try_into().unwrap(), socket);
    assert!(refused.await.is_err());
    bench.closed(CloseReason::Refused, 1).await;
    assert_eq!(bench.refused(Refusal::Tls), 1);
    let expected = Notice::Refused {
        username: None,
        why: Refusal::Tls,
    };
    assert_eq!(bench.notice().await, expected);
}

#[tokio::test]
async fn a_tls_door_needs_a_certificate() {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let tls = Doors {
        tls: vec![any],
        ..Doors::default()
    };
    let both = Doors {
        websocket_tls: vec![any],
        ..Doors::default()
    };
    for doors in [tls, both] {
        let settings = Settings {
            doors,
            tls: None,
            limits: Limits::default(),
        };
        let refused = bind(settings).await.err().unwrap();
        assert!(matches!(refused, BindError::NoCertificate(address) if address == any));
    }
}
