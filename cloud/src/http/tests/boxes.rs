//! Boxes: who gets through the mutual TLS, and the conversation on the uplink.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use domain::config::Config;
use domain::id::GatewayId;
use domain::kind::Lane;
use domain::wire::{BATCH_MAX, Batch, Down, Hello, Refused, Up, WIRE_READS};
use futures_util::{SinkExt as _, StreamExt as _};
use ring::signature::{ED25519, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::press::{batch, door, epoch, record};
use crate::boxes::Work;
use crate::keys::{Authority, Issued, first_name_of};
use crate::metrics::Metrics;
use crate::setup::provision::{Provision, lan_certificate, provision};
use crate::sql;
use crate::trial::{Running, fixture, id};

pub(super) const BOX: u16 = 0xd001;

/// A box's identity as `provision` wrote it.
pub(super) struct Identity {
    certificate: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    pub(super) async fn provisioned(running: &Running, gateway: u16, folder: &str) -> Self {
        let out = running.trial.dir.path().join(folder);
        let what = Provision {
            gateway: GatewayId(id(gateway)),
            out: out.clone(),
            mqtt: "127.0.0.1:0".parse().unwrap(),
            status: "127.0.0.1:0".parse().unwrap(),
            lan_names: vec![],
        };
        let trial = &running.trial;
        provision(&trial.db, &trial.config, &trial.clock, &what)
            .await
            .unwrap();
        let identity = out.join("identity");
        Self {
            certificate: vec![CertificateDer::from_pem_file(identity.join("box.pem")).unwrap()],
            key: PrivateKeyDer::from_pem_file(identity.join("box.key")).unwrap(),
        }
    }

    fn issued(issued: &Issued) -> Self {
        let certificate = issued.certificate_pem.as_bytes();
        Self {
            certificate: vec![CertificateDer::from_pem_slice(certificate).unwrap()],
            key: PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
        }
    }
}

pub(super) type Line = WebSocketStream<TlsStream<TcpStream>>;

/// Connects as far as the cloud lets it.
async fn connect(running: &Running, identity: Option<&Identity>) -> Result<Line, String> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(&running.trial.config.keys.ca).unwrap();
    roots.add(ca).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match identity {
        Some(identity) => config
            .with_client_auth_cert(identity.certificate.clone(), identity.key.clone_key())
            .unwrap(),
        None => config.with_no_client_auth(),
    };
    let tcp = TcpStream::connect(running.boxes).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await;
    let tls = tls.map_err(|e| e.to_string())?;
    let line = tokio_tungstenite::client_async("wss://localhost/v1/uplink", tls).await;
    line.map(|(line, _)| line).map_err(|e| e.to_string())
}

pub(super) async fn say(line: &mut Line, up: &Up) {
    let text = serde_json::to_string(up).unwrap();
    line.send(Message::text(text)).await.unwrap();
}

