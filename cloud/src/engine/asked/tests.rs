#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use domain::command::{Act as Asked, Bypass, Ended, Scope, Stamp, Test, TestKind, Unfit};
use domain::event::{Detail, Event, State as EventState};
use domain::id::{CommandId, PersonId, PointKey};
use domain::kind::{Kind, Severity};

use super::*;
use crate::commands::shown;
use crate::db::Urgency;
use crate::dispatch::Agency;
use crate::engine::stage::{GATEWAY, Stage, centre, id, person};
use crate::incident::Withheld;
use crate::sql;
use crate::ticker::Ticker;

fn point(device: &str) -> PointKey {
    PointKey {
        device: device.parse().unwrap(),
        point: "button".parse().unwrap(),
    }
}

fn named(n: u128) -> CommandId {
    CommandId(id(0xcc00 + n))
}

fn acknowledge(device: &str) -> Asked {
    Asked::Acknowledge {
        point: point(device),
        activation: None,
    }
}

fn test(kind: TestKind, scope: Scope) -> Test {
    Test {
        scope,
        kind,
        minutes: 10,
        reason: "yearly".into(),
        partner: None,
    }
}

fn heads() -> Test {
    let all = ["smoke", "heat"].map(point);
    test(TestKind::Maintenance, Scope::Points(all.into()))
}

/// A stage with two heads and a door, and who sends what in which order.
struct Scene {
    stage: Stage,
    seq: u64,
}

impl Scene {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let mut write = stage.db.write(Urgency::Other).await.unwrap();
        for (n, (device, role)) in [("smoke", "smoke"), ("heat", "heat"), ("door", "door")]
            .into_iter()
            .enumerate()
        {
            let body = format!(
                r#"{{"device":"{device}","point":"button","ecosystem":"antuo","address":"{device}",
                   "role":"{role}","number":{}}}"#,
                n + 20
            );
            let text = "insert into enrolment (centre, device, point, gateway, body)
                values ($1, $2, 'button', $3, $4)";
            let tx = write.tx();
            sql!(
                tx,
                execute,
                text,
                centre().0,
                device,
                id(GATEWAY),
                body.as_str()
            )
            .unwrap();
        }
        write.commit().await.unwrap();
        Self { stage, seq: 0 }
    }

    async fn send(&mut self, event: Event) {
        self.seq += 1;
        self.stage.alarm(self.seq, event).await;
    }

    fn event(&self, device: &str, kind: Kind) -> Event {
        self.stage.event(u128::from(self.seq) + 1, device, kind)
    }

    async fn smoke(&mut self, device: &str, stamp: Option<Stamp>) {
        let event = Event {
            stamp,
            ..self.event(device, Kind::FireSmokeAlarm)
        };
        self.send(event).await;
    }

    async fn clear(&mut self, device: &str) {
        let event = Event {
            state: EventState::Cleared,
            severity: Severity::Info,
            ..self.event(device, Kind::FireSmokeAlarm)
        };
        self.send(event).await;
    }

    async fn fact(&mut self, kind: Kind, device: Option<&str>, detail: Detail) {
        let event = Event {
            source: device.map(point),
            detail,
            ..self.event("btn", kind)
        };
        self.send(event).await;
    }

    async fn begun(&mut self, n: u128, by: PersonId, test: Test) {
        let command = named(n);
        let detail = Detail::TestBegun { command, by, test };
        self.fact(Kind::TestBegun, None, detail).await;
    }

    async fn ended(&mut self, n: u128) {
        let detail = Detail::Ended {
            session: named(n),
            why: Ended::Expired,
            command: None,
        };
        self.fact(Kind::TestEnded, None, detail).await;
    }

    async fn ask(&self, n: u128, act: Asked) -> Result<Vec<Given>, AskError> {
        let scope = self.stage.operator(1).await;
        let engine = &self.stage.engine;
        engine.ask(&scope, centre(), Some(named(n)), act).await
    }

    /// A session that the cloud asked for and the box has begun.
    async fn in_test(&mut self, test: Test) -> Option<Stamp> {
        self.ask(1, Asked::TestBegin(test.clone())).await.unwrap();
        self.begun(1, person(1), test).await;
        Some(Stamp::Test(named(1)))
    }

    async fn given(&self, n: u128) -> Given {
        let scope = self.stage.operator(1).await;
        let now = self.stage.clock.now();
        let mut tx = self.stage.read().await;
        let (all, _) = shown::page(&mut tx, &scope, centre(), None, now)
            .await
            .unwrap();
        all.into_iter().find(|given| given.id == named(n)).unwrap()
    }

    async fn time(&self, span: Duration) {
        let stage = &self.stage;
        stage.clock.advance(span);
        let (db, clock) = (stage.db.clone(), stage.clock.clone());
        let ticker = Ticker::new(db, clock, stage.engine.clone());
        ticker.keep_deadlines().await.unwrap();
    }

    async fn fire(&self) -> Case {
        let board = self.stage.board().await;
        let fires = board.into_iter().map(|record| record.case);
        let mut fires = fires.filter(|case| case.hazard == Hazard::Fire);
        fires.next().unwrap()
    }

    /// Why the fire of a head is kept from agencies, and who was told of it.
    async fn verdict(&self, device: &str) -> (Option<Withheld>, Vec<Agency>) {
        let case = self.fire().await;
        let at = case.line_of(Some(&point(device)), Kind::FireSmokeAlarm);
        let of_line = |line| case.jobs.iter().filter(move |job| job.line == line);
        let told = of_line(at.unwrap()).map(|job| job.agency).collect();
        (case.lines[at.unwrap()].withheld, told)
    }

    async fn story(&self) -> Vec<&'static str> {
        let board = self.stage.board().await;
        board[0].timeline.iter().map(|line| line.text_key).collect()
    }
}

