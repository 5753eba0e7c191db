//! The whole box, run as its program runs it, with damage done to its file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::kind::Lane;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use rustls::pki_types::ServerName;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::*;
use crate::page::tests::client::Client;
use crate::store::FILE;
use crate::store::outbox::Limits;
use crate::store::row::{SealedConfig, Stream, Submission};
use crate::testing::{GATEWAY, Running, SECRET, Scratch, Signer};
use crate::testing::{config, epoch, padded, page_of, pages_with, sql, words, wreck};

/// A wait that takes this long has failed. No test waits for it when all is well.
const HANG: Duration = Duration::from_secs(30);
/// Rows of a former life in each of two lanes, so that its file has some eighty pages.
const ROWS: u64 = 600;

/// A box that has run before: its identity, a Config in force, and rows the cloud has not got.
struct Home {
    scratch: Scratch,
    config: Config,
    /// Takes connections and answers none.
    _cloud: TcpListener,
}

impl Home {
    async fn new() -> Self {
        Self::under(&config(1)).await
    }

    async fn under(config: &domain::config::Config) -> Self {
        let scratch = Scratch::new();
        write_identity(scratch.path());
        let former = Running::start(&scratch, 1).await;
        let document = Signer::new().sign(config).document;
        let entropy = Entropy::system();
        let key = BoxKey::read_or_make(scratch.path(), &entropy).unwrap();
        let purpose = "antuo config 1";
        let sealed = key.seal(purpose, document.as_bytes(), &entropy).unwrap();
        let rows = |lane| (1..=ROWS).map(move |n| padded(lane, n));
        let entries = rows(Lane::LifeSafety).chain(rows(Lane::Supervisory));
        let submission = Submission {
            entries: entries.collect(),
            config: Some(SealedConfig { version: 1, sealed }),
            ..Submission::default()
        };
        former.opened.store.commit(submission).await.unwrap();
        former.stop().await;
        sql(&scratch.path().join(FILE), "vacuum").await;
        let cloud = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config {
            data_dir: scratch.path().to_owned(),
            identity: scratch.path().to_owned(),
            cloud_address: cloud.local_addr().unwrap().to_string(),
            server_name: ServerName::try_from("localhost").unwrap(),
            lan: None,
            mqtt: broker::Doors {
                tcp: vec!["127.0.0.1:0".parse().unwrap()],
                ..broker::Doors::default()
            },
            bridges: vec![],
            status: "127.0.0.1:0".parse().unwrap(),
            page: None,
            clock: Trust::System,
            outbox: Limits::DEFAULT,
        };
        Self {
            scratch,
            config,
            _cloud: cloud,
        }
    }

    fn file(&self) -> PathBuf {
        self.scratch.path().join(FILE)
    }

    /// Runs the box and waits until its doors are open.
    async fn start(&self) -> Up {
        let (stop, stopped) = oneshot::channel::<()>();
        let config = self.config.clone();
        let ended = tokio::spawn(async move {
            let end = async {
                let _ = stopped.await;
            };
            run(&config, end).await
        });
        let addresses = self.scratch.path().join("addresses.json");
        let open = async {
            loop {
                assert!(!ended.is_finished(), "the box did not come up");
                if let Ok(text) = fs::read_to_string(&addresses) {
                    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
                    return said["mqtt"][0].as_str().unwrap().parse().unwrap();
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let mqtt = timeout(HANG, open).await.unwrap();
        Up { mqtt, stop, ended }
    }

    /// The rows of the former life that are still held in life safety and supervisory.
    async fn rows(&self) -> [Vec<u64>; 2] {
        let mut box_ = Running::start(&self.scratch, 3).await;
        let mut found = [vec![], vec![]];
        for (lane, numbers) in [Lane::LifeSafety, Lane::Supervisory]
            .into_iter()
            .zip(&mut found)
        {
            let stream = Stream {
                lane,
                epoch: epoch(1),
            };
            let reader = &mut box_.opened.reader;
            let rows = reader
                .page(stream, 0, ROWS, 1000, usize::MAX)
                .await
                .unwrap();
            let real = rows.iter().filter(|row| row.body.get().contains("no. "));
            numbers.extend(real.map(|row| row.seq));
        }
        box_.stop().await;
        found
    }
}

fn write_identity(folder: &Path) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    let name = GATEWAY.to_string();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    for (file, text) in [
        ("ca.pem", ca_certificate.pem()),
        ("box.pem", certificate.pem()),
        ("box.key", key.serialize_pem()),
        ("config-signing.pub", STANDARD.encode([0; 32])),
    ] {
        fs::write(folder.join(file), text).unwrap();
    }
}

/// A running box.
struct Up {
    mqtt: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), RunError>>,
}

impl Up {
    fn button(&self) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new("btn", "127.0.0.1", self.mqtt.port());
        options.set_credentials("btn", SECRET);
        AsyncClient::new(options, 50)
    }

