//! Makes a small town from a seed: the same seed, the same town, byte for byte.
//!
//! Every centre has the same device names and its own accounts, so that a mix-up between centres or between agencies
//! shows. Names are invented.

use crate::clock::Chance;
use crate::town::{
    Account, Agency, Centre, Child, Credential, Dc09, Division, Enrolment, Gateway, Grant, Holder,
    HolderKind, MqttCredential, Passage, Person, Receiver, Town, WatchRoom, Zone,
};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Most centres a town is made with: accounts and names run out beyond. More is refused on the command line.
pub const MAX_CENTRES: u16 = 200;

const DIVISION: &str = "140400";
const CENTRES: [&str; 8] = [
    "阳光",
    "小橡树",
    "彩虹桥",
    "星星河",
    "蒲公英",
    "小水滴",
    "向日葵",
    "小鹿",
];
const SURNAMES: [&str; 16] = [
    "王", "李", "张", "刘", "陈", "杨", "赵", "黄", "周", "吴", "徐", "孙", "马", "朱", "胡", "郭",
];
const CHILD_NAMES: [(&str, &str); 16] = [
    ("乐", "乐乐"),
    ("子涵", "涵涵"),
    ("一诺", "诺诺"),
    ("梓萱", "萱萱"),
    ("浩然", "然然"),
    ("沐宸", "宸宸"),
    ("欣怡", "怡怡"),
    ("宇轩", "轩轩"),
    ("可馨", "馨馨"),
    ("安琪", "琪琪"),
    ("明哲", "哲哲"),
    ("思远", "远远"),
    ("雨桐", "桐桐"),
    ("果", "果果"),
    ("天佑", "佑佑"),
    ("小满", "满满"),
];
const ADULT_NAMES: [&str; 12] = [
    "建国", "丽华", "志强", "秀英", "晓东", "海燕", "文博", "雪梅", "立新", "春兰", "国栋", "玉洁",
];
const CLASSES: [&str; 2] = ["托小班", "托大班"];
/// Children a family has, in the order of the families of a centre: eight children, one pair of siblings.
const FAMILIES: [usize; 7] = [1, 1, 2, 1, 1, 1, 1];

/// Where the three agencies' receivers listen: main address and, where there is one, the backup.
#[derive(Debug, Clone)]
pub struct Addresses {
    pub police: (String, Option<String>),
    pub fire: (String, Option<String>),
    pub monitoring: (String, Option<String>),
}

impl Addresses {
    fn of(&self, agency: Agency) -> &(String, Option<String>) {
        match agency {
            Agency::Police => &self.police,
            Agency::Fire => &self.fire,
            Agency::Monitoring => &self.monitoring,
        }
    }
}

/// The town of this seed.
pub fn make(seed: u64, centres: u16, addresses: &Addresses) -> Town {
    let mut maker = Maker {
        chance: Chance::new(seed),
        cards: BTreeSet::new(),
        people: Vec::new(),
    };
    let watch_room = WatchRoom {
        id: maker.chance.uuid(),
        name: "长治市托育安全值班室（模拟）".to_owned(),
    };
    let receivers: Vec<Receiver> = Agency::ALL
        .iter()
        .map(|agency| maker.receiver(*agency, addresses))
        .collect();
    let centres = (0..centres)
        .map(|index| maker.centre(index, watch_room.id, &receivers))
        .collect();
    for username in ["op1", "op2"] {
        maker.person_with_login(
            username.to_owned(),
            vec![Grant::Operator {
                watch_room: watch_room.id,
            }],
        );
    }
    maker.person_with_login("admin".to_owned(), vec![Grant::Admin]);
    Town {
        v: 1,
        divisions: vec![Division {
            code: DIVISION.to_owned(),
            name: "长治市".to_owned(),
        }],
        watch_rooms: vec![watch_room],
        receivers,
        centres,
        people: maker.people,
    }
}

