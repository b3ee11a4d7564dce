//! One video in, one outcome out.
//!
//! [`Pipeline::index`] takes a [`WorkItem`](eventide_schema::WorkItem) through fetch, probe, words (read or recognised),
//! sample, encode, generate and parse. A bad video is an [`Outcome`](eventide_schema::Outcome) that
//! says why; only trouble that has nothing to do with the video, such as a store that is down, is an
//! [`Error`]. Media children are waited for, the model runs on threads of its own ([`Captioner`]),
//! and every queue between them is bounded. Knows no plan and no cluster.

mod captioner;
mod error;
mod fetch;
mod language;
mod options;
mod sample;
mod speech;
#[cfg(test)]
mod testing;
mod transcriber;
mod video;
mod window;

pub use captioner::{Captioner, ModelInfo};
pub use error::Error;
pub use fetch::{Fetched, Located, Scratch, Sources, Trouble, fetch};
pub use options::{
    CaptioningOptions, CaptioningSource, FrameOption, LimitOptions, ListeningOptions,
    TranscriptOption, WindowOption,
};
pub use sample::{Sampled, features_in_place, sample};
pub use speech::sentences;
pub use transcriber::{
    Listening, Recognised, Recognition, Transcriber, Transcription, TranscriptionError,
    TranscriptionOptions,
};
pub use video::{Effort, Pipeline, Watcher};
pub use window::windows;
