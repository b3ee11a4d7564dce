//! What can go wrong between a bundle and its events.

use std::{io, path::PathBuf};

use crate::runtime;

/// The result of what this crate does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, and in which file or input.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the bundle cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// `bundle.json` is not a manifest: not JSON, a key that is missing, unknown or of the wrong type.
    #[error("`{}` is not a bundle manifest", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// The bundle is of another version of the layout.
    #[error("`{}` has format version `{found}`, this program reads `{expected}`", path.display())]
    FormatVersion {
        /// The manifest.
        path: PathBuf,
        /// The version that it names.
        found: u64,
        /// The version that this program knows.
        expected: u32,
    },
    /// A value of the manifest cannot be, by itself or beside another.
    #[error("`{field}` of the bundle is wrong: {problem}")]
    Field {
        /// Where in the manifest, such as `time_tokens.bins`.
        field: &'static str,
        /// Why it cannot be.
        problem: String,
    },
    /// The tokenizer of a sentence bundle is none, or its vectors are not what they should be.
    #[error("sentences cannot become vectors: {problem}")]
    WordPieces {
        /// Why not.
        problem: String,
    },
    /// A file that every bundle has is not in the manifest's list.
    #[error("the bundle does not list `{name}`")]
    Unlisted {
        /// The file.
        name: String,
    },
    /// A listed file is not what it was when the bundle was made.
    #[error("`{}` is damaged: its SHA-256 is `{found}`, the bundle says `{expected}`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The digest that the manifest lists.
        expected: String,
        /// The digest of the bytes.
        found: String,
    },
    /// The SentencePiece model cannot be used.
    #[error("the tokenizer is not a SentencePiece model")]
    Tokenizer {
        /// What the library said.
        source: sentencepiece::SentencePieceError,
    },
    /// The vocabulary of a speech model cannot be used.
    #[error("the vocabulary is not one of byte-level pieces: {problem}")]
    Vocabulary {
        /// What is wrong with it.
        problem: String,
    },
    /// A text cannot be tokenised.
    #[error("cannot tokenise a text of {bytes} bytes")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// What the library said.
        source: sentencepiece::SentencePieceError,
    },
    /// Pieces cannot be put together to a text.
    #[error("cannot read {tokens} tokens as text")]
    Decode {
        /// How many there are.
        tokens: usize,
        /// What the library said.
        source: sentencepiece::SentencePieceError,
    },
    /// The bytes are not that many square RGB pictures.
    #[error("{frames} frames take {expected} bytes, not {found}")]
    FrameBytes {
        /// Pictures that there should be.
        frames: usize,
        /// Bytes that they take.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// The features do not fit the temporal encoder.
    #[error("features of shape {found:?} do not fit {positions} positions of {dim}")]
    Features {
        /// Rows and columns that were given.
        found: [usize; 2],
        /// Most rows.
        positions: usize,
        /// Columns.
        dim: usize,
    },
    /// The input has more tokens than the text encoder takes.
    #[error("an input of {found} tokens is over the limit of {limit}")]
    InputLength {
        /// Tokens that were given.
        found: usize,
        /// Most tokens.
        limit: usize,
    },
    /// A token is not in the embedding table.
    #[error("token `{id}` is outside the vocabulary of {vocabulary}")]
    Token {
        /// The token.
        id: i64,
        /// Rows of the table.
        vocabulary: usize,
    },
    /// A window has neither frames nor words.
    #[error("window {window} of the batch has neither frames nor words")]
    EmptyWindow {
        /// Its place in the batch.
        window: usize,
    },
    /// A setting of the search is out of range.
    #[error("`{setting}` of `{value}` is outside {range}")]
    Decoding {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        range: String,
    },
    /// The decoder answered with something that is no score.
    #[error("step {step} of the decoder gave a logit that is not a number")]
    Logits {
        /// The step, from 0.
        step: usize,
    },
    /// An output has another shape than the manifest says.
    #[error("`{output}` has shape {found:?} where the bundle says {expected:?}")]
    Shape {
        /// Name of the output.
        output: &'static str,
        /// The shape that came.
        found: Vec<usize>,
        /// The shape that the sizes of the bundle give.
        expected: Vec<usize>,
    },
    /// A file of the golden clip makes no sense.
    #[error("`{}` of the bundle is wrong: {problem}", path.display())]
    GoldenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The model says something else of the bundle's golden clip than where the bundle was made.
    #[error(
        "the model does not say of the golden clip what it said where the bundle was made: {problem}"
    )]
    Golden {
        /// What differs.
        problem: String,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// ONNX Runtime failed.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
}

impl Error {
    /// Whether the same work may succeed later: only a run that failed, since a device can be short
    /// of memory or lost.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Runtime(runtime::Error::Run { .. }))
    }

    /// A stable word in `snake_case` for what is wrong with one window; `None` where the model, its
    /// settings or its device are to blame, and every window would fail alike.
    #[must_use]
    pub fn reason_code(&self) -> Option<&'static str> {
        match self {
            Self::Encode { .. } => Some("untokenisable_words"),
            Self::Decode { .. } => Some("unreadable_tokens"),
            Self::FrameBytes { .. } | Self::Features { .. } => Some("wrong_frames"),
            Self::InputLength { .. } | Self::Token { .. } => Some("wrong_input"),
            Self::EmptyWindow { .. } => Some("nothing_to_see_or_hear"),
            Self::Logits { .. } => Some("bad_logits"),
            Self::Cancelled => Some("cancelled"),
            Self::Read { .. }
            | Self::Manifest { .. }
            | Self::FormatVersion { .. }
            | Self::Field { .. }
            | Self::Unlisted { .. }
            | Self::Damaged { .. }
            | Self::Tokenizer { .. }
            | Self::Vocabulary { .. }
            | Self::WordPieces { .. }
            | Self::Decoding { .. }
            | Self::Shape { .. }
            | Self::GoldenFile { .. }
            | Self::Golden { .. }
            | Self::Runtime(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_not_blamed_for_the_model() {
        assert_eq!(Error::EmptyWindow { window: 0 }.reason_code(), Some("nothing_to_see_or_hear"));
        let setting = Error::Decoding { setting: "beams", value: 0.0, range: "1..".to_owned() };
        assert_eq!(setting.reason_code(), None);
    }
}
