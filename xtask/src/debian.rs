//! Debian's archive: packages and source packages, downloaded without root and without touching the machine's lists.
//!
//! A machine's sources seldom name source packages, so we keep lists of our own in the cache: the same sources, with
//! the source packages added.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::children;
use crate::error::{Error, Result};
use crate::workspace::{Workspace, create_folder, say, write};

/// Downloads a package into `folder`.
pub(crate) fn download(workspace: &Workspace, package: &str, folder: &Path) -> Result<()> {
    apt_get(workspace, &["download", package], folder)
}

/// Downloads a source package's archives into `folder`.
pub(crate) fn download_source(workspace: &Workspace, package: &str, folder: &Path) -> Result<()> {
    apt_get(workspace, &["source", "--download-only", package], folder)
}

/// Runs apt-get on our lists, and once more on fresh ones: old lists name files that the archive no longer has.
fn apt_get(workspace: &Workspace, arguments: &[&str], folder: &Path) -> Result<()> {
    let lists = Lists::of(workspace);
    let download = || children::output(lists.apt().current_dir(folder).args(arguments));
    if lists.0.join("complete").exists() && download().is_ok() {
        return Ok(());
    }
    lists.refresh()?;
    download()?;
    Ok(())
}

/// Our own lists of packages.
struct Lists(PathBuf);

impl Lists {
    fn of(workspace: &Workspace) -> Self {
        Self(workspace.cache().join("apt"))
    }

    fn refresh(&self) -> Result<()> {
        say("fetch", "the lists of Debian's packages");
        for folder in ["sources", "lists/partial", "cache/archives/partial"] {
            create_folder(&self.0.join(folder))?;
        }
        self.copy_sources()?;
        children::output(self.apt().arg("update"))?;
        write(&self.0.join("complete"), "")
    }

    fn copy_sources(&self) -> Result<()> {
        let mut sources = vec![PathBuf::from("/etc/apt/sources.list")];
        if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
            sources.extend(entries.flatten().map(|entry| entry.path()));
        }
        for source in sources.iter().filter(|path| is_source_list(path) && path.exists()) {
            let text = fs::read_to_string(source).map_err(Error::file("read", source))?;
            write(
                &self.0.join("sources").join(source.file_name().unwrap_or_default()),
                with_source_packages(&text),
            )?;
        }
        Ok(())
    }

    fn apt(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.args([
            "--quiet",
            "--option",
            "APT::Sandbox::User=root",
            "--option",
            "Debug::NoLocking=1",
        ]);
        command.args(["--option", "Dir::Etc::SourceList=/dev/null"]);
        for (key, folder) in [
            ("Dir::Etc::SourceParts", "sources"),
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache", "cache"),
        ] {
            command.arg("--option").arg(format!("{key}={}", self.0.join(folder).display()));
        }
        command
    }
}

fn is_source_list(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "list" || extension == "sources")
}

/// A list of sources, in either of apt's two formats, with the source packages of each source added.
fn with_source_packages(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with("Types:") {
            lines.push("Types: deb deb-src".to_owned());
            continue;
        }
        if let Some(rest) = line.strip_prefix("deb ") {
            lines.push(format!("deb-src {rest}"));
        }
        lines.push(line.to_owned());
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_source_packages_to_one_line_lists() {
        let text = "# main\ndeb mirror:/x bookworm main\n";
        assert_eq!(
            with_source_packages(text),
            "# main\ndeb-src mirror:/x bookworm main\ndeb mirror:/x bookworm main\n"
        );
    }

    #[test]
    fn adds_source_packages_to_paragraphs() {
        let text = "Types: deb\nURIs: mirror:/x\n\nTypes: deb deb-src\nURIs: mirror:/y\n";
        assert_eq!(
            with_source_packages(text),
            "Types: deb deb-src\nURIs: mirror:/x\n\nTypes: deb deb-src\nURIs: mirror:/y\n"
        );
    }

    #[test]
    fn disabled_lists_are_left_alone() {
        assert!(is_source_list(Path::new("/etc/apt/sources.list.d/debian.sources")));
        assert!(!is_source_list(Path::new("/etc/apt/sources.list.d/other.list.disabled")));
    }
}
