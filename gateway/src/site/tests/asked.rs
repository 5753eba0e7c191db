//! Commands of named people, test sessions, and what the centre's sirens, lamps and doors are told.

use domain::command::{
    Act, Bypass, Command, DRILL_MARK, Ended, Scope, Stamp, Test, TestKind, Unfit,
};
use domain::id::{CommandId, PersonId};
use domain::kind::Hazard;
use uuid::Uuid;

use super::*;
use crate::site::asked::Asked;
use crate::site::effect::CONFIRM_WITHIN;

const ANNA: PersonId = PersonId(Uuid::from_u128(0xA));
const BO: PersonId = PersonId(Uuid::from_u128(0xB));

fn point(device: &str) -> PointKey {
    PointKey {
        device: device.parse().unwrap(),
        point: "x".parse().unwrap(),
    }
}

fn named(n: u128) -> CommandId {
    CommandId(Uuid::from_u128(n))
}

impl Rig {
    fn ask(&mut self, id: u128, act: Act) -> Vec<Event> {
        let good_until = self.now.monotonic + secs(10);
        self.ask_until(id, act, good_until)
    }

    fn ask_until(&mut self, id: u128, act: Act, good_until: Duration) -> Vec<Event> {
        let asked = Asked {
            command: Command {
                id: named(id),
                by: ANNA,
                expires_at: self.now.wall.after(secs(10)),
                act,
            },
            good_until,
        };
        self.step(|site, now, chance| site.ask(&asked, now, chance))
    }

    fn smoke(&mut self, device: &str, there: bool) -> Vec<Event> {
        let topic = format!("zigbee2mqtt/{device}");
        self.send(&topic, &format!("{{\"smoke\":{there}}}"))
    }

    /// `topic payload` of what devices were told.
    fn told(&self) -> Vec<String> {
        let line = |tell: &Tell| {
            let body: serde_json::Value = serde_json::from_slice(&tell.payload).unwrap();
            let why = body["why"]
                .as_str()
                .map_or(String::new(), |w| format!(" {w}"));
            format!("{} {}{why}", tell.topic, body["do"].as_str().unwrap())
        };
        self.tells.iter().map(line).collect()
    }
}

fn acknowledge(device: &str, activation: Option<EventId>) -> Act {
    Act::Acknowledge {
        point: point(device),
        activation,
    }
}

fn reset(device: &str, looked: bool) -> Act {
    Act::Reset {
        point: point(device),
        activation: None,
        looked,
    }
}

fn test(kind: TestKind, scope: Scope, minutes: u16) -> Act {
    Act::TestBegin(Test {
        scope,
        kind,
        minutes,
        reason: "yearly".into(),
        partner: Some(BO),
    })
}

fn only(device: &str) -> Scope {
    Scope::Points([point(device)].into())
}

fn refusal(events: &[Event]) -> Unfit {
    assert_eq!(words(events), ["command.refused raised"]);
    let Detail::Unfit { why, .. } = events[0].detail else {
        panic!("{:?}", events[0].detail);
    };
    why
}

#[test]
fn an_alarm_is_looked_at_then_reset_and_the_next_one_rings_again() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke)]);
    rig.smoke("s", true);
    assert_eq!(
        refusal(&rig.ask(1, reset("s", false))),
        Unfit::AcknowledgeFirst
    );
    let seen = rig.ask(2, acknowledge("s", None));
    assert_eq!(words(&seen), ["alarm.acknowledged raised"]);
    let by = Detail::Act {
        command: named(2),
        by: ANNA,
    };
    assert_eq!(seen[0].detail, by);
    assert_eq!(refusal(&rig.ask(3, reset("s", false))), Unfit::StillThere);
    rig.smoke("s", false);
    assert_eq!(
        words(&rig.ask(4, reset("s", false))),
        ["alarm.reset raised"]
    );
    assert_eq!(refusal(&rig.ask(5, acknowledge("s", None))), Unfit::Normal);
    rig.smoke("s", true);
    assert_eq!(rig.actions.len(), 2);
}

#[test]
fn a_level_that_never_clears_is_reset_by_one_who_looked_and_raises_again() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke)]);
    rig.smoke("s", true);
    rig.ask(1, acknowledge("s", None));
    assert_eq!(words(&rig.ask(2, reset("s", true))), ["alarm.reset raised"]);
    assert_eq!(words(&rig.smoke("s", true)), ["fire.smoke.alarm raised"]);
}