struct Maker {
    chance: Chance,
    cards: BTreeSet<String>,
    people: Vec<Person>,
}

impl Maker {
    fn receiver(&mut self, agency: Agency, addresses: &Addresses) -> Receiver {
        let (primary, backup) = addresses.of(agency).clone();
        let name = match agency {
            Agency::Police => "公安接警中心（模拟）",
            Agency::Fire => "消防救援支队（模拟）",
            Agency::Monitoring => "消防联网监控中心（模拟）",
        };
        Receiver {
            id: self.chance.uuid(),
            name: name.to_owned(),
            division: DIVISION.to_owned(),
            agency,
            protocol: "dc09".to_owned(),
            dc09: Dc09 {
                primary,
                backup,
                receiver_no: "1".to_owned(),
                line: "0".to_owned(),
                poll_s: 20,
                reply_timeout_ms: 3000,
            },
        }
    }

    fn centre(&mut self, index: u16, watch_room: Uuid, receivers: &[Receiver]) -> Centre {
        let base = CENTRES[usize::from(index) % CENTRES.len()];
        let round = usize::from(index) / CENTRES.len();
        let short_name = if round == 0 {
            format!("{base}托育")
        } else {
            format!("{base}托育{}部", round + 1)
        };
        let id = self.chance.uuid();
        let gateway = self.chance.uuid();
        let enrolments = enrolments(gateway);
        let (children, credentials) = self.families(index, id);
        Centre {
            id,
            name: format!("长治市{short_name}中心"),
            short_name,
            division: DIVISION.to_owned(),
            watch_room,
            address: format!("长治市潞州区模拟路{}号", index + 1),
            filing_no: format!("TY{DIVISION}{:04}", index + 1),
            time_zone: "Asia/Shanghai".to_owned(),
            fire_needs_verification: true,
            accounts: receivers
                .iter()
                .zip([0x1400_u16, 0x2400, 0x3400])
                .map(|(receiver, base)| Account {
                    receiver: receiver.id,
                    account: format!("{:04X}", base + index),
                })
                .collect(),
            gateways: vec![Gateway {
                id: gateway,
                name: "一号网关".to_owned(),
            }],
            zones: zones(),
            mqtt_credentials: self.mqtt_credentials(gateway, &enrolments),
            enrolments,
            children,
            credentials,
        }
    }

    fn mqtt_credentials(&mut self, gateway: Uuid, enrolments: &[Enrolment]) -> Vec<MqttCredential> {
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for enrolment in enrolments {
            let (name, prefix) = if enrolment.ecosystem == "zigbee2mqtt" {
                ("z2m".to_owned(), "zigbee2mqtt/#".to_owned())
            } else {
                (
                    enrolment.device.clone(),
                    format!("antuo/v1/{}/#", enrolment.device),
                )
            };
            names.insert(name, prefix);
        }
        let credential = |(username, prefix): (String, String)| MqttCredential {
            gateway,
            username,
            secret: self.chance.hex(32).to_lowercase(),
            publish: vec![prefix],
        };
        names.into_iter().map(credential).collect()
    }

    fn families(&mut self, index: u16, centre: Uuid) -> (Vec<Child>, Vec<Credential>) {
        let (mut children, mut credentials) = (Vec::new(), Vec::new());
        for (number, size) in FAMILIES.iter().enumerate() {
            let surname = self.of(&SURNAMES);
            let first = children.len();
            for _ in 0..*size {
                let (given, short) =
                    CHILD_NAMES[(children.len() + usize::from(index) * 8) % CHILD_NAMES.len()];
                children.push(Child {
                    id: self.chance.uuid(),
                    name: format!("{surname}{given}"),
                    short_name: short.to_owned(),
                    class_group: CLASSES[children.len() % CLASSES.len()].to_owned(),
                });
            }
            let grants: Vec<Grant> = children[first..]
                .iter()
                .map(|child| Grant::Guardian { child: child.id })
                .collect();
            let parent = self.person_with_login(
                format!("parent-{}-{}", index + 1, number + 1),
                grants.clone(),
            );
            credentials.push(self.credential(HolderKind::Guardian, parent));
            if number % 2 == 1 {
                let second = self.person(None, grants);
                credentials.push(self.credential(HolderKind::Guardian, second));
            }
            for child in &children[first..] {
                credentials.push(self.credential(HolderKind::Child, child.id));
            }
        }
        let carer = self.person(None, vec![Grant::Carer { centre }]);
        credentials.push(self.credential(HolderKind::Staff, carer));
        (children, credentials)
    }

