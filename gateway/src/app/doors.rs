//! The box's doors and its folder: taken for this process alone, opened, and told in `addresses.json`.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{RunError, failed};
use crate::broker::{self, Bound};
use crate::config::Config;
use crate::page;

/// Makes the folder and takes it for this process alone, until the file given back is closed.
pub(super) fn make_ready(folder: &Path, addresses: &Path) -> Result<File, RunError> {
    fs::create_dir_all(folder).map_err(failed("data_dir"))?;
    let lock = File::create(folder.join("lock")).map_err(failed("lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(RunError::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
    }
    remove(addresses)?;
    Ok(lock)
}

pub(super) fn remove(addresses: &Path) -> Result<(), RunError> {
    match fs::remove_file(addresses) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("addresses.json")(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says where the doors are, whole or not at all.
pub(super) fn write_addresses(file: &PathBuf, doors: &Doors) -> Result<(), RunError> {
    let status = doors.status.local_addr().map_err(failed("status.listen"))?;
    let [page, redirect] = match &doors.page {
        Some(bound) => bound.addresses(),
        None => [Vec::new(), Vec::new()],
    };
    let broker::Doors {
        tcp,
        tls,
        websocket,
        websocket_tls,
    } = doors.mqtt.addresses();
    let text = json!({
        "mqtt": tcp,
        "mqtt_tls": tls,
        "mqtt_websocket": websocket,
        "mqtt_websocket_tls": websocket_tls,
        "status": status,
        "page": page,
        "page_redirect": redirect,
        "pid": std::process::id(),
    })
    .to_string();
    let draft = file.with_extension("draft");
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, file))
        .map_err(failed("addresses.json"))
}

/// The doors, open and not yet served.
pub(super) struct Doors {
    pub mqtt: Bound,
    pub status: TcpListener,
    pub page: Option<page::Bound>,
}

pub(super) async fn bind_page(config: &Config) -> Result<Option<page::Bound>, RunError> {
    let Some(doors) = &config.page else {
        return Ok(None);
    };
    let bound = page::Bound::bind(&doors.listen, &doors.redirect).await;
    let told = |(address, source)| RunError::File {
        what: format!("page {address}"),
        source,
    };
    bound.map(Some).map_err(told)
}

pub(super) async fn serve_page(
    doors: page::Bound,
    parts: page::Parts,
    stop: watch::Receiver<bool>,
) {
    if let Err(error) = page::serve(doors, parts, stop).await {
        tracing::error!(%error, "there is no page");
    }
}
