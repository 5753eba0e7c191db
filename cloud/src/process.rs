//! What this process may: open files, and who may read the files it makes.

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit, umask};

/// From here on new files and folders are their owner's only, whoever makes them in this process.
pub fn keep_files_private() {
    umask(Mode::from_raw_mode(0o077));
}

/// Whether that user is the one this process works as.
#[must_use]
pub fn is_ours(uid: u32) -> bool {
    geteuid().as_raw() == uid
}

/// Raises the limit of open files as far as the system lets us. Warns when that is fewer than `wanted`.
pub fn raise_open_files(wanted: u64) {
    let now = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    let have = match setrlimit(Resource::Nofile, most) {
        Ok(()) => now.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            now.current
        }
    };
    if let Some(have) = have.filter(|have| *have < wanted) {
        tracing::warn!(
            have,
            wanted,
            "too few open files are allowed for every connection: raise LimitNOFILE or ulimit -Hn"
        );
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_limit_of_open_files_is_the_hard_one_then() {
        raise_open_files(1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn new_files_are_their_owners_only() {
        keep_files_private();
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("file"), dir.path().join("folder"));
        std::fs::write(&file, "x").unwrap();
        std::fs::create_dir(&folder).unwrap();
        for path in [file, folder] {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0);
        }
    }
}
