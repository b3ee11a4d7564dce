//! What people say about events.

use serde::{Deserialize, Serialize};

/// What a person thinks of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It happens then, and the caption says it.
    Right,
    /// It does not.
    Wrong,
    /// It does when the caption or the span is another, which the person gives.
    Edited,
}

impl Verdict {
    /// As the table has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::Edited => "edited",
        }
    }
}

/// What a person says about an event: a row of `feedback`. The last one about an event counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// The event.
    pub event_id: String,
    /// Its video.
    pub video_id: String,
    /// Where that is.
    pub uri: String,
    /// The version of it that the event was found in.
    pub source_version: String,
    /// The run that found the event.
    pub run_id: String,
    /// The model that found it.
    pub model_digest: String,
    /// What the person thinks.
    pub verdict: Verdict,
    /// The right caption, where the event's is not.
    pub caption: Option<String>,
    /// The right start in milliseconds, likewise.
    pub start_ms: Option<i64>,
    /// The right end in milliseconds, likewise; half-open.
    pub end_ms: Option<i64>,
    /// Who says so: the name that a proxy gives, `token` for whoever has the token, `local` on a machine of one's own.
    pub who: String,
    /// When, milliseconds since 1970 (UTC).
    pub at_ms: i64,
}
