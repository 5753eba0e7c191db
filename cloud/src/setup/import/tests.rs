#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use domain::config::{Config, Passage, Role};
use domain::digest::{CredentialKey, Sha256, from_hex, from_hex_32, to_hex};
use domain::event::Holder;
use domain::id::{ChildId, PersonId};
use serde_json::{Value, json};

mod box_login;

use super::*;
use crate::trial::{Running, Trial, fixture, id};

const SUNFLOWER: u16 = 0xc001;
const BOX: u16 = 0xd001;

/// The fixture with two log-ins, since hashing is slow.
fn few_log_ins() -> Value {
    let mut document = fixture();
    for person in document["people"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .skip(2)
    {
        person["username"] = json!(null);
        person["password"] = json!(null);
    }
    document
}

async fn config_of(trial: &Trial, centre: u16, gateway: u16) -> Config {
    let mut tx = trial.db.read().await.unwrap();
    let scope = Scope::worker(CentreId(id(centre)));
    let gateway = GatewayId(id(gateway));
    centre::config_for(
        &mut tx,
        &scope,
        &trial.keys.sealing,
        gateway,
        trial.clock.now(),
    )
    .await
    .unwrap()
    .unwrap()
}

#[tokio::test]
async fn a_box_learns_what_the_document_says_of_it_and_no_more() {
    let trial = Trial::new().await;
    let config = config_of(&trial, SUNFLOWER, BOX).await;
    assert_eq!(config.version, 1);
    let points = config.enrolments.iter().map(|e| e.key().to_string());
    assert_eq!(
        points.collect::<Vec<_>>(),
        ["btn-hall/button", "door-main/reader"]
    );
    let button = &config.enrolments[0];
    assert_eq!((button.role, button.number), (Role::PanicButton, 7));
    assert!(button.momentary && button.latching && button.decides);
    let reader = &config.enrolments[1];
    assert_eq!(reader.passage, Passage::Both);
    assert!(!reader.momentary && !reader.decides);
    let door = &config.mqtt_credentials[0];
    assert_eq!(door.publish, ["antuo/v1/btn-hall/#"]);
    // A device sends the digits themselves as its password.
    let secret = b"5ec12e75ec12e75ec12e75ec12e75ec1";
    assert_eq!(door.secret_sha256, Sha256::of(&[secret]).to_string());
    let key = CredentialKey::new(&from_hex_32(&config.credential_key).unwrap());
    let holder = |card: &str| {
        let hidden = key.hide(card);
        config
            .credentials
            .iter()
            .find(|c| c.hidden == hidden)
            .map(|c| c.holder)
    };
    assert_eq!(
        holder("04A1B2C3D4"),
        Some(Holder::Guardian(PersonId(id(0xf001))))
    );
    assert_eq!(
        holder("04E5F6A7B8"),
        Some(Holder::Child(ChildId(id(0xe002))))
    );
    let names = config.roster.iter().map(|c| c.short_name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["明明", "雨雨"]);
    assert_eq!(config.collectors.len(), 2);
    assert_eq!(config.collectors[1].children, [ChildId(id(0xe002))]);
    let document = serde_json::to_vec(&config).unwrap();
    assert_eq!(Config::read(&document).unwrap(), config);
    for foreign in ["王小明", "王建国", "乐乐", "nap_smoke"] {
        assert!(
            !String::from_utf8_lossy(&document).contains(foreign),
            "{foreign}"
        );
    }
}

#[tokio::test]
async fn the_same_document_again_changes_nothing_a_box_must_know() {
    let trial = Trial::empty().await;
    let first = trial.import(&fixture()).await.unwrap();
    assert!(first.iter().all(|c| c.config_version == 1 && !c.rose));
    let before = config_of(&trial, SUNFLOWER, BOX).await;
    let again = trial.import(&fixture()).await.unwrap();
    assert_eq!(again, first);
    let after = Config {
        made_at: before.made_at,
        ..config_of(&trial, SUNFLOWER, BOX).await
    };
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_version_rises_only_where_a_box_must_learn_something() {
    let trial = Trial::empty().await;
    trial.import(&few_log_ins()).await.unwrap();
    let rose = async |change: &dyn Fn(&mut Value)| {
        let mut document = few_log_ins();
        change(&mut document);
        let imported = trial.import(&document).await.unwrap();
        trial.import(&few_log_ins()).await.unwrap();
        imported.iter().map(|c| c.rose).collect::<Vec<_>>()
    };
    let quiet: [&dyn Fn(&mut Value); 4] = [
        &|d| d["centres"][0]["accounts"][0]["account"] = json!("9999"),
        &|d| d["centres"][0]["children"][0]["name"] = json!("王大明"),
        &|d| d["people"][0]["name"] = json!("王国建"),
        &|d| d["people"][0]["password"] = json!("another"),
    ];
    for change in quiet {
        assert_eq!(rose(change).await, [false, false]);
    }
    let loud: [&dyn Fn(&mut Value); 9] = [
        &|d| d["centres"][0]["name"] = json!("新名字"),
        &|d| d["centres"][0]["children"][0]["short_name"] = json!("大明"),
        &|d| d["centres"][0]["zones"][0]["name"] = json!("前厅"),
        &|d| d["centres"][0]["enrolments"][2]["interval_s"] = json!(60),
        &|d| d["centres"][0]["mqtt_credentials"][0]["secret"] = json!("0".repeat(32)),
        &|d| {
            d["centres"][0]["credentials"][1]["holder"] = json!({"kind": "staff", "id": id(0xf006)})
        },
        &|d| d["centres"][0]["enrolments"][0]["gateway"] = json!(id(0xd003)),
        &|d| d["centres"][0]["children"][1]["class_group"] = json!("中班"),
        &|d| {
            let grant = json!({"role": "guardian", "child": id(0xe001)});
            d["people"][6]["grants"] = json!([grant]);
        },
    ];
    for (i, change) in loud.into_iter().enumerate() {
        assert_eq!(rose(change).await, [true, false], "change {i}");
    }
}

#[tokio::test]
async fn a_grant_alone_reaches_the_boxes_of_its_child() {
    let trial = Trial::new().await;
    let grant = json!({"role": "guardian", "child": id(0xe003)});
    let document = json!({"v": 1, "people": [
        {"id": id(0xf007), "name": "钱奶奶", "username": null, "password": null, "grants": [grant]}
    ]});
    let imported = trial.import(&document).await.unwrap();
    let wanted = Imported {
        centre: CentreId(id(0xc002)),
        config_version: 2,
        rose: true,
    };
    assert_eq!(imported, [wanted]);
}

/// A document of one person who has no log-in.
fn aunt(grants: &Value) -> Value {
    json!({"v": 1, "people": [{
        "id": id(0xf007), "name": "钱奶奶", "username": null, "password": null, "grants": grants
    }]})
}

async fn spans(trial: &Trial) -> Vec<(String, i64, Option<i64>)> {
    let mut tx = trial.db.read().await.unwrap();
    sql!(
        &mut tx,
        fetch_all as (String, i64, Option<i64>),
        "select reach, from_at, until_at from role_grant where person = $1 order by reach",
        id(0xf007)
    )
    .unwrap()
}

#[tokio::test]
async fn a_right_missing_from_a_listed_person_ends_and_its_boxes_learn_it() {
    let trial = Trial::new().await;
    let child = |tail: u16| json!({"role": "guardian", "child": id(tail)});
    let both = aunt(&json!([child(0xe001), child(0xe003)]));
    trial.import(&both).await.unwrap();
    let given = spans(&trial).await;
    assert_eq!(given.len(), 2);
    assert!(given.iter().all(|(_, _, until)| until.is_none()));

    let one = trial.import(&aunt(&json!([child(0xe001)]))).await.unwrap();
    let risen = |imported: &[Imported]| {
        let rose = imported.iter().filter(|c| c.rose).map(|c| c.centre.0);
        rose.collect::<Vec<_>>()
    };
    assert_eq!(risen(&one), [id(0xc002)]);
    let ended = spans(&trial).await;
    assert_eq!(
        ended[0], given[0],
        "a right that stands keeps its beginning"
    );
    assert!(ended[1].2.is_some());
    trial.import(&aunt(&json!([child(0xe001)]))).await.unwrap();
    assert_eq!(spans(&trial).await, ended, "an end stays where it is");

    let again = trial.import(&both).await.unwrap();
    assert_eq!(risen(&again), [id(0xc002)]);
    let fresh = spans(&trial).await;
    assert!(fresh[1].2.is_none() && fresh[1].1 >= ended[1].2.unwrap());

    let others = trial.import(&json!({"v": 1, "people": []})).await.unwrap();
    assert_eq!(others, []);
    assert_eq!(
        spans(&trial).await,
        fresh,
        "who is not listed loses nothing"
    );
    trial.import(&aunt(&json!([]))).await.unwrap();
    assert!(
        spans(&trial)
            .await
            .iter()
            .all(|(_, _, until)| until.is_some())
    );
}

#[tokio::test]
async fn a_changed_password_ends_the_sessions_of_that_person_only() {
    let running = Running::of(Trial::empty().await).await;
    let trial = &running.trial;
    trial.import(&few_log_ins()).await.unwrap();
    let (theirs, other) = (running.token(0xf001).await, running.token(0xf002).await);
    let status = async |token: &str| running.get("/api/family/children", token).await.0;
    trial.import(&few_log_ins()).await.unwrap();
    assert_eq!(status(&theirs).await, 200, "the same password again");
    let mut document = few_log_ins();
    document["people"][0]["password"] = json!("another");
    trial.import(&document).await.unwrap();
    assert_eq!((status(&theirs).await, status(&other).await), (401, 200));
}

#[tokio::test]
async fn every_complaint_names_the_place_and_what_would_be_right() {
    type Change = fn(&mut Value);
    let cases: &[(Change, &str, &str)] = &[
        (|d| d["v"] = json!(2), "$.v", "from 1 to 1"),
        (
            |d| d["speed"] = json!(1),
            "$.speed",
            "unknown field; known are v, divisions",
        ),
        (
            |d| d["divisions"][0]["code"] = json!(140_400),
            "$.divisions[0].code",
            "as a text",
        ),
        (
            |d| d["watch_rooms"][1]["id"] = d["watch_rooms"][0]["id"].clone(),
            "$.watch_rooms[1]",
            "twice",
        ),
        (
            |d| d["receivers"][0]["agency"] = json!("army"),
            "$.receivers[0].agency",
            "police, fire, monitoring",
        ),
        (
            |d| d["receivers"][0]["division"] = json!("11"),
            "$.receivers[0].division",
            "$.divisions or imported",
        ),
        (
            |d| d["receivers"][0]["dc09"]["primary"] = json!("host"),
            "$.receivers[0].dc09.primary",
            "HOST:PORT",
        ),
        (
            |d| d["receivers"][0]["dc09"]["line"] = json!("x"),
            "$.receivers[0].dc09.line",
            "1 to 6 hex",
        ),
        (
            |d| d["receivers"][0]["dc09"]["poll_s"] = json!(0),
            "$.receivers[0].dc09.poll_s",
            "from 1 to 3600",
        ),
        (
            |d| {
                d["centres"][0].as_object_mut().unwrap().remove("name");
            },
            "$.centres[0].name",
            "is missing",
        ),
        (
            |d| d["centres"][0]["id"] = json!("c1"),
            "$.centres[0].id",
            "UUID",
        ),
        (
            |d| d["centres"][0]["watch_room"] = json!(id(1)),
            "$.centres[0].watch_room",
            "$.watch_rooms or imported",
        ),
        (
            |d| d["centres"][0]["time_zone"] = json!("Mars"),
            "$.centres[0].time_zone",
            "Asia/Shanghai",
        ),
        (
            |d| d["centres"][0]["fire_needs_verification"] = json!("no"),
            "$.centres[0].fire_needs_verification",
            "true or false",
        ),
        (
            |d| d["centres"][0]["accounts"][1]["account"] = json!("12"),
            "$.centres[0].accounts[1].account",
            "3 to 16 hex",
        ),
        (
            |d| d["centres"][0]["accounts"][1]["receiver"] = json!(id(2)),
            "$.centres[0].accounts[1].receiver",
            "$.receivers",
        ),
        (
            |d| d["centres"][1]["gateways"][0]["id"] = json!(id(0xd001)),
            "$.centres[1].gateways[0].id",
            "another centre",
        ),
        (
            |d| d["centres"][0]["zones"][0]["id"] = json!("大厅"),
            "$.centres[0].zones[0].id",
            "1 to 64 letters",
        ),
        (
            |d| d["centres"][0]["mqtt_credentials"][0]["secret"] = json!("12"),
            "$.centres[0].mqtt_credentials[0].secret",
            "32 hex",
        ),
        (
            |d| d["centres"][0]["mqtt_credentials"][0]["publish"][0] = json!("a/#/b"),
            "$.centres[0].mqtt_credentials[0].publish[0]",
            "whole end",
        ),
        (
            |d| d["centres"][0]["mqtt_credentials"][0]["gateway"] = json!(id(0xd002)),
            "$.centres[0].mqtt_credentials[0].gateway",
            "of this centre",
        ),
        (
            |d| d["centres"][0]["enrolments"][0]["role"] = json!("sirene"),
            "$.centres[0].enrolments[0].role",
            "panic_button",
        ),
        (
            |d| d["centres"][0]["enrolments"][0]["number"] = json!(1_000),
            "$.centres[0].enrolments[0].number",
            "1 to 999",
        ),
        (
            |d| d["centres"][0]["enrolments"][0]["zone"] = json!("attic"),
            "$.centres[0].enrolments[0].zone",
            "zone of this centre",
        ),
        (
            |d| d["centres"][0]["enrolments"][0]["address"] = json!("a/+"),
            "$.centres[0].enrolments[0].address",
            "without '#'",
        ),
        (
            |d| d["centres"][0]["enrolments"][0]["options"] = json!([]),
            "$.centres[0].enrolments[0].options",
            "object",
        ),
        (
            |d| d["centres"][0]["enrolments"][1] = d["centres"][0]["enrolments"][0].clone(),
            "$.centres[0].enrolments[1]",
            "twice",
        ),
        (
            |d| d["centres"][0]["children"][0]["id"] = json!(id(0xe003)),
            "$.centres[1].children[0].id",
            "another centre",
        ),
        (
            |d| d["centres"][0]["children"] = json!({}),
            "$.centres[0].children",
            "array",
        ),
        (
            |d| d["centres"][0]["credentials"][1]["card"] = json!("04-a1-b2-c3-d4"),
            "$.centres[0].credentials[1]",
            "twice",
        ),
        (
            |d| d["centres"][0]["credentials"][0]["card"] = json!("--"),
            "$.centres[0].credentials[0].card",
            "letters and digits",
        ),
        (
            |d| d["centres"][0]["credentials"][1]["holder"]["id"] = json!(id(0xe003)),
            "$.centres[0].credentials[1].holder.id",
            "child of this centre",
        ),
        (
            |d| d["people"][0]["username"] = json!(null),
            "$.people[0].password",
            "null without",
        ),
        (
            |d| d["people"][0]["password"] = json!(null),
            "$.people[0].password",
            "first username",
        ),
        (
            |d| d["people"][1]["username"] = json!("wang"),
            "$.people[1].username",
            "somebody else",
        ),
        (
            |d| {
                d["people"][0].as_object_mut().unwrap().remove("grants");
            },
            "$.people[0].grants",
            "is missing",
        ),
        (
            |d| d["people"][0]["grants"][0]["role"] = json!("king"),
            "$.people[0].grants[0].role",
            "guardian, operator",
        ),
        (
            |d| d["people"][0]["grants"][0]["child"] = json!(id(9)),
            "$.people[0].grants[0].child",
            "a child",
        ),
        (
            |d| d["people"][4]["grants"][0]["centre"] = json!(id(0xc001)),
            "$.people[4].grants[0].centre",
            "known are role",
        ),
    ];
    let trial = Trial::empty().await;
    for (change, path, wanted) in cases {
        let mut document = few_log_ins();
        change(&mut document);
        let outcome = trial.import(&document).await;
        let Err(ImportError::Wrong(wrong)) = outcome else {
            panic!("{path}: {outcome:?}");
        };
        assert_eq!(wrong.path, *path, "{wrong}");
        assert!(wrong.wanted.contains(wanted), "{wrong}");
        let mut tx = trial.db.read().await.unwrap();
        let (people,) = sql!(&mut tx, fetch_one as (i64,), "select count(*) from person").unwrap();
        assert_eq!(people, 0, "{path}: something was kept");
    }
    assert!(matches!(
        import(&trial.db, &trial.keys, &trial.clock, &trial.entropy, b"{").await,
        Err(ImportError::Json(_))
    ));
}

/// The bytes of the SQLite file, or the text of every row on PostgreSQL.
async fn everything_stored(trial: &Trial) -> Vec<u8> {
    if let Tx::Postgres(tx) = &mut trial.db.read().await.unwrap() {
        let text = "select query_to_xml('select t::text from ' || quote_ident(table_name) || ' t',
              true, true, '')::text from information_schema.tables where table_schema = current_schema()";
        let tables: Vec<(String,)> = sqlx::query_as(text).fetch_all(&mut **tx).await.unwrap();
        return tables
            .into_iter()
            .map(|(rows,)| rows)
            .collect::<String>()
            .into_bytes();
    }
    trial.db.close().await;
    let crate::config::Database::Sqlite(file) = &trial.config.database else {
        panic!("a trial is on SQLite or PostgreSQL");
    };
    let mut raw = std::fs::read(file).unwrap();
    let wal = file.with_extension("db-wal");
    raw.extend(std::fs::read(wal).unwrap_or_default());
    raw
}

#[tokio::test]
async fn the_database_file_holds_no_name_card_password_or_secret() {
    let trial = Trial::new().await;
    let raw = everything_stored(&trial).await;
    let holds = |needle: &[u8]| raw.windows(needle.len()).any(|w| w == needle);
    // PostgreSQL shows bytes as hexadecimal digits.
    let bytes = |needle: &[u8]| holds(needle) || holds(to_hex(needle).as_bytes());
    let found = |needle: &str| bytes(needle.as_bytes());
    assert!(found("向日葵托育中心"), "the test looks at the wrong file");
    let document = fixture();
    let people = document["people"].as_array().unwrap();
    let mut secrets = vec!["04A1B2C3D4".to_owned(), "04E5F6A7B8".to_owned()];
    secrets.push("5ec12e75ec12e75ec12e75ec12e75ec1".to_owned());
    for person in people {
        secrets.extend(
            ["name", "password"].map(|f| person[f].as_str().unwrap_or("王建国").to_owned()),
        );
    }
    for centre in document["centres"].as_array().unwrap() {
        for child in centre["children"].as_array().unwrap() {
            secrets.extend(["name", "short_name"].map(|f| child[f].as_str().unwrap().to_owned()));
        }
    }
    assert!(secrets.len() > 20);
    for secret in secrets {
        assert!(!found(&secret), "{secret} is in the file");
    }
    let secret = from_hex("5ec12e75ec12e75ec12e75ec12e75ec1").unwrap();
    assert!(!bytes(&secret), "the device secret is in the file");
}