/// The next frame; none at the end.
pub(super) async fn hear(line: &mut Line) -> Option<Down> {
    loop {
        match line.next().await? {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

async fn refusal(line: &mut Line) -> Refused {
    match hear(line).await {
        Some(Down::Refused { why }) => why,
        other => panic!("{other:?}"),
    }
}

fn hello(gateway: u16, config_version: u64) -> Up {
    Up::Hello(Hello {
        speaks: WIRE_READS.to_vec(),
        gateway: GatewayId(id(gateway)),
        epoch: epoch(),
        draining: Vec::new(),
        config_version,
        program: "test".into(),
    })
}

/// A line past its hello.
pub(super) async fn greeted(running: &Running, identity: &Identity, config_version: u64) -> Line {
    let mut line = connect(running, Some(identity)).await.unwrap();
    say(&mut line, &hello(BOX, config_version)).await;
    match hear(&mut line).await {
        Some(Down::Welcome(welcome)) => assert_eq!(welcome.v, 1),
        other => panic!("{other:?}"),
    }
    line
}

fn counted(metrics: &Metrics, line: &str) -> bool {
    let mut text = String::new();
    metrics.write(&mut text);
    text.lines().any(|l| l == line)
}

#[tokio::test]
async fn only_a_key_of_our_own_ca_gets_through() {
    let running = Running::new().await;
    let (foreign, _, _) = Authority::make().unwrap();
    let foreign = Identity::issued(&foreign.issue_gateway(GatewayId(id(BOX))).unwrap());
    assert!(connect(&running, None).await.is_err());
    assert!(connect(&running, Some(&foreign)).await.is_err());
    let refused = "antuo_ingest_refused_total{why=\"bad_client_key\"} 2";
    assert!(counted(&running.api.metrics, refused));
}

#[tokio::test]
async fn a_certificate_without_a_row_or_with_a_revoked_one_is_told_so() {
    let running = Running::new().await;
    let keys = &running.trial.config.keys;
    let authority = Authority::read(&keys.ca, &keys.ca_key).unwrap();
    let unknown = Identity::issued(&authority.issue_gateway(GatewayId(id(BOX))).unwrap());
    let mut line = connect(&running, Some(&unknown)).await.unwrap();
    assert_eq!(refusal(&mut line).await, Refused::KeyRevoked);
    let known = Identity::provisioned(&running, BOX, "box").await;
    let mut line = greeted(&running, &known, 1).await;
    running
        .execute(|tx| {
            Box::pin(async move {
                sql!(tx, execute, "update gateway_key set state = 'revoked'").unwrap();
            })
        })
        .await;
    assert_eq!(refusal(&mut line).await, Refused::KeyRevoked);
    let mut line = connect(&running, Some(&known)).await.unwrap();
    assert_eq!(refusal(&mut line).await, Refused::KeyRevoked);
    assert!(hear(&mut line).await.is_none());
    let refused = "antuo_ingest_refused_total{why=\"bad_client_key\"} 3";
    assert!(counted(&running.api.metrics, refused));
}

#[tokio::test]
async fn dates_decide_nothing_and_an_older_key_stays_good() {
    let running = Running::new().await;
    let old = Identity::provisioned(&running, BOX, "old").await;
    let _new = Identity::provisioned(&running, BOX, "new").await;
    greeted(&running, &old, 1).await;
    // A certificate of our CA that ended long ago, for a key that is known.
    let keys = &running.trial.config.keys;
    let ca_key = std::fs::read_to_string(&keys.ca_key).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&ca_key).unwrap();
    let ca = std::fs::read_to_string(&keys.ca).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ca, ca_key).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 2, 1);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate().unwrap();
    let expired = Identity {
        certificate: vec![params.signed_by(&key, &issuer).unwrap().der().clone()],
        key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
    };
    let print = crate::keys::fingerprint_of(&expired.certificate[0]).unwrap();
    running
        .execute(move |tx| {
            Box::pin(async move {
                sql!(
                    tx,
                    execute,
                    "insert into gateway_key (fingerprint, centre, gateway, state, issued_at)
                     values ($1, $2, $3, 'active', 0)",
                    print.0.to_vec(),
                    id(0xc001),
                    id(BOX)
                )
                .unwrap();
            })
        })
        .await;
    greeted(&running, &expired, 1).await;
}

#[tokio::test]
async fn hello_comes_first_and_is_of_this_box_in_a_common_version() {
    let running = Running::new().await;
    let known = Identity::provisioned(&running, BOX, "box").await;
    let odd = Up::Hello(Hello {
        speaks: vec![99],
        gateway: GatewayId(id(BOX)),
        epoch: epoch(),
        draining: Vec::new(),
        config_version: 0,
        program: String::new(),
    });
    let now = running.trial.clock.now();
    for (first, why) in [
        (Up::Batch(batch(0xc001, 1..=1, now)), Refused::BrokenFrame),
        (hello(0xd002, 0), Refused::NotThisGateway),
        (odd, Refused::UnknownVersion),
    ] {
        let mut line = connect(&running, Some(&known)).await.unwrap();
        say(&mut line, &first).await;
        assert_eq!(refusal(&mut line).await, why);
    }
    let mut line = greeted(&running, &known, 1).await;
    let mut long = batch(0xc001, 1..=1, now);
    long.records = (1..=u64::try_from(BATCH_MAX).unwrap() + 1)
        .map(|seq| record(0xc001, seq, now))
        .collect();
    say(&mut line, &Up::Batch(long)).await;
    assert_eq!(refusal(&mut line).await, Refused::BrokenFrame);
}

