//! From one client to others, through clients that are not ours, in both versions.

use rumqttc::v5::mqttbytes::QoS as Qos5;
use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, Filter, Packet as Packet5, PublishProperties, RetainForwardRule,
};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};

use super::*;

/// A client of MQTT 5 and its task, which gives everything that comes.
struct Five {
    client: rumqttc::v5::AsyncClient,
    heard: mpsc::UnboundedReceiver<Packet5>,
    task: JoinHandle<()>,
}

impl Drop for Five {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn five_options(bench: &Bench, user: &str, id: &str) -> rumqttc::v5::MqttOptions {
    let mut options = rumqttc::v5::MqttOptions::new(id, "127.0.0.1", bench.address.port());
    options.set_credentials(user, user);
    options
}

impl Five {
    fn start(options: rumqttc::v5::MqttOptions) -> Self {
        let (client, mut events) = rumqttc::v5::AsyncClient::new(options, 64);
        let (told, heard) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let rumqttc::v5::Event::Incoming(packet) = event
                    && told.send(packet).is_err()
                {
                    return;
                }
            }
        });
        Self {
            client,
            heard,
            task,
        }
    }

    /// The next packet that is wanted; others are passed over.
    async fn until<T>(&mut self, wanted: impl Fn(Packet5) -> Option<T>) -> T {
        loop {
            let packet = timeout(HANG, self.heard.recv()).await;
            let packet = packet.expect("nothing came").expect("connection closed");
            if let Some(found) = wanted(packet) {
                return found;
            }
        }
    }

    async fn connack(&mut self) -> rumqttc::v5::mqttbytes::v5::ConnAck {
        let wanted = |packet| {
            let Packet5::ConnAck(connack) = packet else {
                return None;
            };
            Some(connack)
        };
        self.until(wanted).await
    }

    async fn message(&mut self) -> rumqttc::v5::mqttbytes::v5::Publish {
        let wanted = |packet| {
            let Packet5::Publish(publish) = packet else {
                return None;
            };
            Some(publish)
        };
        self.until(wanted).await
    }

    async fn suback(&mut self) {
        let wanted = |packet| matches!(packet, Packet5::SubAck(_)).then_some(());
        self.until(wanted).await;
    }
}

#[tokio::test]
async fn a_message_goes_from_version_5_to_3_and_back_at_every_quality() {
    let mut bench = Bench::start(Limits::default()).await;
    let committing = bench.commit_all();
    let mut five = Five::start(five_options(&bench, "z2m", "five"));
    five.client
        .subscribe("z2m/#", Qos5::ExactlyOnce)
        .await
        .unwrap();
    five.suback().await;
    let mut options = MqttOptions::new("three", "127.0.0.1", bench.address.port());
    options.set_credentials("z2m", "z2m");
    let (three, mut events) = AsyncClient::new(options, 64);
    three.subscribe("z2m/#", QoS::ExactlyOnce).await.unwrap();
    let (told, mut heard) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        while let Ok(event) = events.poll().await {
            match event {
                Event::Incoming(Incoming::SubAck(_)) => told.send(None).unwrap(),
                Event::Incoming(Incoming::Publish(publish)) => told.send(Some(publish)).unwrap(),
                Event::Incoming(_) | Event::Outgoing(_) => {}
            }
        }
    });
    assert!(
        timeout(HANG, heard.recv())
            .await
            .unwrap()
            .unwrap()
            .is_none()
    );
    let qualities = [
        (QoS::AtMostOnce, Qos5::AtMostOnce),
        (QoS::AtLeastOnce, Qos5::AtLeastOnce),
        (QoS::ExactlyOnce, Qos5::ExactlyOnce),
    ];
    for (n, (qos3, qos5)) in qualities.into_iter().enumerate() {
        three
            .publish("z2m/a", qos3, false, vec![3, n as u8])
            .await
            .unwrap();
        let at_three = timeout(HANG, heard.recv()).await.unwrap().unwrap().unwrap();
        assert_eq!(
            (at_three.payload.to_vec(), at_three.qos),
            (vec![3, n as u8], qos3)
        );
        let at_five = five.message().await;
        assert_eq!(
            (at_five.payload.to_vec(), at_five.qos),
            (vec![3, n as u8], qos5)
        );
        five.client
            .publish("z2m/b", qos5, false, vec![5, n as u8])
            .await
            .unwrap();
        let at_three = timeout(HANG, heard.recv()).await.unwrap().unwrap().unwrap();
        assert_eq!(
            (at_three.payload.to_vec(), at_three.qos),
            (vec![5, n as u8], qos3)
        );
        assert_eq!(five.message().await.payload.to_vec(), [5, n as u8]);
    }
    task.abort();
    committing.abort();
}

