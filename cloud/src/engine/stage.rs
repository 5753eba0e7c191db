//! A small deployment for the tests of engine, ingest and ticker: two centres in two watch rooms, on
//! SQLite, or on the PostgreSQL that `ANTUO_TEST_POSTGRES` names.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::str::FromStr as _;
use std::time::Duration;

use ambient::{Clock, Entropy};
use domain::digest::Sha256;
use domain::event::{Detail, Event, Origin, State};
use domain::id::{
    CentreId, EpochId, EventId, GatewayId, IncidentId, PersonId, PointKey, ReceiverId,
};
use domain::kind::{Kind, Lane};
use domain::time::{Age, ClockTrust, Order, Timestamp};
use domain::wire::{Batch, Receipt, Record, write_event};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgPool};
use tempfile::TempDir;
use uuid::Uuid;

use crate::access::{Access, Role, Scope, SessionKey, Standing};
use crate::db::{Db, Tx, Urgency};
use crate::dispatch::{Claimed, Order as Ordered, Outcome, Targets};
use crate::engine::Engine;
use crate::incident::shown::{self, CaseRecord, Shown, Which};
use crate::ingest::{BoxIdentity, Ingest};
use crate::sql;
use crate::verify::{Verdict, verify};
use crate::wake::Wakes;

pub const CENTRE: u128 = 0xc1;
pub const ELSEWHERE: u128 = 0xc2;
pub const GATEWAY: u128 = 0xa1;
pub const CHILD: u128 = 0xd1;
pub const POLICE: u128 = 0xe1;
pub const FIRE: u128 = 0xe2;
pub const MONITORING: u128 = 0xe3;
pub const LEASE: Duration = Duration::from_secs(10);

pub struct Stage {
    pub db: Db,
    pub clock: Clock,
    pub engine: Engine,
    pub ingest: Ingest,
    pub wakes: Wakes,
    epoch: EpochId,
    _dir: TempDir,
}

pub fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

pub fn start() -> Timestamp {
    Timestamp::from_micros(1_780_000_020_000_000)
}

pub fn centre() -> CentreId {
    CentreId(id(CENTRE))
}

async fn open(dir: &TempDir) -> Db {
    let Ok(url) = std::env::var("ANTUO_TEST_POSTGRES") else {
        return Db::sqlite(&dir.path().join("t.db")).await.unwrap();
    };
    let options = PgConnectOptions::from_str(&url).unwrap();
    let schema = format!(
        "stage_{}",
        domain::digest::to_hex(&Entropy::system().bytes::<8>().unwrap())
    );
    let pool = PgPool::connect_with(options.clone()).await.unwrap();
    let text = format!("create schema {schema}");
    sqlx::query(AssertSqlSafe(text))
        .execute(&pool)
        .await
        .unwrap();
    Db::postgres(options.options([("search_path", schema)]))
        .await
        .unwrap()
}