#[tokio::test]
async fn records_are_receipted_once_stored_and_a_repeat_is_counted() {
    let running = Running::new().await;
    let known = Identity::provisioned(&running, BOX, "box").await;
    let mut line = greeted(&running, &known, 1).await;
    let token = running.token(0xf005).await;
    let now = running.trial.clock.now();
    for (seqs, through) in [(1..=2, 2), (1..=2, 2), (3..=3, 3)] {
        say(&mut line, &Up::Batch(batch(0xc001, seqs, now))).await;
        let Some(Down::Receipt(receipt)) = hear(&mut line).await else {
            panic!("no receipt");
        };
        assert_eq!(
            (receipt.lane, receipt.through_seq),
            (Lane::LifeSafety, through)
        );
    }
    for line in [
        "antuo_ingest_records_total 5",
        "antuo_ingest_replayed_records_total 2",
    ] {
        assert!(counted(&running.api.metrics, line), "{line}");
    }
    let (_, answer) = running.get("/api/admin/gateways", &token).await;
    let seen = answer["gateways"]
        .as_array()
        .unwrap()
        .iter()
        .find(|b| b["id"] == json!(id(BOX)));
    let seen = seen.unwrap();
    assert_eq!(seen["connected"], true);
    assert!(seen["last_seen_at"].is_i64());
    assert_eq!(seen["config_version_applied"], 1);
    let lane = json!({"epoch": epoch(), "lane": "life_safety", "through_seq": 3});
    assert_eq!(seen["lanes"], json!([lane]));
}

#[tokio::test]
async fn a_newer_connection_of_a_box_replaces_the_older() {
    let running = Running::new().await;
    let known = Identity::provisioned(&running, BOX, "box").await;
    let mut first = greeted(&running, &known, 1).await;
    let mut second = greeted(&running, &known, 1).await;
    assert!(hear(&mut first).await.is_none());
    let now = running.trial.clock.now();
    say(&mut second, &Up::Batch(batch(0xc001, 1..=1, now))).await;
    assert!(matches!(hear(&mut second).await, Some(Down::Receipt(_))));
    assert_eq!(running.api.boxes.count(), 1);
}

#[tokio::test]
async fn what_waits_on_a_replaced_line_is_left_to_the_newer_one() {
    let running = Running::new().await;
    let known = Identity::provisioned(&running, BOX, "box").await;
    let gateway = GatewayId(id(BOX));
    let work = Work::Batches(Lane::LifeSafety);
    let turn = running.api.boxes.turn(gateway, work).await;
    let mut first = greeted(&running, &known, 1).await;
    let now = running.trial.clock.now();
    for seq in 1..=3 {
        say(&mut first, &Up::Batch(batch(0xc001, seq..=seq, now))).await;
    }
    let mut second = greeted(&running, &known, 1).await;
    say(&mut second, &Up::Batch(batch(0xc001, 1..=1, now))).await;
    drop(turn);
    assert!(hear(&mut first).await.is_none());
    let Some(Down::Receipt(receipt)) = hear(&mut second).await else {
        panic!("no receipt");
    };
    assert_eq!(receipt.through_seq, 1);
}

#[tokio::test]
async fn hellos_of_one_box_are_answered_one_after_the_other() {
    let running = Running::new().await;
    let known = Identity::provisioned(&running, BOX, "box").await;
    let turn = running
        .api
        .boxes
        .turn(GatewayId(id(BOX)), Work::Hello)
        .await;
    let mut line = connect(&running, Some(&known)).await.unwrap();
    say(&mut line, &hello(BOX, 1)).await;
    let early = tokio::time::timeout(Duration::from_millis(300), hear(&mut line)).await;
    assert!(early.is_err(), "answered out of turn");
    drop(turn);
    assert!(matches!(hear(&mut line).await, Some(Down::Welcome(_))));
}

