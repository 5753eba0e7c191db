//! The intake between a real MQTT client and a real file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lanes;

use std::net::SocketAddr;

use super::*;
use crate::broker::{self, Counters, Doors, Limits as BrokerLimits, Memory, Outlet, Settings};
use crate::store::afloat::Afloat;
use crate::store::outbox::Limits;
use crate::store::row::Stream;
use crate::testing::{
    CHILD, GATEWAY, Running, SECRET, Scratch, Signer, box_clock, config, credential, enrolment,
    epoch, sql,
};
use domain::command::{Act, Command};
use domain::config::Role;
use domain::event::{Detail, Event, State};
use domain::id::{CommandId, PersonId, PointKey};
use domain::kind::{Kind, Lane};
use domain::time::Timestamp;
use domain::wire::{Says, read_body};
use rumqttc::{AsyncClient, Event as Said, EventLoop, MqttOptions, Packet, QoS};
use tokio::task::JoinHandle;

/// A box without an uplink.
struct Box_ {
    running: Running,
    n: i64,
    signer: Signer,
    configs: mpsc::Sender<SignedConfig>,
    commands: mpsc::Sender<Asked>,
    version: watch::Receiver<u64>,
    mqtt: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Box_ {
    async fn start(scratch: &Scratch, n: i64, signer: Signer) -> Self {
        Self::start_with(scratch, n, signer, Limits::DEFAULT).await
    }

    async fn start_with(scratch: &Scratch, n: i64, signer: Signer, limits: Limits) -> Self {
        let mut running = Running::try_start(scratch, n, limits).await.unwrap();
        let entropy = Entropy::system();
        let (access, may_speak) = watch::channel(Arc::default());
        let (version_in, version) = watch::channel(0);
        let box_key = BoxKey::read_or_make(scratch.path(), &entropy).unwrap();
        let hub = remembered(&running.opened.mqtt, &box_key, broker::KEPT);
        let outlet = Outlet::new(hub, ambient::Clock::system());
        let parts = Parts {
            outlet: outlet.clone(),
            store: running.opened.store.clone(),
            reader: running.opened.reader.another().await.unwrap(),
            clock: box_clock(),
            entropy: entropy.clone(),
            gauges: Arc::clone(&running.gauges),
            gateway: GATEWAY,
            config_signing: signer.public(),
            box_key,
            access,
            version: version_in,
            tells: broadcast::Sender::new(1),
            in_force: watch::Sender::new(None),
            signals: SignalLog::default(),
            unacknowledged: watch::Sender::default(),
        };
        let marks = std::mem::take(&mut running.opened.marks);
        let opened = &running.opened;
        let mut intake = Intake::new(parts, &opened.configs, marks, opened.previous);
        intake.begin().await;
        let memory = Memory {
            outlet: outlet.clone(),
            run: "test".into(),
        };
        let (work_in, work) = mpsc::channel(64);
        let (configs, configs_out) = mpsc::channel(2);
        let (commands, commands_out) = mpsc::channel(2);
        let ears = Ears {
            work,
            configs: configs_out,
            commands: commands_out,
            unforwarded: watch::channel(Unforwarded::default()).1,
            standing: opened.store.standing(),
            asked: mpsc::channel(1).1,
            bridges: crate::bridge::board(&[], Duration::ZERO).0,
        };
        let (stop, stopped) = watch::channel(false);
        let settings = Settings {
            doors: Doors {
                tcp: vec!["127.0.0.1:0".parse().unwrap()],
                ..Doors::default()
            },
            tls: None,
            limits: BrokerLimits::default(),
        };
        let bound = broker::bind(settings).await.unwrap();
        let mqtt = bound.addresses().tcp[0];
        let (notices, _) = mpsc::channel(1);
        let counters = Arc::new(Counters::default());
        let serve = broker::serve(
            bound, may_speak, work_in, memory, notices, counters, stopped,
        );
        let tasks = vec![tokio::spawn(serve), tokio::spawn(intake.run(ears))];
        Self {
            running,
            n,
            signer,
            configs,
            commands,
            version,
            mqtt,
            stop,
            tasks,
        }
    }

    async fn configure(&mut self, version: u64) {
        let signed = self.signer.sign(&config(version));
        self.configs.send(signed).await.unwrap();
        self.version.wait_for(|v| *v == version).await.unwrap();
    }

    fn client(&self, user: &str) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(user, "127.0.0.1", self.mqtt.port());
        options.set_credentials(user, SECRET);
        AsyncClient::new(options, 50)
    }

