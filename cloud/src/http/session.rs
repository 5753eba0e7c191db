//! Logging in and out, for everybody.

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Api;
use super::error::Problem;
use super::given::Given;
use super::guard::LoggedIn;
use crate::access::{LogInError, SESSION_LASTS};
use crate::metrics::Counted;
use crate::tls::Peer;

/// Name and password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    username: String,
    password: String,
}

#[derive(Serialize)]
struct Opened {
    token: String,
    expires_at: i64,
    person: String,
    roles: Vec<String>,
}

/// `POST /api/session`
pub async fn log_in(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    Given(given): Given<LogIn>,
) -> Result<Response, Problem> {
    let from = api.front.client(&peer, &headers);
    let outcome = api
        .access
        .log_in(&given.username, given.password, from)
        .await;
    match &outcome {
        Err(LogInError::Wrong) => api.metrics.count(Counted::WrongLogIns),
        Err(LogInError::Locked(_)) => api.metrics.count(Counted::LockedLogIns),
        Ok(_) | Err(_) => {}
    }
    let opened = outcome?;
    let cookie = cookie(&api, &opened.token, SESSION_LASTS.as_secs())?;
    let body = Json(Opened {
        token: opened.token,
        expires_at: opened.expires_at.micros(),
        person: opened.person.to_string(),
        roles: opened.roles,
    });
    Ok((cookie, body).into_response())
}

/// `DELETE /api/session`
pub async fn log_out(
    State(api): State<Api>,
    LoggedIn(session): LoggedIn,
) -> Result<Response, Problem> {
    api.access.log_out(session).await?;
    Ok((StatusCode::NO_CONTENT, cookie(&api, "", 0)?).into_response())
}

fn cookie(api: &Api, token: &str, seconds: u64) -> Result<HeaderMap, Problem> {
    let name = api.front.cookie_name();
    let secure = if api.front.secure { "; Secure" } else { "" };
    let text = format!("{name}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    let value = HeaderValue::try_from(text).map_err(|_| Problem::unavailable())?;
    Ok(HeaderMap::from_iter([(header::SET_COOKIE, value)]))
}
