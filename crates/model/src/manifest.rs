//! `bundle.json`: what a model bundle says about itself. The runtime reads every size from here;
//! nothing assumes T5-base or CLIP ViT-L/14.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the bundle layout that this program reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// File names inside a bundle.
pub mod files {
    /// The manifest.
    pub const MANIFEST: &str = "bundle.json";
    /// Frames to features.
    pub const VISION: &str = "vision.onnx";
    /// Features to visual memory.
    pub const TEMPORAL: &str = "temporal.onnx";
    /// Token ids to text memory.
    pub const TEXT_ENCODER: &str = "text_encoder.onnx";
    /// Memory to the keys and values of cross-attention.
    pub const CROSS: &str = "cross.onnx";
    /// One step of the decoder.
    pub const DECODER: &str = "decoder.onnx";
    /// All weights: the external data of the graphs.
    pub const WEIGHTS: &str = "model.safetensors";
    /// The SentencePiece model.
    pub const TOKENIZER: &str = "tokenizer.model";
    /// A short clip, its pictures and input ids. Bundles of earlier programs lack it.
    pub const GOLDEN_CLIP: &str = "golden/clip.safetensors";
    /// What the bundle said of the clip where it was made.
    pub const GOLDEN_EXPECTED: &str = "golden/expected.json";
}

/// The whole of `bundle.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Name for people, such as `vid2seq-htm-chapters`. Lower-case letters, digits, `-`, `.`.
    pub model_id: String,
    /// `false` where the weights are random: its words mean nothing.
    pub trained: bool,
    /// SPDX expression of the weights' licence.
    pub licence: String,
    /// How the weights were made, for a person.
    pub provenance: String,
    /// How the weights lie in their file.
    #[serde(default, skip_serializing_if = "Precision::is_full")]
    pub precision: Precision,
    /// Sizes of the vision encoder.
    pub vision: Vision,
    /// Sizes of the temporal encoder.
    pub temporal: Temporal,
    /// Sizes of the text encoder and decoder.
    pub t5: T5,
    /// Which frames are looked at.
    pub frames: FrameRule,
    /// Time tokens.
    pub time_tokens: TimeTokens,
    /// Text rules.
    pub text: TextRule,
    /// Decoding defaults; a job may set others.
    pub decoding: Decoding,
    /// Scores on named data sets, such as `{"synthetic/test/soda_c": 0.51}`, and under `parity/` how far
    /// the bundle is from its like in full precision.
    #[serde(default)]
    pub metrics: std::collections::BTreeMap<String, f64>,
    /// SHA-256 in hexadecimal of every other file of the bundle, by its name.
    #[serde(default)]
    pub files: std::collections::BTreeMap<String, String>,
}

/// How weights lie in their file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Floats of 32 bits.
    #[default]
    Fp32,
    /// Matrices as floats of 16 bits, which are widened when the bundle is opened: half the size on a disk.
    Fp16,
    /// Linear layers as whole numbers in `-63..=63` with a scale for each output; their inputs are
    /// quantised as they come. For processors.
    Int8,
}

impl Precision {
    /// Its name in a manifest and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(crate) fn is_full(&self) -> bool {
        *self == Self::Fp32
    }
}

/// A CLIP vision transformer with `QuickGELU`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vision {
    /// Side of the square input, in pixels.
    pub image_size: u32,
    /// Side of a patch, in pixels.
    pub patch: u32,
    /// Width of the transformer.
    pub width: u32,
    /// Blocks.
    pub layers: u32,
    /// Attention heads.
    pub heads: u32,
    /// Width of the feed-forward layer.
    pub mlp: u32,
    /// Size of the projected feature.
    pub output_dim: u32,
    /// Added to the variance in each layer norm.
    pub layer_norm_eps: f32,
    /// Mean of each RGB channel, in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation of each RGB channel, in 0..1.
    pub std: [f32; 3],
    /// Added to the standard deviation before division.
    pub std_eps: f32,
}