#[tokio::test]
async fn a_newer_config_is_pushed_signed_at_the_start_and_after_an_import() {
    let running = Running::new().await;
    let known = Identity::provisioned(&running, BOX, "box").await;
    let folder = running
        .trial
        .dir
        .path()
        .join("box/identity/config-signing.pub");
    let mut line = greeted(&running, &known, 0).await;
    let read = |down: Option<Down>| {
        let Some(Down::Config(signed)) = down else {
            panic!("{down:?}");
        };
        use base64::Engine as _;
        let decode = |text: &str| {
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .unwrap()
        };
        let public = decode(std::fs::read_to_string(&folder).unwrap().trim());
        let key = UnparsedPublicKey::new(&ED25519, public);
        key.verify(signed.document.as_bytes(), &decode(&signed.signature))
            .unwrap();
        assert_eq!(signed.suite, "s1");
        Config::read(signed.document.as_bytes()).unwrap()
    };
    let config = read(hear(&mut line).await);
    assert_eq!((config.version, config.gateway), (1, GatewayId(id(BOX))));
    assert_eq!(config.enrolments.len(), 2);
    let mut document = fixture();
    document["people"] = json!([]);
    document["centres"][0]["zones"][0]["name"] = json!("前厅");
    running.trial.import(&document).await.unwrap();
    let config = read(hear(&mut line).await);
    assert_eq!((config.version, config.zones[0].name.as_str()), (2, "前厅"));
}

#[tokio::test]
async fn a_store_that_is_away_gives_no_receipt() {
    let running = Running::new().await;
    let known = Identity::provisioned(&running, BOX, "box").await;
    let mut line = greeted(&running, &known, 1).await;
    running.trial.db.close().await;
    let now = running.trial.clock.now();
    say(&mut line, &Up::Batch(batch(0xc001, 1..=1, now))).await;
    assert_eq!(refusal(&mut line).await, Refused::Unavailable);
    let mut line = connect(&running, Some(&known)).await.unwrap();
    assert_eq!(refusal(&mut line).await, Refused::Unavailable);
}

#[tokio::test]
async fn the_end_of_the_process_closes_the_line_after_the_receipts() {
    let running = Running::new().await;
    let known = Identity::provisioned(&running, BOX, "box").await;
    let mut line = greeted(&running, &known, 1).await;
    let now = running.trial.clock.now();
    for seq in 1..=5 {
        say(&mut line, &Up::Batch(batch(0xc001, seq..=seq, now))).await;
    }
    assert!(matches!(hear(&mut line).await, Some(Down::Receipt(_))));
    running.stopper.tell();
    let mut through = 1;
    while let Some(down) = hear(&mut line).await {
        let Down::Receipt(receipt) = down else {
            panic!("{down:?}");
        };
        through = receipt.through_seq;
    }
    // Whatever the cloud keeps it has receipted, and the other way round.
    let mut tx = running.trial.db.read().await.unwrap();
    let (kept,) = sql!(&mut tx, fetch_one as (i64,), "select max(seq) from record").unwrap();
    assert_eq!(u64::try_from(kept).unwrap(), through);
}

