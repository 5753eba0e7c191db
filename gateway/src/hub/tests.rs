#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use bytes::Bytes;

use super::*;

mod limits;
mod properties;

const LIMITS: Limits = Limits {
    connections: 8,
    per_credential: 8,
    durable: 3,
    subscriptions: 4,
    queue_messages: 5,
    queue_bytes: 4_000,
    retained_topics: 3,
    retained_bytes: 2_000,
    window: 2,
};

/// A hub with its disk: rows change as a commit would change them.
struct Stage {
    hub: Hub,
    rows: BTreeMap<String, String>,
    now: Duration,
}

/// A client on line.
#[derive(Clone, Copy)]
struct Client(SessionId, Generation);

fn id(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

fn key(name: &str) -> Arc<ClientKey> {
    Arc::new(ClientKey {
        username: "u".into(),
        client: ClientId::Named(name.into()),
    })
}

fn opening(name: &str) -> Opening {
    Opening {
        key: key(name),
        reserved: false,
        clean_start: false,
        expiry: u32::MAX,
        will: None,
        receive_maximum: 9,
    }
}

fn clean(name: &str) -> Opening {
    Opening {
        clean_start: true,
        ..opening(name)
    }
}

fn message(topic: &str, payload: &str, qos: Qos) -> Message {
    Message {
        topic: topic.into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos,
        retain: false,
        properties: Properties::default(),
    }
}

fn asked(qos: Qos) -> Subscription {
    Subscription {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
        identifier: None,
    }
}

fn will(delay: u32) -> Option<Will> {
    let message = message("w", "gone", Qos::AtLeastOnce);
    Some(Will { message, delay })
}

impl Stage {
    fn new() -> Self {
        Self {
            hub: Hub::new(LIMITS),
            rows: BTreeMap::new(),
            now: Duration::ZERO,
        }
    }

    fn commit(&mut self, changes: Vec<Change>) {
        for Change { key, body } in changes {
            match body {
                Some(body) => self.rows.insert(key, body),
                None => self.rows.remove(&key),
            };
        }
    }

    fn restart(&mut self) {
        let rows: Vec<_> = self.rows.clone().into_iter().collect();
        let (hub, useless) = Hub::restore(LIMITS, &rows);
        assert_eq!(useless, 0);
        self.hub = hub;
        self.now = Duration::ZERO;
    }

    fn open(&mut self, opening: Opening) -> (Client, Opened) {
        let mut opened = self.hub.open(opening).unwrap();
        self.commit(std::mem::take(&mut opened.changes));
        (Client(opened.session, opened.generation), opened)
    }

    fn subscribe(&mut self, client: Client, filter: &str, asked: Subscription) -> Granted {
        let mut changes = Vec::new();
        let granted = self.hub.subscribe(client.0, filter, asked, &mut changes);
        self.commit(changes);
        if let Granted::Yes { greet: true, .. } = granted {
            self.hub.greet(client.0, filter, self.now);
        }
        granted
    }

    fn publish(&mut self, message: Message) -> Vec<SessionId> {
        self.publish_from(None, message)
    }

    fn publish_from(&mut self, source: Option<Source>, message: Message) -> Vec<SessionId> {
        let mut plan = self.hub.plan(source, message, self.now);
        self.commit(std::mem::take(&mut plan.changes));
        self.hub.deliver(plan)
    }

    fn next(&mut self, client: Client) -> Option<Send> {
        let outgoing = self.hub.next(client.0, client.1, self.now)?;
        self.commit(outgoing.changes);
        Some(outgoing.send)
    }

    /// Payload, quality, packet id and DUP of each message that goes out now.
    fn heard(&mut self, client: Client) -> Vec<(String, u8, u16, bool)> {
        let mut heard = Vec::new();
        while let Some(send) = self.next(client) {
            match send {
                Send::Publish { item, id, dup, .. } => heard.push((
                    String::from_utf8(item.message.payload.to_vec()).unwrap(),
                    item.qos as u8,
                    id.map_or(0, NonZeroU16::get),
                    dup,
                )),
                Send::Release(id) => heard.push(("release".into(), 2, id.get(), false)),
            }
        }
        heard
    }

    fn payloads(&mut self, client: Client) -> Vec<String> {
        self.heard(client).into_iter().map(|(p, ..)| p).collect()
    }

    fn acknowledge(&mut self, client: Client, packet: u16, qos: Qos) -> bool {
        let known = self.hub.acknowledged(client.0, client.1, id(packet), qos);
        self.after(0);
        known
    }

    fn close(&mut self, client: Client, leaving: Leaving) -> Vec<LastWords> {
        let aftermath = self.hub.close(client.0, client.1, leaving, self.now);
        self.commit(aftermath.changes);
        aftermath.wills
    }

    fn after(&mut self, seconds: u64) -> Vec<LastWords> {
        self.now += Duration::from_secs(seconds);
        let aftermath = self.hub.tick(self.now);
        self.commit(aftermath.changes);
        aftermath.wills
    }
}

#[test]
fn a_client_hears_a_message_once_at_the_best_quality_both_sides_take() {
    let mut stage = Stage::new();
    let (a, _) = stage.open(opening("a"));
    stage.subscribe(
        a,
        "t/#",
        Subscription {
            identifier: Some(1),
            ..asked(Qos::AtMostOnce)
        },
    );
    stage.subscribe(
        a,
        "t/+",
        Subscription {
            identifier: Some(2),
            ..asked(Qos::AtLeastOnce)
        },
    );
    assert_eq!(stage.publish(message("t/x", "1", Qos::ExactlyOnce)), [a.0]);
    let Some(Send::Publish {
        item,
        id: Some(_),
        dup: false,
        ..
    }) = stage.next(a)
    else {
        panic!("nothing heard")
    };
    assert_eq!(
        (item.qos, item.identifiers.len(), item.retain),
        (Qos::AtLeastOnce, 2, false)
    );
    stage.publish(message("t/x", "2", Qos::AtMostOnce));
    assert_eq!(stage.heard(a), [("2".into(), 0, 0, false)]);
    assert!(stage.publish(message("u", "3", Qos::AtMostOnce)).is_empty());
}

#[test]
fn nobody_hears_itself_if_it_asks_so() {
    let mut stage = Stage::new();
    let (a, _) = stage.open(opening("a"));
    stage.subscribe(
        a,
        "t",
        Subscription {
            no_local: true,
            ..asked(Qos::AtMostOnce)
        },
    );
    let own = Some(Source {
        session: a.0,
        exactly_once: None,
    });
    assert!(
        stage
            .publish_from(own, message("t", "1", Qos::AtMostOnce))
            .is_empty()
    );
    assert_eq!(stage.publish(message("t", "2", Qos::AtMostOnce)), [a.0]);
}

#[test]
fn what_is_retained_greets_a_new_subscription_as_it_asked() {
    let mut stage = Stage::new();
    let retained = |topic, payload| Message {
        retain: true,
        ..message(topic, payload, Qos::AtLeastOnce)
    };
    stage.publish(retained("t/a", "1"));
    stage.publish(retained("t/a", "2"));
    stage.publish(retained("t/b", "3"));
    stage.publish(retained("t/b", ""));
    stage.restart();
    let (a, _) = stage.open(opening("a"));
    stage.subscribe(a, "t/#", asked(Qos::AtLeastOnce));
    let Some(Send::Publish { item, .. }) = stage.next(a) else {
        panic!("nothing heard")
    };
    assert_eq!((&item.message.payload[..], item.retain), (&b"2"[..], true));
    assert!(stage.next(a).is_none());
    let new_only = Subscription {
        retain_handling: RetainHandling::IfNew,
        ..asked(Qos::AtMostOnce)
    };
    stage.subscribe(a, "t/#", new_only.clone());
    stage.subscribe(a, "+/a", new_only);
    assert_eq!(stage.payloads(a), ["2"]);
    let never = Subscription {
        retain_handling: RetainHandling::Never,
        ..asked(Qos::AtMostOnce)
    };
    stage.subscribe(a, "t/a", never);
    assert!(stage.payloads(a).is_empty());
}

#[test]
fn a_share_group_hears_each_message_once_whoever_of_it_is_on_line() {
    let mut stage = Stage::new();
    let (a, _) = stage.open(opening("a"));
    let (b, _) = stage.open(opening("b"));
    for client in [a, b] {
        stage.subscribe(client, "$share/g/t", asked(Qos::AtLeastOnce));
    }
    for n in 0..4 {
        assert_eq!(
            stage
                .publish(message("t", &n.to_string(), Qos::AtMostOnce))
                .len(),
            1
        );
    }
    assert_eq!((stage.payloads(a).len(), stage.payloads(b).len()), (2, 2));
    stage.close(a, Leaving::Lost);
    for n in 0..2 {
        assert_eq!(
            stage.publish(message("t", &n.to_string(), Qos::AtLeastOnce)),
            [b.0]
        );
    }
    let mut changes = Vec::new();
    assert!(stage.hub.unsubscribe(b.0, "$share/g/t", &mut changes));
    assert_eq!(stage.publish(message("t", "x", Qos::AtLeastOnce)), [a.0]);
}

#[test]
fn a_durable_session_hears_what_it_missed_even_after_a_restart() {
    let mut stage = Stage::new();
    let (a, opened) = stage.open(opening("a"));
    assert!(!opened.present);
    stage.subscribe(a, "t", asked(Qos::ExactlyOnce));
    stage.close(a, Leaving::Properly { expiry: None });
    for (payload, qos) in [
        ("0", Qos::AtMostOnce),
        ("1", Qos::AtLeastOnce),
        ("2", Qos::ExactlyOnce),
    ] {
        stage.publish(message("t", payload, qos));
    }
    stage.restart();
    let (a, opened) = stage.open(opening("a"));
    assert!(opened.present && opened.took_over.is_none());
    assert_eq!(
        stage.heard(a),
        [("1".into(), 1, 1, false), ("2".into(), 2, 2, false)]
    );
    // PUBREC came for the second; then the box restarts.
    let changes = stage.hub.received(a.0, a.1, id(2)).unwrap();
    stage.commit(changes);
    stage.restart();
    let (a, _) = stage.open(opening("a"));
    assert_eq!(
        stage.heard(a),
        [("release".into(), 2, 2, false), ("1".into(), 1, 3, false)]
    );
    assert!(stage.acknowledge(a, 3, Qos::AtLeastOnce) && stage.acknowledge(a, 2, Qos::ExactlyOnce));
    assert!(!stage.acknowledge(a, 2, Qos::ExactlyOnce), "done");
    assert!(stage.rows.keys().all(|key| !key.starts_with("q/")));
}

#[test]
fn a_new_connection_hears_again_what_is_not_settled_in_the_old_order() {
    let mut stage = Stage::new();
    let (a, _) = stage.open(opening("a"));
    stage.subscribe(a, "t", asked(Qos::AtLeastOnce));
    for n in 0..4 {
        stage.publish(message("t", &n.to_string(), Qos::AtLeastOnce));
    }
    assert_eq!(stage.payloads(a), ["0", "1"], "the window");
    let (b, opened) = stage.open(opening("a"));
    assert!(opened.present && opened.took_over.is_some());
    assert!(
        stage.hub.next(a.0, a.1, stage.now).is_none(),
        "the old one hears nothing"
    );
    assert!(!stage.acknowledge(a, 1, Qos::AtLeastOnce));
    assert_eq!(
        stage.heard(b),
        [("0".into(), 1, 1, true), ("1".into(), 1, 2, true)]
    );
    assert!(stage.acknowledge(b, 1, Qos::AtLeastOnce));
    assert_eq!(stage.heard(b), [("2".into(), 1, 3, false)]);
    assert!(stage.close(a, Leaving::Lost).is_empty());
    assert!(stage.hub.sessions() == 1 && stage.acknowledge(b, 2, Qos::AtLeastOnce));
}

#[test]
fn a_message_of_quality_2_is_taken_in_once_until_its_release() {
    let mut stage = Stage::new();
    let (a, _) = stage.open(opening("a"));
    let source = Some(Source {
        session: a.0,
        exactly_once: Some(id(7)),
    });
    let lost = stage
        .hub
        .plan(source, message("t", "x", Qos::ExactlyOnce), stage.now);
    drop(lost);
    assert!(!stage.hub.is_known(a.0, id(7)), "not committed");
    stage.publish_from(source, message("t", "x", Qos::ExactlyOnce));
    stage.restart();
    let (a, _) = stage.open(opening("a"));
    assert!(stage.hub.is_known(a.0, id(7)));
    let changes = stage.hub.released(a.0, a.1, id(7)).unwrap();
    stage.commit(changes);
    stage.restart();
    let (a, _) = stage.open(opening("a"));
    assert!(!stage.hub.is_known(a.0, id(7)));
    assert!(stage.hub.released(a.0, a.1, id(7)).is_none());
}

#[test]
fn a_clean_start_forgets_everything_that_was() {
    let mut stage = Stage::new();
    let (a, _) = stage.open(opening("a"));
    stage.subscribe(a, "t", asked(Qos::AtLeastOnce));
    stage.publish(message("t", "1", Qos::AtLeastOnce));
    let clean = Opening {
        clean_start: true,
        expiry: 0,
        ..opening("a")
    };
    let (a, opened) = stage.open(clean);
    assert!(!opened.present && stage.rows.is_empty());
    assert!(
        stage
            .publish(message("t", "2", Qos::AtLeastOnce))
            .is_empty()
    );
    stage.close(a, Leaving::Lost);
    assert_eq!(stage.hub.sessions(), 0);
}

#[test]
fn sessions_and_messages_expire_and_leave_no_row() {
    let mut stage = Stage::new();
    let (a, _) = stage.open(Opening {
        expiry: 10,
        ..opening("a")
    });
    stage.subscribe(a, "t", asked(Qos::AtLeastOnce));
    stage.close(a, Leaving::Lost);
    let short = |topic| Message {
        properties: Properties {
            expiry: Some(3),
            ..Properties::default()
        },
        retain: true,
        ..message(topic, "1", Qos::AtLeastOnce)
    };
    stage.publish(short("t"));
    stage.after(2);
    let (a, _) = stage.open(Opening {
        expiry: 10,
        ..opening("a")
    });
    let Some(Send::Publish {
        expiry: Some(1), ..
    }) = stage.next(a)
    else {
        panic!("in time")
    };
    stage.close(a, Leaving::Lost);
    stage.publish(short("t"));
    stage.after(4);
    let (a, _) = stage.open(Opening {
        expiry: 10,
        ..opening("a")
    });
    assert_eq!(
        stage.payloads(a).len(),
        1,
        "sent once before, so heard again; the other is over"
    );
    stage.close(a, Leaving::Properly { expiry: Some(5) });
    stage.after(4);
    assert_eq!(stage.hub.sessions(), 1);
    stage.after(1);
    assert_eq!(stage.hub.sessions(), 0);
    // What is retained and over is not heard, and goes when room is needed.
    assert_eq!(stage.rows.keys().collect::<Vec<_>>(), ["r/t"]);
    for n in 0..LIMITS.retained_topics {
        let kept = Message {
            retain: true,
            ..message(&n.to_string(), "1", Qos::AtMostOnce)
        };
        stage.publish(kept);
    }
    assert_eq!(stage.hub.dropped().retained_full, 0);
    assert!(!stage.rows.contains_key("r/t"));
}

#[test]
fn a_will_is_heard_when_its_client_is_lost_and_not_when_it_comes_back_in_time() {
    let mut stage = Stage::new();
    let said = |wills: Vec<LastWords>| wills.len();
    let (a, _) = stage.open(Opening {
        will: will(0),
        ..opening("a")
    });
    assert_eq!(said(stage.close(a, Leaving::Lost)), 1);
    let (a, _) = stage.open(Opening {
        will: will(0),
        ..opening("a")
    });
    assert_eq!(said(stage.close(a, Leaving::Properly { expiry: None })), 0);
    let (a, _) = stage.open(Opening {
        will: will(0),
        ..opening("a")
    });
    assert_eq!(said(stage.close(a, Leaving::WithWill { expiry: None })), 1);
    let (a, _) = stage.open(Opening {
        will: will(0),
        ..opening("a")
    });
    assert_eq!(said(stage.close(a, Leaving::Stopping)), 0);
    // Taken over: at once without a delay, not at all with one if the session goes on.
    stage.open(Opening {
        will: will(0),
        ..opening("a")
    });
    assert!(stage.hub.needs_to_open(&opening("a")).will);
    let (_, opened) = stage.open(Opening {
        will: will(5),
        ..opening("a")
    });
    assert!(opened.will.is_some());
    assert!(
        !stage.hub.needs_to_open(&opening("a")).will && stage.hub.needs_to_open(&clean("a")).will
    );
    let (a, opened) = stage.open(Opening {
        will: will(5),
        ..opening("a")
    });
    assert!(opened.will.is_none());
    // Delayed, and cancelled by the return.
    assert_eq!(said(stage.close(a, Leaving::Lost)), 0);
    assert_eq!(said(stage.after(4)), 0);
    let (a, opened) = stage.open(Opening {
        will: will(5),
        expiry: 3,
        ..opening("a")
    });
    assert!(opened.will.is_none());
    // The end of the session is the latest.
    assert_eq!(said(stage.close(a, Leaving::Lost)), 0);
    assert_eq!((said(stage.after(3)), said(stage.after(9))), (1, 0));
    let (a, _) = stage.open(Opening {
        will: will(5),
        ..opening("a")
    });
    stage.close(a, Leaving::Lost);
    let (_, opened) = stage.open(Opening {
        clean_start: true,
        ..opening("a")
    });
    assert!(opened.will.is_some(), "the session ended");
}

#[test]
fn rows_that_cannot_be_read_are_named_and_keep_nothing_from_coming_back() {
    let mut stage = Stage::new();
    let (a, _) = stage.open(opening("a"));
    stage.subscribe(a, "t", asked(Qos::AtLeastOnce));
    let mut rows: Vec<_> = stage.rows.clone().into_iter().collect();
    let bad = [
        "x",
        "q/none/00000000000000000001",
        "s/y",
        "r/t",
        "f/none/t",
        "i/none/0",
    ];
    rows.extend(bad.map(|key| (key.to_owned(), "{".to_owned())));
    let (mut hub, useless) = Hub::restore(LIMITS, &rows);
    assert_eq!((hub.sessions(), useless), (1, bad.len()));
    let removed = hub.tick(Duration::ZERO).changes;
    assert_eq!(removed.len(), bad.len());
}
