//! Python environments in the cache, made without `ensurepip`, which Debian keeps in a package of its own.

use std::path::PathBuf;
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::children;
use crate::error::Result;
use crate::fetch::hex;
use crate::parts::PythonSet;
use crate::workspace::{Draft, Workspace, say};

/// The interpreter of an environment that holds the set, made if it is not in the cache yet. The caller holds the
/// cache's lock.
pub(crate) fn environment(workspace: &Workspace, set: &PythonSet) -> Result<PathBuf> {
    let base = children::output(
        Command::new("python3").args(["-c", "import sys; print(sys.executable, sys.version)"]),
    )?;
    let mut hasher = Sha256::new();
    hasher.update(base);
    hasher.update(format!("{set:?}"));
    let digest = hex(&hasher.finalize());
    let place = workspace.cache().join("python").join(format!("{}-{}", set.name, &digest[..8]));
    let interpreter = place.join("bin/python");
    if interpreter.exists() {
        return Ok(interpreter);
    }
    say("fetch", &format!("Python packages: {}", set.requirements.join(" ")));
    let draft = Draft::start(&place)?;
    children::output(
        Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(draft.folder()),
    )?;
    children::output(
        Command::new("python3")
            .args(["-m", "pip", "--python"])
            .arg(draft.folder().join("bin/python"))
            .args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--only-binary=:all:",
            ])
            .args(set.requirements),
    )?;
    draft.finish()?;
    Ok(interpreter)
}
