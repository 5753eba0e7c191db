//! The data folder of a demo: whose it is, and what lies where in it.

use super::{Demo, DemoError};
use crate::town::Agency;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Marks a folder as ours, so that it may be emptied; locked while a demo runs in it.
const MARK: &str = ".antuo-demo";

/// Takes the data folder over and empties it, if it is ours or new. The lock lasts as long as the file is held.
pub(super) fn empty(data: &Path) -> Result<File, DemoError> {
    let failed = |source| DemoError::Data {
        path: data.to_owned(),
        source,
    };
    std::fs::create_dir_all(data).map_err(failed)?;
    let entries = || {
        std::fs::read_dir(data)
            .and_then(|all| all.collect::<Result<Vec<_>, _>>())
            .map_err(failed)
    };
    let mark = data.join(MARK);
    if !entries()?.is_empty() && !mark.exists() {
        return Err(DemoError::NotOurs(data.to_owned()));
    }
    let file = File::create(&mark).map_err(failed)?;
    if file.try_lock().is_err() {
        return Err(DemoError::Busy(data.to_owned()));
    }
    for entry in entries()?.iter().filter(|entry| entry.file_name() != MARK) {
        let path = entry.path();
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.map_err(failed)?;
    }
    Ok(file)
}

pub(super) fn town_file(demo: &Demo) -> PathBuf {
    demo.data.join("town.json")
}

pub(super) fn device_ledger(demo: &Demo) -> PathBuf {
    demo.data.join("ledger/devices.jsonl")
}

pub(super) fn receiver_ledger(demo: &Demo, agency: Agency) -> PathBuf {
    demo.data.join(format!("ledger/{}.jsonl", agency.word()))
}

pub(super) fn box_dir(demo: &Demo, index: usize) -> PathBuf {
    demo.data.join(format!("box-{}", index + 1))
}

pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The data folder a process uses: `data_dir` of its configuration, beside which the file stands.
pub(super) fn data_dir(config: &Path) -> PathBuf {
    let beside = config.parent().unwrap_or(Path::new(".")).to_owned();
    let table = std::fs::read_to_string(config)
        .ok()
        .and_then(|text| text.parse::<toml::Table>().ok());
    let named = table.and_then(|table| Some(table.get("data_dir")?.as_str()?.to_owned()));
    named.map_or(beside.clone(), |named| beside.join(named))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::ledger::tests::Scratch;

    #[test]
    fn only_a_folder_of_our_own_is_emptied() {
        let scratch = Scratch::new("demo-folder");
        let data = scratch.0.join("data");
        let lock = empty(&data).unwrap();
        std::fs::create_dir(data.join("cloud")).unwrap();
        assert!(matches!(empty(&data), Err(DemoError::Busy(_))));
        drop(lock);
        drop(empty(&data).unwrap());
        assert!(!data.join("cloud").exists());
        std::fs::write(scratch.0.join("thesis.txt"), "years of work").unwrap();
        assert!(matches!(empty(&scratch.0), Err(DemoError::NotOurs(_))));
        assert!(scratch.0.join("thesis.txt").exists());
    }

    #[test]
    fn the_data_folder_is_read_from_the_configuration() {
        let scratch = Scratch::new("demo-config");
        let config = scratch.0.join("gateway.toml");
        assert_eq!(data_dir(&config), scratch.0);
        std::fs::write(&config, "data_dir = \"data\"\n[mqtt]\nlisten = []\n").unwrap();
        assert_eq!(data_dir(&config), scratch.0.join("data"));
    }
}
