//! Nothing is lost, in any order of comings, goings, restarts and acknowledgements.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Open(u8, bool),
    Close(u8),
    Publish(Qos),
    Hear(u8),
    Settle(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..3u8, prop::bool::weighted(0.1)).prop_map(|(c, clean)| Step::Open(c, clean)),
        2 => (0..3u8).prop_map(Step::Close),
        4 => prop_oneof![Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)].prop_map(Step::Publish),
        4 => (0..3u8).prop_map(Step::Hear),
        4 => (0..3u8).prop_map(Step::Settle),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// Whatever happens, a durable subscriber hears every message that found room, and one of quality 2
    /// under one packet id only until it is settled.
    #[test]
    fn nothing_is_lost_between_publish_and_acknowledgement(steps in prop::collection::vec(step(), 1..80)) {
        let mut stage = Stage::new();
        let mut on_line: BTreeMap<u8, Client> = BTreeMap::new();
        let mut owed: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        let mut sent: BTreeMap<u8, BTreeMap<u16, (String, u8)>> = BTreeMap::new();
        let mut n = 0;
        for step in steps {
            match step {
                Step::Open(c, clean) => {
                    let (client, opened) = stage.open(Opening { clean_start: clean, ..opening(&c.to_string()) });
                    prop_assert_eq!(opened.present, owed.contains_key(&c) && !clean);
                    if !opened.present {
                        stage.subscribe(client, "t", asked(Qos::ExactlyOnce));
                        owed.insert(c, Vec::new());
                        sent.remove(&c);
                    }
                    on_line.insert(c, client);
                }
                Step::Close(c) => {
                    if let Some(client) = on_line.remove(&c) {
                        stage.close(client, Leaving::Lost);
                    }
                }
                Step::Publish(qos) => {
                    n += 1;
                    let before = stage.hub.dropped().queue_full;
                    let reached = stage.publish(message("t", &n.to_string(), qos));
                    let dropped = stage.hub.dropped().queue_full - before;
                    prop_assert_eq!(reached.len() + usize::try_from(dropped).unwrap(), owed.len());
                    for (c, list) in &mut owed {
                        let session = stage.hub.by_key[&key(&c.to_string())];
                        if reached.contains(&session) {
                            list.push(n.to_string());
                        }
                    }
                }
                Step::Hear(c) => {
                    let Some(client) = on_line.get(&c).copied() else { continue };
                    for (payload, qos, packet, dup) in stage.heard(client) {
                        if payload == "release" { continue; }
                        let of = sent.entry(c).or_default();
                        if qos == 2 && let Some((before, _)) = of.get(&packet) {
                            prop_assert!(dup && *before == payload, "one id, two messages");
                        }
                        prop_assert!(owed[&c].contains(&payload));
                        of.insert(packet, (payload, qos));
                    }
                }
                Step::Settle(c) => {
                    let Some(client) = on_line.get(&c).copied() else { continue };
                    let Some(of) = sent.get_mut(&c) else { continue };
                    let Some((packet, (payload, qos))) = of.pop_first() else { continue };
                    let qos = if qos == 2 { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
                    if stage.acknowledge(client, packet, qos) {
                        owed.get_mut(&c).unwrap().retain(|p| *p != payload);
                    }
                }
                Step::Restart => {
                    stage.restart();
                    on_line.clear();
                    // After a restart messages of quality 1 go out under new ids.
                    sent.values_mut().for_each(|of| of.retain(|_, (_, qos)| *qos == 2));
                }
            }
        }
        // In the end everybody comes and hears what is owed.
        for (c, list) in owed {
            let (client, opened) = stage.open(opening(&c.to_string()));
            prop_assert!(opened.present);
            let mut missing = list;
            loop {
                let heard = stage.heard(client);
                if heard.is_empty() { break; }
                for (payload, qos, packet, _) in heard {
                    missing.retain(|p| *p != payload);
                    let qos = if qos == 2 { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
                    prop_assert!(stage.acknowledge(client, packet, qos));
                }
            }
            prop_assert_eq!(missing, Vec::<String>::new());
        }
        let waiting = stage.rows.keys().filter(|key| key.starts_with("q/")).count();
        prop_assert_eq!(waiting, 0);
    }
}
