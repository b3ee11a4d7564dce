//! The section `[speech]` of a job.

use std::{num::NonZeroU32, path::Path, time::Duration};

use eventide_engine::SpeechOptions;
use eventide_pipeline::{ListeningOptions, TranscriptOption};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BrokenRule, DeviceOption, LanguageOption, Overrides, anchored};

/// The shortest that the longest sentence may be.
const LEAST_SENTENCE: Duration = Duration::from_secs(1);

/// What hears what is said, where `corpus.transcripts` names `asr`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SpeechSection {
    /// The speech bundle: a folder in any store, or a path relative to the job file.
    pub(crate) bundle: Option<String>,
    /// Where it runs.
    pub(crate) device: DeviceOption,
    /// Threads of one operator; 0 is one a core.
    pub(crate) threads: usize,
    /// The language that is spoken, such as `en`; found out for each video if `auto`. Of several tracks of sound or
    /// subtitles the first one in this language is taken.
    pub(crate) language: LanguageOption,
    /// Sentences that are less probable than this are left out, 0 to 1.
    pub(crate) min_confidence: f32,
    /// Texts that are followed side by side.
    pub(crate) beams: NonZeroU32,
    /// Whether each window of 30 seconds is told what was said before it. Then a video's windows are heard
    /// one by one, which takes longer.
    pub(crate) previous_text: bool,
    /// Longer sentences are cut, at a comma or a silence.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub(crate) longest_sentence: Duration,
}

impl Default for SpeechSection {
    fn default() -> Self {
        let ListeningOptions { beams, min_confidence, previous_text, longest_sentence, .. } =
            ListeningOptions::default();
        Self {
            bundle: None,
            device: DeviceOption::default(),
            threads: 0,
            language: LanguageOption::default(),
            min_confidence,
            beams,
            previous_text,
            longest_sentence,
        }
    }
}

impl SpeechSection {
    /// The recogniser, where words may come from one.
    pub(super) fn resolve(
        self,
        transcripts: &[TranscriptOption],
        folder: &Path,
        overrides: &Overrides,
    ) -> Result<Option<SpeechOptions>, BrokenRule> {
        if !transcripts.contains(&TranscriptOption::Asr) {
            return match self.bundle {
                None => Ok(None),
                Some(_) => Err(BrokenRule::new(
                    "there is a `speech.bundle`, and `corpus.transcripts` does not name `asr`",
                    "set `corpus.transcripts = [\"sidecar\", \"embedded\", \"asr\"]`, or leave the section out",
                )),
            };
        }
        let min_confidence = confidence(self.min_confidence).map_err(|problem| {
            BrokenRule::new(
                format!("`speech.min-confidence`: {problem}"),
                "0 keeps all that is heard",
            )
        })?;
        let longest_sentence = longest_sentence(self.longest_sentence).map_err(|problem| {
            BrokenRule::new(format!("`speech.longest-sentence`: {problem}"), "30s is usual")
        })?;
        let bundle = overrides
            .speech_bundle
            .map(|bundle| anchored(bundle, Path::new(".")))
            .or(self.bundle.map(|bundle| anchored(&bundle, folder)))
            .ok_or_else(|| {
                BrokenRule::new(
                    "`corpus.transcripts` names `asr`, and there is no `speech.bundle`",
                    "name a speech bundle, as `eventide model import --whisper` makes them",
                )
            })?;
        Ok(Some(SpeechOptions {
            bundle,
            device: self.device.into(),
            threads: self.threads,
            listening: ListeningOptions {
                language: self.language.0,
                min_confidence,
                beams: self.beams,
                previous_text: self.previous_text,
                longest_sentence,
            },
        }))
    }
}

/// A least confidence, if it can be one.
pub(crate) fn confidence(given: f32) -> Result<f32, String> {
    let is_fine = (0.0..=1.0).contains(&given);
    is_fine.then_some(given).ok_or_else(|| format!("`{given}` is not from 0 to 1"))
}

/// A length that the longest sentence may have, if it can be one.
pub(crate) fn longest_sentence(given: Duration) -> Result<Duration, String> {
    let is_fine = given >= LEAST_SENTENCE;
    is_fine.then_some(given).ok_or_else(|| format!("{given:?} is too short: 1s is the least"))
}