#[tokio::test]
async fn properties_travel_and_what_is_retained_greets() {
    let mut bench = Bench::start(Limits::default()).await;
    let committing = bench.commit_all();
    let sender = Five::start(five_options(&bench, "z2m", "sender"));
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(1_000),
        response_topic: Some("z2m/answer".into()),
        correlation_data: Some("c".into()),
        user_properties: vec![("k".into(), "v".into())],
        content_type: Some("t".into()),
        ..PublishProperties::default()
    };
    let qos = Qos5::AtLeastOnce;
    let publish = sender
        .client
        .publish_with_properties("z2m/a", qos, true, "kept", properties);
    publish.await.unwrap();
    let counters = Arc::clone(&bench.counters);
    until("the acknowledgement", || count(&counters.pubacks) == 1).await;
    let mut late = Five::start(five_options(&bench, "z2m", "late"));
    let filter = Filter {
        path: "z2m/+".into(),
        qos,
        nolocal: false,
        preserve_retain: true,
        retain_forward_rule: RetainForwardRule::OnEverySubscribe,
    };
    late.client.subscribe_many(vec![filter]).await.unwrap();
    let message = late.message().await;
    assert_eq!((&message.payload[..], message.retain), (&b"kept"[..], true));
    let properties = message.properties.unwrap();
    assert_eq!(properties.content_type.as_deref(), Some("t"));
    assert_eq!(properties.response_topic.as_deref(), Some("z2m/answer"));
    assert_eq!(
        properties.user_properties,
        [("k".to_owned(), "v".to_owned())]
    );
    assert!((900..=1_000).contains(&properties.message_expiry_interval.unwrap()));
    committing.abort();
}

#[tokio::test]
async fn a_session_of_version_5_is_kept_as_long_as_it_asks() {
    let mut bench = Bench::start(Limits::default()).await;
    let committing = bench.commit_all();
    let kept = || {
        let mut options = five_options(&bench, "z2m", "kept");
        options
            .set_clean_start(false)
            .set_connect_properties(ConnectProperties {
                session_expiry_interval: Some(600),
                receive_maximum: Some(2),
                ..ConnectProperties::new()
            });
        options
    };
    let mut first = Five::start(kept());
    assert!(!first.connack().await.session_present);
    first
        .client
        .subscribe("z2m/#", Qos5::ExactlyOnce)
        .await
        .unwrap();
    first.suback().await;
    drop(first);
    bench.closed(CloseReason::PeerClosed, 1).await;
    let sender = Five::start(five_options(&bench, "z2m", "sender"));
    for n in 0..10_u8 {
        let qos = if n % 2 == 0 {
            Qos5::AtLeastOnce
        } else {
            Qos5::ExactlyOnce
        };
        sender
            .client
            .publish("z2m/a", qos, false, vec![n])
            .await
            .unwrap();
    }
    let counters = Arc::clone(&bench.counters);
    until("all to be taken", || count(&counters.pubacks) == 10).await;
    let mut second = Five::start(kept());
    assert!(second.connack().await.session_present);
    for n in 0..10_u8 {
        assert_eq!(second.message().await.payload[..], [n]);
    }
    committing.abort();
}

#[tokio::test]
async fn a_client_without_an_id_is_given_one_and_told_our_limits() {
    let bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::open(&bench).await;
    let mut body = text("MQTT");
    body.extend([5, 0xC2, 0, 60, 0]);
    for field in ["", "btn", "btn"] {
        body.extend(text(field));
    }
    raw.send(&packet(0x10, &body)).await;
    let mut head = [0; 5];
    timeout(HANG, raw.0.read_exact(&mut head))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((head[0], head[2], head[3]), (0x20, 0, 0));
    let mut rest = vec![0; usize::from(head[1]) - 3];
    timeout(HANG, raw.0.read_exact(&mut rest))
        .await
        .unwrap()
        .unwrap();
    let has = |wanted: &[u8]| rest.windows(wanted.len()).any(|w| w == wanted);
    assert!(has(b"auto-test-"), "the id it was given");
    assert!(has(&[0x21, 0, 20]) && has(&[0x22, 0, 16]) && has(&[0x27, 0, 4, 0, 0]));
    raw.ping().await;
    // An alias beyond our maximum is a fault, told by its code.
    raw.send(&packet(0x30, &[0, 1, b'a', 3, 0x23, 0, 17])).await;
    raw.expect(&[0xE0, 1, 0x94]).await;
    raw.expect_close().await;
}

