//! What can go wrong with a data set of synthetic videos.

use std::{io, path::PathBuf, time::Duration};

/// Why a data set was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No video has such a length.
    #[error(
        "lengths from {shortest:?} to {longest:?} cannot be: the shortest is 10 s or more, the longest no shorter and at most an hour"
    )]
    Lengths {
        /// The shortest that was asked for.
        shortest: Duration,
        /// The longest that was asked for.
        longest: Duration,
    },
    /// A number of shapes that no video can have.
    #[error("up to {crowd} shapes cannot be asked for; 2 to {} can", super::CROWD)]
    Crowd {
        /// What was asked for.
        crowd: u8,
    },
    /// The folder holds videos of another seed, split, length, crowd or version.
    #[error("`{}` tells of another recipe", path.display())]
    OtherRecipe {
        /// The recipe that is there.
        path: PathBuf,
    },
    /// The folder holds a recipe that is none.
    #[error("`{}` is not a recipe", path.display())]
    Recipe {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A video could not be encoded.
    #[error("cannot make the video `{name}`")]
    Encode {
        /// Its name.
        name: String,
        /// What the encoder said.
        source: eventide_media::encode::Error,
    },
}
