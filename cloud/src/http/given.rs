//! What a caller gives: body, query and path, read strictly, every complaint a [`Problem`].

use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::Problem;

/// Longest body, in bytes. A longer one is refused with 413.
pub const BODY_MAX: usize = 64 * 1024;
/// Longest wait for the whole body. A slower one is refused with 408.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// A JSON body. No body at all reads as `{}`.
pub struct Given<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Given<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let body = read(request.into_body(), BODY_WITHIN).await?;
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        if !body.is_empty() && !is_json {
            return Err(Problem::not_json());
        }
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|error| Problem::unreadable(format!("the body: {error}")))
    }
}

async fn read(body: Body, within: Duration) -> Result<Bytes, Problem> {
    let read = timeout(within, to_bytes(body, BODY_MAX)).await;
    let read = read.map_err(|_| Problem::too_slow(within))?;
    read.map_err(|_| Problem::too_long(BODY_MAX))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;
    use futures_util::stream;

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let refused = read(never, Duration::from_millis(10)).await.unwrap_err();
        let status = refused.into_response().status();
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
        let whole = read(Body::from("{}"), Duration::from_secs(600)).await;
        assert_eq!(whole.unwrap(), "{}");
    }
}
