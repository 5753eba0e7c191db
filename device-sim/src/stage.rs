//! Everything a play acts on and watches, and the waits with a deadline that a play is made of. A wait that fails says
//! what was waited for, since when, and what the cloud shows instead.

use crate::books::Seen;
use crate::clock::{Clock, Micros};
use crate::dc09::{self, Meaning};
use crate::desk::{Desk, DeskError};
use crate::device::{self, Ids, Sending};
use crate::devices::Devices;
use crate::feed::Feed;
use crate::receiver::DcReceiver;
use crate::relay::Relay;
use crate::report::say;
use crate::site::{Pupil, Site, Spot};
use crate::town::{Agency, Passage, Town};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;

/// Why a play could not be played.
#[derive(Debug, Error)]
pub enum PlayError {
    #[error("{what}: not told within {waited:?}; the cloud shows: {shown}")]
    NotTold {
        what: String,
        waited: Duration,
        shown: String,
    },
    #[error("{what}: told although {why}")]
    ToldTooSoon { what: String, why: &'static str },
    #[error("{what}: no parent's stream showed it within {waited:?}")]
    NotShown { what: String, waited: Duration },
    #[error("{house}: no PUBACK within {waited:?} for messages of {waiting:?}")]
    NoPuback {
        house: String,
        waited: Duration,
        waiting: Vec<(String, usize)>,
    },
    #[error("the town lacks {0}")]
    Lacking(&'static str),
    #[error(transparent)]
    Desk(#[from] DeskError),
}

/// One centre on the stage.
#[derive(Debug)]
pub struct House {
    pub site: Site,
    pub devices: Devices,
    /// The path is broken on purpose: figures of messages sent now are no figures of the product.
    excluded: AtomicBool,
}

impl House {
    /// A centre with its devices.
    pub fn new(site: Site, devices: Devices) -> House {
        House {
            site,
            devices,
            excluded: AtomicBool::new(false),
        }
    }

    /// Marks what is sent from now on.
    pub fn exclude(&self, excluded: bool) {
        self.excluded.store(excluded, Ordering::Relaxed);
    }

    /// Hands a message over.
    pub fn send(&self, mut sending: Sending) {
        sending.sent.excluded = self.excluded.load(Ordering::Relaxed);
        self.devices.send(sending);
    }

    /// Waits until every message has its PUBACK.
    pub async fn until_acknowledged(&self, longest: Duration) -> Result<(), PlayError> {
        let idle = tokio::time::timeout(longest, self.devices.until_idle()).await;
        let (house, waited) = (self.site.name.clone(), longest);
        idle.map_err(|_| PlayError::NoPuback {
            house,
            waited,
            waiting: self.devices.waiting(),
        })
    }
}

/// See the head of the module.
#[derive(Debug)]
pub struct Stage {
    pub clock: Clock,
    pub town: Town,
    pub ids: Ids,
    pub houses: Vec<House>,
    pub police: DcReceiver,
    pub fire: DcReceiver,
    pub monitoring: DcReceiver,
    pub seen: Feed<Seen>,
    pub desk: Desk,
    /// Stands between the last box and the cloud.
    pub relay: Relay,
}

/// A message handed over: its id and when.
#[derive(Debug, Clone)]
pub struct Handed {
    pub id: String,
    pub at: Micros,
}

impl Stage {
    /// A line for people, with the time.
    pub fn say(&self, house: &House, line: &str) {
        say(&format!(
            "{} {} · {line}",
            self.clock.now().china_hms(),
            house.site.name
        ));
    }

    /// Presses a button.
    pub fn press(&self, house: &House, button: &Spot) -> Handed {
        self.hand(house, |id, at| device::press(&house.site, button, id, at))
    }

    /// Holds a card to the reader of this passage.
    pub fn tap(&self, house: &House, pupil: &Pupil, passage: Passage) -> Result<Handed, PlayError> {
        let readers = if passage == Passage::In {
            &house.site.readers_in
        } else {
            &house.site.readers_out
        };
        let reader = readers.first().ok_or(PlayError::Lacking("a reader"))?;
        Ok(self.hand(house, |id, at| {
            device::tap(&house.site, reader, pupil, passage, id, at)
        }))
    }

    /// Makes and sends a message.
    pub fn hand(&self, house: &House, make: impl FnOnce(String, Micros) -> Sending) -> Handed {
        let handed = Handed {
            id: self.ids.next(),
            at: self.clock.now(),
        };
        house.send(make(handed.id.clone(), handed.at));
        handed
    }

    /// Taps, waits for the parent's stream, tells it.
    pub async fn tap_and_show(
        &self,
        house: &House,
        pupil: &Pupil,
        passage: Passage,
        longest: Duration,
    ) -> Result<(), PlayError> {
        let tap = self.tap(house, pupil, passage)?;
        self.shown(house, pupil, passage, &tap, longest).await
    }

    /// Waits for the parent's stream to show a tap, and tells it.
    pub async fn shown(
        &self,
        house: &House,
        pupil: &Pupil,
        passage: Passage,
        tap: &Handed,
        longest: Duration,
    ) -> Result<(), PlayError> {
        let (state, did) = match passage {
            Passage::Out if !pupil.fetches => ("pending_out", "waits at the exit"),
            Passage::Out => ("left", "checked out"),
            Passage::In | Passage::None | Passage::Both => ("present", "checked in"),
        };
        let is = |seen: &Seen| {
            (seen.child == pupil.child && seen.state == state && seen.at >= tap.at)
                .then_some(seen.at)
        };
        let Some(at) = self.seen.find(longest, is).await else {
            let (name, child, since) = (&house.site.name, &pupil.short_name, tap.at.china_hms());
            let what = format!("{name}: {child} {did}, tap {} at {since}", tap.id);
            return Err(PlayError::NotShown {
                what,
                waited: longest,
            });
        };
        let card = if pupil.fetches {
            "guardian card"
        } else {
            "own card"
        };
        let ms = at.ms_since(tap.at);
        let line = format!(
            "{} {did} by {card} (parent's stream showed it after {ms:.0} ms)",
            pupil.short_name
        );
        self.say(house, &line);
        Ok(())
    }

    /// Waits until an agency has been told about this point, and tells it.
    pub async fn told(
        &self,
        agency: Agency,
        (house, spot): (&House, &Spot),
        since: &Handed,
        longest: Duration,
    ) -> Result<(), PlayError> {
        let meaning = if agency == Agency::Police {
            Meaning::Panic
        } else {
            Meaning::Fire
        };
        let at = self
            .message(agency, house, meaning, Some(spot), since, longest)
            .await?;
        let line = format!(
            "{} receiver answered after {:.0} ms",
            agency.word(),
            at.ms_since(since.at)
        );
        self.say(house, &line);
        Ok(())
    }

    /// Waits until an agency has been told that what it was told is called off, and tells it.
    pub async fn called_off(
        &self,
        agency: Agency,
        house: &House,
        since: &Handed,
        longest: Duration,
    ) -> Result<(), PlayError> {
        self.message(agency, house, Meaning::Cancel, None, since, longest)
            .await?;
        self.say(
            house,
            &format!("recalled: the {} receiver took the cancel", agency.word()),
        );
        Ok(())
    }

    /// Fails when an agency has been told anything of this meaning about this centre since.
    pub fn not_told(
        &self,
        agency: Agency,
        house: &House,
        since: Micros,
        why: &'static str,
    ) -> Result<(), PlayError> {
        let account = self.account(agency, house)?;
        let meaning = if agency == Agency::Police {
            Meaning::Panic
        } else {
            Meaning::Fire
        };
        let told = self.receiver(agency).taken().count(|message| {
            let means = dc09::report(&message.data).is_some_and(|report| report.meaning == meaning);
            message.account == account && message.at >= since && means
        });
        if told == 0 {
            return Ok(());
        }
        let what = format!("{}: {} of {meaning:?}", house.site.name, agency.word());
        Err(PlayError::ToldTooSoon { what, why })
    }

    async fn message(
        &self,
        agency: Agency,
        house: &House,
        meaning: Meaning,
        spot: Option<&Spot>,
        since: &Handed,
        longest: Duration,
    ) -> Result<Micros, PlayError> {
        let account = self.account(agency, house)?;
        let fits = |message: &crate::ledger::Received| {
            let report = dc09::report(&message.data)?;
            let zone = spot.is_none_or(|spot| report.zone == Some(spot.number));
            let new = message.at >= since.at && !message.repeat;
            (message.account == account && report.meaning == meaning && zone && new)
                .then_some(message.at)
        };
        if let Some(at) = self.receiver(agency).taken().find(longest, fits).await {
            return Ok(at);
        }
        let point = spot.map_or(String::new(), |spot| {
            format!(" at {}/{} (zone {})", spot.device, spot.point, spot.number)
        });
        let (name, agency, id) = (&house.site.name, agency.word(), &since.id);
        let at = since.at.china_hms();
        let what = format!("{name}: {agency} of {meaning:?}{point}, message {id} at {at}");
        let shown = self.desk.shown(house.site.centre).await;
        Err(PlayError::NotTold {
            what,
            waited: longest,
            shown,
        })
    }

    fn receiver(&self, agency: Agency) -> &DcReceiver {
        match agency {
            Agency::Police => &self.police,
            Agency::Fire => &self.fire,
            Agency::Monitoring => &self.monitoring,
        }
    }

    fn account(&self, agency: Agency, house: &House) -> Result<String, PlayError> {
        let centre = self
            .town
            .centres
            .iter()
            .find(|centre| centre.id == house.site.centre);
        let account = centre.and_then(|centre| centre.account_at(&self.town, agency));
        account
            .map(str::to_owned)
            .ok_or(PlayError::Lacking("an account"))
    }
}