    async fn events(&mut self, lane: Lane) -> Vec<Event> {
        let stream = Stream {
            lane,
            epoch: epoch(self.n),
        };
        let reader = &mut self.running.opened.reader;
        let rows = reader.page(stream, 0, u64::MAX, 100_000, usize::MAX).await;
        let mut events = Vec::new();
        for row in rows.unwrap() {
            if let Says::Event(event) = read_body(&row.body).unwrap() {
                events.push(event.into_event().unwrap());
            }
        }
        events
    }

    async fn kinds(&mut self, lane: Lane) -> Vec<Kind> {
        let events = self.events(lane).await;
        events.iter().map(|event| event.kind).collect()
    }

    /// Waits until the lane holds so many events.
    async fn wait_for(&mut self, lane: Lane, count: usize) -> Vec<Event> {
        let mut heads = self.running.opened.store.heads();
        let index = Lane::ALL.iter().position(|l| *l == lane).unwrap();
        heads
            .wait_for(|heads| heads.last[index] >= count as u64)
            .await
            .unwrap();
        self.events(lane).await
    }

    async fn stop(self) -> Signer {
        self.stop.send(true).unwrap();
        for task in self.tasks {
            task.await.unwrap();
        }
        self.running.stop().await;
        self.signer
    }
}

fn press(id: &str) -> String {
    format!(r#"{{"id":"{id}","kind":"alarm.pressed","state":"raised"}}"#)
}

async fn publish(client: &AsyncClient, topic: &str, body: String) {
    client
        .publish(topic, QoS::AtLeastOnce, false, body)
        .await
        .unwrap();
}

const BUTTON: &str = "antuo/v1/btn/button";
const DOOR: &str = "antuo/v1/door/contact";

/// Drives the client until so many PUBACKs came; counts how often it was cut on the way.
async fn acknowledged(events: &mut EventLoop, count: usize) -> usize {
    let (mut left, mut cuts) = (count, 0);
    while left > 0 {
        match events.poll().await {
            Ok(Said::Incoming(Packet::PubAck(_))) => left -= 1,
            Ok(_) => {}
            Err(_) => cuts += 1,
        }
    }
    cuts
}

#[tokio::test]
async fn a_puback_means_that_the_press_is_on_disk() {
    let scratch = Scratch::new();
    let mut box_ = Box_::start(&scratch, 1, Signer::new()).await;
    box_.configure(1).await;
    let (client, mut events) = box_.client("btn");
    publish(&client, BUTTON, press("b-1")).await;
    assert_eq!(acknowledged(&mut events, 1).await, 0);
    assert_eq!(
        box_.kinds(Lane::LifeSafety).await,
        [Kind::GatewayStarted, Kind::AlarmPressed]
    );
    publish(&client, BUTTON, press("b-1")).await;
    publish(&client, BUTTON, press("b-2")).await;
    acknowledged(&mut events, 2).await;
    let vendor_ids: Vec<_> = box_.events(Lane::LifeSafety).await;
    let vendor_ids: Vec<_> = vendor_ids
        .iter()
        .filter_map(|e| e.vendor_id.as_deref())
        .collect();
    assert_eq!(
        vendor_ids,
        ["b-1", "b-2"],
        "a repeat is acknowledged and not stored"
    );
    box_.stop().await;
}

#[tokio::test]
async fn a_door_that_could_not_be_stored_is_not_acknowledged_and_not_taken_for_a_repeat() {
    let scratch = Scratch::new();
    let mut box_ = Box_::start(&scratch, 1, Signer::new()).await;
    box_.configure(1).await;
    let path = box_.running.opened.store.path().to_owned();
    sql(
        &path,
        "create trigger refuse before insert on record when new.lane = 2 and new.seq = 2
                begin select raise(abort, 'no'); end",
    )
    .await;
    let door = || r#"{"id":"d-1","kind":"door.opened","state":"raised"}"#.to_owned();
    let (client, mut events) = box_.client("door");
    publish(&client, DOOR, door()).await;
    let mut cuts = 0;
    while cuts == 0 {
        match events.poll().await {
            Ok(Said::Incoming(Packet::PubAck(_))) => panic!("acknowledged, yet not stored"),
            Ok(_) => {}
            Err(_) => cuts += 1,
        }
    }
    assert_eq!(box_.running.gauges.publishes_failed.get(), 1);
    assert_eq!(box_.kinds(Lane::Telemetry).await, [Kind::GatewayStarted]);
    sql(&path, "drop trigger refuse").await;
    // The client library forgets what was under way when the session is new; a device sends it again, until the
    // disk is found to be back.
    while box_.kinds(Lane::Telemetry).await.len() == 1 {
        publish(&client, DOOR, door()).await;
        while let Ok(said) = events.poll().await {
            if matches!(said, Said::Incoming(Packet::PubAck(_))) {
                break;
            }
        }
    }
    assert_eq!(
        box_.kinds(Lane::Telemetry).await,
        [Kind::GatewayStarted, Kind::DoorOpened]
    );
    box_.stop().await;
}

#[tokio::test]
async fn a_press_the_disk_refuses_is_kept_in_memory_and_acknowledged_when_the_disk_has_it() {
    let scratch = Scratch::new();
    let mut box_ = Box_::start(&scratch, 1, Signer::new()).await;
    box_.configure(1).await;
    let path = box_.running.opened.store.path().to_owned();
    sql(
        &path,
        "create trigger refuse before insert on record when new.lane = 0 and new.seq >= 2
                begin select raise(abort, 'no'); end",
    )
    .await;
    let (client, mut events) = box_.client("btn");
    publish(&client, BUTTON, press("b-1")).await;
    let mut afloat = box_.running.opened.store.afloat().subscribe();
    let in_memory = async {
        let with_press = |a: &Afloat| a.last(Lane::LifeSafety) == 2;
        let held = afloat.wait_for(with_press).await.unwrap();
        held.epoch().unwrap()
    };
    let early = acknowledged(&mut events, 1);
    let floated = tokio::select! {
        epoch = in_memory => epoch,
        _ = early => panic!("acknowledged, yet nowhere durable"),
    };
    assert_eq!(box_.kinds(Lane::LifeSafety).await, [Kind::GatewayStarted]);
    sql(&path, "drop trigger refuse").await;
    assert_eq!(
        acknowledged(&mut events, 1).await,
        0,
        "the line never closed"
    );
    let stream = Stream {
        lane: Lane::LifeSafety,
        epoch: floated,
    };
    let reader = &mut box_.running.opened.reader;
    let home = reader.page(stream, 0, 100, 100, usize::MAX).await.unwrap();
    assert_eq!(home.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2]);
    // Its resend is known, and the next press goes the usual way.
    publish(&client, BUTTON, press("b-1")).await;
    publish(&client, BUTTON, press("b-2")).await;
    acknowledged(&mut events, 2).await;
    let kinds = box_.kinds(Lane::LifeSafety).await;
    assert_eq!(kinds, [Kind::GatewayStarted, Kind::AlarmPressed]);
    let told = box_.wait_for(Lane::Supervisory, 3).await;
    let disk: Vec<_> = told
        .iter()
        .filter(|e| e.kind == Kind::GatewayDisk)
        .collect();
    assert_eq!(disk.len(), 1);
    assert_eq!(disk[0].state, State::Cleared);
    box_.stop().await;
}