#[test]
fn a_command_is_done_once_even_across_a_restart_and_never_too_late() {
    let mut rig = Rig::new([own("b", Role::PanicButton)]);
    let press = rig.press("b", "1").remove(0);
    assert_eq!(rig.ask(1, acknowledge("b", Some(press.id))).len(), 1);
    assert_eq!(rig.ask(1, acknowledge("b", Some(press.id))), []);
    rig.restart();
    assert_eq!(rig.ask(1, acknowledge("b", Some(press.id))), []);
    let late = rig.now.monotonic;
    rig.advance(secs(1));
    assert_eq!(
        refusal(&rig.ask_until(2, reset("b", false), late)),
        Unfit::Expired
    );
}

#[test]
fn who_looked_at_an_older_alarm_has_not_looked_at_the_newer_one() {
    let mut rig = Rig::new([own("b", Role::PanicButton)]);
    let first = rig.press("b", "1").remove(0);
    rig.press("b", "2");
    let outcome = rig.ask(1, acknowledge("b", Some(first.id)));
    assert_eq!(refusal(&outcome), Unfit::NewerAlarm);
    assert_eq!(
        refusal(&rig.ask(2, acknowledge("ghost", None))),
        Unfit::UnknownPoint
    );
}

#[test]
fn a_test_is_stamped_recorded_and_sounded_and_a_second_alarm_of_the_point_is_real() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke), zigbee("t", Role::Smoke)]);
    let begun = rig.ask(7, test(TestKind::Walk, only("s"), 10));
    assert_eq!(words(&begun), ["test.begun raised"]);
    let tested = rig.smoke("s", true).remove(0);
    assert_eq!(tested.stamp, Some(Stamp::Test(named(7))));
    assert_eq!(
        (tested.severity, rig.actions.len()),
        (Severity::Critical, 2)
    );
    assert_eq!(rig.smoke("t", true)[0].stamp, None, "not in the scope");
    rig.smoke("s", false);
    assert_eq!(rig.smoke("s", true)[0].stamp, None, "a second activation");
}

#[test]
fn a_panic_breaks_through_every_test_but_a_walk_that_names_it() {
    let devices = || [own("b", Role::PanicButton), zigbee("s", Role::Smoke)];
    for kind in [TestKind::Walk, TestKind::Maintenance, TestKind::Drill] {
        let mut rig = Rig::new(devices());
        rig.ask(1, test(kind, Scope::Centre, 10));
        assert_eq!(rig.press("b", "1")[0].stamp, None, "{kind:?}");
    }
    let mut rig = Rig::new(devices());
    rig.ask(1, test(TestKind::Maintenance, only("b"), 10));
    assert_eq!(rig.press("b", "1")[0].stamp, None);
    rig.ask(2, test(TestKind::Walk, only("b"), 10));
    assert_eq!(rig.press("b", "2")[0].stamp, Some(Stamp::Test(named(2))));
    assert_eq!(rig.press("b", "3")[0].stamp, None, "a second press is real");
}

#[test]
fn a_second_test_beside_the_first_hides_nothing_that_breaks_through_it() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke), own("m", Role::Motion)]);
    rig.ask(1, test(TestKind::Maintenance, Scope::Centre, 10));
    rig.smoke("s", true);
    rig.smoke("s", false);
    rig.ask(2, test(TestKind::Maintenance, Scope::Centre, 10));
    assert_eq!(rig.smoke("s", true)[0].stamp, None, "a second activation");
    let intruder = rig.say("m", "1", "intrusion.alarm", "raised");
    assert_eq!(intruder[0].stamp, None, "another hazard");
}

#[test]
fn another_hazard_than_the_tested_one_is_real() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke), own("m", Role::Motion)]);
    rig.ask(1, test(TestKind::Maintenance, Scope::Centre, 10));
    assert!(rig.smoke("s", true)[0].stamp.is_some());
    let intruder = rig.say("m", "1", "intrusion.alarm", "raised");
    assert_eq!(intruder[0].stamp, None);
}

