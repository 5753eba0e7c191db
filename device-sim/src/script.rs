//! The scripted stretch: a morning in two centres, with everything that must not go wrong.

use crate::clock::Micros;
use crate::device;
use crate::site::{Pupil, Spot};
use crate::stage::{Handed, House, PlayError, Stage};
use crate::town::{Agency, Passage};
use std::time::Duration;

/// Longest wait for a receiver, a stream or a case while nothing is broken.
const SOON: Duration = Duration::from_secs(15);

/// Longest wait after a cut: the box may pause before it tries again.
const AFTER_CUT: Duration = Duration::from_secs(40);

/// Two presses further apart than this are two activations whatever the device says.
const TWO_PRESSES: Duration = Duration::from_millis(2500);

/// The network stays cut at least this long.
const CUT_FOR: Duration = Duration::from_secs(3);

/// The shortest script, in seconds; asked for less, it plays this long.
pub const SHORTEST_S: u64 = 40;

/// The cast: two houses, and in each the points the script needs.
struct Cast<'a> {
    stage: &'a Stage,
    first: Scene<'a>,
    /// The box behind the relay.
    second: Scene<'a>,
    /// A fortieth of the length.
    beat: Duration,
}

#[derive(Clone, Copy)]
struct Scene<'a> {
    house: &'a House,
    hall: &'a Spot,
    nap: &'a Spot,
}

impl<'a> Scene<'a> {
    fn of(house: &'a House) -> Result<Scene<'a>, PlayError> {
        let [hall, nap, ..] = &house.site.buttons[..] else {
            return Err(PlayError::Lacking("two buttons"));
        };
        Ok(Scene { house, hall, nap })
    }

    fn pupils(&self, fetches: bool) -> impl Iterator<Item = &'a Pupil> {
        self.house
            .site
            .pupils
            .iter()
            .filter(move |pupil| pupil.fetches == fetches)
    }
}

/// Plays for about `length`.
pub async fn play(stage: &Stage, length: Duration) -> Result<(), PlayError> {
    let [first, second, ..] = &stage.houses[..] else {
        return Err(PlayError::Lacking("two centres"));
    };
    let length = length.max(Duration::from_secs(SHORTEST_S));
    let until = stage.clock.now().plus(length);
    let cast = Cast {
        stage,
        first: Scene::of(first)?,
        second: Scene::of(second)?,
        beat: length / 40,
    };
    cast.arrivals().await?;
    cast.accident(cast.first.house, cast.first.hall).await?;
    cast.two_presses().await?;
    cast.fire().await?;
    cast.cut_off().await?;
    cast.duplicates().await?;
    cast.until(until).await?;
    cast.departures().await
}

