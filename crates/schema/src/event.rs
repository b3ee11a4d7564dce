//! A captioned span.

use serde::{Deserialize, Serialize};

use crate::{TimeSpan, video::short_hash};

/// A span of a video with a caption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The window of the video that it was found in, from 0.
    pub window_index: u32,
    /// Its place among the events of that window, from 0.
    pub event_index: u32,
    /// When it happens, within the video.
    pub span: TimeSpan,
    /// Half of what separates two time tokens cannot be told: the step between them, in
    /// microseconds. For speech, the precision of its source: 1000.
    pub time_resolution_us: i64,
    /// What happens. Never empty.
    pub caption: String,
    /// Mean natural-log probability of the tokens of this event. `None` where no model was asked.
    pub score: Option<f32>,
    /// Who says so.
    pub source: EventSource,
    /// What is said meanwhile.
    pub speech: Option<String>,
    /// Language of the caption, where it is known.
    pub language: Option<String>,
}

/// What made an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventSource {
    /// The captioning model.
    Vid2Seq,
    /// A sentence of the transcript stands for the event.
    Speech,
}

impl EventSource {
    /// The word in the tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vid2Seq => "vid2seq",
            Self::Speech => "speech",
        }
    }
}

/// The name of an event, the same each time that the video is captioned: 24 characters of
/// `[a-z2-7]` from the video, its window, and the event's place in that window.
#[must_use]
pub fn event_id(video_id: &str, window_index: u32, event_index: u32) -> String {
    short_hash(format!("{video_id}/{window_index}/{event_index}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_places_share_an_id() {
        assert_ne!(event_id("a", 1, 11), event_id("a", 11, 1));
        assert_ne!(event_id("a", 0, 0), event_id("b", 0, 0));
        assert_eq!(event_id("a", 0, 0), event_id("a", 0, 0));
    }
}
