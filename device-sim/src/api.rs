//! The cloud's browser API, as any client would use it.
//!
//! Owns: log-in, calls, event streams. Never: decides anything.

use crate::sse::{EventTooLong, SseEvent, SseParser};
use crate::town::Login;
use crate::view::Page;
use futures_util::StreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use thiserror::Error;

/// Longest wait for the answer to a call; streams have none.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The cloud sends a heartbeat each 15 s; a stream silent this long is given up.
const STREAM_SILENT: Duration = Duration::from_secs(40);

/// Most pages read of one list; more means that the paging does not end.
const MAX_PAGES: usize = 10_000;

/// Longest part of a refusal that is passed on.
const REFUSAL_SHOWN: usize = 500;

/// Why a call came to nothing.
#[derive(Debug, Error)]
pub enum ApiError {
    #[error("{call}: {source}")]
    Transport {
        call: String,
        source: reqwest::Error,
    },
    #[error("{call}: answered {status}: {problem}")]
    Refused {
        call: String,
        status: u16,
        problem: String,
    },
    #[error("{call}: the answer is not as published: {source}")]
    Shape {
        call: String,
        source: serde_json::Error,
    },
    #[error("{call}: {source}")]
    Stream { call: String, source: EventTooLong },
    #[error("{call}: more than {MAX_PAGES} pages")]
    Endless { call: String },
    #[error("{call}: no heartbeat")]
    Silent { call: String },
}

/// The cloud at one address, nobody logged in.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
}

/// Somebody logged in.
#[derive(Debug, Clone)]
pub struct Session {
    api: Api,
    token: String,
}

#[derive(Debug, Deserialize)]
struct LoggedIn {
    token: String,
}

impl Api {
    /// The cloud at `base`, such as `http://127.0.0.1:8080`. Proxies of the environment are not used.
    pub fn at(base: &str) -> Result<Api, ApiError> {
        let http = reqwest::Client::builder().no_proxy().build();
        let http = http.map_err(|source| ApiError::Transport {
            call: "client".to_owned(),
            source,
        })?;
        Ok(Api {
            http,
            base: base.trim_end_matches('/').to_owned(),
        })
    }

    /// Logs in.
    pub async fn log_in(&self, login: Login<'_>) -> Result<Session, ApiError> {
        let call = format!("POST /api/session as {}", login.username);
        let body = serde_json::json!({"username": login.username, "password": login.password});
        let request = self
            .http
            .post(format!("{}/api/session", self.base))
            .json(&body);
        let LoggedIn { token } = answer(call, request).await?;
        Ok(Session {
            api: self.clone(),
            token,
        })
    }
}

impl Session {
    /// Reads.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        answer(
            format!("GET {path}"),
            self.request(reqwest::Method::GET, path),
        )
        .await
    }

    /// Reads all pages of a list of events.
    pub async fn pages<E: DeserializeOwned>(&self, path: &str) -> Result<Vec<E>, ApiError> {
        let mut events = Vec::new();
        let mut at = path.to_owned();
        for _ in 0..MAX_PAGES {
            let page: Page<E> = self.get(&at).await?;
            events.extend(page.events);
            match page.next {
                None => return Ok(events),
                Some(serde_json::Value::String(next)) => at = format!("{path}?after={next}"),
                Some(next) => at = format!("{path}?after={next}"),
            }
        }
        Err(ApiError::Endless {
            call: format!("GET {path}"),
        })
    }

    /// Commands.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, ApiError> {
        answer(
            format!("POST {path}"),
            self.request(reqwest::Method::POST, path).json(body),
        )
        .await
    }

    /// Commands whose answer says no more than that it was done.
    pub async fn tell(&self, path: &str, body: &serde_json::Value) -> Result<(), ApiError> {
        let call = format!("POST {path}");
        let request = self
            .request(reqwest::Method::POST, path)
            .json(body)
            .timeout(ANSWER_WITHIN);
        let response = request.send().await.map_err(|source| ApiError::Transport {
            call: call.clone(),
            source,
        })?;
        accepted(&call, response).await.map(drop)
    }

    /// Follows an event stream until it ends; `on` sees each event. Always comes back with the reason.
    pub async fn follow(&self, path: &str, mut on: impl FnMut(SseEvent)) -> Result<(), ApiError> {
        let call = format!("GET {path}");
        let transport = |source| ApiError::Transport {
            call: call.clone(),
            source,
        };
        let response = self
            .request(reqwest::Method::GET, path)
            .send()
            .await
            .map_err(transport)?;
        let mut bytes = accepted(&call, response).await?.bytes_stream();
        let mut parser = SseParser::default();
        loop {
            let next = tokio::time::timeout(STREAM_SILENT, bytes.next()).await;
            let Some(bytes) = next.map_err(|_| ApiError::Silent { call: call.clone() })? else {
                return Ok(());
            };
            let events = parser.push(&bytes.map_err(transport)?);
            events
                .map_err(|source| ApiError::Stream {
                    call: call.clone(),
                    source,
                })?
                .into_iter()
                .for_each(&mut on);
        }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.api
            .http
            .request(method, format!("{}{path}", self.api.base))
            .bearer_auth(&self.token)
    }
}

