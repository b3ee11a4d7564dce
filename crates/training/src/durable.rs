//! Files and folders that survive: whatever dies, and whenever, a name holds what it held before or what it was to hold.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use crate::{
    bundle::{parent, unwritable},
    error::Result,
};

/// Replaces the file at `path` by what `write` writes to the path that it is given. After an error the file is as it was, and
/// nothing lies beside it.
///
/// # Errors
/// [`Error::Write`](crate::Error::Write), and what `write` gives.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(path.file_name().unwrap_or_default());
    let partial = path.with_file_name(hidden);
    let placed = write(&partial).and_then(|()| {
        let placed = sync(&partial).and_then(|()| fs::rename(&partial, path));
        placed.and_then(|()| sync(parent(path))).map_err(unwritable(path))
    });
    if placed.is_err() {
        // On a full disk it is in the way of what is to be written next.
        let _ = fs::remove_file(&partial);
    }
    placed
}

/// Brings a file, or the names in a folder, to the disk.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes a folder with all that is in it, if it is there.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        replace(&path, |path| fs::write(path, "old").map_err(unwritable(path))).unwrap();
        let error = replace(&path, |path| {
            fs::write(path, "half of the ne").map_err(unwritable(path))?;
            Err(unwritable(path)(io::ErrorKind::StorageFull.into()))
        });
        assert!(matches!(error, Err(Error::Write { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        replace(&path, |path| fs::write(path, "new").map_err(unwritable(path))).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something is left beside it");
    }
}
