//! What tests of several modules need: a directory of their own, clocks, entries.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ambient::{Clock, Entropy};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::config::{Config, Enrolment, MqttCredential, Passage, Policy, Role, RosterChild};
use domain::digest::Sha256;
use domain::event::{Detail, Event, Origin, State};
use domain::id::{CentreId, ChildId, EpochId, EventId, GatewayId};
use domain::kind::{Kind, Lane};
use domain::time::{ClockTrust, Order, Timestamp};
use domain::wire::SignedConfig;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::value::RawValue;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::clock::{BoxClock, Received, Trust};
use crate::gauges::Gauges;
use crate::store::outbox::Limits;
use crate::store::row::{Entry, Submission};
use crate::store::{OpenError, Opened, Place, Store};

/// A directory that goes with the test.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("antuo-box-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn epoch(n: i64) -> EpochId {
    EpochId::at(Timestamp::from_micros(n * 1000), [0; 10])
}

pub fn received(n: u64) -> Received {
    Received {
        up: Duration::from_millis(n),
        wall: Timestamp::from_micros(i64::try_from(n).unwrap()),
        trusted: true,
    }
}

pub fn entry(lane: Lane, n: u64) -> Entry {
    Entry {
        lane,
        received: received(n),
        body: RawValue::from_string(format!("{n}")).unwrap(),
        of_the_box: false,
    }
}

/// An event of this kind, of the point `d/x`.
pub fn event(kind: Kind) -> Event {
    Event {
        id: EventId(Uuid::from_u128(1)),
        centre: CentreId(Uuid::from_u128(3)),
        zone: None,
        source: serde_json::from_str(r#"{"device":"d","point":"x"}"#).unwrap(),
        kind,
        state: State::Raised,
        severity: kind.severity(),
        occurred_at: None,
        received_at: Timestamp::from_micros(5),
        order: Order(5),
        clock_trust: ClockTrust::Unset,
        origin: Origin::Live,
        vendor_id: None,
        same_as: None,
        stamp: None,
        config_version: 1,
        signal: None,
        detail: Detail::None,
    }
}

/// An entry that can be found in the file again, about 15 to a page.
pub fn padded(lane: Lane, n: u64) -> Entry {
    let body = format!("\"{} {:200}\"", words(lane, n), "");
    Entry {
        body: RawValue::from_string(body).unwrap(),
        ..entry(lane, n)
    }
}

/// The words of a [`padded`] entry.
pub fn words(lane: Lane, n: u64) -> String {
    format!("{lane} no. {n:06}.")
}

const PAGE: usize = 4096;

/// The pages of a file that hold the text; tables that were not vacuumed may hold stale copies.
pub fn pages_with(file: &Path, text: &str) -> Vec<usize> {
    let bytes = std::fs::read(file).unwrap();
    let holds = |page: &[u8]| page.windows(text.len()).any(|part| part == text.as_bytes());
    let pages = bytes.chunks(PAGE).enumerate();
    pages
        .filter(|(_, page)| holds(page))
        .map(|(n, _)| n)
        .collect()
}

/// One page of a file, from 0.
pub fn page_of(file: &Path, page: usize) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap();
    bytes.chunks(PAGE).nth(page).unwrap().to_vec()
}

/// Writes over a page of a file, as a dying disk does, whoever has it open.
pub fn wreck(file: &Path, page: usize) {
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.write_all_at(&[0xAA; PAGE], (page * PAGE) as u64)
        .unwrap();
    file.sync_all().unwrap();
}

pub fn submission(entries: Vec<Entry>) -> Submission {
    Submission {
        entries,
        ..Submission::default()
    }
}

pub fn box_clock() -> BoxClock {
    let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
    BoxClock::new(clock, "boot", Duration::from_secs(60), Trust::System)
}

/// A store with its writer running, as the `n`th start in that directory.
pub struct Running {
    pub opened: OpenedParts,
    pub gauges: Arc<Gauges>,
    pub writer: JoinHandle<()>,
}

/// [`Opened`] without the writer.
pub struct OpenedParts {
    pub store: Store,
    pub reader: crate::store::Reader,
    pub previous: Option<crate::store::Previous>,
    pub backlog: Vec<crate::store::StreamHead>,
    pub configs: Vec<crate::store::row::SealedConfig>,
    pub marks: Vec<crate::site::Mark>,
    pub mqtt: Vec<crate::store::row::SealedRow>,
}

