//! Limits hit the one who reaches them, and nobody else.

use super::*;

#[test]
fn limits_hit_the_one_who_reaches_them() {
    let mut stage = Stage::new();
    let (slow, _) = stage.open(opening("slow"));
    let (fast, _) = stage.open(opening("fast"));
    for client in [slow, fast] {
        stage.subscribe(client, "t", asked(Qos::AtLeastOnce));
    }
    let mut heard = 0;
    for n in 0..10 {
        stage.publish(message("t", &n.to_string(), Qos::AtLeastOnce));
        for (_, _, packet, _) in stage.heard(fast) {
            heard += 1;
            assert!(stage.acknowledge(fast, packet, Qos::AtLeastOnce));
        }
    }
    assert_eq!((heard, stage.hub.dropped().queue_full), (10, 5));
    let room = LIMITS.subscriptions - 1;
    for n in 0..room {
        assert!(matches!(
            stage.subscribe(slow, &format!("f{n}"), asked(Qos::AtMostOnce)),
            Granted::Yes { .. }
        ));
    }
    assert_eq!(
        stage.subscribe(slow, "more", asked(Qos::AtMostOnce)),
        Granted::TooMany
    );
    assert!(matches!(
        stage.subscribe(slow, "f0", asked(Qos::AtMostOnce)),
        Granted::Yes { .. }
    ));
    for n in 0..4 {
        let kept = Message {
            retain: true,
            ..message(&format!("r{n}"), "x", Qos::AtMostOnce)
        };
        stage.publish(kept);
    }
    let big = Message {
        retain: true,
        ..message("r0", &"x".repeat(3_000), Qos::AtMostOnce)
    };
    stage.publish(big);
    assert_eq!(
        (stage.hub.retained().0, stage.hub.dropped().retained_full),
        (2, 2)
    );
}

#[test]
fn a_quarter_of_the_places_is_for_life_safety_and_durable_ones_make_room() {
    let mut stage = Stage::new();
    for n in 0..6 {
        stage.open(Opening {
            expiry: 0,
            ..opening(&n.to_string())
        });
    }
    assert_eq!(stage.hub.open(opening("x")).unwrap_err(), NoRoom);
    assert!(stage.hub.open(opening("3")).is_ok(), "in its own place");
    for n in 0..2 {
        let reserved = Opening {
            reserved: true,
            ..opening(&format!("r{n}"))
        };
        let (client, _) = stage.open(reserved);
        stage.close(client, Leaving::Lost);
        stage.now += Duration::from_secs(1);
    }
    assert_eq!(stage.hub.dropped().sessions, 0);
    let (client, _) = stage.open(Opening {
        reserved: true,
        ..opening("r2")
    });
    assert_eq!(stage.hub.dropped().sessions, 1);
    stage.close(client, Leaving::Lost);
    assert!(
        !stage
            .open(Opening {
                reserved: true,
                ..opening("r0")
            })
            .1
            .present,
        "left first"
    );
}
