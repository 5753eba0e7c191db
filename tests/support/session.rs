//! A person at the cloud's API, as a program would be one: log-in, reading, acting, streams.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::wait_for;
use crate::world::each;

/// A person at the cloud's API.
#[derive(Clone)]
pub struct Session {
    pub(crate) client: reqwest::Client,
    pub(crate) base: String,
    pub(crate) token: String,
}

impl Session {
    /// Reads.
    ///
    /// # Errors
    /// On any status but success.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let request = self.client.get(format!("{}{path}", self.base));
        answer(request.bearer_auth(&self.token).send().await?).await
    }

    /// Acts.
    ///
    /// # Errors
    /// On any status but success.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.client.post(format!("{}{path}", self.base)).json(body);
        answer(request.bearer_auth(&self.token).send().await?).await
    }

    /// Acts, whatever the answer: status and body.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn try_post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let request = self.client.post(format!("{}{path}", self.base)).json(body);
        let answer = request.bearer_auth(&self.token).send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        ))
    }

    /// Opens a stream of events.
    ///
    /// # Errors
    /// When the cloud refuses.
    pub async fn stream(&self, path: &str) -> Result<reqwest::Response> {
        let request = self.client.get(format!("{}{path}", self.base));
        let answer = request.bearer_auth(&self.token).send().await?;
        Ok(answer.error_for_status()?)
    }

    /// Waits for a case that fits.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn incident_that(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_for(what, || async {
            let all = self.get("/api/operator/incidents?state=all").await?;
            Ok(each(&all["incidents"]).find(|i| fits(i)).cloned())
        })
        .await
    }
}

async fn answer(response: reqwest::Response) -> Result<Value> {
    let status = response.status();
    let text = response.text().await?;
    if !status.is_success() {
        bail!("{status}: {text}");
    }
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}