#[tokio::test]
async fn an_alias_stands_for_its_topic() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = five_raw(&bench, "btn").await;
    let mut named = text("btn/a");
    named.extend([3, 0x23, 0, 7, b'1']);
    raw.send(&packet(0x30, &named)).await;
    raw.send(&packet(0x30, &[0, 0, 3, 0x23, 0, 7, b'2'])).await;
    for payload in [b"1", b"2"] {
        let message = bench.publish().await.message;
        assert_eq!(
            (&*message.topic, &message.payload[..]),
            ("btn/a", &payload[..])
        );
    }
    raw.send(&packet(0x30, &[0, 0, 3, 0x23, 0, 8, b'3'])).await;
    raw.expect(&[0xE0, 1, 0x94]).await;
    raw.expect_close().await;
}

/// Logged in with MQTT 5, secret = user name.
async fn five_raw(bench: &Bench, username: &str) -> Raw {
    let mut raw = Raw::open(bench).await;
    let mut body = text("MQTT");
    body.extend([5, 0xC2, 0, 60, 0]);
    for field in ["five", username, username] {
        body.extend(text(field));
    }
    raw.send(&packet(0x10, &body)).await;
    let mut head = [0; 2];
    timeout(HANG, raw.0.read_exact(&mut head))
        .await
        .unwrap()
        .unwrap();
    let mut rest = vec![0; usize::from(head[1])];
    timeout(HANG, raw.0.read_exact(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((head[0], rest[1]), (0x20, 0));
    raw
}

#[tokio::test]
async fn stray_publishes_and_filters_are_told_by_their_code() {
    let mut bench = Bench::start(Limits::default()).await;
    let committing = bench.commit_all();
    let mut raw = five_raw(&bench, "btn").await;
    let mut stray = text("door/a");
    stray.extend([0, 9, 0, b'x']);
    raw.send(&packet(0x32, &stray)).await;
    raw.expect(&[0x40, 3, 0, 9, 0x87]).await;
    let mut filters = vec![0, 10, 0];
    for filter in ["#", "btn/+", "+/a", "$share/g/btn/a"] {
        filters.extend(text(filter));
        filters.push(1);
    }
    raw.send(&packet(0x82, &filters)).await;
    raw.expect(&[0x90, 7, 0, 10, 0, 0x87, 1, 0x87, 1]).await;
    let mut gone = vec![0, 11, 0];
    for filter in ["btn/+", "btn/a"] {
        gone.extend(text(filter));
    }
    raw.send(&packet(0xA2, &gone)).await;
    raw.expect(&[0xB0, 5, 0, 11, 0, 0, 0x11]).await;
    raw.ping().await;
    committing.abort();
}

/// A subscriber that reads nothing delays neither publisher nor other subscribers.
#[tokio::test]
async fn a_slow_subscriber_delays_nobody() {
    let mut bench = Bench::start(Limits::default()).await;
    let committing = bench.commit_all();
    let mut slow = Raw::log_in(&bench, "z2m", "slow").await;
    let mut filter = vec![0, 1];
    filter.extend(text("z2m/#"));
    filter.push(0);
    slow.send(&packet(0x82, &filter)).await;
    slow.expect(&[0x90, 3, 0, 1, 0]).await;
    let mut fast = Five::start(five_options(&bench, "z2m", "fast"));
    fast.client
        .subscribe("z2m/#", Qos5::AtMostOnce)
        .await
        .unwrap();
    fast.suback().await;
    let mut sender = Raw::log_in(&bench, "z2m", "sender").await;
    let payload = vec![7; 10_000];
    for n in 0..3_000_u16 {
        sender.send(&publish("z2m/a", n + 1, &payload)).await;
        let mut puback = [0; 4];
        timeout(HANG, sender.0.read_exact(&mut puback))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(fast.message().await.payload.len(), payload.len());
    }
    slow.send(&PINGREQ).await;
    committing.abort();
}
