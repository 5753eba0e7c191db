//! Presses, alarms, tests, chattering, local acts.

use super::*;

const PRESSED: &str = "alarm.pressed raised";

fn emergency(rig: &mut Rig) -> Event {
    rig.send("zigbee2mqtt/sos", "{\"action\":\"emergency\"}")
        .remove(0)
}

#[test]
fn every_press_with_its_own_id_rings_and_a_resend_does_not() {
    let mut rig = Rig::new([own("b", Role::PanicButton)]);
    assert_eq!(words(&rig.press("b", "1")), [PRESSED]);
    assert_eq!(rig.actions.len(), 2);
    assert_eq!(words(&rig.press("b", "2")), [PRESSED]);
    assert_eq!(rig.actions.len(), 2);
    assert_eq!(rig.press("b", "1"), []);
    rig.restart();
    assert_eq!(rig.press("b", "2"), []);
    rig.advance(UNIQUE_FOR);
    assert_eq!(words(&rig.press("b", "2")), [PRESSED]);
}

#[test]
fn the_same_id_of_another_device_is_another_press() {
    let mut rig = Rig::new([own("a", Role::PanicButton), own("b", Role::PanicButton)]);
    assert_eq!(
        (rig.press("a", "1").len(), rig.press("b", "1").len()),
        (1, 1)
    );
}

#[test]
fn a_button_without_a_counter_rings_every_two_seconds_and_stores_every_press() {
    let mut rig = Rig::new([zigbee("sos", Role::PanicButton)]);
    let first = emergency(&mut rig);
    assert_eq!((first.same_as, rig.actions.len()), (None, 2));
    rig.advance(Duration::from_millis(1_200));
    let second = emergency(&mut rig);
    assert_eq!((second.same_as, rig.actions.len()), (Some(first.id), 0));
    rig.restart();
    rig.now.wall = MORNING.after(Duration::from_millis(1_900));
    assert_eq!(emergency(&mut rig).same_as, Some(first.id));
    rig.advance(Duration::from_millis(100));
    let next = emergency(&mut rig);
    assert_eq!((next.same_as, rig.actions.len()), (None, 2));
}

#[test]
fn a_clock_set_back_makes_no_press_the_same() {
    let mut rig = Rig::new([zigbee("sos", Role::PanicButton)]);
    emergency(&mut rig);
    rig.advance(secs(30));
    rig.now.wall = MORNING.after(secs(1));
    assert_eq!(emergency(&mut rig).same_as, None);
}

#[test]
fn a_clock_set_back_across_a_restart_makes_no_press_the_same() {
    let mut rig = Rig::new([zigbee("sos", Role::PanicButton)]);
    emergency(&mut rig);
    rig.restart();
    rig.now.wall = MORNING.before(secs(1));
    assert_eq!(emergency(&mut rig).same_as, None);
}

#[test]
fn a_call_under_duress_is_never_the_same_as_a_plain_one() {
    let mut rig = Rig::new([zigbee("k", Role::Keypad)]);
    let point = PointKey {
        device: "k".parse().unwrap(),
        point: "x".parse().unwrap(),
    };
    let mut moment = |kind| {
        rig.step(|site, now, chance| {
            let book = Arc::clone(&site.book);
            let mut step = Step::new(&book, now, chance);
            site.moment(&mut step, &point, kind, State::Raised);
            site.finish(step)
        })
    };
    let first = moment(Kind::AlarmPressed).remove(0);
    assert_eq!(moment(Kind::AlarmDuress)[0].same_as, None);
    assert_ne!(moment(Kind::AlarmPressed)[0].same_as, Some(first.id));
}

#[test]
fn a_fire_frees_every_door_and_can_say_nothing_else_to_one() {
    let mut wired = own("d", Role::Door);
    wired.options.insert("release".into(), true.into());
    let doors = [wired, own("contact", Role::Door), own("l", Role::Lock)];
    let mut rig = Rig::new(doors.into_iter().chain([zigbee("s", Role::Smoke)]));
    let fire = rig.send("zigbee2mqtt/s", "{\"smoke\":true}").remove(0);
    let releases: Vec<String> = rig
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Release { door, because } => {
                assert_eq!(*because, fire.id);
                Some(door.to_string())
            }
            Action::Siren(_) | Action::Lamp(_) => None,
        })
        .collect();
    assert_eq!(releases, ["d/x", "l/x"]);
    assert_eq!(rig.actions.len(), 4);
    rig.send("zigbee2mqtt/s", "{\"smoke\":true}");
    assert_eq!(rig.actions, [], "a repeat of the cache is no activation");
}

#[test]
fn what_is_not_sure_or_wants_silence_makes_no_noise() {
    let mut silent = zigbee("sos", Role::PanicButton);
    silent.options.insert("silent".into(), true.into());
    let mut rig = Rig::new([zigbee("s", Role::Smoke), zigbee("t", Role::Smoke), silent]);
    rig.replay("zigbee2mqtt/s", "{\"smoke\":true}");
    assert!(
        matches!(rig.actions[..], [Action::Lamp(_)]),
        "{:?}",
        rig.actions
    );
    rig.send("zigbee2mqtt/s", "{\"smoke\":true}");
    assert!(matches!(
        rig.actions[..],
        [Action::Siren(_), Action::Lamp(_)]
    ));
    rig.send("zigbee2mqtt/t", "{\"smoke\":true,\"test\":true}");
    assert_eq!(rig.actions, []);
    emergency(&mut rig);
    assert_eq!(rig.actions, []);
}

