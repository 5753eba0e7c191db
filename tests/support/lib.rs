//! The harness: the real programs as child processes, seen only through their public doors.
//!
//! Owns starting, killing and asking. Never looks into a store behind a program's back, except where
//! a test says that this is its point. Nothing here sleeps for luck: every wait is for a condition,
//! with a limit and a word about what did not happen.

pub mod device;
pub mod mosquitto;
pub mod program;
pub mod receiver;
pub mod session;
pub mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Longest wait for anything that should happen at once. Generous: CI has two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A built program, beside this test's own binary.
///
/// # Errors
/// When it is not there: `make test` builds it first.
pub fn built(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe().context("this test's own path")?;
    let dir = me
        .ancestors()
        .find(|dir| dir.join("deps").is_dir())
        .context("no target folder above this test")?;
    let program = dir.join(name);
    if !program.is_file() {
        bail!(
            "{} is not built; run `make test` or `cargo build --workspace`",
            program.display()
        );
    }
    Ok(program)
}

/// The Python with the clients and receivers of `tests/requirements.txt`.
///
/// # Errors
/// When `scripts/need test` has not run.
pub fn python() -> Result<PathBuf> {
    let python = root().join("target/venv/bin/python");
    if !python.exists() {
        bail!("target/venv is missing; run `scripts/need test`");
    }
    Ok(python)
}

/// The folder of the Node.js packages of `tests/package.json`.
///
/// # Errors
/// When `scripts/need test` has not run.
pub fn node_modules() -> Result<PathBuf> {
    let modules = root().join("target/node/node_modules");
    if !modules.exists() {
        bail!("target/node is missing; run `scripts/need test`");
    }
    Ok(modules)
}

/// Waits until `look` gives something.
///
/// # Errors
/// After [`PATIENCE`], naming `what` did not happen.
pub async fn wait_for<T, F, Fut>(what: &str, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let look = async {
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, look)
        .await
        .with_context(|| format!("waited {PATIENCE:?} in vain for: {what}"))?
}
