//! What can go wrong with a data set, each with the file, the video and the event that it is about.

use std::{
    io,
    path::{Path, PathBuf},
};

use eventide_schema::Failure;

/// The result of what this module does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is nothing to learn from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file or folder.
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
    /// A file of annotations is not of the form that it should be.
    #[error("`{}` does not hold annotations in the form of {form}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The form, as `YouCook2`.
        form: &'static str,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// Two entries are about one video.
    #[error("`{}` has two entries for the video `{video_id}`", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The video.
        video_id: String,
    },
    /// No video is of the part of a data set that was asked for.
    #[error("`{}` has no video of the subset `{subset}`: {}", path.display(), subsets(known))]
    Subset {
        /// The file.
        path: PathBuf,
        /// The part that was asked for.
        subset: String,
        /// Those that the file names.
        known: Vec<String>,
    },
    /// Two files have the name of one video.
    #[error("`{}` and `{}` are both named as the video `{video_id}`", first.display(), second.display())]
    TwoFiles {
        /// The video.
        video_id: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// What is said of a video cannot be.
    #[error("`{}`: video `{video_id}`: {fault}", path.display())]
    Fault {
        /// The file that says so.
        path: PathBuf,
        /// The video.
        video_id: String,
        /// What is wrong.
        fault: Fault,
    },
    /// A subtitle file cannot be read as one.
    #[error("cannot read the words in `{}`", path.display())]
    Words {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: eventide_media::Error,
    },
    /// A video cannot be probed or decoded.
    #[error("cannot see the video `{}`", path.display())]
    Video {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: eventide_media::Error,
    },
    /// A video in an object store cannot be had.
    #[error("cannot have the video `{}`: {}", path.display(), failure.reason)]
    Unfetched {
        /// Its address.
        path: PathBuf,
        /// Why, and why it is of no use to try again.
        failure: Box<Failure>,
    },
    /// What brings videos here fails.
    #[error("cannot bring the video `{}` here", path.display())]
    Fetch {
        /// Its address.
        path: PathBuf,
        /// What is wrong.
        source: Box<eventide_pipeline::Error>,
    },
    /// The vision encoder cannot be loaded or run.
    #[error("cannot run the vision encoder")]
    Model(#[source] eventide_model::Error),
    /// The graph of the vision encoder is not one that ONNX Runtime would open.
    #[error("`{}` is damaged: {problem}", path.display())]
    Graph {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// What was computed cannot be written down as a file of the cache.
    #[error("cannot write `{}`", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: safetensors::SafeTensorError,
    },
    /// The machinery that waits for child processes cannot be started.
    #[error("cannot wait for the media tools")]
    Wait(#[source] io::Error),
}

impl Error {
    /// The same about a video whose copy it was found in.
    pub(super) fn about(self, video: &Path) -> Self {
        match self {
            Self::Video { source, .. } => Self::Video { path: video.to_owned(), source },
            other => other,
        }
    }
}

/// The parts of a data set that there are.
fn subsets(known: &[String]) -> String {
    if known.is_empty() {
        "it names no subsets".to_owned()
    } else {
        format!("there are `{}`", known.join("`, `"))
    }
}

/// What cannot be true of a video. Events and annotators count from 0, times are in seconds.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing says how long it is, or it is no length.
    #[error("its length is missing or not a positive number of seconds")]
    NoDuration,
    /// A time is not a number, or beyond all videos.
    #[error("event {event} of annotator {annotator} is at no moment: {start} to {end}")]
    NoMoment {
        /// Who says so.
        annotator: usize,
        /// Which event.
        event: usize,
        /// Its start.
        start: f64,
        /// Its end.
        end: f64,
    },
    /// An event ends before it starts, or at once.
    #[error("event {event} of annotator {annotator} starts at {start} and ends at {end}")]
    Reversed {
        /// Who says so.
        annotator: usize,
        /// Which event.
        event: usize,
        /// Its start.
        start: f64,
        /// Its end.
        end: f64,
    },
    /// An event lies outside the video.
    #[error(
        "event {event} of annotator {annotator} is from {start} to {end}, the video from 0 to {duration}"
    )]
    Outside {
        /// Who says so.
        annotator: usize,
        /// Which event.
        event: usize,
        /// Its start.
        start: f64,
        /// Its end.
        end: f64,
        /// The length of the video.
        duration: f64,
    },
    /// An event has no words.
    #[error("event {event} of annotator {annotator} has no caption")]
    NoCaption {
        /// Who says so.
        annotator: usize,
        /// Which event.
        event: usize,
    },
}

impl Fault {
    /// Who says so, from 0; `None` where it is of no annotator.
    #[must_use]
    pub fn annotator(&self) -> Option<usize> {
        match self {
            Self::NoDuration => None,
            Self::NoMoment { annotator, .. }
            | Self::Reversed { annotator, .. }
            | Self::Outside { annotator, .. }
            | Self::NoCaption { annotator, .. } => Some(*annotator),
        }
    }
}
