//! How the intake begins, and begins again after a failed commit: Config, site, first records, faults.

use std::sync::Arc;

use domain::config::Config;
use domain::event::{Detail, Event, PreviousEpoch, State};
use domain::kind::{Kind, Lane};

use super::Intake;
use super::group::{Chance, Unusable, entry};
use crate::bridge::{self, Board};
use crate::control::{self, Checked};
use crate::seal::config_purpose;
use crate::site::{HopStands, Mark, Now, Site, UNIQUE_FOR};
use crate::store::row::{Entry, SealedConfig, Submission};
use crate::store::{Previous, Standing};

impl Intake {
    /// Takes the newest Config that opens and reads into force. One that does not is reported by version
    /// only; the cloud sends a newer one, since the hello names the version in force.
    pub(super) fn restore(&mut self, configs: &[SealedConfig], marks: Vec<Mark>) {
        for sealed in configs {
            match self.unseal(sealed) {
                Ok(checked) => {
                    let now = self.parts.clock.now();
                    match Site::new(Arc::clone(&checked.config), marks, now.monotonic) {
                        Ok(mut site) => {
                            site.set_unforwarded(&self.unforwarded);
                            self.site = Some(site);
                        }
                        Err(error) => tracing::error!(%error, "the Config kept cannot be used"),
                    }
                    self.put_in_force(checked);
                    return;
                }
                Err(why) => {
                    tracing::error!(
                        version = sealed.version,
                        why,
                        "a Config kept cannot be used"
                    );
                }
            }
        }
    }

    fn unseal(&self, sealed: &SealedConfig) -> Result<Checked, String> {
        let opened = self
            .parts
            .box_key
            .open(&config_purpose(sealed.version), &sealed.sealed);
        let document = opened.map_err(|error| error.to_string())?;
        let config = Config::read(&document).map_err(|error| crate::chain(&error))?;
        control::ready(config).map_err(|error| crate::chain(&error))
    }

    /// Swaps who may speak, what the hello says and what the site is made with.
    pub(super) fn put_in_force(&mut self, checked: Checked) {
        let version = checked.config.version;
        self.parts
            .in_force
            .send_replace(Some(Arc::clone(&checked.config)));
        self.parts
            .unacknowledged
            .send_modify(|list| list.keep_enrolled(&checked.config));
        self.config = Some(checked.config);
        self.parts.access.send_replace(Arc::new(checked.access));
        self.parts.version.send_replace(version);
    }

    /// Whether there is a site and the epoch has its first records; makes them if it can.
    pub(super) async fn is_ready(&mut self) -> bool {
        if let (None, Some(config)) = (&self.site, self.config.clone()) {
            self.read_site(config).await;
        }
        let (Some(site), Some(previous)) = (self.site.as_mut(), self.unstarted) else {
            return self.site.is_some();
        };
        let now = self.parts.clock.now();
        let mut chance = Chance::new(&self.parts.entropy);
        let boot = self.parts.clock.boot();
        let entries = first_records(site, previous, boot, &now, &mut chance);
        let submission = entries.map(|entries| Submission {
            entries,
            ..Submission::default()
        });
        let committed = self.commit_or_forget(submission).await;
        if committed {
            self.unstarted = None;
        }
        committed
    }

    /// The site as the store has it, under that Config.
    pub(super) async fn read_site(&mut self, config: Arc<Config>) {
        let now = self.parts.clock.now();
        let marks = self.parts.reader.marks(now.wall.before(UNIQUE_FOR)).await;
        match marks {
            Ok(marks) => match Site::new(config, marks, now.monotonic) {
                Ok(site) => self.site = Some(site),
                Err(error) => tracing::error!(%error, "the Config in force cannot be used"),
            },
            Err(error) => {
                tracing::error!(error = %crate::chain(&error), "the site's state cannot be read");
            }
        }
    }

    /// Records what is wrong with the store, once each, and when all is well again.
    pub(super) async fn tell(&mut self, standing: Standing) {
        if self.diskless.is_some() {
            if !standing.failing {
                self.come_ashore().await;
            }
        } else if standing.failing {
            self.leave_the_disk().await;
        }
        if self.diskless.is_some() {
            return;
        }
        let told = self.told;
        let is_worse = (standing.shedding && !told.shedding) || (standing.damaged && !told.damaged);
        let is_well = !standing.shedding && !standing.damaged && !standing.failing;
        let was_well = !told.shedding && !told.damaged && !told.failing;
        if !is_worse && (was_well || !is_well) {
            return;
        }
        if !self.is_ready().await {
            return;
        }
        let fact = self.fact(Kind::GatewayDisk, Detail::None, is_worse);
        let submission = fact.map(|entries| Submission {
            entries,
            ..Submission::default()
        });
        if self.commit_or_forget(submission).await {
            self.told = standing;
        }
    }

    /// Records how the bridges to other brokers stand. The site knows what is new; after a failed commit the
    /// next tick says it again.
    pub(super) async fn tell_bridges(&mut self, bridges: &Board) {
        let standings = bridges.borrow().clone();
        if standings.is_empty() || !self.is_ready().await {
            return;
        }
        let submission = self.hops(&standings);
        self.commit_or_forget(submission).await;
    }

    fn hops(&mut self, standings: &[bridge::Standing]) -> Result<Submission, Unusable> {
        let mut submission = Submission::default();
        for standing in standings {
            let (Some(site), Some(point)) = (self.site.as_mut(), standing.point()) else {
                continue;
            };
            let stands = HopStands {
                silent: standing.silent,
                forgot: standing.forgot,
            };
            let now = self.parts.clock.now();
            let mut chance = Chance::new(&self.parts.entropy);
            let decision = site.hop(&point, stands, &now, &mut || chance.draw());
            chance.check()?;
            self.add(decision, &now, &mut submission)?;
        }
        Ok(submission)
    }

    /// An event about the box itself, as an entry. None without a site.
    pub(super) fn fact(
        &mut self,
        kind: Kind,
        detail: Detail,
        raised: bool,
    ) -> Result<Vec<Entry>, Unusable> {
        let Some(site) = self.site.as_mut() else {
            return Ok(Vec::new());
        };
        let now = self.parts.clock.now();
        let mut chance = Chance::new(&self.parts.entropy);
        let mut event = site.box_event(kind, detail, &now, &mut || chance.draw());
        chance.check()?;
        if !raised {
            event.state = State::Cleared;
        }
        Ok(vec![entry(event, &now, true)?])
    }
}

/// `gateway.started` in every lane, which chains this epoch to the one before (D4).
pub(super) fn first_records(
    site: &mut Site,
    previous: Option<Previous>,
    boot: &str,
    now: &Now,
    chance: &mut Chance<'_>,
) -> Result<Vec<Entry>, Unusable> {
    let mut entries = Vec::with_capacity(Lane::ALL.len());
    for (index, lane) in Lane::ALL.into_iter().enumerate() {
        let previous = previous.map(|previous| PreviousEpoch {
            epoch: previous.epoch,
            last_seq: previous.last.get(index).copied().unwrap_or(0),
        });
        let detail = Detail::Started {
            previous,
            boot: boot.to_owned(),
        };
        let event: Event = site.box_event(Kind::GatewayStarted, detail, now, &mut || chance.draw());
        entries.push(Entry {
            lane,
            ..entry(event, now, true)?
        });
    }
    chance.check()?;
    Ok(entries)
}
