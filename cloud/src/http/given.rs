//! What a caller gives: body, query and path, read strictly, every complaint a [`Problem`].

use std::str::FromStr;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::Problem;

/// Longest body, in bytes. A longer one is refused with 413.
pub const BODY_MAX: usize = 64 * 1024;

/// A JSON body. No body at all reads as `{}`.
pub struct Given<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Given<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let body = to_bytes(request.into_body(), BODY_MAX).await;
        let body = body.map_err(|_| Problem::too_long(BODY_MAX))?;
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        if !body.is_empty() && !is_json {
            return Err(Problem::not_json());
        }
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|error| Problem::unreadable(format!("the body: {error}")))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or(kind).trim());
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
}

/// No fields at all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The query.
pub struct Asked<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(asked)| Self(asked))
            .map_err(|error| Problem::unreadable(format!("the query: {}", error.body_text())))
    }
}

/// The id in the path. One that cannot be an id is the id of nothing.
pub struct Named<T>(pub T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|_| Problem::not_found())?;
        text.parse().map(Self).map_err(|_| Problem::not_found())
    }
}