#[tokio::test]
async fn a_command_changes_nothing_and_its_fact_says_who_looked() {
    let mut scene = Scene::new().await;
    let press = scene.stage.press(1);
    scene.send(press).await;
    let given = scene.ask(1, acknowledge("btn")).await.unwrap();
    assert_eq!(given[0].state, State::Given);
    assert_eq!(
        given[0].expires_at.since(given[0].given_at),
        commands::LIVES
    );
    let before = scene.stage.board().await;
    assert_eq!(before[0].case.lines[0].looked, None);
    assert!(scene.story().await.contains(&"box.asked"));
    // The same again is the same; another act or person under the name is not.
    let again = scene.ask(1, acknowledge("btn")).await.unwrap();
    assert_eq!(again, given);
    let other = scene.ask(1, acknowledge("smoke")).await;
    assert!(matches!(other, Err(AskError::IdTaken)), "{other:?}");
    let stranger = scene.stage.operator(3).await;
    let engine = &scene.stage.engine;
    let foreign = engine
        .ask(&stranger, centre(), None, acknowledge("btn"))
        .await;
    assert!(matches!(foreign, Err(AskError::NotFound)), "{foreign:?}");

    let command = named(1);
    let detail = Detail::Act {
        command,
        by: person(1),
    };
    let kind = Kind::AlarmAcknowledged;
    scene.fact(kind, Some("btn"), detail).await;
    let done = scene.given(1).await;
    assert_eq!((done.state, done.why), (State::Done, None));
    let looked = scene.stage.board().await[0].case.lines[0].looked.unwrap();
    assert_eq!((looked.by, looked.reset), (person(1), false));

    // A person at the box, of whom the cloud gave no command, is shown alike.
    let detail = Detail::Act {
        command: named(77),
        by: person(9),
    };
    scene.fact(Kind::AlarmReset, Some("btn"), detail).await;
    let looked = scene.stage.board().await[0].case.lines[0].looked.unwrap();
    assert_eq!((looked.by, looked.reset), (person(9), true));

    let detail = Detail::Unfit {
        command: named(2),
        by: person(1),
        why: Unfit::Normal,
    };
    scene.ask(2, acknowledge("btn")).await.unwrap();
    scene.fact(Kind::CommandRefused, Some("btn"), detail).await;
    let refused = scene.given(2).await;
    assert_eq!(
        (refused.state, refused.why),
        (State::Refused, Some(Unfit::Normal))
    );
    let verdict = scene.stage.verdict().await;
    assert_eq!(verdict.broken, None, "{verdict:?}");
}