#[tokio::test]
async fn a_bulk_backlog_never_delays_life_safety() {
    const BULK: u64 = 12;
    let running = Running::new().await;
    let known = Identity::provisioned(&running, BOX, "box").await;
    let mut line = greeted(&running, &known, 1).await;
    let now = running.trial.clock.now();
    let size = u64::try_from(BATCH_MAX).unwrap();
    for n in 0..BULK {
        let seqs = n * size + 1..=(n + 1) * size;
        let bulk = Batch {
            epoch: epoch(),
            lane: Lane::Telemetry,
            records: seqs.map(|seq| door(0xc001, seq, now)).collect(),
        };
        say(&mut line, &Up::Batch(bulk)).await;
    }
    say(&mut line, &Up::Batch(batch(0xc001, 1..=1, now))).await;
    let mut before = 0;
    loop {
        match hear(&mut line).await {
            Some(Down::Receipt(receipt)) if receipt.lane == Lane::LifeSafety => break,
            Some(Down::Receipt(_)) => before += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(before < BULK, "the press waited for the whole backlog");
}

#[tokio::test]
async fn a_box_keeps_its_identity_and_gets_settings_once() {
    let running = Running::new().await;
    let trial = &running.trial;
    Identity::provisioned(&running, BOX, "box").await;
    let out = trial.dir.path().join("box");
    let settings = std::fs::read_to_string(out.join("gateway.toml")).unwrap();
    let settings: toml::Value = toml::from_str(&settings).unwrap();
    assert_eq!(settings["cloud"]["server_name"].as_str(), Some("localhost"));
    assert_eq!(settings["cloud"]["identity"].as_str(), Some("identity"));
    let certificate = CertificateDer::from_pem_file(&trial.config.keys.boxes_certificate).unwrap();
    assert_eq!(first_name_of(&certificate).as_deref(), Some("localhost"));
    let mut what = Provision {
        gateway: GatewayId(id(BOX)),
        out,
        mqtt: "127.0.0.1:0".parse().unwrap(),
        status: "127.0.0.1:0".parse().unwrap(),
        lan_names: vec![],
    };
    let again = provision(&trial.db, &trial.config, &trial.clock, &what)
        .await
        .unwrap_err();
    assert!(again.to_string().contains("keeps its key"), "{again}");
    let open = Permissions::from_mode(0o755);
    std::fs::set_permissions(&what.out, open).unwrap();
    let open = provision(&trial.db, &trial.config, &trial.clock, &what)
        .await
        .unwrap_err();
    assert!(open.to_string().contains("chmod 700"), "{open}");
    // A folder of ours with settings already: whose, we cannot know.
    what.out = trial.dir.path().join("half");
    crate::keys::make_folder(&what.out).unwrap();
    std::fs::write(what.out.join("gateway.toml"), "").unwrap();
    let half = provision(&trial.db, &trial.config, &trial.clock, &what)
        .await
        .unwrap_err();
    assert!(half.to_string().contains("gateway.toml exists"), "{half}");
    what.gateway = GatewayId(id(0x9999));
    what.out = trial.dir.path().join("other");
    let unknown = provision(&trial.db, &trial.config, &trial.clock, &what)
        .await
        .unwrap_err();
    assert!(unknown.to_string().contains("import it"), "{unknown}");
    assert!(!what.out.exists());
}

#[tokio::test]
async fn a_box_gets_a_certificate_for_its_network_and_a_new_one_on_request() {
    let running = Running::new().await;
    let trial = &running.trial;
    let keys = &trial.config.keys;
    // As in a folder of an older `init`.
    std::fs::remove_file(&keys.lan_ca).unwrap();
    std::fs::remove_file(&keys.lan_ca_key).unwrap();
    let names = ["192.168.1.10", "box.local"].map(|name| name.parse().unwrap());
    let what = Provision {
        gateway: GatewayId(id(BOX)),
        out: trial.dir.path().join("box"),
        mqtt: "127.0.0.1:0".parse().unwrap(),
        status: "127.0.0.1:0".parse().unwrap(),
        lan_names: names.to_vec(),
    };
    provision(&trial.db, &trial.config, &trial.clock, &what)
        .await
        .unwrap();
    let settings = std::fs::read_to_string(what.out.join("gateway.toml")).unwrap();
    let settings: toml::Value = toml::from_str(&settings).unwrap();
    let named = |key: &str| what.out.join(settings["lan"][key].as_str().unwrap());
    let certificate = CertificateDer::from_pem_file(named("certificate")).unwrap();
    assert_eq!(first_name_of(&certificate).as_deref(), Some("192.168.1.10"));
    let mode = named("key").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    let given = what.out.join("identity/lan-ca.pem");
    assert_eq!(read(&given), read(&keys.lan_ca));
    assert_ne!(read(&given), read(&keys.ca));
    let anew = trial.dir.path().join("anew");
    lan_certificate(&trial.config, &trial.clock, &anew, &names).unwrap();
    assert_eq!(read(&anew.join("lan-ca.pem")), read(&given));
    let second = read(&anew.join("lan.pem"));
    assert_ne!(second, read(&named("certificate")));
    let again = lan_certificate(&trial.config, &trial.clock, &anew, &names).unwrap_err();
    assert!(again.to_string().contains("lan.key"), "{again}");
    assert_eq!(read(&anew.join("lan.pem")), second);
}
