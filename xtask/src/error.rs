//! What can go wrong in a chore, said so that a person knows what to do next.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// The result of a chore.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why a chore did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file system said no.
    #[error("cannot {action} `{path}`")]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// A program could not be started.
    #[error("cannot start `{program}`")]
    Start { program: String, source: io::Error },
    /// A program ended badly; `output` is the end of what it said, empty where it was shown already.
    #[error("`{command}` ended with {status}{output}")]
    Failed { command: String, status: ExitStatus, output: String },
    /// A file is not the one that was pinned.
    #[error("`{file}` has the sha256 {found} and should have {expected}")]
    Digest { file: PathBuf, found: String, expected: &'static str },
    /// A download did not bring what it should.
    #[error("the package `{package}` brought no `{file}`")]
    Lacking { package: &'static str, file: String },
    /// The machine lacks programs, and they cannot be installed from here.
    #[error("missing: {programs}; as root, run `apt-get install {packages}`, then this again")]
    Missing { programs: String, packages: String },
    /// A pinned part is not built for this machine.
    #[error("`{part}` is pinned for x86_64 Linux only, and this machine is `{machine}`")]
    Machine { part: &'static str, machine: &'static str },
    /// No folder for the cache can be named.
    #[error("neither `XDG_CACHE_HOME` nor `HOME` is set, so there is no place for the cache")]
    NoCache,
    /// `cargo metadata` gave no answer.
    #[error("cannot read the workspace's manifest")]
    Metadata { source: cargo_metadata::Error },
    /// The speech program's answer cannot be read.
    #[error("cannot read what `{program}` answered")]
    Answer { program: &'static str, source: serde_json::Error },
    /// The crates name each other in ways that the design does not allow.
    #[error("{count} arrows are not allowed; see the list in `xtask/src/arrows.rs`")]
    Arrows { count: usize },
    /// Published contracts are out of date.
    #[error("`schemas/` differs from the types in {files}; run `cargo xtask schemas`")]
    Schemas { files: String },
    /// A program was built, and cargo did not say where it is.
    #[error("cargo did not say where it put `{program}`")]
    Built { program: &'static str },
    /// The demo's tables are not as its corpus was made.
    #[error("the demo's tables are wrong: {faults}")]
    Demo { faults: String },
    /// A bench could not measure.
    #[error("{what}")]
    Bench { what: String },
}

impl Error {
    /// Says which file an I/O error is about, for use in `map_err`.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }
}
