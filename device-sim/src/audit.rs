//! Reads what the cloud shows through its API, as an operator and as guardians, and counts it against the books.

use crate::api::{Api, ApiError, Session};
use crate::books::Books;
use crate::count::{Observed, Tally, count};
use crate::ledger::{Deed, LedgerError};
use crate::town::{Login, Town};
use crate::view::{Incident, Incidents, PresenceEvent, StoredEvent};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use uuid::Uuid;

/// Pause between two looks while waiting for the counts to stand still.
const LOOK_AGAIN: Duration = Duration::from_millis(1500);

/// Why nothing could be counted.
#[derive(Debug, Error)]
pub enum AuditError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the town file has no log-in for child {0}")]
    NoGuardian(Uuid),
}

/// Reads and counts; keeps its log-ins.
#[derive(Debug)]
pub struct Auditor<'a> {
    api: Api,
    town: &'a Town,
    sessions: BTreeMap<String, Session>,
}

impl<'a> Auditor<'a> {
    /// An auditor of this town.
    pub fn new(api: Api, town: &'a Town) -> Auditor<'a> {
        Auditor {
            api,
            town,
            sessions: BTreeMap::new(),
        }
    }

    /// Counts until two looks in a row agree, nothing is missing and no order is on its way, or until `longest` is
    /// over; then the last look stands. While the cloud cannot be read, it is asked again.
    pub async fn settle(
        &mut self,
        ledgers: &[PathBuf],
        longest: Duration,
    ) -> Result<Tally, AuditError> {
        let mut last: Option<Result<(Tally, bool), AuditError>> = None;
        let looks = async {
            loop {
                let look = self.look(ledgers).await;
                let settled = matches!((&look, &last), (Ok(now), Some(Ok(before))) if now == before && now.0.clean() && now.1);
                last = Some(look);
                if settled {
                    return;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let _stands = tokio::time::timeout(longest, looks).await;
        match last {
            Some(look) => look.map(|(tally, _)| tally),
            None => self.look(ledgers).await.map(|(tally, _)| tally),
        }
    }

    /// One count, and whether every order and cancel has had its reply.
    async fn look(&mut self, ledgers: &[PathBuf]) -> Result<(Tally, bool), AuditError> {
        let books = Books::read(ledgers)?;
        let observed = self.observe(&books).await?;
        let urgent = |incident: &Incident| {
            incident
                .undecided()
                .all(|dispatch| dispatch.purpose == "update")
        };
        let decided = observed.incidents.iter().all(urgent);
        Ok((count(self.town, &books, &observed), decided))
    }

    async fn observe(&mut self, books: &Books) -> Result<Observed, AuditError> {
        let mut observed = Observed::default();
        let town = self.town;
        let mut known = BTreeSet::new();
        for login in town.watchers() {
            let session = self.session(login).await?;
            let all: Incidents = session.get("/api/operator/incidents?state=all").await?;
            for incident in all
                .incidents
                .into_iter()
                .filter(|incident| known.insert(incident.id.clone()))
            {
                let path = format!("/api/operator/incidents/{}/events", incident.id);
                let events: Vec<StoredEvent> = session.pages(&path).await?;
                observed
                    .events
                    .extend(events.into_iter().map(|event| (incident.id.clone(), event)));
                observed.incidents.push(incident);
            }
        }
        for child in tapped(books) {
            let login = town
                .login_for_child(child)
                .ok_or(AuditError::NoGuardian(child))?;
            let session = self.session(login).await?;
            let events: Vec<PresenceEvent> = session
                .pages(&format!("/api/family/children/{child}/events"))
                .await?;
            observed
                .family
                .extend(events.into_iter().map(|event| (child, event)));
        }
        Ok(observed)
    }

    async fn session(&mut self, login: Login<'_>) -> Result<Session, ApiError> {
        if let Some(session) = self.sessions.get(login.username) {
            return Ok(session.clone());
        }
        let session = self.api.log_in(login).await?;
        self.sessions
            .insert(login.username.to_owned(), session.clone());
        Ok(session)
    }
}

/// Children whom a tap concerns.
fn tapped(books: &Books) -> BTreeSet<Uuid> {
    let children = |deed: &Deed| {
        if let Deed::Tap { children, .. } = deed {
            children.clone()
        } else {
            Vec::new()
        }
    };
    books
        .entries
        .iter()
        .flat_map(|entry| children(&entry.sent.deed))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::api::tests::{answers, canned};
    use crate::clock::Micros;
    use crate::ledger::tests::{Scratch, sent};
    use crate::ledger::{DeviceLedger, Line, LineFile, Received};
    use crate::site::tests::town_and_site;
    use crate::town::{Agency, Passage};
    use crate::view::tests::published;
    use serde_json::json;

    /// The whole way of `count`: ledger files and an API in, tally out, over two pages of events.
    #[tokio::test]
    async fn files_and_api_are_put_together() {
        let (town, _site) = town_and_site();
        let (centre, scratch) = (&town.centres[0], Scratch::new("audit"));
        let (devices, police) = (
            scratch.0.join("devices.jsonl"),
            scratch.0.join("police.jsonl"),
        );
        let ledger = DeviceLedger::open(&devices, "r").unwrap();
        let child = centre.children[0].id;
        let mut press = sent("v1", Deed::Press);
        let mut tap = sent(
            "t1",
            Deed::Tap {
                holder: child,
                children: vec![child],
                passage: Passage::In,
            },
        );
        (press.centre, tap.centre) = (centre.id, centre.id);
        for message in [press, tap] {
            let id = message.id.clone();
            ledger.handed(message);
            ledger.puback(&id, Micros(2));
        }
        let account = centre.account_at(&town, Agency::Police).unwrap().to_owned();
        let mut file = LineFile::append_to(&police).unwrap();
        file.write(&Line::Receiver {
            receiver: "police".to_owned(),
        })
        .unwrap();
        let data = format!("#{account}|Nri1/PA011");
        let (receiver, id) = ("police".to_owned(), "SIA-DCS".to_owned());
        file.write(&Received {
            receiver,
            account,
            number: 1,
            id,
            data,
            at: Micros(12_001),
            repeat: false,
        })
        .unwrap();

        let mut incident = published();
        incident["centre"]["id"] = json!(centre.id);
        incident["dispatches"][0]["state"] = json!("received");
        let event = json!({"seq": 5, "event": "e-1", "vendor_id": "v1", "device": "btn-hall", "point": "button",
            "kind": "alarm.pressed", "state": "raised", "received_at": 1, "committed_at": 1, "centre": centre.id});
        let presence = json!({"event": "p-1", "vendor_id": "t1", "kind": "presence.checked_in", "at": 1, "by": null, "how": "card"});
        let family = format!("GET /api/family/children/{child}/events");
        let base = canned(answers(&[
            (
                "GET /api/operator/incidents?state=all",
                200,
                json!({"as_of_at": 1, "incidents": [incident]}),
            ),
            (
                "GET /api/operator/incidents/i-1/events",
                200,
                json!({"events": [], "next": 5}),
            ),
            (
                "GET /api/operator/incidents/i-1/events?after=5",
                200,
                json!({"events": [event], "next": null}),
            ),
            (&family, 200, json!({"events": [], "next": "c-7"})),
            (
                &format!("{family}?after=c-7"),
                200,
                json!({"events": [presence], "next": null}),
            ),
        ]));
        let mut auditor = Auditor::new(Api::at(&base.await).unwrap(), &town);
        let tally = auditor
            .settle(&[devices, police], Duration::from_secs(60))
            .await
            .unwrap();
        assert!(tally.clean(), "{tally:?}");
        assert_eq!(
            (tally.puback, tally.journalled, tally.dispatches_received),
            (2, 2, 1)
        );
        assert_eq!(tally.press_to_receiver.ms, [12.0]);
    }

    #[tokio::test]
    async fn a_cloud_that_cannot_be_read_is_an_error_and_not_a_clean_count() {
        let (town, _site) = town_and_site();
        let base = canned(answers(&[]));
        let mut auditor = Auditor::new(Api::at(&base.await).unwrap(), &town);
        let error = auditor
            .settle(&[], Duration::ZERO)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("404"), "{error}");
    }
}
