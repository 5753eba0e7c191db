//! The page over real TLS sockets, a real store and a real site.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod client;
mod log_in;
mod shown;

use std::time::Duration;

use ambient::Clock;
use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, SaltString};
use domain::config::{LocalRole, LocalUser, Place, Role};
use domain::id::PersonId;
use domain::time::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::adapter::Signal;
use crate::clock::Trust;
use crate::gauges::Gauges;
use crate::signal_log::Came;
use crate::site::Site;
use crate::store::Standing;
use crate::testing::{CHILD, GATEWAY, Running, Scratch, config, enrolment};
use crate::uplink::Link;
use client::{Answer, Client};

const PIN: &str = "493817";
const OTHER_PIN: &str = "705926";

/// A page of a box whose intake is a task of the test.
struct Trial {
    scratch: Scratch,
    running: Running,
    clock: Clock,
    config: watch::Sender<Option<Arc<Config>>>,
    link: watch::Sender<Link>,
    _channels: (watch::Sender<[Option<Duration>; 3]>, watch::Sender<u64>),
    signals: SignalLog,
    orders: mpsc::Sender<Order>,
    certificate: CertificateDer<'static>,
    page: SocketAddr,
    redirect: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the test tells the site.
enum Order {
    Send(&'static str, String, oneshot::Sender<()>),
    Pass(oneshot::Sender<()>),
}

/// Somebody who may log in.
pub fn user(person: u128, role: LocalRole, name: &str, pin: &str) -> LocalUser {
    let salt = SaltString::encode_b64(&person.to_be_bytes()).unwrap();
    let hash = Argon2::default()
        .hash_password(pin.as_bytes(), &salt)
        .unwrap();
    LocalUser {
        person: PersonId(Uuid::from_u128(person)),
        role,
        short_name: name.into(),
        pin_argon2: hash.to_string(),
        until: None,
    }
}

/// The Config of the trial: a carer 郑, a director `wu`, an installer `an`; a silent panic point, a door with a
/// reader; a child.
fn people(version: u64) -> Config {
    let mut config = config(version);
    let mut silent = enrolment("hidden", "antuo/v1/hidden/button", Role::PanicButton);
    silent.options.insert("silent".into(), true.into());
    let mut reader = enrolment("reader", "antuo/v1/reader/reader", Role::Reader);
    reader.passage = domain::config::Passage::Both;
    reader.interval_s = Some(60);
    config.enrolments.extend([silent, reader]);
    config.local_users = vec![
        user(1, LocalRole::Carer, "郑", PIN),
        user(2, LocalRole::Director, "wu", PIN),
        user(3, LocalRole::Installer, "an", PIN),
    ];
    config.place = Some(Place {
        name: "向日葵托育中心".into(),
        address: "长治市潞州区英雄路 1 号".into(),
        time_zone: "Asia/Shanghai".into(),
    });
    config.credentials = vec![domain::config::Credential {
        hidden: domain::digest::CredentialKey::new(&[0; 32]).hide("04A1"),
        holder: domain::event::Holder::Child(config.roster[0].id),
        from: None,
        until: None,
    }];
    config
}

impl Trial {
    async fn start() -> Self {
        let scratch = Scratch::new();
        let running = Running::start(&scratch, 1).await;
        let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
        let box_clock = BoxClock::new(
            clock.clone(),
            "boot",
            Duration::from_secs(60),
            Trust::System,
        );
        let entropy = Entropy::system();
        let in_force = Arc::new(people(7));
        let config = watch::Sender::new(Some(Arc::clone(&in_force)));
        let link = watch::Sender::new(Link::Up);
        let (waiting, version) = (watch::Sender::new([None; 3]), watch::Sender::new(7));
        let signals = SignalLog::default();
        let (asks, asked) = mpsc::channel(4);
        let (orders, ordered) = mpsc::channel(4);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let parts = Parts {
            tls: Arc::new(tls),
            shown: Shown {
                gateway: GATEWAY,
                gauges: Arc::<Gauges>::clone(&running.gauges),
                broker: Arc::default(),
                link: link.subscribe(),
                standing: watch::Sender::new(Standing::default()).subscribe(),
                version: version.subscribe(),
                waiting: waiting.subscribe(),
                afloat: running.opened.store.afloat().subscribe(),
                bridges: crate::bridge::board(&[], Duration::ZERO).0,
                unacknowledged: watch::Sender::default().subscribe(),
                clock: box_clock.clone(),
            },
            config: config.subscribe(),
            signals: signals.clone(),
            asks,
            reader: running.opened.reader.another().await.unwrap(),
            clock: box_clock.clone(),
            entropy: entropy.clone(),
            box_key: BoxKey::read_or_make(scratch.path(), &entropy).unwrap(),
        };
        let local = ["127.0.0.1:0".parse().unwrap()];
        let bound = Bound::bind(&local, &local).await.unwrap();
        let [page, redirect] = bound.addresses().map(|doors| doors[0]);
        let (stop, stopped) = watch::channel(false);
        let store = running.opened.store.clone();
        let site = work(in_force, box_clock, signals.clone(), asked, ordered, store);
        let tasks = vec![
            tokio::spawn(async move { serve(bound, parts, stopped).await.unwrap() }),
            tokio::spawn(site),
        ];
        Self {
            scratch,
            running,
            clock,
            config,
            link,
            _channels: (waiting, version),
            signals,
            orders,
            certificate,
            page,
            redirect,
            stop,
            tasks,
        }
    }

