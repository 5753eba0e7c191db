//! The simulated watch room: two operators who work on cases through the API, as people would.

use crate::api::{Api, ApiError, Session};
use crate::town::Town;
use crate::view::{Commanded, Incident, Incidents, StoredEvent};
use serde_json::json;
use std::time::Duration;
use thiserror::Error;
use uuid::Uuid;

/// How often the list of cases is read while waiting for one.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why the watch room could not do its work.
#[derive(Debug, Error)]
pub enum DeskError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the town has no two operators with a log-in")]
    NobodyThere,
    #[error("no open {hazard} case at centre {centre} after {waited:?}; the cloud shows: {shown}")]
    NoCase {
        hazard: &'static str,
        centre: Uuid,
        waited: Duration,
        shown: String,
    },
    #[error(
        "incident {incident} does not show vendor id {missing} after {waited:?}; it shows: {shown:?}"
    )]
    NotStored {
        incident: String,
        missing: String,
        waited: Duration,
        shown: Vec<String>,
    },
    #[error("closing incident {incident}: expected outcome {expected}, got {got}")]
    Outcome {
        incident: String,
        expected: &'static str,
        got: String,
    },
}

/// Two operators, logged in.
#[derive(Debug, Clone)]
pub struct Desk {
    first: Session,
    second: Session,
}

impl Desk {
    /// Logs both in.
    pub async fn open(api: &Api, town: &Town) -> Result<Desk, DeskError> {
        let [first, second, ..] = town.operators()[..] else {
            return Err(DeskError::NobodyThere);
        };
        Ok(Desk {
            first: api.log_in(first).await?,
            second: api.log_in(second).await?,
        })
    }

    /// The first operator's session, for the stream.
    pub fn first(&self) -> &Session {
        &self.first
    }

    /// Cases of a centre that are not closed.
    pub async fn open_cases(&self, centre: Uuid) -> Result<Vec<Incident>, DeskError> {
        let all: Incidents = self.first.get("/api/operator/incidents?state=all").await?;
        let here = |case: &Incident| case.centre.id == centre.to_string() && case.state != "closed";
        Ok(all.incidents.into_iter().filter(here).collect())
    }