#[test]
fn a_second_hazard_at_one_point_rings_again() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke)]);
    rig.send("zigbee2mqtt/s", "{\"smoke\":true}");
    rig.send("zigbee2mqtt/s", "{\"smoke\":true,\"heat\":true}");
    assert_eq!(rig.actions.len(), 2);
}

#[test]
fn a_test_bit_that_never_goes_out_hides_no_fire() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke)]);
    let burning = "{\"smoke\":true,\"test\":true}";
    let told = rig.send("zigbee2mqtt/s", burning);
    assert_eq!(
        words(&told),
        ["alarm.test raised", "fire.smoke.alarm raised"]
    );
    assert!(told.iter().all(|e| e.severity == Severity::Test));
    assert_eq!(rig.wait(TEST_FOR - secs(1)), []);
    let real = rig.wait(secs(1));
    assert_eq!(words(&real), ["fire.smoke.alarm raised"]);
    assert_eq!(
        (real[0].severity, rig.actions.len()),
        (Severity::Critical, 2)
    );
    assert_eq!(rig.send("zigbee2mqtt/s", burning), []);
}

#[test]
fn a_test_excuses_no_longer_even_before_its_end_is_noticed() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke)]);
    rig.send("zigbee2mqtt/s", "{\"smoke\":false,\"test\":true}");
    rig.advance(TEST_FOR);
    let told = rig.send("zigbee2mqtt/s", "{\"smoke\":true,\"test\":true}");
    assert_eq!(told[0].severity, Severity::Critical);
}

#[test]
fn a_test_said_again_and_again_prolongs_nothing() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke)]);
    let mut told = rig.send("zigbee2mqtt/s", "{\"smoke\":true,\"test\":true}");
    for _ in 0..10 {
        told.extend(rig.wait(secs(15)));
        told.extend(rig.send("zigbee2mqtt/s/test", "false"));
        told.extend(rig.send("zigbee2mqtt/s/test", "true"));
    }
    assert!(told.iter().any(|e| e.severity == Severity::Critical));
}

#[test]
fn a_chattering_button_is_counted_and_told_as_faulty_and_nothing_is_lost() {
    let mut rig = Rig::new([own("b", Role::PanicButton), own("c", Role::PanicButton)]);
    let mut told = Vec::new();
    for n in 0..40 {
        told.extend(rig.press("b", &n.to_string()));
        told.extend(rig.wait(Duration::from_millis(100)));
        if n == 25 {
            rig.restart();
        }
    }
    assert_eq!(
        words(&rig.press("c", "1")),
        [PRESSED],
        "another point is not held back"
    );
    told.extend(rig.wait(secs(20)));
    let presses = told.iter().filter(|e| e.kind == Kind::AlarmPressed);
    let (alone, counted): (Vec<_>, Vec<_>) = presses.partition(|e| e.detail == Detail::None);
    let counted: u64 = counted.into_iter().map(occurrences).sum();
    assert_eq!(
        (alone.len(), counted),
        (20, 20),
        "a restart tells more singly, never less"
    );
    let faults = words(&told)
        .into_iter()
        .filter(|w| w.starts_with("device.fault"));
    let faults: Vec<_> = faults.collect();
    assert_eq!(faults, ["device.fault raised", "device.fault cleared"]);
    assert_eq!(words(&rig.press("b", "new")), [PRESSED]);
}

#[test]
fn what_was_counted_before_a_restart_is_told_after_it() {
    let mut rig = Rig::new([own("b", Role::PanicButton)]);
    for n in 0..13 {
        rig.press("b", &n.to_string());
    }
    rig.restart();
    let told = rig.wait(Duration::ZERO);
    assert_eq!(words(&told), [PRESSED]);
    assert_eq!(occurrences(&told[0]), 3);
    assert_eq!(words(&rig.wait(CHATTER_WITHIN)), ["device.fault cleared"]);
}

#[test]
fn a_press_counts_whatever_is_already_in_alarm_at_the_point() {
    let mut rig = Rig::new([zigbee("sos", Role::PanicButton)]);
    rig.send("zigbee2mqtt/sos", "{\"sos\":true}");
    rig.advance(secs(5));
    emergency(&mut rig);
    assert_eq!(rig.actions.len(), 2);
}

#[test]
fn an_alarm_stays_at_the_point_until_the_last_of_its_conditions_is_gone() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke)]);
    let condition = |rig: &Rig| rig.site.points.values().next().unwrap().condition;
    rig.send("zigbee2mqtt/s", "{\"smoke\":true,\"heat\":true}");
    rig.send("zigbee2mqtt/s", "{\"smoke\":false,\"heat\":true}");
    assert!(matches!(
        condition(&rig),
        domain::alarm::Condition::Active { .. }
    ));
    rig.send("zigbee2mqtt/s", "{\"smoke\":false,\"heat\":false}");
    assert!(matches!(
        condition(&rig),
        domain::alarm::Condition::Restored { .. }
    ));
}
