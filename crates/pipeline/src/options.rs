//! What a job may say about captioning and about limits.

use std::{num::NonZeroU32, time::Duration};

use bytesize::ByteSize;
use eventide_media::Exactness;
use eventide_model::speech::{RecognitionOptions, sentences::SentenceOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::TranscriptionOptions;

/// The section `[captioning]` of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CaptioningOptions {
    /// What makes the events.
    pub source: CaptioningSource,
    /// `"whole"`, or the length of a window such as `"5m"`.
    pub window: WindowOption,
    /// How much of a window the next one sees again. An event found twice is kept once.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub overlap: Duration,
    /// Which frames the model looks at.
    #[serde(skip_serializing_if = "FrameOption::is_exact")]
    // rows of exact frames keep the digest that they have
    pub frames: FrameOption,
    /// Hypotheses kept by the beam search; the bundle's own number if not given.
    pub beams: Option<NonZeroU32>,
    /// Exponent of the length in the score of a hypothesis; the bundle's own if not given.
    pub length_penalty: Option<f32>,
    /// Most tokens of one window's sequence; the bundle's own number if not given.
    pub max_output_tokens: Option<NonZeroU32>,
    /// Most events of a window: the first ones by order of generation.
    pub max_events: NonZeroU32,
}

impl Default for CaptioningOptions {
    fn default() -> Self {
        Self {
            source: CaptioningSource::Vid2Seq,
            window: WindowOption::Whole,
            overlap: Duration::ZERO,
            frames: FrameOption::Exact,
            beams: None,
            length_penalty: None,
            max_output_tokens: None,
            max_events: NonZeroU32::new(100).expect("not zero"),
        }
    }
}

/// What makes the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CaptioningSource {
    /// The captioning model.
    #[default]
    Vid2Seq,
    /// The sentences of the transcript: the paper's pseudo events. Needs no model.
    Speech,
}

/// Which frames the model looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FrameOption {
    /// Those of one picture a second, as the reference takes them.
    #[default]
    Exact,
    /// The key picture nearest to each of them. Much less is decoded; times are less exact, and `time_resolution_ms` of the
    /// events says by how much.
    Keyframe,
}

impl FrameOption {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "this is how serde calls it")]
    fn is_exact(&self) -> bool {
        *self == Self::Exact
    }
}

impl From<FrameOption> for Exactness {
    fn from(option: FrameOption) -> Self {
        match option {
            FrameOption::Exact => Self::Exact,
            FrameOption::Keyframe => Self::Keyframe,
        }
    }
}

/// How a video is cut into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WindowOption {
    /// One window: the whole video, as in the paper.
    #[default]
    Whole,
    /// Windows of this length, one second or more.
    Length(Duration),
}

impl TryFrom<String> for WindowOption {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "whole" {
            return Ok(Self::Whole);
        }
        let expected = || format!("expected `whole` or a duration such as `5m`, not `{text}`");
        let length =
            text.parse::<humantime_serde::re::humantime::Duration>().map_err(|_| expected())?;
        if *length < Duration::from_secs(1) {
            return Err(format!("a window of `{text}` is too short: 1s is the least"));
        }
        Ok(Self::Length(*length))
    }
}

impl From<WindowOption> for String {
    fn from(window: WindowOption) -> Self {
        match window {
            WindowOption::Whole => "whole".to_owned(),
            WindowOption::Length(length) => {
                humantime_serde::re::humantime::format_duration(length).to_string()
            }
        }
    }
}

impl JsonSchema for WindowOption {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Window".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "`whole` or a duration" })
    }
}

/// Where the words of a video may come from, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TranscriptOption {
    /// A subtitle file beside the video.
    Sidecar,
    /// A subtitle stream inside the video.
    Embedded,
    /// What a recogniser hears in its sound.
    Asr,
}

impl TranscriptOption {
    /// The word in a job.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Embedded => "embedded",
            Self::Asr => "asr",
        }
    }
}