#[tokio::test]
async fn what_is_not_answered_in_time_is_told_and_a_late_answer_still_counts() {
    let mut scene = Scene::new().await;
    let press = scene.stage.press(1);
    scene.send(press).await;
    scene.ask(1, acknowledge("btn")).await.unwrap();
    let release = Asked::Release {
        door: point("door"),
    };
    scene.ask(2, release).await.unwrap();
    scene.time(Duration::from_secs(11)).await;
    assert_eq!(scene.given(1).await.state, State::Given);
    let late = scene.given(2).await;
    assert_eq!((late.state, late.sent_at), (State::Expired, None));
    scene.time(Duration::from_secs(50)).await;
    assert_eq!(scene.given(1).await.state, State::Expired);
    assert!(scene.story().await.contains(&"box.unanswered"));
    let detail = Detail::Act {
        command: named(1),
        by: person(1),
    };
    let kind = Kind::AlarmAcknowledged;
    scene.fact(kind, Some("btn"), detail).await;
    assert_eq!(scene.given(1).await.state, State::Done);
}

#[tokio::test]
async fn too_many_that_wait_are_refused() {
    let scene = Scene::new().await;
    for n in 0..u128::try_from(WAITING_MAX).unwrap() {
        scene.ask(n, acknowledge("btn")).await.unwrap();
    }
    let more = scene.ask(999, acknowledge("btn")).await;
    assert!(matches!(more, Err(AskError::TooMany)), "{more:?}");
    scene.time(Duration::from_secs(61)).await;
    scene.ask(999, acknowledge("btn")).await.unwrap();
}

#[tokio::test]
async fn an_alarm_is_kept_back_only_by_a_session_that_both_hold() {
    let mut scene = Scene::new().await;
    let stamp = scene.in_test(heads()).await;
    scene.smoke("smoke", stamp).await;
    assert_eq!(
        scene.verdict("smoke").await,
        (Some(Withheld::Session), vec![])
    );
    assert_eq!(scene.fire().await.priority, crate::incident::Priority::P4);
    // A panic with the same stamp goes out at once.
    let mut press = scene.event("btn", Kind::AlarmPressed);
    press.stamp = stamp;
    scene.send(press).await;
    let board = scene.stage.board().await;
    let panic = board
        .iter()
        .find(|record| record.case.hazard == Hazard::Panic);
    assert_eq!(panic.unwrap().case.jobs[0].agency, Agency::Police);
    // The tested head a second time is real.
    scene.clear("smoke").await;
    scene.smoke("smoke", stamp).await;
    assert_eq!(
        scene.verdict("smoke").await,
        (None, vec![Agency::Monitoring])
    );
    // And what joins a real case is not kept back, whatever the stamp.
    scene.smoke("heat", stamp).await;
    assert_eq!(scene.verdict("heat").await.0, None);
}

#[tokio::test]
async fn any_disagreement_is_live() {
    let stamp = Some(Stamp::Test(named(1)));
    let live = (None, vec![Agency::Monitoring]);
    // The box knows a session that the cloud never heard begin.
    let mut scene = Scene::new().await;
    scene.ask(1, Asked::TestBegin(heads())).await.unwrap();
    scene.smoke("smoke", stamp).await;
    assert_eq!(scene.verdict("smoke").await, live, "not begun");
    // It began another one than the cloud asked for.
    let mut scene = Scene::new().await;
    scene.ask(1, Asked::TestBegin(heads())).await.unwrap();
    let wider = test(TestKind::Maintenance, Scope::Centre);
    scene.begun(1, person(1), wider).await;
    scene.smoke("smoke", stamp).await;
    assert_eq!(scene.verdict("smoke").await, live, "another scope");
    // Somebody without a right began it at the box; with one it counts.
    for (by, kept) in [(person(9), false), (person(3), false), (person(2), true)] {
        let mut scene = Scene::new().await;
        scene.begun(1, by, heads()).await;
        scene.smoke("smoke", stamp).await;
        let held = scene.verdict("smoke").await.0 == Some(Withheld::Session);
        assert_eq!(held, kept, "{by}");
    }
    // Its end came before its begin.
    let mut scene = Scene::new().await;
    scene.ended(1).await;
    scene.begun(1, person(2), heads()).await;
    scene.smoke("smoke", stamp).await;
    assert_eq!(scene.verdict("smoke").await, live, "over already");
    // Its time is over by the cloud's clock.
    let mut scene = Scene::new().await;
    scene.in_test(heads()).await;
    scene.stage.clock.advance(Duration::from_secs(601));
    scene.smoke("smoke", stamp).await;
    assert_eq!(scene.verdict("smoke").await, live, "too late");
    // It does not cover the point.
    let mut scene = Scene::new().await;
    let one = Scope::Points([point("heat")].into());
    scene.in_test(test(TestKind::Maintenance, one)).await;
    scene.smoke("smoke", stamp).await;
    assert_eq!(scene.verdict("smoke").await, live, "not covered");
}