#[tokio::test]
async fn bad_input_is_told_and_acknowledged() {
    let scratch = Scratch::new();
    let mut box_ = Box_::start(&scratch, 1, Signer::new()).await;
    box_.configure(1).await;
    let (client, mut events) = box_.client("btn");
    publish(&client, BUTTON, "{\u{0}".into()).await;
    publish(&client, "antuo/v1/btn/nobody", press("b-2")).await;
    publish(&client, BUTTON, press("b-3")).await;
    acknowledged(&mut events, 3).await;
    let gauges = &box_.running.gauges;
    assert_eq!((gauges.rejected.get(), gauges.unmapped.get()), (1, 1));
    assert_eq!(box_.events(Lane::LifeSafety).await.len(), 2);
    box_.stop().await;
}

#[tokio::test]
async fn every_start_is_chained_to_the_one_before_and_takes_the_sealed_config_up() {
    let scratch = Scratch::new();
    let mut first = Box_::start(&scratch, 1, Signer::new()).await;
    first.configure(7).await;
    let (client, mut events) = first.client("door");
    let opened = r#"{"id":"d-1","kind":"door.opened","state":"raised"}"#;
    publish(&client, DOOR, opened.into()).await;
    acknowledged(&mut events, 1).await;
    let started = first.events(Lane::Telemetry).await.remove(0);
    let Detail::Started { previous, boot } = started.detail else {
        panic!("{started:?}")
    };
    assert_eq!((previous, boot.as_str()), (None, "boot"));
    let signer = first.stop().await;

    let mut second = Box_::start(&scratch, 2, signer).await;
    assert_eq!(*second.version.borrow(), 7);
    for (lane, last_seq) in [
        (Lane::LifeSafety, 1),
        (Lane::Supervisory, 2),
        (Lane::Telemetry, 2),
    ] {
        let started = second.events(lane).await.remove(0);
        assert_eq!(started.kind, Kind::GatewayStarted);
        let Detail::Started { previous, .. } = started.detail else {
            panic!("{started:?}")
        };
        let previous = previous.unwrap();
        assert_eq!(
            (previous.epoch, previous.last_seq),
            (epoch(1), last_seq),
            "{lane}"
        );
    }
    let (client, mut events) = second.client("btn");
    publish(&client, BUTTON, press("b-1")).await;
    acknowledged(&mut events, 1).await;
    second.stop().await;
}

