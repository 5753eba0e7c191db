//! Against a client library that we did not write (rumqttc), and the measurement of throughput.

use rumqttc::{AsyncClient, ConnectReturnCode, ConnectionError, Event, Incoming, LastWill};
use rumqttc::{MqttOptions, QoS};

use super::*;

fn options(bench: &Bench, username: &str, secret: &str) -> MqttOptions {
    let mut options = MqttOptions::new("c", "127.0.0.1", bench.address.port());
    options.set_credentials(username, secret);
    options.set_keep_alive(Duration::from_secs(30));
    options
}

/// Polls until `count` PUBACKs came and returns their packet ids.
async fn pubacks(events: &mut rumqttc::EventLoop, count: usize) -> Vec<u16> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let event = timeout(HANG, events.poll()).await.unwrap().unwrap();
        if let Event::Incoming(Incoming::PubAck(puback)) = event {
            ids.push(puback.pkid);
        }
    }
    ids
}

#[tokio::test]
async fn a_thousand_publishes_are_committed_and_acknowledged_in_order() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut options = options(&bench, "btn", "btn");
    options.set_inflight(20);
    let (client, mut events) = AsyncClient::new(options, 2_000);
    for number in 0..1_000_u32 {
        let payload = number.to_be_bytes();
        client
            .try_publish("btn/hall", QoS::AtLeastOnce, false, payload)
            .unwrap();
    }
    let committing = tokio::spawn(async move {
        for number in 0..1_000_u32 {
            let taken = bench.publish().await;
            assert_eq!(taken.message.payload[..], number.to_be_bytes());
            taken.ack.committed();
        }
        bench
    });
    let ids = pubacks(&mut events, 1_000).await;
    assert!(
        ids.windows(2).all(|two| two[1] == two[0] % 20 + 1),
        "in order"
    );
    let bench = timeout(HANG, committing).await.unwrap().unwrap();
    client.try_disconnect().unwrap();
    while timeout(HANG, events.poll()).await.unwrap().is_ok() {}
    bench.closed(CloseReason::Disconnect, 1).await;
}

#[tokio::test]
async fn an_unacknowledged_publish_comes_again_after_the_reconnect() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut options = options(&bench, "btn", "btn");
    options.set_clean_session(false);
    let (client, mut events) = AsyncClient::new(options, 10);
    client
        .try_publish("btn/hall", QoS::AtLeastOnce, false, "pressed")
        .unwrap();
    let polling = tokio::spawn(async move {
        // The first connection ends without PUBACK; the library connects again by itself.
        let mut failures = 0;
        loop {
            match timeout(HANG, events.poll()).await.unwrap() {
                Ok(Event::Incoming(Incoming::PubAck(_))) => return failures,
                Ok(_) => {}
                Err(_) => failures += 1,
            }
            if failures == 1 {
                failures += 1;
                client
                    .try_publish("btn/hall", QoS::AtLeastOnce, false, "pressed")
                    .unwrap();
            }
        }
    });
    bench.publish().await.ack.failed();
    let again = bench.publish().await;
    assert_eq!(&again.message.payload[..], b"pressed");
    again.ack.committed();
    assert!(timeout(HANG, polling).await.unwrap().unwrap() >= 1);
}

#[tokio::test]
async fn refusals_are_understood() {
    let bench = Bench::start(Limits::default()).await;
    for (username, secret, expected) in [
        ("btn", "wrong", ConnectReturnCode::BadUserNamePassword),
        ("nobody", "x", ConnectReturnCode::BadUserNamePassword),
    ] {
        let (_client, mut events) = AsyncClient::new(options(&bench, username, secret), 10);
        match timeout(HANG, events.poll()).await.unwrap() {
            Err(ConnectionError::ConnectionRefused(code)) => assert_eq!(code, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn wills_and_subscriptions_of_a_foreign_client() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut options = options(&bench, "z2m", "z2m");
    options.set_last_will(LastWill::new(
        "z2m/bridge/state",
        "offline",
        QoS::AtLeastOnce,
        true,
    ));
    let (client, mut events) = AsyncClient::new(options, 10);
    client.try_subscribe("z2m/+/set", QoS::AtLeastOnce).unwrap();
    loop {
        let event = tokio::select! {
            event = timeout(HANG, events.poll()) => event.unwrap().unwrap(),
            work = bench.intake.recv() => {
                let Some(Work::Talk(talk)) = work else { panic!("{work:?}") };
                talk.ack.committed();
                continue;
            }
        };
        if let Event::Incoming(Incoming::SubAck(suback)) = event {
            let granted = rumqttc::SubscribeReasonCode::Success(QoS::AtLeastOnce);
            assert_eq!(suback.return_codes, [granted]);
            break;
        }
    }
    drop((client, events));
    let will = bench.publish().await;
    assert_eq!(
        (&*will.message.topic, &will.message.payload[..]),
        ("z2m/bridge/state", &b"offline"[..])
    );
    assert!(will.message.retain && will.origin == Origin::Will);
}
