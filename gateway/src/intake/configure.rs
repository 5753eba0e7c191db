//! Taking a Config: judged, sealed, committed with the fact, then in force everywhere at once.

use std::sync::Arc;

use domain::event::Detail;
use domain::kind::Kind;
use domain::wire::SignedConfig;

use super::Intake;
use super::begin::{first_records, purpose};
use super::group::Chance;
use crate::control::{self, Checked, Present, Refusal};
use crate::store::row::{SealedConfig, Submission};

/// Why a good Config is not in force yet.
#[derive(Debug, thiserror::Error)]
enum NotApplied {
    /// The site's state cannot be read.
    #[error("the site's state cannot be read")]
    NotRead,
    /// The store did not take it.
    #[error("it could not be committed")]
    NotCommitted,
    /// Sealing or ids failed.
    #[error("it could not be sealed or recorded: {0}")]
    Unusable(String),
}

impl Intake {
    pub(super) async fn configure(&mut self, signed: SignedConfig) {
        self.unapplied = None;
        if self.diskless.is_some() {
            // The old one stays until the disk can hold the new one.
            self.unapplied = Some(signed);
            return;
        }
        let version = control::claimed_version(&signed);
        let config = self.config.as_ref();
        let present = Present {
            gateway: self.parts.gateway,
            signing: self.parts.config_signing,
            config: config.map(|config| (config.centre, config.version)),
        };
        match control::check(&signed, &present) {
            Ok(checked) => match self.apply(&signed, checked).await {
                Ok(()) => tracing::info!(version, "a Config is in force"),
                Err(error) => {
                    tracing::error!(version, %error, "a Config is not in force; trying on");
                    self.unapplied = Some(signed);
                }
            },
            Err(Refusal::InForce) => tracing::debug!(version, "the Config is in force already"),
            Err(refusal) => self.refuse(version, &refusal).await,
        }
    }

    async fn refuse(&mut self, version: u64, refusal: &Refusal) {
        tracing::error!(version, why = %crate::chain(refusal), "a Config was refused; the old one stays");
        if !self.is_ready().await {
            return;
        }
        let fact = self.fact(Kind::ConfigRefused, Detail::Config { version }, true);
        let submission = fact.map(|entries| Submission {
            entries,
            ..Submission::default()
        });
        self.commit_or_forget(submission).await;
    }

    async fn apply(&mut self, signed: &SignedConfig, checked: Checked) -> Result<(), NotApplied> {
        // A site under an older Config whose commit failed must not be skipped: its state is read first.
        self.is_ready().await;
        let version = checked.config.version;
        let unusable = |error: &dyn std::fmt::Display| NotApplied::Unusable(error.to_string());
        let sealed = self
            .parts
            .box_key
            .seal(
                &purpose(version),
                signed.document.as_bytes(),
                &self.parts.entropy,
            )
            .map_err(|error| unusable(&error))?;
        let now = self.parts.clock.now();
        let config = Arc::clone(&checked.config);
        match self.site.as_mut() {
            Some(site) => site.reconfigure(config, &now).map_err(|e| unusable(&e))?,
            None => self.read_site(config).await,
        }
        let Some(site) = self.site.as_mut() else {
            return Err(NotApplied::NotRead);
        };
        let mut entries = Vec::new();
        if let Some(previous) = self.unstarted {
            let mut chance = Chance::new(&self.parts.entropy);
            let boot = self.parts.clock.boot();
            let first = first_records(site, previous, boot, &now, &mut chance);
            entries.extend(first.map_err(|error| unusable(&error))?);
        }
        let fact = self.fact(Kind::ConfigApplied, Detail::Config { version }, true);
        entries.extend(fact.map_err(|error| unusable(&error))?);
        let submission = Submission {
            entries,
            config: Some(SealedConfig { version, sealed }),
            ..Submission::default()
        };
        if !self.commit_or_forget(Ok(submission)).await {
            return Err(NotApplied::NotCommitted);
        }
        self.unstarted = None;
        self.put_in_force(checked);
        Ok(())
    }
}
