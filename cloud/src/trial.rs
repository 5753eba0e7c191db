//! A small deployment for tests: two centres, two watch rooms, two families (the fixture
//! `import/two-centres.json`), on SQLite, or on the PostgreSQL that `ANTUO_TEST_POSTGRES` names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::Arc;

use ambient::{Clock, Entropy};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPool};
use tempfile::TempDir;
use uuid::Uuid;

use crate::app;
use crate::config::Config;
use crate::db::{Db, Tx, Urgency};
use crate::http::{Api, for_boxes, for_browsers};
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::setup::import::import;
use crate::setup::init::{Init, init};
use crate::sql;
use crate::stop::{Stopper, stop};
use crate::tls::Listening;

/// The deployment in its folder.
pub struct Trial {
    pub dir: TempDir,
    pub config: Config,
    pub db: Db,
    pub keys: Arc<Keys>,
    pub clock: Clock,
    pub entropy: Entropy,
}

/// An id of the fixture by its tail, such as `0xc001`.
pub fn id(tail: u16) -> Uuid {
    Uuid::from_u128(0x7000_8000_0000_0000_0000 | u128::from(tail))
}

pub fn fixture() -> Value {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/import/two-centres.json"
    );
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

impl Trial {
    /// The folder with keys and an empty store.
    pub async fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let entropy = Entropy::system();
        let what = Init {
            dir: dir.path().join("cloud"),
            names: Vec::new(),
            http: "127.0.0.1:0".parse().unwrap(),
            boxes: "127.0.0.1:0".parse().unwrap(),
        };
        let settings = init(&what, &entropy, |_| None).await.unwrap();
        let config = Config::read(&settings, |_| None).unwrap();
        let db = match std::env::var("ANTUO_TEST_POSTGRES") {
            Ok(url) => postgres(&url, &entropy).await,
            Err(_) => crate::setup::open(&config.database).await.unwrap(),
        };
        db.migrate().await.unwrap();
        Self {
            dir,
            keys: Arc::new(Keys::read(&config.keys).unwrap()),
            config,
            db,
            clock: Clock::system(),
            entropy,
        }
    }

    /// With the fixture imported.
    pub async fn new() -> Self {
        let trial = Self::empty().await;
        trial.import(&fixture()).await.unwrap();
        trial
    }

    pub async fn import(
        &self,
        document: &Value,
    ) -> Result<Vec<crate::setup::import::Imported>, crate::setup::import::ImportError> {
        let bytes = serde_json::to_vec(document).unwrap();
        import(&self.db, &self.keys, &self.clock, &self.entropy, &bytes).await
    }
}

/// A schema of its own on that server.
async fn postgres(url: &str, entropy: &Entropy) -> Db {
    let options = PgConnectOptions::from_str(url).unwrap();
    let chance = domain::digest::to_hex(&entropy.bytes::<8>().unwrap());
    let schema = format!("trial_{chance}");
    let pool = PgPool::connect_with(options.clone()).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("create schema {schema}")))
        .execute(&pool)
        .await
        .unwrap();
    Db::postgres(options.options([("search_path", schema)]))
        .await
        .unwrap()
}

/// The deployment with both listeners open.
pub struct Running {
    pub trial: Trial,
    pub api: Api,
    /// `http://127.0.0.1:PORT`
    pub base: String,
    pub boxes: SocketAddr,
    pub client: reqwest::Client,
    pub stopper: Stopper,
}

impl Running {
    pub async fn new() -> Self {
        Self::of(Trial::new().await).await
    }

    pub async fn of(trial: Trial) -> Self {
        let (stopper, stop) = stop();
        let metrics = Metrics::default();
        let (db, clock) = (trial.db.clone(), trial.clock.clone());
        let api = app::api(
            &trial.config,
            db,
            clock,
            trial.entropy.clone(),
            metrics,
            stop,
        )
        .unwrap();
        let metrics = api.metrics.clone();
        let any = "127.0.0.1:0".parse().unwrap();
        let http = Listening::for_browsers(any, None, false, metrics.clone())
            .await
            .unwrap();
        let boxes = Listening::for_boxes(any, &trial.config.keys, metrics)
            .await
            .unwrap();
        let running = Self {
            base: format!("http://{}", http.address()),
            boxes: boxes.address(),
            client: reqwest::Client::new(),
            stopper,
            trial,
            api: api.clone(),
        };
        app::listen(http, for_browsers(api.clone()), api.stop.clone());
        app::listen(boxes, for_boxes(api.clone()), api.stop.clone());
        running
    }

    /// A session of a person of the fixture, without the slow log-in.
    pub async fn token(&self, person: u16) -> String {
        let token = domain::digest::to_hex(&self.trial.entropy.bytes::<32>().unwrap());
        let now = self.trial.clock.now();
        let hash = domain::digest::Sha256::of(&[token.as_bytes()]).0.to_vec();
        let until = now.after(crate::access::SESSION_LASTS).micros();
        self.execute(move |tx| {
            Box::pin(async move {
                sql!(
                    tx,
                    execute,
                    "insert into session (token_hash, person, created_at, expires_at)
                     values ($1, $2, $3, $4)",
                    hash.clone(),
                    id(person),
                    now.micros(),
                    until
                )
                .unwrap();
            })
        })
        .await;
        token
    }

    /// Runs statements in a transaction of their own.
    pub async fn execute(
        &self,
        work: impl for<'a> FnOnce(&'a mut Tx) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    ) {
        let mut write = self.trial.db.write(Urgency::Other).await.unwrap();
        work(write.tx()).await;
        write.commit().await.unwrap();
    }

    /// Changes rows; at least one.
    pub async fn change(&self, text: &'static str) {
        self.execute(move |tx| {
            Box::pin(async move {
                let changed = sql!(tx, execute, text).unwrap();
                assert!(changed > 0, "{text}");
            })
        })
        .await;
    }

    /// An answer's status and body.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Value,
    ) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self
            .client
            .request(method.clone(), format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if method == reqwest::Method::POST {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        )
    }

    pub async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        self.ask("GET", path, Some(token), Value::Null).await
    }
}
