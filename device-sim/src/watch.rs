//! Follows the cloud's event streams: every parent's, and the operator's.

use crate::api::{Api, ApiError, Session};
use crate::books::Seen;
use crate::clock::Clock;
use crate::feed::Feed;
use crate::ledger::DeviceLedger;
use crate::narrator::Narrator;
use crate::report::say;
use crate::sse::SseEvent;
use crate::town::Town;
use crate::view::{ChildView, Children, Incident, Incidents};
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

/// Pause before a stream that ended is followed anew.
const FOLLOW_AGAIN: Duration = Duration::from_millis(200);

/// What all watching of parents' streams goes into.
#[derive(Debug, Clone)]
pub struct Lookout {
    pub clock: Clock,
    pub ledger: DeviceLedger,
    pub seen: Feed<Seen>,
}

impl Lookout {
    /// Logs in one guardian for each of these children and follows their streams, for ever.
    pub async fn watch(&self, api: &Api, town: &Town, children: &[Uuid]) -> Result<(), ApiError> {
        let mut names = BTreeSet::new();
        let logins = children
            .iter()
            .filter_map(|child| town.login_for_child(*child));
        for login in logins.filter(|login| names.insert(login.username)) {
            let (session, lookout) = (api.log_in(login).await?, self.clone());
            tokio::spawn(async move { lookout.follow(session).await });
        }
        Ok(())
    }

    async fn follow(self, session: Session) {
        loop {
            let ended = session
                .follow("/api/family/stream", |event| self.on(&event))
                .await;
            tracing::debug!(?ended, "a parent's stream ended");
            tokio::time::sleep(FOLLOW_AGAIN).await;
        }
    }

    fn on(&self, event: &SseEvent) {
        let at = self.clock.now();
        let children = match event.event.as_str() {
            "reset" => serde_json::from_str::<Children>(&event.data).map(|whole| whole.children),
            "child" => serde_json::from_str::<ChildView>(&event.data).map(|child| vec![child]),
            _other => return,
        };
        match children {
            Ok(children) => {
                for child in children {
                    self.ledger.seen(child.id, &child.presence.state, at);
                    self.seen.push(Seen {
                        child: child.id,
                        state: child.presence.state,
                        at,
                    });
                }
            }
            Err(error) => {
                tracing::error!(%error, "an event of a parent's stream is not as published")
            }
        }
    }
}

/// Follows the operator's stream and tells what it shows, for ever.
pub fn narrate(session: Session, clock: Clock) {
    tokio::spawn(async move {
        let mut narrator = Narrator::default();
        loop {
            let tell = |event: SseEvent| tell(&mut narrator, &event, clock);
            let ended = session.follow("/api/operator/stream", tell).await;
            tracing::debug!(?ended, "the operator's stream ended");
            tokio::time::sleep(FOLLOW_AGAIN).await;
        }
    });
}

fn tell(narrator: &mut Narrator, event: &SseEvent, clock: Clock) {
    let incidents = match event.event.as_str() {
        "reset" => serde_json::from_str::<Incidents>(&event.data).map(|whole| whole.incidents),
        "incident" => serde_json::from_str::<Incident>(&event.data).map(|incident| vec![incident]),
        _other => return,
    };
    match incidents {
        Ok(incidents) => {
            let lines = incidents
                .iter()
                .flat_map(|incident| narrator.lines(incident))
                .collect::<Vec<_>>();
            lines
                .iter()
                .for_each(|line| say(&format!("{} {line}", clock.now().china_hms())));
        }
        Err(error) => {
            tracing::error!(%error, "an event of the operator's stream is not as published")
        }
    }
}