#[tokio::test]
async fn this_is_real_sends_what_was_kept_back_and_ends_the_tests() {
    let mut scene = Scene::new().await;
    let stamp = scene.in_test(heads()).await;
    scene.smoke("smoke", stamp).await;
    let case = scene.fire().await;
    let (lead, stranger) = (scene.stage.operator(2).await, scene.stage.operator(3).await);
    let engine = &scene.stage.engine;
    assert!(engine.real(&stranger, case.id).await.is_err());
    engine.real(&lead, case.id).await.unwrap();
    let (_, told) = scene.verdict("smoke").await;
    assert_eq!(told, [Agency::Monitoring, Agency::Fire]);
    let mut tx = scene.stage.read().await;
    let now = scene.stage.clock.now();
    let served = shown::served(&mut tx, &lead, centre(), now).await.unwrap();
    drop(tx);
    let served = served.unwrap();
    assert!(served.absences.is_empty());
    let session = named(1);
    let end = |given: &Given| given.act == Asked::TestEnd { session };
    assert!(served.commands.iter().any(end), "{:?}", served.commands);
    scene.smoke("heat", stamp).await;
    assert_eq!(scene.verdict("heat").await.0, None);
    assert_eq!(scene.stage.verdict().await.broken, None);
}

#[tokio::test]
async fn a_box_that_fell_silent_in_a_test_hides_no_fire() {
    let mut scene = Scene::new().await;
    let stamp = scene.in_test(heads()).await;
    scene.smoke("smoke", stamp).await;
    scene.smoke("heat", stamp).await;
    scene.clear("heat").await;
    scene.time(Duration::from_secs(605)).await;
    assert_eq!(scene.verdict("smoke").await.0, Some(Withheld::Session));
    scene.time(Duration::from_secs(6)).await;
    assert_eq!(
        scene.verdict("smoke").await,
        (None, vec![Agency::Monitoring])
    );
    assert_eq!(
        scene.verdict("heat").await,
        (Some(Withheld::Session), vec![])
    );
    assert!(scene.story().await.contains(&"test.over"));
}

#[tokio::test]
async fn a_point_out_of_service_is_kept_back_and_a_call_never_is() {
    let mut scene = Scene::new().await;
    let bypass = |device: &str| Bypass {
        point: point(device),
        minutes: 30,
        reason: "painting".into(),
        second: None,
    };
    scene.ask(1, Asked::Bypass(bypass("smoke"))).await.unwrap();
    let refused = scene.ask(2, Asked::Bypass(bypass("btn"))).await;
    assert!(
        matches!(refused, Err(AskError::Unsuitable(_))),
        "{refused:?}"
    );
    let detail = |n, device: &str| Detail::Bypassed {
        command: named(n),
        by: person(1),
        bypass: bypass(device),
    };
    let kind = Kind::PointBypassed;
    scene.fact(kind, Some("smoke"), detail(1, "smoke")).await;
    // A stolen box says that a button is out of service.
    scene.fact(kind, Some("btn"), detail(3, "btn")).await;
    scene.smoke("smoke", Some(Stamp::Bypass(named(1)))).await;
    assert_eq!(
        scene.verdict("smoke").await,
        (Some(Withheld::Bypassed), vec![])
    );
    let mut press = scene.event("btn", Kind::AlarmPressed);
    press.stamp = Some(Stamp::Bypass(named(3)));
    scene.send(press).await;
    let board = scene.stage.board().await;
    let panic = board
        .iter()
        .find(|record| record.case.hazard == Hazard::Panic);
    assert_eq!(panic.unwrap().case.jobs.len(), 1);
    // The heat head is in service, and its fire is real.
    scene.smoke("heat", Some(Stamp::Bypass(named(1)))).await;
    assert_eq!(
        scene.verdict("heat").await,
        (None, vec![Agency::Monitoring])
    );
}