#[test]
fn what_is_still_there_when_a_test_ends_is_told_as_new() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke), zigbee("t", Role::Smoke)]);
    rig.ask(1, test(TestKind::Maintenance, Scope::Centre, 10));
    rig.smoke("s", true);
    rig.smoke("t", true);
    rig.smoke("t", false);
    let ended = rig.wait(secs(600));
    assert_eq!(
        words(&ended),
        ["test.ended raised", "fire.smoke.alarm raised"]
    );
    let detail = Detail::Ended {
        session: named(1),
        why: Ended::Expired,
        command: None,
    };
    assert_eq!(ended[0].detail, detail);
    assert_eq!((ended[1].stamp, rig.actions.len()), (None, 2));
    assert_eq!(
        refusal(&rig.ask(2, Act::TestEnd { session: named(1) })),
        Unfit::NoSession
    );
}

#[test]
fn a_fire_in_a_drill_goes_without_the_leaders_mark() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke), zigbee("t", Role::Smoke)]);
    let session = named(1);
    rig.ask(1, test(TestKind::Drill, Scope::Centre, 60));
    rig.smoke("s", true);
    let expected = |device| Act::Expected {
        session,
        point: point(device),
    };
    assert_eq!(words(&rig.ask(2, expected("s"))), ["test.expected raised"]);
    assert_eq!(rig.wait(DRILL_MARK), []);
    assert!(rig.smoke("t", true)[0].stamp.is_some());
    let real = rig.wait(DRILL_MARK);
    assert_eq!(words(&real), ["fire.smoke.alarm raised"]);
    assert_eq!(real[0].stamp, None);
    assert_eq!(refusal(&rig.ask(3, expected("t"))), Unfit::NothingExpected);
}

#[test]
fn a_restart_in_a_test_holds_nothing_back_until_the_clock_says_how_much_is_left() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke), zigbee("t", Role::Smoke)]);
    rig.ask(1, test(TestKind::Walk, Scope::Centre, 10));
    rig.advance(secs(60));
    rig.restart();
    assert_eq!(rig.smoke("s", true)[0].stamp, None);
    rig.wait(secs(1));
    assert!(rig.smoke("t", true)[0].stamp.is_some());
    assert_eq!(words(&rig.wait(secs(540)))[0], "test.ended raised");
    rig.smoke("t", false);
    rig.ask(2, test(TestKind::Walk, Scope::Centre, 10));
    rig.now.clock_trust = ClockTrust::Unset;
    rig.restart();
    assert_eq!(words(&rig.wait(secs(1))), ["test.ended raised"]);
    assert_eq!(rig.smoke("t", true)[0].stamp, None);
}

#[test]
fn a_bypass_is_never_for_those_who_call_for_help_and_ends_loudly() {
    let bypass = |device: &str, minutes, second| {
        Act::Bypass(Bypass {
            point: point(device),
            minutes,
            reason: "painting".into(),
            second,
        })
    };
    let mut rig = Rig::new([
        own("b", Role::PanicButton),
        own("c", Role::ManualCallPoint),
        zigbee("s", Role::Smoke),
    ]);
    assert_eq!(
        refusal(&rig.ask(1, bypass("b", 5, None))),
        Unfit::NeverBypassed
    );
    assert_eq!(
        refusal(&rig.ask(2, bypass("c", 5, None))),
        Unfit::NeverBypassed
    );
    assert_eq!(
        refusal(&rig.ask(3, bypass("s", 90, None))),
        Unfit::SecondPerson
    );
    assert_eq!(
        words(&rig.ask(4, bypass("s", 90, Some(BO)))),
        ["point.bypassed raised"]
    );
    assert_eq!(rig.smoke("s", true)[0].stamp, Some(Stamp::Bypass(named(4))));
    let back = rig.ask(5, Act::EndBypass { point: point("s") });
    assert_eq!(
        words(&back),
        ["point.in_service raised", "fire.smoke.alarm raised"]
    );
    assert_eq!(back[1].stamp, None);
    assert_eq!(
        refusal(&rig.ask(6, Act::EndBypass { point: point("s") })),
        Unfit::InService
    );
}

