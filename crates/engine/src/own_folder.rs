//! Folders that go with the process that made them, also where it was killed: the next process that makes
//! one of the same kind removes what nobody holds any more.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

/// The file in a folder that its owner keeps locked. The system lets go of the lock when the process ends,
/// however it ends; process numbers would mean nothing to another container that shares the disk.
const LOCK: &str = ".owner";
/// Age at which a folder without a lock is nobody's: its owner was killed before it took one.
const UNLOCKED_AGE: Duration = Duration::from_hours(1);

/// A folder that goes when this is dropped.
#[derive(Debug)]
pub struct OwnFolder {
    folder: TempDir,
    _lock: File,
}

impl OwnFolder {
    /// A new folder in `base` whose name begins with `kind`, after those of dead processes were removed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(base: &Path, kind: &str) -> io::Result<Self> {
        sweep(base, kind)?;
        let folder = tempfile::Builder::new().prefix(kind).tempdir_in(base)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.try_lock()?;
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders of this kind that nobody holds.
fn sweep(base: &Path, kind: &str) -> io::Result<()> {
    for entry in fs::read_dir(base)?.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(kind));
        if ours && is_abandoned(&entry.path()) {
            // Another process may be faster, or the folder another user's: then it is not ours to remove.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

fn is_abandoned(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let changed = fs::metadata(folder).and_then(|folder| folder.modified());
            let age = changed.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
            age.is_ok_and(|age| age > UNLOCKED_AGE)
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "eventide-test-";

    /// A folder as a process leaves it that was killed.
    fn left(base: &Path, name: &str, lock: bool) -> std::path::PathBuf {
        let folder = base.join(format!("{KIND}{name}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a copy"), "of a video").unwrap();
        if lock {
            fs::write(folder.join(LOCK), "").unwrap();
        }
        folder
    }

    #[test]
    fn what_nobody_holds_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let held = OwnFolder::make(base.path(), KIND).unwrap();
        let dead = left(base.path(), "dead", true);
        let young = left(base.path(), "young", false);
        let old = left(base.path(), "old", false);
        let long_ago = SystemTime::now() - UNLOCKED_AGE - Duration::from_mins(1);
        File::open(&old).unwrap().set_modified(long_ago).unwrap();
        let other = base.path().join("someone else's");
        fs::create_dir(&other).unwrap();
        let new = OwnFolder::make(base.path(), KIND).unwrap();
        for (folder, there) in [
            (held.path(), true),
            (new.path(), true),
            (&*young, true),
            (&*other, true),
            (&*dead, false),
            (&*old, false),
        ] {
            assert_eq!(folder.exists(), there, "{}", folder.display());
        }
    }

    #[test]
    fn it_goes_when_it_is_dropped() {
        let base = tempfile::tempdir().unwrap();
        let path = OwnFolder::make(base.path(), KIND).unwrap().path().to_owned();
        assert!(!path.exists());
    }
}
