//! Who may log in on the page of a centre's boxes.

use std::time::Duration;

use domain::config::LocalRole;

use super::*;

const PIN: &str = "493817";

/// A document of people with a box PIN, each with grants.
fn staff(people: &[(u16, &str, Option<&str>, Value)]) -> Value {
    let person = |(tail, name, pin, grants): &(u16, &str, Option<&str>, Value)| {
        json!({"id": id(*tail), "name": "郑老师", "username": null, "password": null,
            "box_name": name, "box_pin": pin, "grants": grants})
    };
    json!({"v": 1, "people": people.iter().map(person).collect::<Vec<_>>()})
}

fn grant(role: &str) -> Value {
    json!([{"role": role, "centre": id(SUNFLOWER)}])
}

async fn trial() -> Trial {
    let trial = Trial::empty().await;
    trial.import(&few_log_ins()).await.unwrap();
    trial
}

fn risen(imported: &[Imported]) -> Vec<CentreId> {
    let rose = imported.iter().filter(|c| c.rose);
    rose.map(|c| c.centre).collect()
}

#[tokio::test]
async fn a_box_learns_who_may_log_in_by_hash_and_no_version_rises_for_the_same_pin() {
    let trial = trial().await;
    let carer = staff(&[(0xf008, "郑", Some(PIN), grant("carer"))]);
    let first = trial.import(&carer).await.unwrap();
    assert_eq!(risen(&first), [CentreId(id(SUNFLOWER))]);
    let config = config_of(&trial, SUNFLOWER, BOX).await;
    let [user] = &config.local_users[..] else {
        panic!("{:?}", config.local_users)
    };
    assert_eq!((user.role, user.until), (LocalRole::Carer, None));
    assert_eq!(
        (user.person, user.short_name.as_str()),
        (PersonId(id(0xf008)), "郑")
    );
    assert!(is_password_of(&user.pin_argon2, PIN).unwrap());
    assert!(!is_password_of(&user.pin_argon2, "493818").unwrap());
    let other = config_of(&trial, 0xc002, 0xd002).await;
    assert_eq!(other.local_users, []);
    let place = config.place.unwrap();
    assert_eq!(place.time_zone, "Asia/Shanghai");

    assert_eq!(risen(&trial.import(&carer).await.unwrap()), []);
    let kept = staff(&[(0xf008, "郑", None, grant("carer"))]);
    assert_eq!(risen(&trial.import(&kept).await.unwrap()), []);
    let changed = staff(&[(0xf008, "郑", Some("705926"), grant("carer"))]);
    assert_eq!(risen(&trial.import(&changed).await.unwrap()).len(), 1);
    let gone = staff(&[(0xf008, "郑", None, json!([]))]);
    assert_eq!(risen(&trial.import(&gone).await.unwrap()).len(), 1);
    assert_eq!(config_of(&trial, SUNFLOWER, BOX).await.local_users, []);
}

#[tokio::test]
async fn neither_name_nor_pin_rests_in_clear() {
    let trial = trial().await;
    let name = "canary-名字";
    let document = staff(&[(0xf008, name, Some("7059261438"), grant("carer"))]);
    trial.import(&document).await.unwrap();
    let mut tx = trial.db.read().await.unwrap();
    let (sealed, hash) = sql!(
        &mut tx,
        fetch_one as (Vec<u8>, String),
        "select sealed, pin_argon2 from box_login"
    )
    .unwrap();
    assert!(!String::from_utf8_lossy(&sealed).contains("canary"));
    assert!(hash.starts_with("$argon2id$") && !hash.contains("7059261438"));
}

#[tokio::test]
async fn an_installers_right_ends_by_itself_and_a_box_knows_when() {
    let trial = trial().await;
    let installer = staff(&[(0xf008, "安装", Some(PIN), grant("installer"))]);
    let before = trial.clock.now();
    trial.import(&installer).await.unwrap();
    let until = async || config_of(&trial, SUNFLOWER, BOX).await.local_users[0].until;
    let ends = until().await.unwrap();
    let week = Duration::from_secs(7 * 86_400);
    assert!(ends >= before.after(week) && ends <= trial.clock.now().after(week));
    trial.import(&installer).await.unwrap();
    assert_eq!(until().await, Some(ends), "listed again it lasts no longer");
}

#[tokio::test]
async fn a_bad_pin_and_a_name_taken_are_refused_with_the_place() {
    let trial = trial().await;
    let refused = async |document: Value| trial.import(&document).await.unwrap_err().to_string();
    let carer = |name, pin| (0xf008, name, Some(pin), grant("carer"));
    for pin in ["12345", "123456", "000000", "abcdef"] {
        let text = refused(staff(&[carer("郑", pin)])).await;
        assert!(text.starts_with("$.people[0].box_pin: must"), "{text}");
        assert!(!text.contains(pin) || pin == "123456", "{text}");
    }
    let text = refused(staff(&[(0xf008, "郑", None, grant("carer"))])).await;
    assert!(text.contains("first box_name"), "{text}");
    let second = (0xf009, "ZHENG", Some(PIN), grant("director"));
    let text = refused(staff(&[carer("Zheng", PIN), second.clone()])).await;
    assert!(text.starts_with("$.people[1].box_name: "), "{text}");
    let mut elsewhere = second;
    elsewhere.3 = json!([{"role": "director", "centre": id(0xc002)}]);
    let document = staff(&[carer("Zheng", PIN), elsewhere]);
    trial.import(&document).await.unwrap();
}