#[tokio::test]
async fn a_config_is_applied_whole_and_a_bad_one_changes_nothing() {
    let scratch = Scratch::new();
    let mut box_ = Box_::start(&scratch, 1, Signer::new()).await;
    let (_client, mut events) = box_.client("btn");
    assert!(
        events.poll().await.is_err(),
        "nobody logs in before a Config"
    );
    box_.configure(3).await;
    let forged = Signer::new().sign(&config(4));
    box_.configs.send(forged).await.unwrap();
    box_.configs
        .send(box_.signer.sign(&config(3)))
        .await
        .unwrap();
    box_.configure(5).await;
    let told: Vec<_> = box_.wait_for(Lane::Supervisory, 4).await;
    let told: Vec<_> = told
        .into_iter()
        .filter_map(|event| {
            let Detail::Config { version } = event.detail else {
                return None;
            };
            Some((event.kind, version, event.config_version))
        })
        .collect();
    let expected = [
        (Kind::ConfigApplied, 3, 3),
        (Kind::ConfigRefused, 4, 3),
        (Kind::ConfigApplied, 5, 5),
    ];
    assert_eq!(told, expected);
    box_.stop().await;
}

#[tokio::test]
async fn names_of_children_never_stand_in_clear_on_the_disk() {
    let scratch = Scratch::new();
    let mut box_ = Box_::start(&scratch, 1, Signer::new()).await;
    box_.configure(1).await;
    let in_files = |name: &str| {
        let files = std::fs::read_dir(scratch.path()).unwrap();
        files.map(Result::unwrap).any(|file| {
            let bytes = std::fs::read(file.path()).unwrap();
            bytes
                .windows(name.len())
                .any(|part| part == name.as_bytes())
        })
    };
    assert!(in_files("config.applied"), "the search finds what is there");
    assert!(!in_files(CHILD));
    box_.stop().await;
}