/// What is asked of a recogniser: all that changes what it hears, but for the model. Plain data, for the digest of
/// the parameters too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListeningOptions {
    /// The language that is spoken, as Whisper's code; `None` finds it out.
    pub language: Option<String>,
    /// Sentences that are less probable than this are left out, in 0..1.
    pub min_confidence: f32,
    /// Texts that are followed side by side.
    pub beams: NonZeroU32,
    /// Whether each window is told what was said before it.
    pub previous_text: bool,
    /// A sentence is not longer than this.
    pub longest_sentence: Duration,
}

impl Default for ListeningOptions {
    fn default() -> Self {
        Self {
            language: None,
            // What is heard in music mostly comes to less, what is said to more.
            min_confidence: 0.5,
            beams: NonZeroU32::new(5).expect("not zero"),
            previous_text: false,
            longest_sentence: Duration::from_secs(30),
        }
    }
}

impl ListeningOptions {
    /// How windows are recognised.
    #[must_use]
    pub fn recognition(&self) -> RecognitionOptions {
        RecognitionOptions { beams: self.beams.get() as usize, ..RecognitionOptions::default() }
    }

    /// How a video is transcribed that may take `wall`.
    #[must_use]
    pub fn transcription(&self, wall: Duration) -> TranscriptionOptions {
        let longest = self.longest_sentence.as_millis() * 16; // samples of 16 kHz
        TranscriptionOptions {
            language: self.language.clone(),
            least_confidence: self.min_confidence,
            connected: self.previous_text,
            sentences: SentenceOptions {
                longest: u64::try_from(longest).unwrap_or(u64::MAX),
                ..SentenceOptions::default()
            },
            wall,
        }
    }
}

/// The section `[limits]` of a job: what one video may cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitOptions {
    /// Address space of a media child.
    #[serde(serialize_with = "exactly")]
    #[schemars(with = "String")]
    pub memory: ByteSize,
    /// Wall-clock time of one video, from fetch to outcome. The time that its windows wait for their
    /// turn at the model is part of it, since a model that hangs must end too: where many videos share
    /// a slow model, give more.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub wall: Duration,
    /// Processor time of a media child.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub cpu: Duration,
    /// Objects larger than this are skipped.
    #[serde(serialize_with = "exactly")]
    #[schemars(with = "String")]
    pub largest_file: ByteSize,
    /// Tries of one version of a video before it is left alone.
    pub attempts: NonZeroU32,
    /// Disk space for copies of remote videos, all of them together.
    #[serde(serialize_with = "exactly")]
    #[schemars(with = "String")]
    pub scratch: ByteSize,
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self {
            memory: ByteSize::gib(4),
            wall: Duration::from_mins(30),
            cpu: Duration::from_hours(1),
            largest_file: ByteSize::gib(64),
            attempts: NonZeroU32::new(3).expect("not zero"),
            scratch: ByteSize::gib(64),
        }
    }
}

/// Writes a size as people do where that says it exactly, else in bytes.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "this is how serde calls it")]
fn exactly<S: Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
    let text = size.to_string();
    if text.parse() == Ok(*size) {
        return serializer.serialize_str(&text);
    }
    serializer.collect_str(&format_args!("{} B", size.as_u64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn limits_come_back_to_the_byte() {
        let limits = LimitOptions { memory: ByteSize::b(1_234_567_891), ..LimitOptions::default() };
        let text = serde_json::to_string(&limits).unwrap();
        assert!(text.contains("4.0 GiB") || text.contains("64.0 GiB"), "{text}");
        assert_eq!(serde_json::from_str::<LimitOptions>(&text).unwrap(), limits);
    }

    #[rstest]
    #[case::whole("whole", Some(WindowOption::Whole))]
    #[case::minutes("5m", Some(WindowOption::Length(Duration::from_mins(5))))]
    #[case::bare_number("300", None)]
    #[case::too_short("10ms", None)]
    fn a_window_is_whole_or_a_duration(#[case] text: &str, #[case] window: Option<WindowOption>) {
        assert_eq!(WindowOption::try_from(text.to_owned()).ok(), window);
    }
}
