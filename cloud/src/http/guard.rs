//! Who may call a route: the one check in front of every handler.
//!
//! Reads the session from the header or the cookie, looks the right up at this instant, and hands the
//! handler a [`Caller`]. Refuses changes that a browser sends for another site.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use domain::id::PersonId;

use super::Api;
use super::error::Problem;
use super::front::Front;
use crate::access::{Role, Scope, SessionKey, Standing};

/// Whom a route is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audience {
    /// Anybody: the log-in and what a machine asks.
    Anyone,
    /// Whoever is logged in.
    LoggedIn,
    /// Whoever acts in that capacity.
    Role(Role),
}

/// Who calls, with the right they call by.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What the caller may reach in this capacity.
    pub scope: Scope,
    /// Who it is.
    pub person: PersonId,
    /// By which log-in.
    pub session: SessionKey,
}

/// A living log-in, in no particular capacity.
#[derive(Clone, Copy, Debug)]
pub struct LoggedIn(pub SessionKey);

/// The check of one route.
pub async fn guard(
    State((api, audience)): State<(Api, Audience)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let sent = token(request.headers(), api.front.cookie_name());
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let by_cookie = sent.is_some_and(|sent| sent.by_cookie);
    if changes && !from_own_pages(&api.front, request.headers(), by_cookie) {
        return Err(Problem::other_site());
    }
    let role = match audience {
        Audience::Anyone => return Ok(next.run(request).await),
        Audience::LoggedIn => None,
        Audience::Role(role) => Some(role),
    };
    let token = sent.ok_or_else(Problem::not_logged_in)?.token;
    let session = SessionKey::of_token(token);
    match role {
        None => {
            let person = api.access.person_of(session).await?;
            person.ok_or_else(Problem::not_logged_in)?;
            request.extensions_mut().insert(LoggedIn(session));
        }
        Some(role) => {
            let caller = caller(&api, session, role).await?;
            request.extensions_mut().insert(caller);
        }
    }
    Ok(next.run(request).await)
}

async fn caller(api: &Api, session: SessionKey, role: Role) -> Result<Caller, Problem> {
    match api.access.standing(session, role).await? {
        Standing::Nobody => Err(Problem::not_logged_in()),
        Standing::NotGranted => Err(Problem::not_granted(word(role))),
        Standing::May(scope) => {
            let person = scope.person().ok_or_else(Problem::not_logged_in)?;
            Ok(Caller {
                scope,
                person,
                session,
            })
        }
    }
}

const fn word(role: Role) -> &'static str {
    match role {
        Role::Guardian => "guardian",
        Role::Operator => "operator or shift_lead",
        Role::Admin => "admin",
    }
}

/// A token as it was sent.
#[derive(Clone, Copy)]
struct Sent<'a> {
    token: &'a str,
    by_cookie: bool,
}

fn token<'a>(headers: &'a HeaderMap, cookie: &str) -> Option<Sent<'a>> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok()?.strip_prefix("Bearer ")?.trim();
        let by_cookie = false;
        return Some(Sent { token, by_cookie });
    }
    let cookies = headers.get_all(header::COOKIE).iter();
    let mut pairs = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, token) = pairs.find(|(name, _)| *name == cookie)?;
    let by_cookie = true;
    Some(Sent { token, by_cookie })
}

/// Whether a change comes from our own pages (Fetch Metadata; else Origin, RFC 6454). A client that
/// says nothing is no browser, and is believed only without a cookie.
fn from_own_pages(front: &Front, headers: &HeaderMap, by_cookie: bool) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site")) {
        return matches!(site, "same-origin" | "none");
    }
    match text(header::ORIGIN) {
        Some(origin) => front.is_own(origin, headers),
        None => !by_cookie,
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(Problem::not_logged_in)
    }
}

impl<S: Sync> FromRequestParts<S> for LoggedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let session = parts.extensions.get::<Self>().copied();
        session.ok_or_else(Problem::not_logged_in)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Browsers;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (
                header::HeaderName::from_static(name),
                value.parse().unwrap(),
            )
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_change_with_a_cookie_must_come_from_our_own_pages() {
        let front = Front::of(&Browsers {
            listen: "127.0.0.1:0".parse().unwrap(),
            certificate: None,
            trusted_proxy: false,
            origin: None,
        });
        let own = |pairs: &[(&'static str, &str)]| from_own_pages(&front, &headers(pairs), true);
        assert!(own(&[("sec-fetch-site", "same-origin")]));
        assert!(own(&[("sec-fetch-site", "none")]));
        assert!(!own(&[("sec-fetch-site", "cross-site")]));
        assert!(!own(&[("sec-fetch-site", "same-site")]));
        assert!(own(&[("origin", "https://antuo.cn"), ("host", "antuo.cn")]));
        assert!(!own(&[("origin", "https://evil.cn"), ("host", "antuo.cn")]));
        assert!(!own(&[("origin", "null"), ("host", "antuo.cn")]));
        assert!(!own(&[]));
        assert!(from_own_pages(&front, &headers(&[]), false));
        assert!(!from_own_pages(
            &front,
            &headers(&[("sec-fetch-site", "cross-site")]),
            false
        ));
    }

    #[test]
    fn the_header_goes_before_the_cookie_and_other_cookies_do_not_count() {
        let both = headers(&[("authorization", "Bearer a"), ("cookie", "antuo=b")]);
        let sent = token(&both, "antuo").unwrap();
        assert_eq!((sent.token, sent.by_cookie), ("a", false));
        let cookies = headers(&[("cookie", "x=1; antuo=b; y=2")]);
        let sent = token(&cookies, "antuo").unwrap();
        assert_eq!((sent.token, sent.by_cookie), ("b", true));
        assert!(token(&cookies, "__Host-antuo").is_none());
        assert!(token(&headers(&[("authorization", "Basic a")]), "antuo").is_none());
    }
}
