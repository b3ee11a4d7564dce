//! `speech.json`: what a speech bundle says about itself. The runtime reads every size and token from
//! here; nothing assumes one size of Whisper or one vocabulary.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::manifest::Precision;

/// The version of the layout of speech bundles that this program reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// File names inside a speech bundle.
pub mod files {
    /// The manifest.
    pub const MANIFEST: &str = "speech.json";
    /// Log-mel pictures to memory, and the keys and values of cross-attention.
    pub const ENCODER: &str = "encoder.onnx";
    /// Some positions of the decoder.
    pub const DECODER: &str = "decoder.onnx";
    /// Where the alignment heads look while a text is read.
    pub const ALIGNER: &str = "aligner.onnx";
    /// All weights: the external data of the graphs.
    pub const WEIGHTS: &str = "model.safetensors";
    /// The byte-level vocabulary.
    pub const TOKENIZER: &str = "tokenizer.json";
    /// The voice detector.
    pub const VOICE: &str = "voice.onnx";
    /// A sentence that is spoken, a WAV file of 16 kHz. Bundles of earlier programs lack it.
    pub const GOLDEN_SOUND: &str = "golden/sound.wav";
    /// What was heard in it where the bundle was made.
    pub const GOLDEN_EXPECTED: &str = "golden/expected.json";
}

/// The whole of `speech.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpeechManifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Name for people, such as `whisper-base`. Lower-case letters, digits, `-`, `.`.
    pub model_id: String,
    /// SPDX expression of the licences of all weights.
    pub licence: String,
    /// How the weights were made, for a person.
    pub provenance: String,
    /// How the weights lie in their file.
    #[serde(default, skip_serializing_if = "Precision::is_full")]
    pub precision: Precision,
    /// Sizes of the network.
    pub whisper: Whisper,
    /// What the tokens mean.
    pub tokens: SpeechTokens,
    /// SHA-256 in hexadecimal of every other file of the bundle, by its name.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// The sizes of Whisper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Whisper {
    /// Bands of the log-mel picture.
    pub mel_bands: u32,
    /// Positions of the encoder's output; its input has twice as many.
    pub audio_positions: u32,
    /// Positions of the decoder.
    pub text_positions: u32,
    /// Width of the model.
    pub width: u32,
    /// Blocks of the encoder.
    pub encoder_layers: u32,
    /// Attention heads of the encoder.
    pub encoder_heads: u32,
    /// Width of the encoder's feed-forward layers.
    pub encoder_mlp: u32,
    /// Blocks of the decoder.
    pub decoder_layers: u32,
    /// Attention heads of the decoder.
    pub decoder_heads: u32,
    /// Width of the decoder's feed-forward layers.
    pub decoder_mlp: u32,
    /// Rows of the embedding table.
    pub vocab_size: u32,
    /// Added to the variance in each layer norm.
    pub layer_norm_eps: f32,
    /// The layer and head of the decoder of each cross-attention that follows the sound.
    pub alignment_heads: Vec<[u32; 2]>,
}

/// What the tokens of a Whisper mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpeechTokens {
    /// Ends a text.
    pub end: u32,
    /// Begins a transcript.
    pub start: u32,
    /// Asks for the words as they are said; none where the model knows no other task.
    pub transcribe: Option<u32>,
    /// Begins the text that was said before.
    pub previous: u32,
    /// Stands for a window without speech.
    pub no_speech: u32,
    /// Says that no times follow.
    pub no_timestamps: u32,
    /// The time 0; each further token is a [`TIME_STEP_MS`] later.
    pub first_time: u32,
    /// The token of each language, by its code; empty where the model knows English only.
    pub languages: BTreeMap<String, u32>,
    /// Tokens that are never said.
    pub suppressed: Vec<u32>,
    /// Tokens that are not said first.
    pub suppressed_first: Vec<u32>,
}

/// What a time token counts in, in milliseconds; also what a position of the encoder's output spans.
pub const TIME_STEP_MS: u32 = 20;

impl Whisper {
    /// Width of one head of the decoder.
    #[must_use]
    pub fn head_width(&self) -> usize {
        (self.width / self.decoder_heads.max(1)) as usize
    }
}

impl SpeechTokens {
    /// What a transcript in `language` begins with. A model of English only is not told.
    #[must_use]
    pub fn prompt(&self, language: &str) -> Vec<i64> {
        let language = self.languages.get(language).copied();
        [Some(self.start), language, self.transcribe].into_iter().flatten().map(i64::from).collect()
    }

    /// The code of the language that a token stands for.
    #[must_use]
    pub fn language_of(&self, token: u32) -> Option<&str> {
        let mut languages = self.languages.iter();
        languages.find(|(_, id)| **id == token).map(|(code, _)| code.as_str())
    }
}