#[test]
fn a_person_releases_a_door_in_fire_only() {
    let mut rig = Rig::new([own("l", Role::Lock), zigbee("s", Role::Smoke)]);
    rig.wait(secs(1));
    let release = |device| Act::Release {
        door: point(device),
    };
    assert_eq!(refusal(&rig.ask(1, release("l"))), Unfit::NoFire);
    assert_eq!(rig.tells, []);
    let fire = rig.smoke("s", true);
    assert_eq!(
        words(&fire),
        ["fire.smoke.alarm raised", "door.released raised"]
    );
    assert_eq!(rig.told(), ["antuo/v1/l/x/set release alarm"]);
    assert_eq!(words(&rig.ask(2, release("l"))), ["door.released raised"]);
    assert_eq!(rig.told(), ["antuo/v1/l/x/set release alarm"]);
    assert_eq!(refusal(&rig.ask(3, release("s"))), Unfit::NoDoor);
}

#[test]
fn a_door_that_does_not_say_it_is_free_is_told_again_and_is_a_fault() {
    let mut rig = Rig::new([own("l", Role::Lock), zigbee("s", Role::Smoke)]);
    rig.smoke("s", true);
    let missed = rig.wait(CONFIRM_WITHIN);
    assert_eq!(words(&missed), ["act.unconfirmed raised"]);
    assert_eq!(missed[0].source.as_ref().unwrap(), &point("l"));
    assert_eq!(rig.told(), ["antuo/v1/l/x/set release alarm"]);
    rig.wait(CONFIRM_WITHIN);
    assert_eq!(rig.told().len(), 1, "a third time");
    let open = rig.say("l", "1", "lock.unlocked", "raised");
    assert_eq!(
        words(&open),
        ["act.unconfirmed cleared", "lock.unlocked raised"]
    );
}

#[test]
fn sirens_sound_until_someone_looks_and_lamps_until_all_is_normal() {
    let devices = [own("siren", Role::Siren), own("lamp", Role::Lamp)];
    let mut rig = Rig::new(devices.into_iter().chain([zigbee("s", Role::Smoke)]));
    rig.wait(secs(1));
    rig.smoke("s", true);
    let ringing = [
        "antuo/v1/siren/x/set sound alarm",
        "antuo/v1/lamp/x/set light alarm",
    ];
    assert_eq!(rig.told(), ringing);
    let said = rig.say("siren", "1", "siren.sounding", "raised");
    assert_eq!(words(&said), ["siren.sounding raised"]);
    rig.say("lamp", "1", "lamp.lit", "raised");
    assert_eq!(rig.wait(CONFIRM_WITHIN), [], "both said that they did");
    rig.ask(1, acknowledge("s", None));
    assert_eq!(rig.told(), ["antuo/v1/siren/x/set silence"]);
    rig.smoke("s", false);
    rig.ask(2, reset("s", false));
    assert_eq!(rig.told(), ["antuo/v1/lamp/x/set dark"]);
}

#[test]
fn a_restart_tells_sirens_what_the_centre_demands() {
    let mut rig = Rig::new([own("siren", Role::Siren), zigbee("s", Role::Smoke)]);
    rig.smoke("s", true);
    rig.restart();
    rig.wait(Duration::ZERO);
    assert_eq!(rig.told(), ["antuo/v1/siren/x/set sound alarm"]);
}

#[test]
fn a_siren_nobody_can_tell_is_a_fault_as_soon_as_it_is_wanted() {
    let siren = enrolment("w", "ha-statestream", "ha/siren/w", Role::Siren);
    let mut rig = Rig::new([siren, zigbee("s", Role::Smoke)]);
    let events = rig.smoke("s", true);
    assert!(words(&events).contains(&"act.unconfirmed raised".to_owned()));
}

#[test]
fn an_alarm_that_waits_for_the_cloud_is_heard_at_the_centre() {
    let mut silent = own("s", Role::PanicButton);
    silent.options.insert("silent".into(), true.into());
    let others = [own("siren", Role::Siren), own("b", Role::PanicButton)];
    let mut rig = Rig::new(others.into_iter().chain([silent]));
    rig.wait(secs(1));
    let mut waiting = Unforwarded::default();
    waiting.alarms.insert((point("s"), Hazard::Panic));
    rig.site.set_unforwarded(&waiting);
    assert_eq!(
        rig.wait(Duration::ZERO),
        [],
        "a silent panic is for the carers' page"
    );
    let told = rig.told();
    assert!(
        !told.iter().any(|line| line.contains("not_forwarded")),
        "{told:?}"
    );
    waiting.alarms.insert((point("b"), Hazard::Panic));
    rig.site.set_unforwarded(&waiting);
    rig.wait(Duration::ZERO);
    assert_eq!(rig.told(), ["antuo/v1/siren/x/set sound not_forwarded"]);
    rig.press("b", "1");
    assert_eq!(rig.told(), ["antuo/v1/siren/x/set sound alarm"]);
    rig.site.set_unforwarded(&Unforwarded::default());
    rig.wait(Duration::ZERO);
    assert_eq!(rig.told(), Vec::<String>::new(), "the alarm still sounds");
}