    /// A press, acknowledged on the first connection.
    async fn assert_takes_a_press(&self) {
        let (client, mut events) = self.button();
        press(&client).await;
        let acknowledged = async {
            loop {
                if let Event::Incoming(Packet::PubAck(_)) = events.poll().await.unwrap() {
                    return;
                }
            }
        };
        timeout(HANG, acknowledged).await.expect("no PUBACK");
    }

    /// What it ended with by itself.
    async fn end(self) -> Result<(), RunError> {
        timeout(HANG, self.ended)
            .await
            .expect("it goes on")
            .unwrap()
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(HANG, self.ended).await.unwrap().unwrap().unwrap();
    }
}

async fn press(client: &AsyncClient) {
    let body = r#"{"id":"b-1","kind":"alarm.pressed","state":"raised"}"#;
    let topic = "antuo/v1/btn/button";
    client
        .publish(topic, QoS::AtLeastOnce, false, body)
        .await
        .unwrap();
}

/// The numbers of the rows that stand on a page.
fn rows_on(file: &Path, page: usize, lane: Lane) -> Vec<u64> {
    let bytes = page_of(file, page);
    let text = String::from_utf8_lossy(&bytes);
    let on_it = (1..=ROWS).filter(|n| text.contains(&words(lane, *n)));
    on_it.collect()
}

fn page_with(file: &Path, lane: Lane, n: u64) -> usize {
    *pages_with(file, &words(lane, n)).first().unwrap()
}