    fn person_with_login(&mut self, username: String, grants: Vec<Grant>) -> Uuid {
        let password = self.chance.hex(16).to_lowercase();
        self.person(Some((username, password)), grants)
    }

    fn person(&mut self, login: Option<(String, String)>, grants: Vec<Grant>) -> Uuid {
        let id = self.chance.uuid();
        let name = format!("{}{}", self.of(&SURNAMES), self.of(&ADULT_NAMES));
        let (username, password) = login.unzip();
        self.people.push(Person {
            id,
            name,
            username,
            password,
            grants,
        });
        id
    }

    fn credential(&mut self, kind: HolderKind, id: Uuid) -> Credential {
        loop {
            let card = format!("04{}", self.chance.hex(8));
            if self.cards.insert(card.clone()) {
                return Credential {
                    card,
                    holder: Holder { kind, id },
                };
            }
        }
    }

    fn of(&mut self, names: &[&'static str]) -> &'static str {
        self.chance.pick(names).copied().unwrap_or_default()
    }
}

fn zones() -> Vec<Zone> {
    [
        ("entrance", "门厅"),
        ("hall", "大厅"),
        ("nap", "午睡室"),
        ("kitchen", "厨房"),
    ]
    .map(|(id, name)| Zone {
        id: id.to_owned(),
        name: name.to_owned(),
    })
    .to_vec()
}

fn enrolments(gateway: Uuid) -> Vec<Enrolment> {
    let point = |device: &str, point: &str, role: &str, zone: &str, number: u16| Enrolment {
        gateway,
        device: device.to_owned(),
        point: point.to_owned(),
        ecosystem: "antuo".to_owned(),
        address: format!("antuo/v1/{device}/{point}"),
        model: None,
        role: role.to_owned(),
        zone: zone.to_owned(),
        number,
        momentary: matches!(role, "panic_button" | "reader"),
        latching: matches!(role, "panic_button" | "smoke"),
        interval_s: None,
        passage: Passage::None,
        decides: role == "reader",
        options: BTreeMap::new(),
    };
    let reader = |device: &str, number: u16, passage: Passage| Enrolment {
        passage,
        ..point(device, "reader", "reader", "entrance", number)
    };
    let zigbee = |device: &str, name: &str, role: &str, zone: &str, number: u16| Enrolment {
        ecosystem: "zigbee2mqtt".to_owned(),
        address: format!("zigbee2mqtt/{name}"),
        ..point(device, role, role, zone, number)
    };
    vec![
        reader("door-in", 1, Passage::In),
        point("door-in", "contact", "door", "entrance", 2),
        reader("door-out", 3, Passage::Out),
        point("door-out", "contact", "door", "entrance", 4),
        point("btn-hall", "button", "panic_button", "hall", 11),
        point("btn-nap", "button", "panic_button", "nap", 12),
        point("smoke-hall", "smoke", "smoke", "hall", 21),
        point("smoke-kitchen", "smoke", "smoke", "kitchen", 22),
        zigbee("nap-smoke", "nap_smoke", "smoke", "nap", 23),
        zigbee("z2m", "bridge", "bridge", "nap", 90),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn town(seed: u64) -> Town {
        let at = |port: u16| (format!("127.0.0.1:{port}"), None);
        make(
            seed,
            3,
            &Addresses {
                police: at(1),
                fire: at(2),
                monitoring: at(3),
            },
        )
    }

    #[test]
    fn the_same_seed_makes_the_same_file_and_it_reads_back() {
        let text = serde_json::to_string(&town(7)).unwrap();
        assert_eq!(text, serde_json::to_string(&town(7)).unwrap());
        assert_ne!(text, serde_json::to_string(&town(8)).unwrap());
        assert_eq!(serde_json::from_str::<Town>(&text).unwrap(), town(7));
    }

    #[test]
    fn the_file_has_the_published_shape() {
        let json = serde_json::to_value(town(7)).unwrap();
        let centre = &json["centres"][0];
        assert_eq!(json["v"], 1);
        assert_eq!(json["receivers"][0]["agency"], "police");
        assert_eq!(
            json["receivers"][0]["dc09"]["backup"],
            serde_json::Value::Null
        );
        assert_eq!(centre["enrolments"][0]["passage"], "in");
        assert_eq!(centre["enrolments"][8]["address"], "zigbee2mqtt/nap_smoke");
        assert_eq!(centre["credentials"][0]["holder"]["kind"], "guardian");
        assert_eq!(json["people"][0]["grants"][0]["role"], "guardian");
        assert!(json["people"][0]["grants"][0]["child"].is_string());
        assert_eq!(
            json["people"].as_array().unwrap().last().unwrap()["grants"][0],
            serde_json::json!({"role": "admin"})
        );
    }

    #[test]
    fn every_reference_holds_and_nothing_is_used_twice() {
        let town = town(11);
        let mut cards = BTreeSet::new();
        let mut ids = BTreeSet::new();
        let mut usernames = BTreeSet::new();
        for person in &town.people {
            assert!(ids.insert(person.id));
            if let (Some(username), Some(password)) = (&person.username, &person.password) {
                assert!(usernames.insert(username.clone()));
                assert!(password.len() >= 12);
            }
        }
        for centre in &town.centres {
            assert_eq!(centre.accounts.len(), 3);
            assert_eq!(centre.children.len(), 8);
            let numbers: BTreeSet<u16> = centre
                .enrolments
                .iter()
                .map(|enrolment| enrolment.number)
                .collect();
            assert_eq!(numbers.len(), centre.enrolments.len());
            for enrolment in &centre.enrolments {
                assert!(centre.zones.iter().any(|zone| zone.id == enrolment.zone));
                let covered = |credential: &MqttCredential| {
                    enrolment
                        .address
                        .starts_with(credential.publish[0].trim_end_matches('#'))
                };
                assert_eq!(
                    centre
                        .mqtt_credentials
                        .iter()
                        .filter(|own| covered(own))
                        .count(),
                    1,
                    "{}",
                    enrolment.address
                );
            }
            for credential in &centre.credentials {
                assert!(cards.insert(credential.card.clone()));
                let known = town
                    .people
                    .iter()
                    .any(|person| person.id == credential.holder.id)
                    || centre
                        .children
                        .iter()
                        .any(|child| child.id == credential.holder.id);
                assert!(known);
            }
            for child in &centre.children {
                assert!(ids.insert(child.id));
                assert!(town.login_for_child(child.id).is_some());
            }
        }
        assert_eq!(town.operators().len(), 2);
        assert!(town.admin().is_some());
    }

    #[test]
    fn an_account_leads_back_to_its_centre_at_its_receiver_only() {
        let town = town(5);
        let centre = &town.centres[2];
        let police = town.receiver("police").unwrap().id;
        let account = centre.account_at(&town, Agency::Police).unwrap();
        assert_eq!(
            town.centre_of_account(police, account).unwrap().id,
            centre.id
        );
        assert!(
            town.centre_of_account(town.receiver("fire").unwrap().id, account)
                .is_none()
        );
        assert_eq!(centre.numbered(12).unwrap().device, "btn-nap");
    }
}
