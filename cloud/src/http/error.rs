//! Problems as callers see them (RFC 9457): what is wrong and what would be right.
//!
//! Never tells more than the caller may know: a thing of somebody else's is "not found".

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::access::{LogInError, PasswordError};
use crate::commands::LIVES;
use crate::db::DbError;
use crate::engine::{ActError, AskError, EngineError};

/// An answer that is no success.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
    detail: String,
    retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    fn new(
        status: StatusCode,
        name: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            name,
            title,
            detail: detail.into(),
            retry_after: None,
        }
    }

    fn after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// Nothing there, or nothing the caller may know of.
    #[must_use]
    pub fn not_found() -> Self {
        let detail = "there is nothing with this name within your reach";
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// Nobody is logged in.
    #[must_use]
    pub fn not_logged_in() -> Self {
        let detail = "log in with POST /api/session and send the token as Authorization: Bearer";
        Self::new(
            StatusCode::UNAUTHORIZED,
            "not-logged-in",
            "Log in first",
            detail,
        )
    }

    /// Logged in, without the role.
    #[must_use]
    pub fn not_granted(role: &str) -> Self {
        let detail = format!("this needs the role {role}, which you do not have now");
        Self::new(StatusCode::FORBIDDEN, "not-granted", "Not granted", detail)
    }

    /// A browser sent it on behalf of another site.
    #[must_use]
    pub fn other_site() -> Self {
        let detail = "a change asked for with a cookie must come from this site's own pages";
        Self::new(
            StatusCode::FORBIDDEN,
            "other-site",
            "Sent by another site",
            detail,
        )
    }

    /// The request cannot be read.
    #[must_use]
    pub fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "unreadable",
            "Cannot be read",
            detail,
        )
    }

    /// The request is longer than allowed.
    #[must_use]
    pub fn too_long(most: usize) -> Self {
        let detail = format!("the body may be at most {most} bytes long");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-long",
            "Too long",
            detail,
        )
    }

    /// The request does not come whole.
    #[must_use]
    pub fn too_slow(within: Duration) -> Self {
        let detail = format!("the body must come within {} s", within.as_secs());
        let status = StatusCode::REQUEST_TIMEOUT;
        Self::new(status, "too-slow", "Too slow", detail)
    }

    /// The body is of another type.
    #[must_use]
    pub fn not_json() -> Self {
        let detail = "send the body as Content-Type: application/json";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "not-json", "Not JSON", detail)
    }

    /// The path takes another method.
    #[must_use]
    pub fn other_method() -> Self {
        let detail = "the path is right, the method is not; see the Allow header";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, "other-method", "Other method", detail)
    }

    /// The rules of the case say no.
    #[must_use]
    pub fn refused(why: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "refused",
            "Not allowed now",
            why.to_string(),
        )
    }

    /// Readable, and never to be done as it stands.
    #[must_use]
    pub fn unsuitable(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "unsuitable", "Cannot be done", detail)
    }

    /// Too much at once.
    #[must_use]
    pub fn too_many(detail: impl Into<String>, wait: Duration) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, "too-many", "Too many", detail).after(wait)
    }

    /// What is stored cannot be read; asking again will not help.
    #[must_use]
    pub fn damaged() -> Self {
        let detail = "what is stored of this is damaged and nothing was changed; work by telephone \
                      and tell whoever runs the service, who can restore it from a backup";
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "damaged", "Damaged", detail)
    }

    /// The store or something else of ours fails at the moment.
    #[must_use]
    pub fn unavailable() -> Self {
        let detail = "the service cannot read or store at the moment; nothing was changed";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "unavailable", "Unavailable", detail).after(Duration::from_secs(5))
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        tracing::error!(%error, "a request could not be served");
        match error {
            DbError::Corrupt { .. } => Self::damaged(),
            DbError::Sqlx(_) | DbError::Migrate(_) | DbError::Closed | DbError::Died(_) => {
                Self::unavailable()
            }
        }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        DbError::from(error).into()
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Db(error) => error.into(),
            EngineError::NoEntropy(_) | EngineError::Refused(_) => {
                tracing::error!(%error, "a request could not be served");
                Self::unavailable()
            }
        }
    }
}

impl From<ActError> for Problem {
    fn from(error: ActError) -> Self {
        match error {
            ActError::NotFound => Self::not_found(),
            ActError::Refused(why) => Self::refused(why),
            ActError::Engine(error) => error.into(),
        }
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        let detail = error.to_string();
        match error {
            AskError::NotFound => Self::not_found(),
            AskError::Unsuitable(_) => Self::unsuitable(detail),
            AskError::IdTaken => Self::refused(detail),
            AskError::TooMany => Self::too_many(detail, LIVES),
            AskError::Engine(error) => error.into(),
        }
    }
}

impl From<LogInError> for Problem {
    fn from(error: LogInError) -> Self {
        match error {
            LogInError::Wrong => {
                let detail = "user name and password do not fit";
                Self::new(
                    StatusCode::UNAUTHORIZED,
                    "wrong-log-in",
                    "Wrong log-in",
                    detail,
                )
            }
            LogInError::Locked(left) => {
                let detail = "too many failed log-ins from this address; wait before the next";
                Self::too_many(detail, left)
            }
            LogInError::Busy => Self::too_many(
                "too many log-ins at once; try again",
                Duration::from_secs(2),
            ),
            LogInError::Password(error) => Self::from(error),
            LogInError::NoEntropy(error) => {
                tracing::error!(%error, "a log-in could not be served");
                Self::unavailable()
            }
            LogInError::Db(error) => error.into(),
        }
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        tracing::error!(%error, "a log-in could not be served");
        Self::unavailable()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: format!("urn:antuo:problem:{}", self.name),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
