//! CONNECT and its answers, changes of access, and the packets that are answered without an intake.

use super::*;

async fn answer(bench: &Bench, connect: Connect, code: u8) {
    let mut raw = Raw::open(bench).await;
    raw.send(&connect.bytes()).await;
    raw.expect(&[0x20, 2, 0, code]).await;
    raw.expect_close().await;
}

fn with_secret(username: &str, secret: Option<&str>) -> Connect {
    Connect {
        secret: secret.map(str::to_owned),
        ..Connect::new(username, "c")
    }
}

#[tokio::test]
async fn strangers_and_wrong_secrets_are_refused_counted_and_told() {
    let mut bench = Bench::start(Limits::default()).await;
    answer(&bench, with_secret("btn", Some("wrong")), 4).await;
    answer(&bench, with_secret("btn", Some("")), 4).await;
    answer(&bench, with_secret("btn", None), 4).await;
    answer(&bench, with_secret("secret typed as user", Some("x")), 4).await;
    let nobody = Connect {
        username: None,
        secret: None,
        ..Connect::new("", "c")
    };
    answer(&bench, nobody, 4).await;
    assert_eq!(bench.refused(Refusal::WrongSecret), 3);
    assert_eq!(bench.refused(Refusal::UnknownUser), 2);
    bench.closed(CloseReason::Refused, 5).await;
    let mut names = Vec::new();
    for _ in 0..5 {
        match bench.notice().await {
            Notice::Refused { username, .. } => names.push(username),
            other @ (Notice::Connected { .. } | Notice::Disconnected { .. }) => {
                panic!("{other:?}")
            }
        }
    }
    let known = || Some("btn".to_owned());
    assert_eq!(names, [known(), known(), known(), None, None]);
    assert_eq!(count(&bench.counters.sessions), 0);
}

#[tokio::test]
async fn a_client_without_an_id_needs_a_clean_session() {
    let bench = Bench::start(Limits::default()).await;
    let mut one = Raw::log_in(&bench, "btn", "").await;
    let mut two = Raw::log_in(&bench, "btn", "").await;
    one.ping().await;
    two.ping().await;
    let unclean = Connect {
        clean: false,
        ..Connect::new("btn", "")
    };
    answer(&bench, unclean, 2).await;
    assert_eq!(bench.refused(Refusal::ClientId), 1);
}

#[tokio::test]
async fn a_session_is_present_once_it_was_kept() {
    let mut bench = Bench::start(Limits::default()).await;
    let committing = bench.commit_all();
    for present in [0, 1] {
        let unclean = Connect {
            clean: false,
            ..Connect::new("btn", "c")
        };
        let mut raw = Raw::open(&bench).await;
        raw.send(&unclean.bytes()).await;
        raw.expect(&[0x20, 2, present, 0]).await;
        raw.send(&DISCONNECT).await;
        raw.expect_close().await;
    }
    Raw::log_in(&bench, "btn", "c").await;
    bench.closed(CloseReason::Disconnect, 2).await;
    committing.abort();
}

#[tokio::test]
async fn other_protocol_levels_are_refused_in_their_own_words() {
    let bench = Bench::start(Limits::default()).await;
    let level = |level: u8, rest: &[u8]| {
        let mut body = text("MQTT");
        body.extend([level, 0x02, 0, 60]);
        body.extend(rest);
        packet(0x10, &body)
    };
    let mut raw = Raw::open(&bench).await;
    raw.send(&level(6, &[])).await;
    raw.expect(&[0x20, 3, 0, 0x84, 0]).await;
    raw.expect_close().await;
    let mut raw = Raw::open(&bench).await;
    raw.send(&level(3, &[0, 1, b'c'])).await;
    raw.expect(&[0x20, 2, 0, 1]).await;
    raw.expect_close().await;
    assert_eq!(bench.refused(Refusal::ProtocolVersion), 2);
    bench.closed(CloseReason::Panicked, 0).await;
}

#[tokio::test]
async fn what_is_no_connect_is_closed_without_a_word() {
    let bench = Bench::start(Limits::default()).await;
    let mut old = text("MQIsdp");
    old.extend([3, 2, 0, 60, 0, 1, b'c']);
    let starts = [
        PINGREQ.to_vec(),
        publish("btn/hall", 1, b"x"),
        packet(0x10, &old),
        packet(0x12, b""),
        b"GET / HTTP/1.1\r\nHost: box\r\n\r\n".to_vec(),
    ];
    for start in &starts {
        let mut raw = Raw::open(&bench).await;
        raw.send(start).await;
        raw.expect_close().await;
    }
    bench
        .closed(CloseReason::Protocol, starts.len() as u64)
        .await;
}

#[tokio::test]
async fn a_refusal_is_heard_even_by_a_client_that_sends_on() {
    let bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::open(&bench).await;
    let mut bytes = with_secret("btn", Some("wrong")).bytes();
    for id in 1..100 {
        bytes.extend(publish("btn/hall", id, &[0; 500]));
    }
    raw.send(&bytes).await;
    raw.expect(&[0x20, 2, 0, 4]).await;
    raw.expect_close().await;
}

