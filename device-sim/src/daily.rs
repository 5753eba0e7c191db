//! A day without end and without script: gentle random traffic, told in plain lines, until somebody stops it.

use crate::clock::Chance;
use crate::device::Sending;
use crate::ledger::{Deed, DeviceLedger};
use crate::play::{Mix, Player};
use crate::site::Spot;
use crate::stage::{Handed, PlayError, Stage};
use crate::town::Agency;
use std::sync::Arc;
use std::time::Duration;

/// Shortest and longest pause between two things that happen, in milliseconds.
const PAUSE_MS: (usize, usize) = (800, 4000);

/// A case is left to a person at the API this long; then the simulated operators close it.
const LEFT_TO_YOU: Duration = Duration::from_secs(45);

/// Longest wait for what a tap or a press should lead to.
const SOON: Duration = Duration::from_secs(20);

/// Plays for ever.
pub async fn play(stage: Arc<Stage>, ledger: DeviceLedger, seed: u64) {
    let mut chance = Chance::new(seed);
    let mut players: Vec<Player> = stage
        .houses
        .iter()
        .map(|house| Player::new(house.site.clone(), Mix::CALM))
        .collect();
    loop {
        let pause = PAUSE_MS.0 + chance.below(PAUSE_MS.1 - PAUSE_MS.0);
        tokio::time::sleep(Duration::from_millis(pause as u64)).await;
        let index = chance.below(players.len());
        let done = |id: &str| ledger.is_done(id);
        let Some(player) = players.get_mut(index) else {
            continue;
        };
        if let Some(sending) = player.next(&mut chance, &stage.ids, stage.clock.now(), &done) {
            let stage = Arc::clone(&stage);
            tokio::spawn(async move {
                if let Err(error) = follow(&stage, index, sending).await {
                    crate::report::say(&format!(
                        "{} WRONG: {error}",
                        stage.clock.now().china_hms()
                    ));
                }
            });
        }
    }
}

/// Sends a message and tells what comes of it.
async fn follow(stage: &Stage, index: usize, sending: Sending) -> Result<(), PlayError> {
    let house = stage
        .houses
        .get(index)
        .ok_or(PlayError::Lacking("a house"))?;
    let (sent, handed) = (
        sending.sent.clone(),
        Handed {
            id: sending.sent.id.clone(),
            at: stage.clock.now(),
        },
    );
    house.send(sending);
    match sent.deed {
        Deed::Tap {
            children, passage, ..
        } => {
            let pupil = house
                .site
                .pupils
                .iter()
                .find(|pupil| children.contains(&pupil.child));
            let pupil = pupil.ok_or(PlayError::Lacking("this child"))?;
            stage.shown(house, pupil, passage, &handed, SOON).await
        }
        Deed::Press => {
            let button = house
                .site
                .buttons
                .iter()
                .find(|spot| spot.device == sent.device);
            pressed(
                stage,
                index,
                button.ok_or(PlayError::Lacking("this button"))?,
                &handed,
            )
            .await
        }
        Deed::AlarmRaised
        | Deed::AlarmCleared
        | Deed::Level { .. }
        | Deed::Background
        | Deed::Damaged => Ok(()),
    }
}

async fn pressed(
    stage: &Stage,
    index: usize,
    button: &Spot,
    press: &Handed,
) -> Result<(), PlayError> {
    let house = stage
        .houses
        .get(index)
        .ok_or(PlayError::Lacking("a house"))?;
    let centre = house.site.centre;
    let open_before = stage
        .desk
        .open_cases(centre)
        .await?
        .iter()
        .any(|case| case.hazard == "panic" && case.opened_at < press.at);
    stage.say(house, &format!("panic button in {} pressed", button.zone));
    if open_before {
        stage.say(
            house,
            "it stands in the open case; the police receiver has that already",
        );
        return Ok(());
    }
    stage
        .told(Agency::Police, (house, button), press, SOON)
        .await?;
    let case = stage.desk.case(centre, "panic", SOON).await?;
    stage.say(
        house,
        &format!(
            "incident {} is yours for {} s",
            case.id,
            LEFT_TO_YOU.as_secs()
        ),
    );
    tokio::time::sleep(LEFT_TO_YOU).await;
    if stage
        .desk
        .open_cases(centre)
        .await?
        .iter()
        .any(|open| open.id == case.id)
    {
        stage.desk.acknowledge(&case).await?;
        stage.desk.close_as_false_alarm(&case).await?;
        stage.called_off(Agency::Police, house, press, SOON).await?;
    }
    Ok(())
}
