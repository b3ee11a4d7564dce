//! `sentence.json`: what a sentence bundle says about itself. The runtime reads every size from here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::manifest::Precision;

/// The version of the layout of sentence bundles that this program reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// File names inside a sentence bundle.
pub mod files {
    /// The manifest.
    pub const MANIFEST: &str = "sentence.json";
    /// Token ids to a vector a sentence.
    pub const ENCODER: &str = "encoder.onnx";
    /// All weights: the external data of the graph.
    pub const WEIGHTS: &str = "model.safetensors";
    /// The word pieces and how text is cut into them, as Hugging Face's `tokenizers` has it.
    pub const TOKENIZER: &str = "tokenizer.json";
    /// Some sentences, and their vectors where the bundle was made.
    pub const GOLDEN: &str = "golden/expected.json";
}

/// The whole of `sentence.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SentenceManifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Name for people, such as `minilm-l6`. Lower-case letters, digits, `-`, `.`.
    pub model_id: String,
    /// SPDX expression of the licence of the weights.
    pub licence: String,
    /// How the weights were made, for a person.
    pub provenance: String,
    /// How the weights lie in their file.
    #[serde(default, skip_serializing_if = "Precision::is_full")]
    pub precision: Precision,
    /// Sizes of the network.
    pub bert: Bert,
    /// Tokens of a sentence, those at its ends included; what is longer is cut off.
    pub most_tokens: u32,
    /// SHA-256 in hexadecimal of every other file of the bundle, by its name.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// The sizes of a BERT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bert {
    /// Width of the model, and of its vectors.
    pub width: u32,
    /// Blocks.
    pub layers: u32,
    /// Attention heads.
    pub heads: u32,
    /// Width of the feed-forward layers.
    pub mlp: u32,
    /// Positions of a text.
    pub positions: u32,
    /// Kinds of segments of a text, of which only the first is used.
    pub types: u32,
    /// Rows of the embedding table.
    pub vocab_size: u32,
    /// Added to the variance in each layer norm.
    pub layer_norm_eps: f32,
}