#[tokio::test]
async fn frames_may_come_in_one_piece_or_byte_by_byte() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut bytes = Connect::new("btn", "c").bytes();
    bytes.extend(publish("btn/hall", 1, b"x"));
    bytes.extend(PINGREQ);
    let mut whole = Raw::open(&bench).await;
    whole.send(&bytes).await;
    whole.expect(&CONNACK_OK).await;
    whole.expect(&PINGRESP).await;
    bench.publish().await.ack.committed();
    whole.expect(&puback(1)).await;
    let mut trickle = Raw::open(&bench).await;
    trickle.0.set_nodelay(true).unwrap();
    for byte in &bytes {
        trickle.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    trickle.expect(&CONNACK_OK).await;
    trickle.expect(&PINGRESP).await;
    bench.publish().await.ack.committed();
    trickle.expect(&puback(1)).await;
}

#[tokio::test]
async fn subscriptions_fail_by_name_and_the_connection_lives_on() {
    let mut bench = Bench::start(Limits::default()).await;
    let committing = bench.commit_all();
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    raw.send(&packet(
        0x82,
        &[0, 9, 0, 1, b'#', 1, 0, 3, b'a', b'/', b'b', 0],
    ))
    .await;
    raw.expect(&[0x90, 4, 0, 9, 0x80, 0x80]).await;
    raw.send(&packet(0xA2, &[0, 10, 0, 1, b'#'])).await;
    raw.expect(&[0xB0, 2, 0, 10]).await;
    raw.ping().await;
    committing.abort();
}

/// After log-in each of these ends its own connection, for the reason named, and no other's.
#[tokio::test]
async fn broken_packets_end_only_their_connection_and_by_name() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut witness = Raw::log_in(&bench, "door", "witness").await;
    let long = format!("btn/{}", "x".repeat(TOPIC.bytes));
    let deep = format!("btn{}", "/".repeat(TOPIC.levels));
    let cases = [
        (Connect::new("btn", "c").bytes(), CloseReason::Protocol),
        (packet(0x32, &[0, 9]), CloseReason::Protocol),
        (publish("btn/hall", 0, b""), CloseReason::Protocol),
        (
            vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
            CloseReason::Protocol,
        ),
        (vec![0x60, 2, 0, 1], CloseReason::Protocol),
        (packet(0x82, &[0, 1]), CloseReason::Protocol),
        (
            packet(0x82, &[0, 1, 0, 2, b'a', b'#', 0]),
            CloseReason::Protocol,
        ),
        (publish("btn/+", 1, b""), CloseReason::Topic),
        (publish("btn/#", 1, b""), CloseReason::Topic),
        (publish("", 1, b""), CloseReason::Topic),
        (publish("btn/\0", 1, b""), CloseReason::Topic),
        (publish(&long, 1, b""), CloseReason::Topic),
        (publish(&deep, 1, b""), CloseReason::Topic),
    ];
    for (bytes, reason) in cases {
        let before = bench.counters.closed(reason);
        let mut raw = Raw::log_in(&bench, "btn", "c").await;
        raw.send(&bytes).await;
        raw.expect_close().await;
        bench.closed(reason, before + 1).await;
    }
    witness.ping().await;
    bench.assert_quiet();
}

#[tokio::test]
async fn a_swap_of_access_closes_who_vanished_or_changed_and_nobody_else() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut kept = Raw::log_in(&bench, "btn", "c").await;
    let mut withdrawn = Raw::log_in(&bench, "door", "c").await;
    let mut changed = Raw::log_in(&bench, "z2m", "c").await;
    let next: Access = [
        credential("btn", "btn", true, &["btn/#"]),
        credential("z2m", "new secret", true, &["z2m/#"]),
    ]
    .into_iter()
    .collect();
    bench.access.send_replace(Arc::new(next));
    withdrawn.expect_close().await;
    changed.expect_close().await;
    kept.ping().await;
    bench.closed(CloseReason::CredentialChanged, 2).await;
    answer(&bench, Connect::new("door", "c"), 4).await;
    answer(&bench, Connect::new("z2m", "c"), 4).await;
    let renewed = with_secret("z2m", Some("new secret"));
    let mut renewed = Raw::log_in_with(&bench, renewed).await;
    renewed.send(&publish("z2m/a", 1, b"x")).await;
    bench.publish().await.ack.committed();
    renewed.expect(&puback(1)).await;
}

#[tokio::test]
async fn without_anyone_to_swap_access_the_broker_goes_on() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    let (other, _) = watch::channel(Arc::default());
    drop(std::mem::replace(&mut bench.access, other));
    raw.ping().await;
    Raw::log_in(&bench, "door", "c").await.ping().await;
}

#[tokio::test]
async fn an_idle_client_is_closed_after_one_and_a_half_keep_alives() {
    let mut bench = Bench::start(Limits::default()).await;
    let idle = Connect {
        keep_alive: 1,
        ..Connect::new("btn", "c")
    };
    let mut raw = Raw::log_in_with(&bench, idle.will("btn/state", "gone", 0)).await;
    // Half a packet is no sign of life.
    raw.send(&PINGREQ[..1]).await;
    raw.expect_close().await;
    bench.closed(CloseReason::KeepAlive, 1).await;
    assert_eq!(bench.publish().await.origin, Origin::Will);
}

#[tokio::test]
async fn connections_and_departures_are_told() {
    let mut bench = Bench::start(Limits::default()).await;
    let username = || "btn".to_owned();
    let raw = Raw::log_in(&bench, "btn", "c").await;
    assert_eq!(
        bench.notice().await,
        Notice::Connected {
            username: username()
        }
    );
    assert_eq!(count(&bench.counters.sessions), 1);
    drop(raw);
    assert_eq!(
        bench.notice().await,
        Notice::Disconnected {
            username: username()
        }
    );
    bench.closed(CloseReason::PeerClosed, 1).await;
    assert_eq!(count(&bench.counters.sessions), 0);
}