/// The temporal encoder over frame features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Temporal {
    /// Width: that of the frame features.
    pub dim: u32,
    /// Blocks.
    pub depth: u32,
    /// Attention heads.
    pub heads: u32,
    /// Width of the feed-forward layer.
    pub mlp: u32,
    /// Positions, one a frame.
    pub positions: u32,
    /// Added to the variance in each layer norm.
    pub layer_norm_eps: f32,
    /// Its activation.
    pub activation: Gelu,
    /// Whether a linear layer takes its output to the width of the decoder.
    pub projection: bool,
}

/// The two forms of GELU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gelu {
    /// Exact, by the error function.
    Erf,
    /// Approximated by a hyperbolic tangent.
    Tanh,
}

/// The T5 encoder and decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct T5 {
    /// Rows of the embedding table, time tokens included.
    pub vocab_size: u32,
    /// Width of the model.
    pub d_model: u32,
    /// Width of one attention head; `heads * d_kv` need not be `d_model`.
    pub d_kv: u32,
    /// Attention heads.
    pub heads: u32,
    /// Width of the feed-forward layer.
    pub d_ff: u32,
    /// Blocks of the encoder.
    pub encoder_layers: u32,
    /// Blocks of the decoder.
    pub decoder_layers: u32,
    /// Buckets of relative positions.
    pub relative_buckets: u32,
    /// Distance from which all positions share a bucket.
    pub relative_max_distance: u32,
    /// Added to the mean square in each norm.
    pub layer_norm_eps: f32,
    /// The feed-forward layer.
    pub feed_forward: FeedForward,
    /// Whether the output layer is the embedding table, with logits scaled by `d_model^-0.5`.
    pub tied: bool,
}

/// The feed-forward layer of T5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedForward {
    /// `wo(relu(wi x))`: version 1.0.
    Relu,
    /// `wo(gelu_tanh(wi_0 x) * wi_1 x)`: version 1.1.
    GatedGelu,
}

/// Which frames of a window the model looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FrameRule {
    /// Most frames of a window. Fewer are followed by zero features, which are not masked.
    pub count: u32,
    /// How `count` of more frames are chosen.
    pub pick: FramePick,
}

/// How `n` frames are chosen out of `total` (`vid2seq.md` §1.3 and §12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FramePick {
    /// `floor(j * total / n)`, as `VidChapters` does.
    Floor,
    /// `trunc(linspace_f32(0, total - 1, n)[j])`, as Scenic does.
    Linspace,
}

/// How moments become tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeTokens {
    /// Number of time tokens.
    pub bins: u32,
    /// Id of the first one.
    pub first_id: u32,
    /// The arithmetic of the quantiser.
    pub quantise: Quantise,
}

/// The arithmetic that takes a moment to a bin (`vid2seq.md` §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quantise {
    /// `trunc((bins - 1) * x / duration)`.
    VidChapters,
    /// `trunc((bins - 1) * (x / duration) + first_id) - first_id`, times clamped to the duration.
    Scenic,
}

/// How speech becomes text tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextRule {
    /// Pad token; the decoder starts with it.
    pub pad_id: u32,
    /// End of sequence.
    pub eos_id: u32,
    /// Unknown piece.
    pub unk_id: u32,
    /// Sentinels that follow the pieces of the tokenizer, counting down from the last.
    pub extra_ids: u32,
    /// Most tokens of the input, its end included.
    pub max_input_tokens: u32,
    /// Which text rules (`vid2seq.md` §2.3).
    pub normalise: Normalise,
}

/// The reference's text rules (`vid2seq.md` §2.3, §2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Stripped, capitalised, closed by a full stop; sentences outside the video are dropped; the
    /// input always ends in EOS.
    VidChapters,
    /// Text as it is; times clamped, nothing dropped; EOS is lost where the input is cut.
    Scenic,
}

/// How sequences are searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decoding {
    /// Hypotheses kept; 1 is greedy.
    pub beams: u32,
    /// Exponent of the length in the score.
    pub length_penalty: f32,
    /// Most tokens generated, the end included.
    pub max_output_tokens: u32,
    /// How a hypothesis is scored and when the search stops.
    pub scoring: Scoring,
}

/// The two searches of `vid2seq.md` §4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// `sum / len^length_penalty`, as transformers 4.28 for a single row (§12.1, §12.2).
    Length,
    /// `sum / ((5 + len) / 6)^length_penalty`, as t5x.
    Brevity,
}
