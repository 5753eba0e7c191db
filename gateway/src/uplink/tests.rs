//! The uplink over real TLS and WebSocket on loopback, against a cloud that says what the test says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use super::*;
use crate::clock::{BoxClock, Trust};
use crate::identity::Identity;
use crate::store::row::Stream;
use crate::store::{Sentry, inspect};
use crate::testing::{OpenedParts, Running, Scratch, box_clock, entry, epoch, sql, submission};
use ambient::Clock;
use domain::command::{Act, Command};
use domain::id::{CommandId, GatewayId, PersonId};
use domain::kind::Lane;
use domain::time::Timestamp;
use domain::wire::{Batch, Down, Hello, Receipt, Refused, SentCommand, Up, Welcome};
use futures_util::{SinkExt as _, StreamExt as _};
use lanes::Lanes;
use machine::Speaker;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

const GATEWAY: GatewayId = GatewayId(Uuid::from_u128(7));
/// A wait that takes this long has failed. No test waits for it when all is well.
const HANG: Duration = Duration::from_secs(20);

/// A CA and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, "CA");
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn issue(
        &self,
        params: CertificateParams,
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (certificate.der().clone(), key)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    fn identity(&self) -> Identity {
        let mut params = CertificateParams::default();
        let name = GATEWAY.to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        let (certificate, key) = self.issue(params);
        Identity {
            gateway: GATEWAY,
            certificates: vec![certificate],
            key,
            authorities: self.roots(),
            config_signing: [0; 32],
        }
    }
}

/// A listener that lets boxes of its CA in.
struct Cloud {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Cloud {
    async fn start(authority: &Authority, mut params: CertificateParams) -> Self {
        params.distinguished_name.push(DnType::CommonName, "cloud");
        let (certificate, key) = authority.issue(params);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(authority.roots());
        let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }

    async fn localhost(authority: &Authority) -> Self {
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        Self::start(authority, params).await
    }

    /// The next box to come, with its hello.
    async fn accept(&self) -> Talking {
        let (tcp, _) = self.listener.accept().await.unwrap();
        let tls = self.acceptor.accept(tcp).await.unwrap();
        let socket = tokio_tungstenite::accept_async(tls).await.unwrap();
        let mut talking = Talking {
            socket,
            hello: None,
        };
        let Up::Hello(hello) = talking.hear().await else {
            panic!("no hello first")
        };
        talking.hello = Some(hello);
        talking
    }

    /// Lets handshakes fail until dropped.
    fn refuse_by_tls(self) -> JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                let (tcp, _) = self.listener.accept().await.unwrap();
                assert!(self.acceptor.accept(tcp).await.is_err());
            }
        })
    }
}

struct Talking {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    hello: Option<Hello>,
}

