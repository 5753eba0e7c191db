//! A small deployment for tests: two centres, two watch rooms, two families (the fixture
//! `import/two-centres.json`), on SQLite, or on the PostgreSQL that `ANTUO_TEST_POSTGRES` names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::str::FromStr as _;
use std::sync::Arc;

use ambient::{Clock, Entropy};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPool};
use tempfile::TempDir;
use uuid::Uuid;

use crate::config::Config;
use crate::db::Db;
use crate::keys::Keys;
use crate::setup::import::import;
use crate::setup::init::{Init, init};

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
