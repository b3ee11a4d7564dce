//! Trouble that has nothing to do with a video: the shard is tried again, no row is written.

use std::io;

/// Why a video could not even be judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not answer, or not now.
    #[error("cannot read `{uri}` now")]
    Store {
        /// What was asked for.
        uri: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// The scratch space cannot be written.
    #[error("cannot write scratch space under `{folder}`")]
    Scratch {
        /// The folder.
        folder: String,
        /// What the system said.
        source: io::Error,
    },
    /// The media tools cannot be started at present.
    #[error("cannot run the media tools for `{uri}` now")]
    Media {
        /// The video.
        uri: String,
        /// What happened.
        source: eventide_media::Error,
    },
    /// The model failed, and not because of the video.
    #[error("the model cannot caption `{uri}`, nor would it any other video")]
    Inference {
        /// The video that it was at.
        uri: String,
        /// What happened.
        source: eventide_model::Error,
    },
    /// The thread that owns the model has ended.
    #[error("the captioner has stopped")]
    CaptionerStopped,
    /// The recogniser failed, and not because of the video.
    #[error("the recogniser cannot hear `{uri}`, nor would it any other video")]
    Recognition {
        /// The video that it was at.
        uri: String,
        /// What happened.
        source: Box<crate::TranscriptionError>,
    },
    /// Speech is to be recognised, and nothing was loaded that does it.
    #[error("there is no recogniser")]
    NoRecogniser,
    /// The system refused a thread.
    #[error("cannot start the thread of a model")]
    Thread(#[source] io::Error),
    /// The model could not be loaded.
    #[error("cannot load the model bundle")]
    Model(#[source] eventide_model::Error),
}

impl Error {
    /// Whether the same work may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store { .. } | Self::Media { .. } => true,
            Self::Scratch { source, .. } | Self::Thread(source) => {
                source.kind() != io::ErrorKind::PermissionDenied
            }
            Self::Inference { source, .. } => source.is_transient(),
            Self::CaptionerStopped
            | Self::Recognition { .. }
            | Self::NoRecogniser
            | Self::Model(_) => false,
        }
    }
}