impl Talking {
    async fn hear(&mut self) -> Up {
        loop {
            if let Message::Text(text) = self.socket.next().await.unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    async fn batch(&mut self) -> Batch {
        match self.hear().await {
            Up::Batch(batch) => batch,
            Up::Hello(hello) => panic!("a second hello {hello:?}"),
        }
    }

    async fn say(&mut self, down: Down) {
        let text = serde_json::to_string(&down).unwrap();
        self.socket.send(Message::text(text)).await.unwrap();
    }

    async fn welcome(&mut self, receipts: Vec<Receipt>) {
        self.say(Down::Welcome(Welcome { v: 1, receipts })).await;
    }

    async fn receipt(&mut self, receipt: Receipt) {
        self.say(Down::Receipt(receipt)).await;
    }
}

fn receipt(lane: Lane, through_seq: u64, ranges: &[(u64, u64)]) -> Receipt {
    Receipt {
        epoch: epoch(1),
        lane,
        through_seq,
        ranges: ranges.to_vec(),
    }
}

fn seqs(batch: &Batch) -> Vec<u64> {
    batch.records.iter().map(|record| record.seq).collect()
}

/// A box with a store and an uplink, nothing else.
struct Box_ {
    store: Running,
    link: watch::Receiver<Link>,
    configs: mpsc::Receiver<SignedConfig>,
    commands: mpsc::Receiver<Asked>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    _version: watch::Sender<u64>,
    _scratch: Scratch,
}

impl Box_ {
    async fn start(cloud: &Cloud, identity: &Identity, name: &str, trust: Trust) -> Self {
        let scratch = Scratch::new();
        let store = Running::start(&scratch, 1).await;
        let reader = store.opened.reader.another().await.unwrap();
        Self::start_on(scratch, store, reader, (cloud, identity, name, trust)).await
    }

    async fn start_on(
        scratch: Scratch,
        store: Running,
        reader: Reader,
        (cloud, identity, name, trust): (&Cloud, &Identity, &str, Trust),
    ) -> Self {
        let address = cloud.listener.local_addr().unwrap().to_string();
        let tls = tls::client(identity, trust == Trust::System).unwrap();
        let speaker = Speaker {
            gateway: GATEWAY,
            epoch: epoch(1),
            program: "test".into(),
        };
        let (configs_in, configs) = mpsc::channel(2);
        let (commands_in, commands) = mpsc::channel(2);
        let (version, config_version) = watch::channel(4);
        let (link_in, link) = watch::channel(Link::Connecting);
        let driver = Driver {
            peer: Peer {
                address,
                server_name: ServerName::try_from(name.to_owned()).unwrap(),
                tls: Arc::new(tls),
            },
            uplink: Uplink::new(speaker, Lanes::new(epoch(1), "boot".into())),
            store: store.opened.store.clone(),
            reader,
            clock: BoxClock::new(Clock::system(), "boot", Duration::ZERO, trust),
            entropy: Entropy::seeded(1),
            configs: configs_in,
            commands: commands_in,
            config_version,
            link: link_in,
            gauges: Arc::clone(&store.gauges),
        };
        let (stop, stopped) = watch::channel(false);
        Self {
            store,
            link,
            configs,
            commands,
            stop,
            task: tokio::spawn(driver.run(stopped)),
            _version: version,
            _scratch: scratch,
        }
    }

    async fn store(&self, lane: Lane, count: u64) {
        for chunk in 0..count.div_ceil(500) {
            let upto = (count - chunk * 500).min(500);
            let rows = (0..upto).map(|n| entry(lane, n)).collect();
            let store = &self.store.opened.store;
            store.commit(submission(rows)).await.unwrap();
        }
    }

    async fn trouble(&mut self) -> Trouble {
        let resting = |link: &Link| matches!(link, Link::Resting(Some(_)));
        match &*self.link.wait_for(resting).await.unwrap() {
            Link::Resting(Some(trouble)) => trouble.clone(),
            Link::Resting(None) | Link::Connecting | Link::Up => panic!("not resting"),
        }
    }

    async fn held(&mut self, lane: Lane) -> Vec<u64> {
        let OpenedParts { reader, .. } = &mut self.store.opened;
        let stream = Stream {
            lane,
            epoch: epoch(1),
        };
        let rows = reader.page(stream, 0, u64::MAX, 100_000, usize::MAX).await;
        rows.unwrap().iter().map(|row| row.seq).collect()
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
        self.store.stop().await;
    }
}

#[tokio::test]
async fn after_a_cut_exactly_what_has_no_receipt_comes_again() {
    let authority = Authority::new();
    let cloud = Cloud::localhost(&authority).await;
    let mut box_ = Box_::start(&cloud, &authority.identity(), "localhost", Trust::System).await;
    let mut talking = cloud.accept().await;
    let hello = talking.hello.clone().unwrap();
    assert_eq!(
        (hello.gateway, hello.epoch, hello.config_version),
        (GATEWAY, epoch(1), 4)
    );
    assert_eq!((hello.speaks, hello.draining), (vec![1], vec![]));
    talking.welcome(vec![]).await;
    box_.store(Lane::LifeSafety, 20).await;
    let batch = talking.batch().await;
    assert_eq!(seqs(&batch), (1..=20).collect::<Vec<_>>());
    talking
        .receipt(receipt(Lane::LifeSafety, 4, &[(7, 9)]))
        .await;
    drop(talking);

    let mut again = cloud.accept().await;
    assert_eq!(box_.store.gauges.reconnects.get(), 1);
    again
        .welcome(vec![receipt(Lane::LifeSafety, 4, &[(7, 12)])])
        .await;
    let batch = again.batch().await;
    let expected: BTreeSet<u64> = (5..=6).chain(13..=20).collect();
    assert_eq!(seqs(&batch), expected.iter().copied().collect::<Vec<_>>());
    again.receipt(receipt(Lane::LifeSafety, 20, &[])).await;
    while box_.store.gauges.lane(Lane::LifeSafety).rows.get() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(box_.held(Lane::LifeSafety).await, Vec::<u64>::new());
    box_.stop().await;
}

#[tokio::test]
async fn a_failed_backlog_read_is_repeated() {
    let scratch = Scratch::new();
    let former = Running::start(&scratch, 0).await;
    let rows = (0..3).map(|n| entry(Lane::LifeSafety, n)).collect();
    former.opened.store.commit(submission(rows)).await.unwrap();
    former.stop().await;
    let path = scratch.path().join(crate::store::FILE);
    sql(&path, "delete from record where seq = 2").await;

    let authority = Authority::new();
    let cloud = Cloud::localhost(&authority).await;
    let identity = authority.identity();
    let store = Running::start(&scratch, 1).await;
    // What fails here stands for a failing disk, not for damage: its sentry guards nothing of the store.
    let elsewhere = scratch.path().join("elsewhere");
    let reader = Reader::open(&path, Sentry::new(&elsewhere)).await.unwrap();
    let with = (&cloud, &identity, "localhost", Trust::System);
    let mut box_ = Box_::start_on(scratch, store, reader, with).await;
    let mut talking = cloud.accept().await;
    talking.welcome(vec![]).await;
    box_.link.wait_for(|link| *link == Link::Up).await.unwrap();

    // The writer and the search for holes do not name this column; the list of streams does.
    sql(&path, "alter table epoch rename column boot to away").await;
    let reader = box_.store.opened.reader.another().await.unwrap();
    let opened = &box_.store.opened;
    inspect(&opened.store, reader, &box_clock()).await.unwrap();
    let trouble = timeout(HANG, box_.trouble()).await;
    assert_eq!(trouble.expect("the read goes well"), Trouble::Store);
    sql(&path, "alter table epoch rename column away to boot").await;

    let again = timeout(HANG, cloud.accept()).await;
    let mut again = again.expect("no other connection");
    again.welcome(vec![]).await;
    let batch = timeout(HANG, again.batch()).await;
    let batch = batch.expect("the old epoch is never sent");
    assert_eq!((batch.epoch, seqs(&batch)), (epoch(0), vec![1, 2, 3]));
    box_.stop().await;
}

#[tokio::test]
async fn a_press_overtakes_a_backlog_of_ten_thousand_doors() {
    let authority = Authority::new();
    let cloud = Cloud::localhost(&authority).await;
    let box_ = Box_::start(&cloud, &authority.identity(), "localhost", Trust::System).await;
    let mut talking = cloud.accept().await;
    box_.store(Lane::Telemetry, 10_000).await;
    talking.welcome(vec![]).await;
    let mut last = 0;
    let mut flying = 0;
    while flying < lanes::BULK_FLYING / 2 {
        let batch = talking.batch().await;
        assert_eq!(batch.lane, Lane::Telemetry);
        assert!(batch.records.len() <= lanes::BULK_BATCH);
        flying += batch
            .records
            .iter()
            .map(|r| r.body.get().len() + 48)
            .sum::<usize>();
        last = *seqs(&batch).last().unwrap();
    }
    box_.store(Lane::LifeSafety, 1).await;
    let press = talking.batch().await;
    assert_eq!((press.lane, seqs(&press)), (Lane::LifeSafety, vec![1]));
    assert!(last < 10_000, "the backlog is not through yet");
    talking.receipt(receipt(Lane::Telemetry, last, &[])).await;
    assert_eq!(talking.batch().await.lane, Lane::Telemetry);
    box_.stop().await;
}

#[tokio::test]
async fn a_cloud_of_another_ca_is_not_spoken_to() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let cloud = Cloud::localhost(&theirs).await;
    let mut box_ = Box_::start(&cloud, &ours.identity(), "localhost", Trust::System).await;
    let cloud = cloud.refuse_by_tls();
    // Same name, other key: only the signature tells.
    let trouble = box_.trouble().await;
    assert!(matches!(trouble, Trouble::NotTrusted(_)), "{trouble}");
    box_.stop().await;
    cloud.abort();
}

#[tokio::test]
async fn a_cloud_of_another_name_is_not_spoken_to() {
    let authority = Authority::new();
    let cloud = Cloud::localhost(&authority).await;
    let identity = authority.identity();
    let mut box_ = Box_::start(&cloud, &identity, "cloud.example.org", Trust::Unset).await;
    let cloud = cloud.refuse_by_tls();
    let trouble = box_.trouble().await;
    assert!(matches!(trouble, Trouble::NotTrusted(_)), "{trouble}");
    box_.stop().await;
    cloud.abort();
}

fn expired() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    params
}