fn others(lost: &[u64]) -> Vec<u64> {
    (1..=ROWS).filter(|n| !lost.contains(n)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_met_at_work_ends_the_box_and_the_next_start_takes_presses_at_once() {
    let home = Home::new().await;
    let up = home.start().await;
    let page = page_with(&home.file(), Lane::LifeSafety, 1);
    let lost = rows_on(&home.file(), page, Lane::LifeSafety);
    wreck(&home.file(), page);
    // The status task looks at the oldest row; the commit makes it look at the disk.
    up.assert_takes_a_press().await;
    let ended = up.end().await;
    let Err(RunError::Damaged(why)) = ended else {
        panic!("{ended:?}")
    };
    assert!(
        why.contains("malformed") || why.contains("damaged"),
        "{why}"
    );
    let marker = home.file().with_extension("db.unsound");
    assert!(marker.exists());

    let again = home.start().await;
    again.assert_takes_a_press().await;
    again.stop().await;
    assert!(!marker.exists());
    assert_eq!(home.rows().await, [others(&lost), others(&[])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_press_that_meets_damage_is_not_acknowledged_and_is_taken_after_the_restart() {
    let home = Home::new().await;
    let up = home.start().await;
    let (client, mut events) = up.button();
    // Logged in before the damage, so that the press is what meets it.
    while !matches!(
        events.poll().await.unwrap(),
        Event::Incoming(Packet::ConnAck(_))
    ) {}
    let [last] = pages_with(&home.file(), &words(Lane::LifeSafety, ROWS))[..] else {
        panic!("copies")
    };
    sql(&home.file(), "pragma wal_checkpoint(truncate)").await;
    wreck(&home.file(), last);
    sql(
        &home.file(),
        "insert into mark (key, body) values ('k', '1')",
    )
    .await;
    press(&client).await;
    let cut = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::PubAck(_))) => panic!("acknowledged, yet not stored"),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    };
    timeout(HANG, cut).await.expect("the press hangs");
    assert!(matches!(up.end().await, Err(RunError::Damaged(_))));
    let again = home.start().await;
    again.assert_takes_a_press().await;
    again.stop().await;
}

/// The page beside the one the first record of a new epoch goes into. Packed pages are full, so that one is
/// split and this one is needed for it, and no start reads it before.
fn page_beside_the_first_record(file: &Path) -> usize {
    let page = page_with(file, Lane::LifeSafety, ROWS);
    let after = rows_on(file, page, Lane::Supervisory);
    let last = after.last().expect("a page of both lanes");
    // The row between two leaves stands in their parent.
    page_with(file, Lane::Supervisory, last + 2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_met_by_the_first_records_is_rescued_in_the_same_start() {
    let home = Home::new().await;
    let page = page_beside_the_first_record(&home.file());
    let lost = rows_on(&home.file(), page, Lane::Supervisory);
    assert!(!lost.is_empty() && lost.len() < 100);
    wreck(&home.file(), page);
    let opened = Running::start(&home.scratch, 2).await;
    let standing = *opened.opened.store.standing().borrow();
    assert!(!standing.damaged, "the opening alone does not meet it");
    opened.stop().await;
    let up = home.start().await;
    up.assert_takes_a_press().await;
    up.stop().await;
    assert_eq!(home.rows().await, [others(&[]), others(&lost)]);
}

#[tokio::test]
async fn a_second_box_on_one_folder_is_refused_and_harms_nothing() {
    let site = Home::new().await;
    let up = site.start().await;
    let addresses = site.scratch.path().join("addresses.json");
    assert!(addresses.exists());
    let second = run(&site.config, std::future::pending()).await;
    assert!(matches!(second, Err(RunError::InUse(_))), "{second:?}");
    assert!(addresses.exists(), "the first one's doors are still told");
    up.assert_takes_a_press().await;
    up.stop().await;
}

/// The page of a whole box: what a device says over MQTT is on it, though the cloud is away.
#[tokio::test]
async fn the_page_shows_what_a_device_said_to_a_box_without_a_cloud() {
    let mut document = config(1);
    let role = domain::config::LocalRole::Director;
    document.local_users = vec![page::tests::user(1, role, "wu", "493817")];
    let mut home = Home::under(&document).await;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = lan::LanFiles {
        certificate: home.scratch.path().join("lan.pem"),
        key: home.scratch.path().join("lan.key"),
    };
    fs::write(&files.certificate, made.cert.pem()).unwrap();
    fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    home.config.lan = Some(files);
    home.config.page = Some(crate::config::PageDoors {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        redirect: vec!["127.0.0.1:0".parse().unwrap()],
    });
    let up = home.start().await;
    let text = fs::read_to_string(home.scratch.path().join("addresses.json")).unwrap();
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    let page = said["page"][0].as_str().unwrap().parse().unwrap();
    assert!(said["page_redirect"][0].is_string());
    let mut browser = Client::new(page, made.cert.der().clone());
    assert_eq!(browser.log_in("wu", "493817").await.status, 200);
    let before = browser.get("/api/status").await.json();
    assert_eq!(before["alarms"], serde_json::json!([]));
    assert_eq!(before["cloud"]["up"], false);
    let mut options = MqttOptions::new("btn", "127.0.0.1", up.mqtt.port());
    options.set_credentials("btn", SECRET);
    let (client, mut events) = AsyncClient::new(options, 10);
    let press = r#"{"id":"1","kind":"alarm.pressed","state":"raised"}"#;
    client
        .publish("antuo/v1/btn/button", QoS::AtLeastOnce, false, press)
        .await
        .unwrap();
    while !matches!(
        events.poll().await.unwrap(),
        Event::Incoming(Packet::PubAck(_))
    ) {}
    let log = browser.get("/api/signals").await.json();
    assert_eq!(log["lines"][0]["events"][0]["kind"], "alarm.pressed");
    assert_eq!(log["lines"][0]["username"], "btn");
    // The page looks at most once a second.
    let shown = async {
        loop {
            let status = browser.get("/api/status").await.json();
            if status["alarms"][0]["point"] == "btn/button" {
                break status;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let status = timeout(HANG, shown).await.expect("the press is not shown");
    assert_eq!(status["alarms"][0]["acknowledged"], false);
    up.stop.send(()).unwrap();
    timeout(HANG, up.ended).await.unwrap().unwrap().unwrap();
}
