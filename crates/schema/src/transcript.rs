//! What is said in a video, and when.

use serde::{Deserialize, Serialize};

use crate::TimeSpan;

/// One timed sentence or subtitle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cue {
    /// When it is said, as its author wrote it: not clamped to the video.
    pub span: TimeSpan,
    /// Plain text: no mark-up, no line breaks, never empty.
    pub text: String,
}

/// Where a transcript comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TranscriptSource {
    /// There is none.
    #[default]
    None,
    /// A subtitle file beside the video.
    Sidecar,
    /// A subtitle stream inside the video.
    Embedded,
    /// Speech recognition.
    Asr,
}

impl TranscriptSource {
    /// The word in the tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sidecar => "sidecar",
            Self::Embedded => "embedded",
            Self::Asr => "asr",
        }
    }
}

/// The timed words of one video, in the order of their author.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Transcript {
    /// Where the words come from.
    pub source: TranscriptSource,
    /// BCP 47 or ISO 639 code, where the source names one.
    pub language: Option<String>,
    /// The sentences.
    pub cues: Vec<Cue>,
    /// How sure a recogniser is of each sentence, in 0..1; empty where nobody says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confidences: Vec<f32>,
}

impl Transcript {
    /// What is said within `span`: the texts of the cues that overlap it, joined by spaces.
    #[must_use]
    pub fn said_during(&self, span: TimeSpan) -> Option<String> {
        let said: Vec<_> = self
            .cues
            .iter()
            .filter(|cue| cue.span.overlaps(span))
            .map(|cue| cue.text.as_str())
            .collect();
        (!said.is_empty()).then(|| said.join(" "))
    }
}
