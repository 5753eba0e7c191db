//! The data folder, for one process at a time.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use super::{RunError, failed};

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
