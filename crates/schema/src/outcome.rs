//! What became of one video.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Event, Transcript, Video};

/// The one terminal state of a listed object in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// At least one event.
    Captioned,
    /// Read to the end; nothing to tell.
    Empty,
    /// Could not be indexed; `Failure` says why.
    Failed,
    /// Was not tried, by a rule of the job such as the largest file size.
    Skipped,
}

impl Status {
    /// The word in the tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Captioned => "captioned",
            Self::Empty => "empty",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Where on its way a video is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Its bytes are read from the store.
    Fetch,
    /// Its streams are looked at.
    Probe,
    /// Its transcript is read or recognised.
    Words,
    /// Its frames are decoded.
    Sample,
    /// Frames and words are encoded.
    Encode,
    /// The model writes the event sequence.
    Generate,
    /// The sequence is read back into events.
    Parse,
}

impl Stage {
    /// The word in the tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Probe => "probe",
            Self::Words => "words",
            Self::Sample => "sample",
            Self::Encode => "encode",
            Self::Generate => "generate",
            Self::Parse => "parse",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a video has no events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Where it ended.
    pub stage: Stage,
    /// A stable word in `snake_case` that people count and filter by, such as `no_video_stream`.
    pub reason_code: String,
    /// The whole story for a person, on one line.
    pub reason: String,
}

/// What the container says about a video. Every field may be unknown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MediaFacts {
    /// Length in microseconds.
    pub duration_us: Option<i64>,
    /// Short name of the container, such as `mp4` or `matroska`.
    pub container: Option<String>,
    /// Short name of the video codec, such as `h264`.
    pub video_codec: Option<String>,
    /// Width in pixels as stored, before rotation.
    pub width: Option<u32>,
    /// Height in pixels as stored, before rotation.
    pub height: Option<u32>,
    /// Mean frames a second.
    #[serde(with = "exact")]
    pub fps: Option<f64>,
    /// Whether there is a sound stream.
    pub has_audio: Option<bool>,
}

/// A number as text that reads back to the bit; as a number of JSON its last digit may be lost.
mod exact {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "this is how serde calls it")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|value| value.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// What a video cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Costs {
    /// Processor time of the media children, in milliseconds.
    pub core_ms: u64,
    /// Time that the model's device was busy with it, in milliseconds.
    pub device_ms: u64,
    /// From start to end, in milliseconds.
    pub wall_ms: u64,
    /// Bytes read from the store.
    pub bytes_read: u64,
}

/// One video in, one outcome out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The video.
    pub video: Video,
    /// Tries so far in this source version, this one included.
    pub attempts: u32,
    /// The terminal state.
    pub status: Status,
    /// Why there are no events, where that needs saying: always for `failed` and `skipped`.
    pub failure: Option<Failure>,
    /// What the container says.
    pub media: MediaFacts,
    /// What is said in it, as far as that was found out.
    pub transcript: Transcript,
    /// Whether a recogniser has listened to it to its end, now or in an earlier run.
    pub heard: bool,
    /// Windows that the video was cut into.
    pub windows: u32,
    /// Frames that the model saw.
    pub frames_used: u32,
    /// Frames that should have been there but could not be decoded.
    pub frames_missing: u32,
    /// The events, by start.
    pub events: Vec<Event>,
    /// What it cost.
    pub costs: Costs,
}

impl Outcome {
    /// A video that ended without events and with a reason, before anything was learnt of it.
    #[must_use]
    pub fn without_events(item: crate::WorkItem, status: Status, failure: Failure) -> Self {
        Self {
            video: item.video,
            attempts: item.attempt,
            status,
            failure: Some(failure),
            media: MediaFacts::default(),
            transcript: Transcript::default(),
            heard: false,
            windows: 0,
            frames_used: 0,
            frames_missing: 0,
            events: Vec::new(),
            costs: Costs::default(),
        }
    }
}

/// Who made a row, when, with what. The same for all rows of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name of the model bundle, or `none`.
    pub model_id: String,
    /// Digest of the model bundle, or `none`.
    pub model_digest: String,
    /// Digest of every parameter that can change a row.
    pub params_digest: String,
    /// Digest of the speech bundle, or `none`.
    pub speech_model_digest: String,
    /// Stands for all that decides what is heard in a sound, or `none`.
    pub speech_digest: String,
    /// The run.
    pub run_id: String,
    /// Milliseconds since 1970 (UTC).
    pub indexed_at_ms: i64,
    /// Host and process that did the work.
    pub worker: String,
    /// Version of the program.
    pub pipeline_version: String,
}
