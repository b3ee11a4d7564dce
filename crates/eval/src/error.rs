//! What can be wrong with the input of a score.

use crate::ScorerError;

/// What this crate answers with.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Input that no score can be given for. What can be scored by a stated rule is counted in
/// [`LeftOut`](crate::LeftOut) instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line of WordNet's index is not as it should be.
    #[error("this is no line of an index of WordNet: `{line}`")]
    WordNet {
        /// The line.
        line: String,
    },
    /// An event lies at no moment.
    #[error("event {index} of video `{video}` has a time that is no number: {start} to {end}")]
    Time {
        /// The video.
        video: String,
        /// The event's place in the video's list, from 0.
        index: usize,
        /// Its start as given, in seconds.
        start: f64,
        /// Its end as given, in seconds.
        end: f64,
    },
    /// One set lists a video more than once, so that it is unclear which of its events count.
    #[error("video `{video}` is listed twice")]
    Twice {
        /// The video.
        video: String,
    },
    /// A video has not as many captions as spans.
    #[error("video `{video}` has {spans} time stamps but {captions} sentences")]
    Uneven {
        /// The video.
        video: String,
        /// How many spans.
        spans: usize,
        /// How many captions.
        captions: usize,
    },
    /// A file names no video at all.
    #[error("there is no video among the {form}")]
    NoVideos {
        /// What the file was read for.
        form: &'static str,
    },
    /// An entry is of none of the forms that are read.
    #[error("video `{video}` has no events in a form that is known: {expected}")]
    Unknown {
        /// The video.
        video: String,
        /// What it should have.
        expected: &'static str,
    },
    /// A list of chapters without the video's length: the last chapter has no end.
    #[error("video `{video}` has chapters and no `duration`, so that its last chapter has no end")]
    NoDuration {
        /// The video.
        video: String,
    },
    /// Captions for given spans are not as many as the spans.
    #[error("video `{video}` has {predictions} predictions for {references} given spans")]
    Clips {
        /// The video.
        video: String,
        /// How many captions were predicted.
        predictions: usize,
        /// How many spans were given.
        references: usize,
    },
    /// A caption for a given span has another span.
    #[error(
        "prediction {index} of video `{video}` is for {start} s to {end} s, and the span that was given is {given_start} s to {given_end} s"
    )]
    Bounds {
        /// The video.
        video: String,
        /// The place in the list, from 0.
        index: usize,
        /// Start of the prediction.
        start: f64,
        /// Its end.
        end: f64,
        /// Start of the reference.
        given_start: f64,
        /// Its end.
        given_end: f64,
    },
    /// There is nothing to compare with.
    #[error("no reference set was given")]
    NoReferences,
    /// Predictions and references have no video in common; most likely their ids are written differently.
    #[error("none of {predicted} predicted videos is among {referenced} reference videos")]
    NothingInCommon {
        /// Videos with a prediction entry.
        predicted: usize,
        /// Videos with reference events.
        referenced: usize,
    },
    /// A text is not of the expected form.
    #[error("not a valid {form} file")]
    Form {
        /// Which form was expected.
        form: &'static str,
        /// What the parser says, with line and column.
        source: serde_json::Error,
    },
    /// A scorer from outside gave up.
    #[error("scorer `{name}` failed")]
    Scorer {
        /// The scorer.
        name: String,
        /// What it says.
        source: ScorerError,
    },
    /// A scorer from outside did not answer every pair, or with something that is no number.
    #[error("scorer `{name}` gave {given} usable scores for {asked} pairs")]
    Scores {
        /// The scorer.
        name: String,
        /// How many scores are finite.
        given: usize,
        /// How many pairs it was asked about.
        asked: usize,
    },
}
