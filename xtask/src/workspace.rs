//! Where things lie: the checkout, its `target/tools`, and the cache that all checkouts of a person share.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::children;
use crate::error::{Error, Result};

/// The checkout that the chore works on, and the cache.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    cache: PathBuf,
}

impl Workspace {
    /// The checkout that cargo runs this program for.
    pub(crate) fn locate() -> Result<Self> {
        // Cargo says where the package lies when it runs us; the place of the build is second best, as one build
        // folder can serve several checkouts.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().unwrap_or(&manifest).to_path_buf();
        let cache = cache_folder(
            std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from),
            std::env::home_dir(),
        )?;
        Ok(Self { root, cache })
    }

    /// The folder of the root manifest.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of everything that was downloaded or made from downloads.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// The folder that the tests and the demo take their tools from. It is the checkout's own `target`, wherever
    /// cargo builds to, since `.cargo/config.toml` names it.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join("target/tools")
    }

    /// The folder of the demo's corpus, truth and tables.
    pub(crate) fn demo(&self) -> PathBuf {
        self.root.join("target/demo")
    }

    /// A cargo command of this checkout, with our tools on its `PATH` for those that the machine lacks.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain([self.tools()]);
        if let Ok(path) = std::env::join_paths(folders) {
            command.env("PATH", path);
        }
        // These describe the package `xtask`. Build scripts look at some of them, so that leaving them in would build
        // half of the dependencies anew after every `cargo` that was called by hand.
        for (name, _) in std::env::vars_os() {
            let described = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
            if described.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.current_dir(&self.root);
        command
    }

    /// The path of a program of the workspace, built in a profile. Cargo's progress is shown.
    pub(crate) fn build(&self, name: &'static str, profile: &str) -> Result<PathBuf> {
        // With the packages of `cargo xtask test`, so that the two share as much of the build as they can.
        let mut command = self.cargo();
        command.args(["build", "--workspace", "--bin", name, "--profile", profile]);
        command.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
        let said = children::output(&mut command)?;
        String::from_utf8_lossy(&said)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == name)
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .ok_or(Error::Built { program: name })
    }

    /// A program in the folder of the root manifest, with our tools at hand.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("EVENTIDE_TOOLS", self.tools());
        command
    }

    /// Waits until no other set-up uses the cache, and keeps others out until the answer is dropped.
    pub(crate) fn lock(&self) -> Result<File> {
        create_folder(&self.cache)?;
        let path = self.cache.join("lock");
        let file = File::create(&path).map_err(Error::file("open", &path))?;
        if file.try_lock().is_err() {
            say("wait", "another set-up is at work");
            file.lock().map_err(Error::file("lock", &path))?;
        }
        Ok(file)
    }
}

/// One line on what the chore does: a verb of at most six letters, and its object.
pub(crate) fn say(verb: &str, what: &str) {
    println!("{verb:>6}  {what}");
}

/// Makes a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::file("create", path))
}

/// Writes a file whole.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, text).map_err(Error::file("write", path))
}

/// Copies a file.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map_err(Error::file("copy", from))?;
    Ok(())
}

/// A folder under construction, beside its final place: nobody sees it half made, and it goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Draft {
    folder: PathBuf,
    place: PathBuf,
}

impl Draft {
    /// Starts an empty folder that is to lie at `place`.
    pub(crate) fn start(place: &Path) -> Result<Self> {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let folder = place.with_file_name(format!(".{name}.{}", std::process::id()));
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
        }
        create_folder(&folder)?;
        Ok(Self { folder, place: place.to_path_buf() })
    }

    /// The folder to fill.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts the folder in its place, instead of what lay there.
    pub(crate) fn finish(self) -> Result<()> {
        if self.place.exists() {
            fs::remove_dir_all(&self.place).map_err(Error::file("remove", &self.place))?;
        }
        fs::rename(&self.folder, &self.place).map_err(Error::file("rename", &self.folder))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After `finish` there is nothing left to remove, and a leftover only costs disk.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn cache_folder(configured: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf> {
    let base = configured
        .filter(|folder| folder.is_absolute())
        .or_else(|| home.map(|home| home.join(".cache")))
        .ok_or(Error::NoCache)?;
    Ok(base.join("eventide"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_follows_the_base_directory_rules() {
        let check = |configured: Option<&str>, expected: &str| {
            let found =
                cache_folder(configured.map(PathBuf::from), Some("/home/ada".into())).unwrap();
            assert_eq!(found, Path::new(expected));
        };
        check(Some("/var/cache"), "/var/cache/eventide");
        check(Some("relative"), "/home/ada/.cache/eventide");
        check(None, "/home/ada/.cache/eventide");
        assert!(cache_folder(None, None).is_err());
    }

    #[test]
    fn a_draft_shows_only_when_finished_and_leaves_nothing_when_dropped() {
        let base =
            std::env::temp_dir().join(format!("eventide-xtask-draft-{}", std::process::id()));
        let place = base.join("part");
        let draft = Draft::start(&place).unwrap();
        write(&draft.folder().join("file"), "whole").unwrap();
        assert!(!place.exists());
        draft.finish().unwrap();
        assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "whole");

        drop(Draft::start(&place).unwrap());
        assert_eq!(fs::read_dir(&base).unwrap().count(), 1, "only the finished folder may be left");
        fs::remove_dir_all(&base).unwrap();
    }
}