#[tokio::test]
async fn dates_count_when_the_clock_is_trusted() {
    let authority = Authority::new();
    let cloud = Cloud::start(&authority, expired()).await;
    let mut box_ = Box_::start(&cloud, &authority.identity(), "localhost", Trust::System).await;
    let cloud = cloud.refuse_by_tls();
    let Trouble::NotTrusted(why) = box_.trouble().await else {
        panic!("trusted")
    };
    assert!(why.contains("expired"), "{why}");
    box_.stop().await;
    cloud.abort();
}

#[tokio::test]
async fn without_a_trusted_clock_only_chain_and_name_count() {
    let authority = Authority::new();
    let cloud = Cloud::start(&authority, expired()).await;
    let box_ = Box_::start(&cloud, &authority.identity(), "localhost", Trust::Unset).await;
    assert!(cloud.accept().await.hello.is_some());
    box_.stop().await;

    let other = Authority::new();
    let cloud = Cloud::start(&other, expired()).await;
    let mut box_ = Box_::start(&cloud, &authority.identity(), "localhost", Trust::Unset).await;
    let cloud = cloud.refuse_by_tls();
    let trouble = box_.trouble().await;
    assert!(matches!(trouble, Trouble::NotTrusted(_)), "{trouble}");
    box_.stop().await;
    cloud.abort();
}