impl Cast<'_> {
    async fn pause(&self, beats: f32) {
        tokio::time::sleep(self.beat.mul_f32(beats)).await;
    }

    async fn arrivals(&self) -> Result<(), PlayError> {
        for scene in [self.first, self.second] {
            for pupil in scene.pupils(true).take(3) {
                self.stage
                    .tap_and_show(scene.house, pupil, Passage::In, SOON)
                    .await?;
                self.door(scene.house);
                self.pause(0.3).await;
            }
        }
        for pupil in self.first.pupils(false) {
            self.stage
                .tap_and_show(self.first.house, pupil, Passage::In, SOON)
                .await?;
        }
        Ok(())
    }

    /// The door that a person who may pass opens and closes.
    fn door(&self, house: &House) {
        if let Some(door) = house.site.doors.first() {
            for opened in [true, false] {
                self.stage.hand(house, |id, at| {
                    device::door(&house.site, door, opened, id, at)
                });
            }
        }
    }

    /// A press by accident: police, two operators, recall.
    async fn accident(&self, house: &House, button: &Spot) -> Result<(), PlayError> {
        let press = self.pressed(house, button).await?;
        self.pause(0.3).await;
        self.false_alarm(house, &press).await
    }

    async fn pressed(&self, house: &House, button: &Spot) -> Result<Handed, PlayError> {
        let press = self.stage.press(house, button);
        self.stage
            .say(house, &format!("panic button in {} pressed", button.zone));
        self.stage
            .told(Agency::Police, (house, button), &press, SOON)
            .await?;
        Ok(press)
    }

    async fn false_alarm(&self, house: &House, press: &Handed) -> Result<(), PlayError> {
        let (stage, desk) = (self.stage, &self.stage.desk);
        let case = desk.case(house.site.centre, "panic", SOON).await?;
        desk.acknowledge(&case).await?;
        desk.note(&case, "called the centre: pressed by accident")
            .await?;
        desk.close_as_false_alarm(&case).await?;
        stage.called_off(Agency::Police, house, press, SOON).await
    }

    async fn two_presses(&self) -> Result<(), PlayError> {
        let (stage, desk, Scene { house, nap, .. }) = (self.stage, &self.stage.desk, self.first);
        let one = self.pressed(house, nap).await?;
        tokio::time::sleep(TWO_PRESSES).await;
        let two = stage.press(house, nap);
        stage.say(
            house,
            &format!("panic button in {} pressed again", nap.zone),
        );
        let case = desk.case(house.site.centre, "panic", SOON).await?;
        desk.stored(&case, &[one.id, two.id], SOON).await?;
        stage.say(house, "both presses stand in the case");
        desk.acknowledge(&case).await?;
        desk.confirm_by_phone(&case).await?;
        desk.close_as_real(&case).await?;
        Ok(())
    }

    async fn fire(&self) -> Result<(), PlayError> {
        let (stage, desk, house) = (self.stage, &self.stage.desk, self.first.house);
        let site = &house.site;
        let [one, two, ..] = &site.smokes[..] else {
            return Err(PlayError::Lacking("two smoke detectors"));
        };
        let smoke = |spot: &Spot, raised: bool| {
            stage.hand(house, |id, at| device::smoke(site, spot, raised, id, at))
        };

        let first = smoke(one, true);
        stage.say(house, &format!("smoke in {}", one.zone));
        stage
            .told(Agency::Monitoring, (house, one), &first, SOON)
            .await?;
        self.pause(1.0).await;
        stage.not_told(
            Agency::Fire,
            house,
            first.at,
            "nothing had confirmed the fire yet",
        )?;
        let second = smoke(two, true);
        stage.say(
            house,
            &format!("smoke in {} too: the fire is confirmed", two.zone),
        );
        self.fire_service(house, &second).await?;

        if let Some(bridged) = site.zigbee_smokes.first() {
            for raised in [true, true, false] {
                stage.hand(house, |id, _at| {
                    device::zigbee_smoke(site, bridged, raised, id)
                });
            }
            stage.say(
                house,
                &format!(
                    "smoke in {} as well, over the zigbee bridge; it clears",
                    bridged.zone
                ),
            );
        }
        self.pause(0.5).await;
        let cleared = [smoke(one, false), smoke(two, false)];
        let case = desk.case(site.centre, "fire", SOON).await?;
        desk.stored(&case, &cleared.map(|handed| handed.id), SOON)
            .await?;
        stage.say(house, "the detectors are clear again");
        desk.acknowledge(&case).await?;
        desk.close_as_real(&case).await?;
        Ok(())
    }

    /// The fire service may be told about either detector first.
    async fn fire_service(&self, house: &House, confirmed: &Handed) -> Result<(), PlayError> {
        let about = |spot| {
            self.stage
                .told(Agency::Fire, (house, spot), confirmed, SOON)
        };
        let [one, two, ..] = &house.site.smokes[..] else {
            return Err(PlayError::Lacking("two smoke detectors"));
        };
        let (one, two) = (std::pin::pin!(about(one)), std::pin::pin!(about(two)));
        tokio::select! {
            told = one => told,
            told = two => told,
        }
    }

    async fn cut_off(&self) -> Result<(), PlayError> {
        let (stage, Scene { house, hall, .. }) = (self.stage, self.second);
        stage.relay.cut();
        house.exclude(true);
        stage.say(house, "the network is cut");
        let cut_at = stage.clock.now();
        let press = stage.press(house, hall);
        stage.say(house, &format!("panic button in {} pressed", hall.zone));
        let mut taps = Vec::new();
        for pupil in self.second.pupils(true).skip(3).take(2) {
            taps.push((pupil, stage.tap(house, pupil, Passage::In)?));
            self.pause(0.3).await;
        }
        house.until_acknowledged(SOON).await?;
        stage.say(
            house,
            "the box has taken a press and two cards, and holds them",
        );
        tokio::time::sleep(CUT_FOR).await;
        stage.not_told(Agency::Police, house, cut_at, "the network was cut")?;

        stage.relay.restore();
        stage.say(house, "the network is back");
        stage
            .told(Agency::Police, (house, hall), &press, AFTER_CUT)
            .await?;
        for (pupil, tap) in &taps {
            stage
                .shown(house, pupil, Passage::In, tap, AFTER_CUT)
                .await?;
        }
        house.exclude(false);
        self.false_alarm(house, &press).await
    }

    /// The same message delivered twice is one press and one tap.
    async fn duplicates(&self) -> Result<(), PlayError> {
        let (stage, Scene { house, nap, .. }) = (self.stage, self.second);
        let site = &house.site;
        let handed = Handed {
            id: stage.ids.next(),
            at: stage.clock.now(),
        };
        let press = device::press(site, nap, handed.id.clone(), handed.at);
        house.send(press.clone());
        house.send(press);
        stage.say(
            house,
            &format!(
                "panic button in {} pressed, the device sends it twice",
                nap.zone
            ),
        );
        stage
            .told(Agency::Police, (house, nap), &handed, SOON)
            .await?;
        if let (Some(pupil), Some(reader)) =
            (self.second.pupils(true).nth(5), site.readers_in.first())
        {
            let tap = Handed {
                id: stage.ids.next(),
                at: stage.clock.now(),
            };
            let sending = device::tap(site, reader, pupil, Passage::In, tap.id.clone(), tap.at);
            house.send(sending.clone());
            house.send(sending);
            stage.shown(house, pupil, Passage::In, &tap, SOON).await?;
        }
        house.until_acknowledged(SOON).await?;
        self.false_alarm(house, &handed).await
    }

    /// More presses and cards until the time is over: they make the figures.
    async fn until(&self, until: Micros) -> Result<(), PlayError> {
        let mut late = [
            self.second.pupils(true).skip(6),
            self.first.pupils(true).skip(3),
        ];
        while stage_time_left(self.stage, until) > self.beat * 2 {
            for (scene, late) in [self.second, self.first].into_iter().zip(&mut late) {
                self.accident(scene.house, scene.hall).await?;
                if let Some(pupil) = late.next() {
                    self.stage
                        .tap_and_show(scene.house, pupil, Passage::In, SOON)
                        .await?;
                }
                self.pause(0.5).await;
            }
        }
        Ok(())
    }

    /// A child's own card at the exit proves no adult: it waits for a carer, and counts as inside.
    async fn departures(&self) -> Result<(), PlayError> {
        for pupil in self.first.pupils(false) {
            self.stage
                .tap_and_show(self.first.house, pupil, Passage::Out, SOON)
                .await?;
        }
        Ok(())
    }
}

fn stage_time_left(stage: &Stage, until: Micros) -> Duration {
    Duration::from_micros(u64::try_from(until.0 - stage.clock.now().0).unwrap_or(0))
}