    /// A browser that has not been here before.
    fn browser(&self) -> Client {
        Client::new(self.page, self.certificate.clone())
    }

    /// A browser with somebody logged in.
    async fn logged_in(&self, name: &str) -> Client {
        let mut browser = self.browser();
        let answer = browser.log_in(name, PIN).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        browser
    }

    /// A device says something, and it is committed.
    async fn send(&self, topic: &'static str, body: &str) {
        let (done, committed) = oneshot::channel();
        let order = Order::Send(topic, body.to_owned(), done);
        self.orders.send(order).await.unwrap();
        committed.await.unwrap();
    }

    /// Time passes for all clocks.
    async fn pass(&self, span: Duration) {
        self.clock.advance(span);
        let (done, passed) = oneshot::channel();
        self.orders.send(Order::Pass(done)).await.unwrap();
        passed.await.unwrap();
    }

    async fn end(self) {
        self.stop.send(true).unwrap();
        drop(self.orders);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.running.stop().await;
        drop(self.scratch);
    }
}

/// What the intake does for the page, with commits of its own.
async fn work(
    config: Arc<Config>,
    clock: BoxClock,
    signals: SignalLog,
    mut asked: mpsc::Receiver<Ask>,
    mut ordered: mpsc::Receiver<Order>,
    store: crate::store::Store,
) {
    let mut site = Site::new(config, [], clock.now().monotonic).unwrap();
    let entropy = Entropy::system();
    let mut chance = || entropy.bytes().unwrap();
    loop {
        let order = tokio::select! {
            Some(ask) = asked.recv() => {
                let _ = ask.send(Some(site.view(&clock.now())));
                continue;
            }
            order = ordered.recv() => order,
        };
        let now = clock.now();
        let (decision, done) = match order {
            Some(Order::Send(topic, body, done)) => {
                let payload = body.as_bytes();
                let signal = Signal {
                    topic,
                    payload,
                    retained: false,
                    username: "box",
                };
                let decision = site.deliver(&signal, &now, &mut chance);
                let came = Came {
                    username: "box",
                    topic,
                    payload,
                    qos: 1,
                };
                let account = decision.account.as_ref().unwrap();
                signals.note(came, account, &decision.events, site.book(), &now);
                (decision, done)
            }
            Some(Order::Pass(done)) => (site.tick(&now, &mut chance), done),
            None => return,
        };
        let entries = decision.events.into_iter().map(|event| {
            let lane = event.kind.lane();
            crate::store::row::Entry {
                lane,
                received: (&now).into(),
                body: domain::wire::write_event(event).unwrap(),
                of_the_box: false,
            }
        });
        let submission = crate::testing::submission(entries.collect());
        store.commit(submission).await.unwrap();
        done.send(()).unwrap();
    }
}