#[tokio::test]
async fn a_refusal_is_named() {
    let authority = Authority::new();
    let cloud = Cloud::localhost(&authority).await;
    let mut box_ = Box_::start(&cloud, &authority.identity(), "localhost", Trust::System).await;
    let mut talking = cloud.accept().await;
    let why = Refused::KeyRevoked;
    talking.say(Down::Refused { why }).await;
    assert_eq!(box_.trouble().await, Trouble::Refused(why));
    box_.stop().await;
}

#[tokio::test]
async fn a_config_and_a_command_are_handed_on() {
    let authority = Authority::new();
    let cloud = Cloud::localhost(&authority).await;
    let mut box_ = Box_::start(&cloud, &authority.identity(), "localhost", Trust::System).await;
    let mut talking = cloud.accept().await;
    talking.welcome(vec![]).await;
    let config = SignedConfig {
        suite: "s1".into(),
        document: "{}".into(),
        signature: "x".into(),
    };
    talking.say(Down::Config(config.clone())).await;
    assert_eq!(box_.configs.recv().await, Some(config));
    let command = Command {
        id: CommandId(uuid::Uuid::from_u128(1)),
        by: PersonId(uuid::Uuid::from_u128(2)),
        expires_at: Timestamp::from_micros(0),
        act: Act::TestEnd {
            session: CommandId(uuid::Uuid::from_u128(3)),
        },
    };
    let sent = SentCommand {
        lives_ms: 10_000,
        command: command.clone(),
    };
    talking.say(Down::Command(sent)).await;
    let asked = box_.commands.recv().await.unwrap();
    assert_eq!(asked.command, command);
    assert!(
        asked.good_until >= Duration::from_secs(10),
        "on the box's own clock"
    );
    box_.stop().await;
}

#[tokio::test]
async fn nonsense_from_the_cloud_ends_the_connection() {
    let authority = Authority::new();
    let cloud = Cloud::localhost(&authority).await;
    let mut box_ = Box_::start(&cloud, &authority.identity(), "localhost", Trust::System).await;
    let mut talking = cloud.accept().await;
    talking
        .socket
        .send(Message::text("{\"moon\":1}"))
        .await
        .unwrap();
    assert_eq!(box_.trouble().await, Trouble::BrokenFrame);
    box_.stop().await;
}