impl Running {
    pub async fn try_start(scratch: &Scratch, n: i64, limits: Limits) -> Result<Self, OpenError> {
        let place = Place {
            directory: scratch.path().to_owned(),
            limits,
            epoch: epoch(n),
            boot: "boot".into(),
        };
        let gauges = Arc::new(Gauges::default());
        let opened = Store::open(place, Arc::clone(&gauges), Clock::system()).await?;
        let Opened {
            store,
            writer,
            reader,
            previous,
            backlog,
            configs,
            marks,
            mqtt,
        } = opened;
        Ok(Self {
            opened: OpenedParts {
                store,
                reader,
                previous,
                backlog,
                configs,
                marks,
                mqtt,
            },
            gauges,
            writer: tokio::spawn(writer.run()),
        })
    }

    pub async fn start(scratch: &Scratch, n: i64) -> Self {
        Self::try_start(scratch, n, Limits::DEFAULT).await.unwrap()
    }

    /// Ends in good order, as at a clean shutdown.
    pub async fn stop(self) {
        let Self { opened, writer, .. } = self;
        let OpenedParts { store, reader, .. } = opened;
        reader.close().await;
        drop(store);
        writer.await.unwrap();
    }
}

pub const GATEWAY: GatewayId = GatewayId(Uuid::from_u128(7));

pub fn enrolment(device: &str, address: &str, role: Role) -> Enrolment {
    Enrolment {
        device: device.parse().unwrap(),
        point: address.rsplit('/').next().unwrap().parse().unwrap(),
        ecosystem: "antuo".into(),
        address: address.into(),
        model: None,
        role,
        zone: None,
        number: 1,
        momentary: role == Role::PanicButton,
        latching: false,
        interval_s: None,
        passage: Passage::None,
        decides: true,
        options: serde_json::Map::new(),
    }
}

/// The secret of every credential of a test.
pub const SECRET: &str = "00112233445566778899aabbccddeeff";

pub fn credential(username: &str, filter: &str) -> MqttCredential {
    MqttCredential {
        username: username.parse().unwrap(),
        secret_sha256: Sha256::of(&[SECRET.as_bytes()]).to_string(),
        publish: vec![filter.into()],
    }
}

/// The name that must never stand in clear on the disk.
pub const CHILD: &str = "小柚子";

pub fn config(version: u64) -> Config {
    Config {
        v: 1,
        centre: CentreId(Uuid::from_u128(3)),
        gateway: GATEWAY,
        version,
        zones: vec![],
        enrolments: vec![
            enrolment("btn", "antuo/v1/btn/button", Role::PanicButton),
            enrolment("door", "antuo/v1/door/contact", Role::Door),
        ],
        mqtt_credentials: vec![
            credential("btn", "antuo/v1/btn/#"),
            credential("door", "antuo/v1/door/#"),
        ],
        credential_key: "0".repeat(64),
        credentials: vec![],
        roster: vec![RosterChild {
            id: ChildId(Uuid::from_u128(5)),
            short_name: CHILD.into(),
            class_group: "小一班".into(),
        }],
        collectors: vec![],
        policy: Policy::default(),
        local_users: Vec::new(),
        place: None,
        made_at: None,
    }
}

/// A deployment's Config-signing key.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    pub fn new() -> Self {
        let seed = Entropy::system().bytes::<32>().unwrap();
        Self(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap())
    }

    pub fn public(&self) -> [u8; 32] {
        self.0.public_key().as_ref().try_into().unwrap()
    }

    pub fn sign(&self, config: &Config) -> SignedConfig {
        self.sign_text(&serde_json::to_string(config).unwrap())
    }

    pub fn sign_text(&self, document: &str) -> SignedConfig {
        SignedConfig {
            suite: "s1".into(),
            document: document.into(),
            signature: STANDARD.encode(self.0.sign(document.as_bytes())),
        }
    }
}

/// Runs SQL on the file, beside the store.
pub async fn sql(path: &Path, text: &'static str) {
    let options = SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