    /// The open case of this hazard; waits for it.
    pub async fn case(
        &self,
        centre: Uuid,
        hazard: &'static str,
        longest: Duration,
    ) -> Result<Incident, DeskError> {
        let looks = async {
            loop {
                let cases = self.open_cases(centre).await?;
                if let Some(case) = cases.into_iter().find(|case| case.hazard == hazard) {
                    return Ok(case);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match tokio::time::timeout(longest, looks).await {
            Ok(found) => found,
            Err(_late) => {
                let shown = self.shown(centre).await;
                Err(DeskError::NoCase {
                    hazard,
                    centre,
                    waited: longest,
                    shown,
                })
            }
        }
    }

    /// Waits until the case shows all these vendor ids among its events.
    pub async fn stored(
        &self,
        case: &Incident,
        ids: &[String],
        longest: Duration,
    ) -> Result<(), DeskError> {
        let path = format!("/api/operator/incidents/{}/events", case.id);
        let mut shown = Vec::new();
        let looks = async {
            loop {
                let events: Vec<StoredEvent> = self.first.pages(&path).await?;
                shown = events
                    .into_iter()
                    .filter_map(|event| event.vendor_id)
                    .collect();
                if ids.iter().all(|id| shown.contains(id)) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if let Ok(found) = tokio::time::timeout(longest, looks).await {
            return found;
        }
        let missing = ids
            .iter()
            .find(|id| !shown.contains(id))
            .cloned()
            .unwrap_or_default();
        Err(DeskError::NotStored {
            incident: case.id.clone(),
            missing,
            waited: longest,
            shown,
        })
    }

    /// Takes a case.
    pub async fn acknowledge(&self, case: &Incident) -> Result<(), DeskError> {
        Ok(self
            .first
            .tell(
                &format!("/api/operator/incidents/{}/acknowledge", case.id),
                &json!({}),
            )
            .await?)
    }

    /// Writes a note.
    pub async fn note(&self, case: &Incident, text: &str) -> Result<(), DeskError> {
        let body = json!({ "text": text });
        Ok(self
            .first
            .tell(&format!("/api/operator/incidents/{}/note", case.id), &body)
            .await?)
    }

    /// Somebody at the agency took an order, by phone: for every order of the case that went out.
    pub async fn confirm_by_phone(&self, case: &Incident) -> Result<(), DeskError> {
        let body = json!({"reference": "模拟-001", "spoke_to": "模拟接警员"});
        for order in case
            .dispatches
            .iter()
            .filter(|order| order.purpose == "order" && order.received_at.is_some())
        {
            self.first
                .tell(
                    &format!("/api/operator/dispatches/{}/confirmed", order.id),
                    &body,
                )
                .await?;
        }
        Ok(())
    }

    /// Closes a case that was real; one person may.
    pub async fn close_as_real(&self, case: &Incident) -> Result<(), DeskError> {
        self.close(&self.first, case, "real", "done").await
    }

    /// Closes a panic case as false alarm: the first call asks for a second person, who then closes.
    pub async fn close_as_false_alarm(&self, case: &Incident) -> Result<(), DeskError> {
        self.close(&self.first, case, "false_alarm", "needs_second_person")
            .await?;
        self.close(&self.second, case, "false_alarm", "done").await
    }

    /// What the cloud shows of a centre, in one line, for messages about what went wrong.
    pub async fn shown(&self, centre: Uuid) -> String {
        match self.open_cases(centre).await {
            Ok(cases) if cases.is_empty() => "no open case".to_owned(),
            Ok(cases) => cases.iter().map(summary).collect::<Vec<_>>().join("; "),
            Err(error) => error.to_string(),
        }
    }

    async fn close(
        &self,
        who: &Session,
        case: &Incident,
        cause: &str,
        expected: &'static str,
    ) -> Result<(), DeskError> {
        let path = format!("/api/operator/incidents/{}/close", case.id);
        let got: Commanded = who
            .post(&path, &json!({"cause": cause, "note": "模拟"}))
            .await?;
        if got.outcome == expected {
            return Ok(());
        }
        Err(DeskError::Outcome {
            incident: case.id.clone(),
            expected,
            got: got.outcome,
        })
    }
}

/// A case in a few words.
fn summary(case: &Incident) -> String {
    let dispatches: Vec<String> = case
        .dispatches
        .iter()
        .map(|order| {
            format!(
                "{} to {} {}",
                order.purpose, order.receiver.agency, order.state
            )
        })
        .collect();
    let points: Vec<String> = case
        .alarms
        .iter()
        .map(|alarm| format!("{}/{} x{}", alarm.device, alarm.point, alarm.activations))
        .collect();
    let (hazard, state) = (&case.hazard, &case.state);
    format!(
        "incident {} {hazard} {state}, points [{}], dispatches [{}]",
        case.id,
        points.join(", "),
        dispatches.join(", ")
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::api::tests::{answers, canned};
    use crate::site::tests::town_and_site;
    use crate::view::tests::published;

    async fn desk(answered: &[(&str, u16, serde_json::Value)]) -> Desk {
        let (town, _site) = town_and_site();
        let api = Api::at(&canned(answers(answered)).await).unwrap();
        Desk::open(&api, &town).await.unwrap()
    }

    fn case() -> Incident {
        serde_json::from_value(published()).unwrap()
    }

    #[tokio::test]
    async fn a_case_is_found_or_the_message_says_what_is_there() {
        let (town, _site) = town_and_site();
        let centre = town.centres[0].id;
        let mut here = published();
        here["centre"]["id"] = json!(centre);
        let desk = desk(&[(
            "GET /api/operator/incidents?state=all",
            200,
            json!({"incidents": [here]}),
        )])
        .await;
        assert_eq!(
            desk.case(centre, "panic", Duration::from_secs(60))
                .await
                .unwrap()
                .id,
            "i-1"
        );
        let error = desk
            .case(centre, "fire", Duration::ZERO)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no open fire case") && error.contains("btn-hall/button x1"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn one_person_alone_closes_no_false_alarm() {
        let close = "POST /api/operator/incidents/i-1/close";
        let done = json!({"outcome": "done", "incident": published()});
        let desk = desk(&[(close, 200, done)]).await;
        desk.close_as_real(&case()).await.unwrap();
        let error = desk.close_as_false_alarm(&case()).await.unwrap_err();
        assert!(
            matches!(
                error,
                DeskError::Outcome {
                    expected: "needs_second_person",
                    ..
                }
            ),
            "{error}"
        );
    }
}
