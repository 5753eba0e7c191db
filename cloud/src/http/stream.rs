//! Server-sent events (HTML Living Standard, 9.2) over a [`Feed`].
//!
//! The id of an event is opaque: the replica's epoch and its own counter. Whoever comes back begins
//! with `reset` again, so nothing hangs on it. Owns how many streams there may be.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use domain::id::PersonId;
use futures_util::stream;

use super::Api;
use super::error::Problem;
use super::guard::Caller;
use crate::access::Role;
use crate::live::{Feed, LOOK_AGAIN, Shown, Told, Update, Words};

/// A comment goes out after this much silence, so that a dead line is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Streams of operators; at it a further one is refused. Apart from the guardians', so that those
/// never shut an operator out.
const OPERATORS_MAX: usize = 512;
/// Streams of guardians; at it a further one is refused.
const GUARDIANS_MAX: usize = 4_096;
/// Streams of one person in one capacity; at it a further one is refused.
const PERSON_MAX: usize = 8;

/// The streams that are open.
#[derive(Clone, Default)]
pub struct Streams {
    open: Arc<Mutex<Open>>,
    counter: Arc<AtomicU64>,
}

#[derive(Default)]
struct Open {
    operators: HashMap<PersonId, usize>,
    guardians: HashMap<PersonId, usize>,
}

impl Open {
    fn of(&mut self, role: Role) -> &mut HashMap<PersonId, usize> {
        match role {
            Role::Operator | Role::Admin => &mut self.operators,
            Role::Guardian => &mut self.guardians,
        }
    }
}

/// A stream's place among the open ones; given back when dropped.
pub struct Place {
    streams: Streams,
    role: Role,
    person: PersonId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.locked();
        let streams = open.of(self.role);
        if let Some(count) = streams.get_mut(&self.person) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.person);
            }
        }
    }
}

impl Streams {
    fn locked(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, role: Role, person: PersonId) -> Result<Place, Problem> {
        let most = match role {
            Role::Operator | Role::Admin => OPERATORS_MAX,
            Role::Guardian => GUARDIANS_MAX,
        };
        let mut open = self.locked();
        let streams = open.of(role);
        let all = streams.values().sum::<usize>();
        let own = streams.entry(person).or_default();
        if *own >= PERSON_MAX || all >= most {
            let detail = format!("at most {PERSON_MAX} streams a person, {most} in all");
            return Err(Problem::too_many(detail, HEARTBEAT));
        }
        *own += 1;
        Ok(Place {
            streams: self.clone(),
            role,
            person,
        })
    }

    /// How many are open: of operators, of guardians.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let open = self.locked();
        (open.operators.values().sum(), open.guardians.values().sum())
    }
}

/// Opens a stream for a caller.
pub fn open<S: Shown>(
    api: &Api,
    caller: &Caller,
    role: Role,
    kinds: &'static [Words],
    shown: S,
) -> Result<Response, Problem> {
    let place = api.streams.place(role, caller.person)?;
    let feed = Feed::new(shown, &api.wakes, api.stop.clone(), LOOK_AGAIN);
    let api = api.clone();
    let events = stream::unfold(
        (feed, place, api),
        move |(mut feed, place, api)| async move {
            let update = match feed.next().await {
                Ok(update) => update?,
                Err(error) => {
                    tracing::error!(%error, "a stream ends");
                    return None;
                }
            };
            let event = event(&api, kinds, update);
            Some((Ok::<_, Infallible>(event), (feed, place, api)))
        },
    );
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, stream).into_response())
}

fn event(api: &Api, kinds: &[Words], update: Update) -> Event {
    let n = api.streams.counter.fetch_add(1, Ordering::Relaxed);
    let event = Event::default().id(format!("{}-{n}", api.epoch));
    match update {
        Update::Reset(rows) => {
            let lists = kinds.iter().map(|words| list(*words, &rows));
            let data = format!("{{{}}}", lists.collect::<Vec<_>>().join(","));
            event.event("reset").data(data)
        }
        Update::Row { told, fresh_signal } => {
            if let Some(at) = fresh_signal {
                api.metrics.signal_to_screen(api.clock.now().since(at));
            }
            event.event(told.words.row).data(told.json)
        }
    }
}

/// The rows of one kind, as a field of `reset`.
fn list(words: Words, rows: &[Told]) -> String {
    let own = rows.iter().filter(|told| told.words == words);
    let own: Vec<&str> = own.map(|told| told.json.as_str()).collect();
    format!("\"{}\":[{}]", words.list, own.join(","))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn one_person_cannot_take_every_place_and_places_come_back() {
        let streams = Streams::default();
        let li = PersonId(Uuid::from_u128(1));
        let places = (0..PERSON_MAX).map(|_| streams.place(Role::Guardian, li).unwrap());
        let places = places.collect::<Vec<_>>();
        assert!(streams.place(Role::Guardian, li).is_err());
        assert!(streams.place(Role::Operator, li).is_ok());
        assert_eq!(streams.counts(), (0, PERSON_MAX));
        drop(places);
        assert_eq!(streams.counts(), (0, 0));
        assert!(streams.locked().guardians.is_empty());
    }

    #[test]
    fn guardians_never_shut_an_operator_out() {
        let streams = Streams::default();
        let person = |n: usize| PersonId(Uuid::from_u128(u128::try_from(n).unwrap()));
        let places = (0..GUARDIANS_MAX).map(|n| streams.place(Role::Guardian, person(n)).unwrap());
        let _places = places.collect::<Vec<_>>();
        assert!(
            streams
                .place(Role::Guardian, person(GUARDIANS_MAX))
                .is_err()
        );
        assert!(streams.place(Role::Operator, person(0)).is_ok());
    }
}
