//! Copies of damaged files, kept beside the store for whoever looks into the damage.
//!
//! Owns how many: a disk that damages a file a day must not fill itself with the proof of it.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::rescue::remove;

/// The newest copies kept, beside the oldest, which shows how it began. Beyond: those in between are removed.
pub const NEWEST_KEPT: usize = 3;
/// Bytes of all copies kept. Beyond: the older ones go, but never the oldest nor the newest.
pub const BYTES: u64 = 4 << 30;

/// The mark in the name of a copy.
const MARK: &str = ".damaged-";

/// Files of copies with their sizes in bytes, by name, so the oldest first.
///
/// # Errors
/// When the folder cannot be read.
pub fn set_aside(directory: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for file in fs::read_dir(directory)? {
        let file = file?;
        if file.file_name().to_string_lossy().contains(MARK) {
            found.push((file.path(), file.metadata()?.len()));
        }
    }
    found.sort();
    Ok(found)
}

/// Removes the copies beyond the limits.
pub(super) fn thin_out(store: &Path) -> io::Result<()> {
    let directory = store.parent().unwrap_or_else(|| Path::new("."));
    let mut copies: Vec<(i64, Vec<PathBuf>, u64)> = Vec::new();
    for (file, bytes) in set_aside(directory)? {
        let Some(at) = made_at(&file) else {
            continue;
        };
        match copies.iter_mut().find(|(known, ..)| *known == at) {
            Some((_, files, total)) => {
                files.push(file);
                *total += bytes;
            }
            None => copies.push((at, vec![file], bytes)),
        }
    }
    copies.sort();
    let sizes: Vec<u64> = copies.iter().map(|(.., bytes)| *bytes).collect();
    for index in too_many(&sizes) {
        for file in copies
            .get(index)
            .into_iter()
            .flat_map(|(_, files, _)| files)
        {
            tracing::warn!(file = %file.display(), "an older copy of a damaged store is removed");
            remove(file)?;
        }
    }
    Ok(())
}

/// When a copy was made, in microseconds, as its name says.
fn made_at(file: &Path) -> Option<i64> {
    let name = file.file_name()?.to_string_lossy().into_owned();
    let (_, stamp) = name.split_once(MARK)?;
    let digits = stamp.trim_end_matches("-wal").trim_end_matches("-shm");
    digits.parse().ok()
}

/// Which of the copies go, given their sizes from the oldest to the newest.
fn too_many(sizes: &[u64]) -> Vec<usize> {
    let newest = sizes.len().saturating_sub(1);
    let first_kept = sizes.len().saturating_sub(NEWEST_KEPT);
    let mut total: u64 = sizes.iter().sum();
    let mut gone = Vec::new();
    for (index, bytes) in sizes.iter().enumerate().take(newest).skip(1) {
        if index < first_kept || total > BYTES {
            gone.push(index);
            total -= bytes;
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_and_the_newest_are_kept_within_number_and_bytes() {
        let none: [usize; 0] = [];
        assert_eq!(too_many(&[]), none);
        assert_eq!(too_many(&[1, 1, 1, 1]), none);
        assert_eq!(too_many(&[1, 1, 1, 1, 1, 1]), [1, 2]);
        assert_eq!(too_many(&[1, BYTES, 1]), [1]);
        assert_eq!(too_many(&[BYTES, BYTES]), none);
        assert_eq!(too_many(&[1, 1, BYTES, 1, 1, 1]), [1, 2]);
    }
}