#[tokio::test]
async fn without_its_key_the_box_asks_for_the_config_again() {
    let scratch = Scratch::new();
    let mut first = Box_::start(&scratch, 1, Signer::new()).await;
    first.configure(3).await;
    let signer = first.stop().await;
    std::fs::remove_file(scratch.path().join(crate::seal::FILE)).unwrap();
    let mut second = Box_::start(&scratch, 2, signer).await;
    assert_eq!(*second.version.borrow(), 0);
    assert_eq!(second.events(Lane::LifeSafety).await.len(), 0);
    second.configure(3).await;
    assert_eq!(
        second.kinds(Lane::Supervisory).await,
        [Kind::GatewayStarted, Kind::ConfigApplied]
    );
    second.stop().await;
}

#[tokio::test]
async fn a_full_outbox_is_told_once_and_doors_are_still_acknowledged() {
    let scratch = Scratch::new();
    let limits = Limits {
        bytes: 16_000,
        rows: 1000,
        reserve_bytes: 8_000,
    };
    let mut box_ = Box_::start_with(&scratch, 1, Signer::new(), limits).await;
    box_.configure(1).await;
    let (client, mut events) = box_.client("door");
    for n in 0..40 {
        let kind = if n % 2 == 0 {
            "door.opened"
        } else {
            "door.closed"
        };
        let body = format!(r#"{{"id":"d-{n}","kind":"{kind}","state":"raised"}}"#);
        publish(&client, DOOR, body).await;
    }
    assert_eq!(acknowledged(&mut events, 40).await, 0);
    assert!(box_.running.gauges.shed.get() > 20);
    let told = box_.wait_for(Lane::Supervisory, 3).await;
    let disk: Vec<_> = told
        .iter()
        .filter(|e| e.kind == Kind::GatewayDisk)
        .collect();
    assert_eq!(disk.len(), 1);
    assert_eq!(disk[0].state, State::Raised);
    box_.stop().await;
}

#[tokio::test]
async fn a_damaged_store_is_told() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join(crate::store::FILE), [7; 5000]).unwrap();
    let mut box_ = Box_::start(&scratch, 1, Signer::new()).await;
    assert!(box_.running.opened.store.standing().borrow().damaged);
    box_.configure(1).await;
    let signer = box_.stop().await;
    std::fs::write(scratch.path().join("outbox.db.unsound"), "").unwrap();
    let mut again = Box_::start(&scratch, 2, signer).await;
    let told = again.wait_for(Lane::Supervisory, 2).await;
    assert_eq!(told[1].kind, Kind::GatewayDisk);
    assert!(told[1].received_at > Timestamp::default());
    again.stop().await;
}

