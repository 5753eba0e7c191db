//! `antuo-cloud init`: a folder with keys, settings and an empty database.

use std::net::SocketAddr;
use std::path::PathBuf;

use ambient::Entropy;

use crate::config::{Config, ConfigError};
use crate::db::{Db, DbError};
use crate::keys::{KeyError, make_all, make_folder, write_new};
use crate::setup::open;

/// What boxes call the cloud by when nothing else is said: right for a trial on one machine.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// What to make.
pub struct Init {
    /// The folder; made if absent.
    pub dir: PathBuf,
    /// DNS names and addresses that boxes will use; empty = this machine only.
    pub names: Vec<String>,
    /// Where browsers connect.
    pub http: SocketAddr,
    /// Where boxes connect.
    pub boxes: SocketAddr,
}

/// Why the folder was not made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is a deployment already.
    #[error("{0} exists already: nothing was changed; keys are never overwritten")]
    Exists(PathBuf),
    /// Keys or files cannot be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The settings would be refused by `serve`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be made.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Makes the folder and returns the path of its settings.
///
/// # Errors
/// When something is there already, or cannot be made.
pub async fn init(
    what: &Init,
    entropy: &Entropy,
    env: impl Fn(&str) -> Option<String>,
) -> Result<PathBuf, InitError> {
    let settings = what.dir.join("cloud.toml");
    let keys = what.dir.join("keys");
    for path in [&settings, &keys] {
        if path.exists() {
            return Err(InitError::Exists(path.clone()));
        }
    }
    let text = text(what);
    let config = Config::of_text(&text, &settings, env)?;
    make_folder(&what.dir)?;
    make_folder(&keys)?;
    write_new(&settings, text.as_bytes())?;
    let names = if what.names.is_empty() {
        NAMES.map(String::from).to_vec()
    } else {
        what.names.clone()
    };
    make_all(&config.keys, &names, entropy)?;
    let db: Db = open(&config.database).await?;
    db.migrate().await?;
    db.close().await;
    Ok(settings)
}

fn text(what: &Init) -> String {
    format!(
        r#"# Settings of antuo-cloud. Paths are relative to this folder. Check with `antuo-cloud check-config`.

# "sqlite:FILE" or "postgres://USER@HOST/NAME"; ANTUO_DATABASE_URL overrides it.
database = "sqlite:antuo.db"

# Browsers and apps. Beyond this machine it speaks TLS only: certificate = "FILE", key = "FILE" (PEM).
# Behind a proxy on this machine: trusted_proxy = true, and origin = "https://HOST" as browsers know it.
[http]
listen = "{http}"

# Boxes, always under mutual TLS.
[boxes]
listen = "{boxes}"
certificate = "keys/boxes.pem"
key = "keys/boxes.key"

# Keep a copy of these files apart from the database's: without them neither can be used.
[keys]
ca = "keys/ca.pem"
ca_key = "keys/ca.key"
lan_ca = "keys/lan-ca.pem"
lan_ca_key = "keys/lan-ca.key"
config_signing = "keys/config-signing.key"
sealing = "keys/sealing.keys"
"#,
        http = what.http,
        boxes = what.boxes,
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::keys::Keys;
    use std::path::Path;

    fn what(dir: &Path) -> Init {
        Init {
            dir: dir.to_owned(),
            names: Vec::new(),
            http: "127.0.0.1:0".parse().unwrap(),
            boxes: "127.0.0.1:0".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_folder_is_made_once_and_then_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("new");
        let entropy = Entropy::system();
        let settings = init(&what(&dir), &entropy, |_| None).await.unwrap();
        let config = Config::read(&settings, |_| None).unwrap();
        Keys::read(&config.keys).unwrap();
        let before = std::fs::read(&config.keys.ca_key).unwrap();
        let again = init(&what(&dir), &entropy, |_| None).await.unwrap_err();
        assert!(matches!(again, InitError::Exists(_)), "{again}");
        assert_eq!(std::fs::read(&config.keys.ca_key).unwrap(), before);
    }

    #[tokio::test]
    async fn settings_that_serve_would_refuse_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut open = what(&dir.path().join("new"));
        open.http = "0.0.0.0:80".parse().unwrap();
        let refused = init(&open, &Entropy::system(), |_| None).await.unwrap_err();
        assert!(matches!(refused, InitError::Config(_)), "{refused}");
        assert!(!open.dir.exists());
    }
}
