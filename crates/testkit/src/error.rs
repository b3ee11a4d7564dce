//! Why a piece of test equipment does not work; a test that meets one fails with it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// The result of test equipment.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a piece of test equipment does not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment does not say where the tools are.
    #[error("`EVENTIDE_TOOLS` is not set: run the tests through cargo in the checkout")]
    NoTools,
    /// A tool is not there.
    #[error("`{}` is missing: run `cargo xtask setup`", path.display())]
    MissingTool {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Tables could not be made.
    #[error("cannot make tables in `{}`: {problem}", path.display())]
    Lake {
        /// Their folder.
        path: PathBuf,
        /// What keeps them from being made.
        problem: String,
    },
    /// The weights of a package are not what they should be.
    #[error("the weights in `{}` are of no use: {problem}", path.display())]
    Weights {
        /// The folder.
        path: PathBuf,
        /// What is wrong with them.
        problem: String,
    },
    /// A program could not be started.
    #[error("cannot start `{}`", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A tool ended badly.
    #[error("`{}` ended with {status}: {said}", program.display())]
    Failed {
        /// The tool.
        program: PathBuf,
        /// Its status.
        status: ExitStatus,
        /// What it wrote to standard error.
        said: String,
    },
    /// Something did not happen in time.
    #[error("waited {waited:?} in vain for {what}; so far:\n{said}")]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
        /// What the program had said until then.
        said: String,
    },
    /// A program ended before it did what was waited for.
    #[error("`{}` ended before {what}; it said:\n{said}", program.display())]
    Ended {
        /// The program.
        program: PathBuf,
        /// What was waited for.
        what: String,
        /// What it said.
        said: String,
    },
    /// A signal could not be sent.
    #[error("cannot signal process {process}")]
    Signal {
        /// The process.
        process: u32,
        /// What the system says.
        source: io::Error,
    },
    /// A bundle of random weights cannot be written.
    #[error("cannot write the bundle `{}`", path.display())]
    Bundle {
        /// Its folder.
        path: PathBuf,
        /// What training says.
        source: Box<eventide_training::Error>,
    },
    /// A bundle cannot be run, or not on these inputs.
    #[error("cannot run the bundle `{}`", path.display())]
    Model {
        /// Its folder.
        path: PathBuf,
        /// What the model says.
        source: Box<eventide_training::Error>,
    },
    /// A client for the test's own S3 server cannot be made.
    #[error("cannot open the bucket of the test server")]
    Store {
        /// What the client says.
        source: object_store::Error,
    },
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }
}