/// What waits for a client, and what is retained, may hold a PIN: it rests sealed.
#[tokio::test]
async fn a_pin_in_a_message_of_the_mqtt_server_is_nowhere_in_the_file_in_clear() {
    let scratch = Scratch::new();
    let mut this = Box_::start(&scratch, 1, Signer::new()).await;
    this.configure(1).await;
    let mut options = MqttOptions::new("kept", "127.0.0.1", this.mqtt.port());
    options
        .set_credentials("btn", SECRET)
        .set_clean_session(false);
    let (client, mut events) = AsyncClient::new(options, 50);
    client
        .subscribe("antuo/v1/btn/#", QoS::AtLeastOnce)
        .await
        .unwrap();
    until_packet(&mut events, |packet| matches!(packet, Packet::SubAck(_))).await;
    drop((client, events));
    let (client, mut events) = this.client("btn");
    let pin = r#"{"pin":"4711-canary"}"#;
    client
        .publish("antuo/v1/btn/other", QoS::AtLeastOnce, true, pin)
        .await
        .unwrap();
    until_packet(&mut events, |packet| matches!(packet, Packet::PubAck(_))).await;
    this.stop().await;
    let mut raw = Vec::new();
    for file in std::fs::read_dir(scratch.path()).unwrap() {
        raw.extend(std::fs::read(file.unwrap().path()).unwrap_or_default());
    }
    let holds = |needle: &str| raw.windows(needle.len()).any(|w| w == needle.as_bytes());
    assert!(
        holds("r/antuo/v1/btn/other"),
        "the test looks at the wrong file"
    );
    assert!(!holds("4711-canary") && !holds(&domain::digest::to_hex(b"4711-canary")));
}

async fn until_packet(events: &mut EventLoop, wanted: impl Fn(&Packet) -> bool) {
    loop {
        if let Said::Incoming(packet) = events.poll().await.unwrap()
            && wanted(&packet)
        {
            return;
        }
    }
}

#[tokio::test]
async fn a_fire_frees_the_lock_at_once_and_a_command_is_answered_by_its_fact() {
    let scratch = Scratch::new();
    let mut box_ = Box_::start(&scratch, 1, Signer::new()).await;
    let mut with_lock = config(2);
    let smoke = enrolment("smoke", "antuo/v1/smoke/x", Role::Smoke);
    let lock = enrolment("lock", "antuo/v1/lock/x", Role::Lock);
    with_lock.enrolments.extend([smoke, lock]);
    let logins = ["smoke", "lock"].map(|user| credential(user, &format!("antuo/v1/{user}/#")));
    with_lock.mqtt_credentials.extend(logins);
    let signed = box_.signer.sign(&with_lock);
    box_.configs.send(signed).await.unwrap();
    box_.version.wait_for(|v| *v == 2).await.unwrap();
    let (lock, mut lock_hears) = box_.client("lock");
    lock.subscribe("antuo/v1/lock/x/set", QoS::AtLeastOnce)
        .await
        .unwrap();
    while !matches!(
        lock_hears.poll().await,
        Ok(Said::Incoming(Packet::SubAck(_)))
    ) {}
    let (smoke, mut smoke_hears) = box_.client("smoke");
    let fire = r#"{"id":"f-1","kind":"fire.smoke.alarm","state":"raised"}"#;
    publish(&smoke, "antuo/v1/smoke/x", fire.to_owned()).await;
    acknowledged(&mut smoke_hears, 1).await;
    let order = loop {
        if let Ok(Said::Incoming(Packet::Publish(order))) = lock_hears.poll().await {
            break order;
        }
    };
    let body: serde_json::Value = serde_json::from_slice(&order.payload).unwrap();
    assert_eq!(
        (body["do"].as_str(), order.retain),
        (Some("release"), false)
    );

    let point: PointKey = serde_json::from_str(r#"{"device":"smoke","point":"x"}"#).unwrap();
    let command = Command {
        id: CommandId(uuid::Uuid::from_u128(1)),
        by: PersonId(uuid::Uuid::from_u128(2)),
        expires_at: Timestamp::from_micros(0),
        act: Act::Acknowledge {
            point,
            activation: None,
        },
    };
    let asked = Asked {
        command,
        good_until: Duration::MAX,
    };
    box_.commands.send(asked.clone()).await.unwrap();
    box_.commands.send(asked).await.unwrap();
    let told = box_.wait_for(Lane::LifeSafety, 4).await;
    let kinds: Vec<Kind> = told.iter().map(|event| event.kind).collect();
    let expected = [
        Kind::GatewayStarted,
        Kind::FireSmokeAlarm,
        Kind::DoorReleased,
        Kind::AlarmAcknowledged,
    ];
    assert_eq!(kinds, expected);
    box_.stop().await;
}