#[test]
fn in_fire_a_door_that_locks_itself_or_comes_back_is_told_again_and_after_it_no_more() {
    let mut rig = Rig::new([own("l", Role::Lock), zigbee("s", Role::Smoke)]);
    rig.smoke("s", true);
    rig.say("l", "1", "lock.unlocked", "raised");
    rig.say("l", "2", "lock.locked", "raised");
    assert_eq!(rig.told(), ["antuo/v1/l/x/set release alarm"]);
    rig.restart();
    rig.wait(Duration::ZERO);
    assert_eq!(rig.told(), ["antuo/v1/l/x/set release alarm"], "a restart");
    for _ in 0..4 {
        rig.wait(CONFIRM_WITHIN);
    }
    rig.wait(secs(30));
    assert_eq!(
        rig.told(),
        ["antuo/v1/l/x/set release alarm"],
        "as long as it burns"
    );
    rig.ask(1, acknowledge("s", None));
    rig.smoke("s", false);
    rig.ask(2, reset("s", false));
    rig.wait(secs(60));
    assert_eq!(rig.tells, [], "no fire, no release");
}

#[test]
fn a_bouncing_button_in_its_own_walk_test_calls_nobody() {
    let mut rig = Rig::new([zigbee("sos", Role::PanicButton)]);
    rig.ask(
        1,
        test(TestKind::Walk, Scope::Points([point("sos")].into()), 10),
    );
    let press = |rig: &mut Rig| {
        rig.send("zigbee2mqtt/sos", "{\"action\":\"emergency\"}")
            .remove(0)
    };
    let first = press(&mut rig);
    rig.advance(secs(1));
    let bounce = press(&mut rig);
    assert_eq!(
        (bounce.same_as, bounce.stamp),
        (Some(first.id), first.stamp)
    );
    rig.advance(secs(5));
    assert_eq!(press(&mut rig).stamp, None, "a second press is real");
}

#[test]
fn a_point_in_alarm_that_is_enrolled_no_more_can_still_be_silenced() {
    let devices = [own("siren", Role::Siren), zigbee("s", Role::Smoke)];
    let mut rig = Rig::new(devices);
    rig.smoke("s", true);
    let mut without = config([own("siren", Role::Siren)]);
    without.version = 8;
    let now = rig.now;
    rig.site.reconfigure(Arc::new(without), &now).unwrap();
    assert_eq!(
        words(&rig.ask(1, acknowledge("s", None))),
        ["alarm.acknowledged raised"]
    );
    assert_eq!(words(&rig.ask(2, reset("s", true))), ["alarm.reset raised"]);
}

#[test]
fn a_call_point_pressed_in_a_drill_goes_without_a_mark_and_so_does_a_fire_after_a_restart() {
    let mut call_point = own("c", Role::ManualCallPoint);
    call_point.momentary = true;
    let mut rig = Rig::new([call_point, zigbee("s", Role::Smoke)]);
    rig.ask(1, test(TestKind::Drill, Scope::Centre, 60));
    let pressed = rig.say("c", "1", "fire.manual_call_point.alarm", "raised");
    assert!(pressed[0].stamp.is_some());
    let real = rig.wait(DRILL_MARK);
    assert_eq!(words(&real), ["fire.manual_call_point.alarm raised"]);
    assert_eq!(real[0].stamp, None);
    rig.smoke("s", true);
    rig.restart();
    rig.wait(Duration::ZERO);
    let real = rig.wait(DRILL_MARK);
    assert_eq!(words(&real), ["fire.smoke.alarm raised"]);
    assert_eq!(real[0].stamp, None);
}
