//! A file that kills whoever opens it: a native crash, as a fault in a decoder would make, in a program that knows
//! nothing of tests. A library that is loaded before all others makes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};

/// What such a file begins with.
pub const POISON: &str = "poison: opening this file kills";

const SOURCE: &str = include_str!("poison.c");

/// Builds the library in `folder` with the C compiler that also links Rust programs; gives the environment of a
/// process that is to be killed.
///
/// # Errors
/// [`Error::File`], [`Error::Start`] and [`Error::Failed`] where it cannot be built.
pub fn environment(folder: &Path) -> Result<[(&'static str, String); 2]> {
    let (source, library) = (folder.join("poison.c"), folder.join("libpoison.so"));
    fs::write(&source, SOURCE).map_err(Error::file("write", &source))?;
    let program = PathBuf::from("cc");
    let built = Command::new(&program)
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .output();
    let built = built.map_err(|source| Error::Start { program: program.clone(), source })?;
    if !built.status.success() {
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        return Err(Error::Failed { program, status: built.status, said });
    }
    Ok([("LD_PRELOAD", library.display().to_string()), ("EVENTIDE_TEST_POISON", POISON.to_owned())])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Program;

    #[test]
    fn whoever_opens_it_dies_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let environment = environment(folder.path()).unwrap();
        let (bad, good) = (folder.path().join("bad"), folder.path().join("good"));
        fs::write(&bad, POISON.to_owned() + " you").unwrap();
        fs::write(&good, "water").unwrap();
        let read = |file: &Path| {
            let program = Program::new("cat").arguments([file]).environment(environment.clone());
            program.run(Duration::from_secs(20)).unwrap()
        };
        assert_eq!(read(&good).stdout, "water");
        assert_eq!(read(&bad).status.code(), None, "killed by a signal");
    }
}