impl Stage {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir).await;
        db.migrate().await.unwrap();
        let clock = Clock::manual(start());
        let wakes = Wakes::new();
        let engine = Engine::new(db.clone(), clock.clone(), Entropy::seeded(7), wakes.clone());
        let stage = Self {
            ingest: Ingest::new(db.clone(), clock.clone(), engine.clone()),
            db,
            clock,
            engine,
            wakes,
            epoch: EpochId(id(0xf1)),
            _dir: dir,
        };
        stage.furnish().await;
        stage
    }

    async fn furnish(&self) {
        let mut write = self.db.write(Urgency::Other).await.unwrap();
        let tx = write.tx();
        let none = vec![0_u8];
        sql!(
            tx,
            execute,
            "insert into division (code, name) values ('140400', 'd')"
        )
        .unwrap();
        for room in [0xb1, 0xb2] {
            let text = "insert into watch_room (id, name) values ($1, 'w')";
            sql!(tx, execute, text, id(room)).unwrap();
        }
        for (receiver, agency) in [
            (POLICE, "police"),
            (FIRE, "fire"),
            (MONITORING, "monitoring"),
        ] {
            let text = "insert into receiver (id, division, agency, name, protocol, settings)
                values ($1, '140400', $2, $2, 'dc09', '')";
            sql!(tx, execute, text, id(receiver), agency).unwrap();
        }
        for (centre, room, gateway) in [(CENTRE, 0xb1, GATEWAY), (ELSEWHERE, 0xb2, 0xa2)] {
            let text = "insert into centre (id, division, watch_room, name, short_name, address,
                filing_no, time_zone, fire_needs_verification, credential_key, config_version)
                values ($1, '140400', $2, 'n', 's', 'a', 'f', 'Asia/Shanghai', true, $3, 1)";
            sql!(tx, execute, text, id(centre), id(room), none.clone()).unwrap();
            let text = "insert into gateway (centre, id, name) values ($1, $2, 'g')";
            sql!(tx, execute, text, id(centre), id(gateway)).unwrap();
            for receiver in [POLICE, FIRE, MONITORING] {
                let text = "insert into receiver_account (centre, receiver, account)
                    values ($1, $2, '1234')";
                sql!(tx, execute, text, id(centre), id(receiver)).unwrap();
            }
        }
        let text = "insert into child (centre, id, class_group, sealed) values ($1, $2, 'k', $3)";
        sql!(tx, execute, text, id(CENTRE), id(CHILD), none.clone()).unwrap();
        let text = "insert into enrolment (centre, device, point, gateway, body)
            values ($1, 'btn', 'button', $2, $3)";
        let body = r#"{"device":"btn","point":"button","ecosystem":"antuo","address":"a",
            "role":"panic_button","number":7,"momentary":true}"#;
        sql!(tx, execute, text, id(CENTRE), id(GATEWAY), body).unwrap();
        for (person, room) in [(1_u128, 0xb1), (2, 0xb1), (3, 0xb2)] {
            let text = "insert into person (id, sealed) values ($1, $2)";
            sql!(tx, execute, text, id(person), none.clone()).unwrap();
            let text = "insert into role_grant (person, role, reach, watch_room, from_at)
                values ($1, 'operator', 'r', $2, 0)";
            sql!(tx, execute, text, id(person), id(room)).unwrap();
            let hash = Sha256::of(&[person.to_string().as_bytes()]).0.to_vec();
            let text = "insert into session (token_hash, person, created_at, expires_at)
                values ($1, $2, 0, $3)";
            sql!(tx, execute, text, hash.clone(), id(person), i64::MAX).unwrap();
        }
        write.commit().await.unwrap();
    }

    /// The scope of operator 1 or 2 (of this centre's watch room) or 3 (of the other's).
    pub async fn operator(&self, person: u128) -> Scope {
        let access = Access::new(self.db.clone(), self.clock.clone(), Entropy::seeded(1)).unwrap();
        let session = SessionKey::of_token(&person.to_string());
        let standing = access.standing(session, Role::Operator).await.unwrap();
        let Standing::May(scope) = standing else {
            panic!("{standing:?}")
        };
        scope
    }

    pub fn epoch(&self) -> EpochId {
        self.epoch
    }

    pub fn identity(&self) -> BoxIdentity {
        BoxIdentity {
            gateway: GatewayId(id(GATEWAY)),
            centre: centre(),
        }
    }

    /// An event of a point of this centre, just received.
    pub fn event(&self, n: u128, device: &str, kind: Kind) -> Event {
        let now = self.clock.now();
        Event {
            id: EventId(id(0x1_0000 + n)),
            centre: centre(),
            zone: None,
            source: Some(PointKey {
                device: device.parse().unwrap(),
                point: "button".parse().unwrap(),
            }),
            kind,
            state: State::Raised,
            severity: kind.severity(),
            occurred_at: None,
            received_at: now,
            order: Order(now.micros()),
            clock_trust: ClockTrust::Synced { err_ms: 1 },
            origin: Origin::Live,
            vendor_id: Some(format!("b-{n}")),
            same_as: None,
            stamp: None,
            config_version: 1,
            signal: None,
            detail: Detail::None,
        }
    }

    pub fn press(&self, n: u128) -> Event {
        self.event(n, "btn", Kind::AlarmPressed)
    }

    /// Sends records of a lane.
    pub async fn send(&self, lane: Lane, records: Vec<Record>) -> Receipt {
        let batch = Batch {
            epoch: self.epoch,
            lane,
            records,
        };
        self.ingest.batch(&self.identity(), batch).await.unwrap()
    }

    pub async fn alarm(&self, seq: u64, event: Event) -> Receipt {
        self.send(Lane::LifeSafety, vec![record(seq, event)]).await
    }

    pub async fn read(&self) -> Tx {
        self.db.read().await.unwrap()
    }

    /// The cases an operator of this centre sees on the board.
    pub async fn board(&self) -> Vec<CaseRecord> {
        let scope = Scope::worker(centre());
        let now = self.clock.now();
        let listed = shown::cases(&mut self.read().await, &scope, Which::Open, now).await;
        listed.unwrap().into_iter().map(readable).collect()
    }

    pub async fn case(&self, incident: IncidentId) -> CaseRecord {
        let scope = Scope::worker(centre());
        let now = self.clock.now();
        let found = shown::case(&mut self.read().await, &scope, incident, now).await;
        readable(found.unwrap().unwrap())
    }

    pub async fn claim(&self, receiver: u128) -> Option<Claimed> {
        let receiver = ReceiverId(id(receiver));
        let frame = |order: &Ordered, number: u16, at: Timestamp| {
            format!("{} {number} {}", order.account, at.micros()).into_bytes()
        };
        let claimed = self
            .engine
            .claim(receiver, LEASE, Targets::PrimaryOnly, &frame)
            .await;
        claimed.unwrap()
    }

    pub async fn ended(&self, claimed: &Claimed, outcome: Outcome) {
        self.engine.attempt_ended(claimed, outcome).await.unwrap();
    }

    pub async fn verdict(&self) -> Verdict {
        verify(&self.db, Some(centre())).await.unwrap().remove(0)
    }

    pub async fn change(&self, text: &'static str) {
        let mut write = self.db.write(Urgency::Other).await.unwrap();
        let changed = sql!(write.tx(), execute, text).unwrap();
        assert!(changed > 0, "{text}");
        write.commit().await.unwrap();
    }

    /// Everything that a repeat must not change, as text.
    pub async fn everything(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut tx = self.read().await;
        for query in [
            "select kind, seq from journal order by seq",
            "select body, version from incident order by id",
            "select body, version from alarm order by device, point",
            "select body, version from presence order by child",
            "select ranges, through_seq from lane_progress order by epoch, lane",
            "select state, urgency from dispatch order by id",
            "select lane, seq + coalesce(chained, 0) * 1000 from record order by lane, seq",
            "select kind, seq from incident_event order by seq",
            "select vendor_id, order_hlc from movement order by event",
            "select lane, seq from record_fork order by lane, seq",
        ] {
            let rows = sql!(&mut tx, fetch_all as (Option<String>, i64), query).unwrap();
            all.extend(rows.into_iter().map(|row| format!("{row:?}")));
        }
        all
    }
}

fn readable(shown: Shown) -> CaseRecord {
    match shown {
        Shown::Case(record) => *record,
        Shown::Unreadable(case) => panic!("{case:?}"),
    }
}

/// A person of the stage.
pub fn person(n: u128) -> PersonId {
    PersonId(id(n))
}

pub fn record(seq: u64, event: Event) -> Record {
    Record {
        seq,
        to_seq: None,
        age: Age::Known(5),
        body: write_event(event).unwrap(),
    }
}