async fn answer<T: DeserializeOwned>(
    call: String,
    request: reqwest::RequestBuilder,
) -> Result<T, ApiError> {
    let transport = |source| ApiError::Transport {
        call: call.clone(),
        source,
    };
    let response = request
        .timeout(ANSWER_WITHIN)
        .send()
        .await
        .map_err(transport)?;
    let body = accepted(&call, response)
        .await?
        .bytes()
        .await
        .map_err(transport)?;
    serde_json::from_slice(&body).map_err(|source| ApiError::Shape { call, source })
}

async fn accepted(call: &str, response: reqwest::Response) -> Result<reqwest::Response, ApiError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let problem = response.text().await.unwrap_or_default();
    let problem = problem.chars().take(REFUSAL_SHOWN).collect();
    Err(ApiError::Refused {
        call: call.to_owned(),
        status: status.as_u16(),
        problem,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server with fixed answers, by `METHOD path`: status, content type and body. Gives its address.
    pub async fn canned(answers: BTreeMap<String, (u16, String)>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let read = socket.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let asked = head.split(" HTTP").next().unwrap().to_owned();
                let known = head.contains("Bearer t-1") || asked == "POST /api/session";
                let missing = (404, format!("no answer for {asked}"));
                let (status, body) = if known {
                    answers.get(&asked).unwrap_or(&missing)
                } else {
                    &(401, String::new())
                };
                let answer = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        base
    }

    /// The answers of [`canned`], with a log-in.
    pub fn answers(more: &[(&str, u16, serde_json::Value)]) -> BTreeMap<String, (u16, String)> {
        let log_in = (
            "POST /api/session".to_owned(),
            (200, r#"{"token":"t-1","expires_at":9}"#.to_owned()),
        );
        let more = more
            .iter()
            .map(|(asked, status, body)| ((*asked).to_owned(), (*status, body.to_string())));
        std::iter::once(log_in).chain(more).collect()
    }

    pub const LOGIN: Login<'static> = Login {
        username: "op1",
        password: "secret",
    };

    #[tokio::test]
    async fn a_session_reads_and_a_refusal_says_what_was_refused() {
        let base = canned(answers(&[
            ("GET /api/a", 200, serde_json::json!({"token": "x"})),
            ("GET /api/b", 409, serde_json::json!({"title": "not now"})),
            ("GET /api/c", 200, serde_json::json!([])),
        ]));
        let session = Api::at(&base.await).unwrap().log_in(LOGIN).await.unwrap();
        assert_eq!(session.get::<LoggedIn>("/api/a").await.unwrap().token, "x");
        let refused = session
            .get::<LoggedIn>("/api/b")
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("GET /api/b")
                && refused.contains("409")
                && refused.contains("not now"),
            "{refused}"
        );
        assert!(matches!(
            session.get::<LoggedIn>("/api/c").await,
            Err(ApiError::Shape { .. })
        ));
    }

    #[tokio::test]
    async fn a_stream_is_followed_to_its_end() {
        let mut answers = answers(&[]);
        answers.insert(
            "GET /s".to_owned(),
            (
                200,
                "event: child\ndata: 1\n\n: beat\n\nevent: child\ndata: 2\n\n".to_owned(),
            ),
        );
        let session = Api::at(&canned(answers).await)
            .unwrap()
            .log_in(LOGIN)
            .await
            .unwrap();
        let mut seen = Vec::new();
        session
            .follow("/s", |event| seen.push(event.data))
            .await
            .unwrap();
        assert_eq!(seen, ["1", "2"]);
    }
}
