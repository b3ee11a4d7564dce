//! What the unit tests of this crate share: golden numbers, manifests, tokenizers.

use std::{fs, path::PathBuf};

use eventide_schema::{Cue, TimeSpan};
use serde_json::Value;

use crate::{
    manifest::{
        Decoding, FORMAT_VERSION, FeedForward, FramePick, FrameRule, Gelu, Manifest, Normalise,
        Precision, Quantise, Scoring, T5, Temporal, TextRule, TimeTokens, Vision,
    },
    tokenizer::Tokenizer,
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/golden");

/// A golden file as JSON.
pub(crate) fn golden(name: &str) -> Value {
    let path = PathBuf::from(GOLDEN).join(name);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

/// The genuine T5 SentencePiece model.
pub(crate) fn t5_model() -> Vec<u8> {
    let tools = std::env::var_os("EVENTIDE_TOOLS").map(PathBuf::from).unwrap_or_default();
    let path = tools.join("t5/spiece.model");
    fs::read(&path).unwrap_or_else(|_| panic!("no `{}`: run `cargo xtask setup`", path.display()))
}

/// The tokenizer of T5 with the ids of `manifest`.
pub(crate) fn t5(manifest: &Manifest) -> Tokenizer {
    Tokenizer::new(&t5_model(), manifest).unwrap()
}

/// The 200-piece SentencePiece model of the tiny golden model.
pub(crate) fn tiny_model() -> Vec<u8> {
    fs::read(PathBuf::from(GOLDEN).join("vid2seq-tiny/spiece.model")).unwrap()
}

/// A released `VidChapters` model.
pub(crate) fn vid_chapters() -> Manifest {
    Manifest {
        format_version: FORMAT_VERSION,
        model_id: "vid2seq-test".to_owned(),
        trained: false,
        licence: "Apache-2.0".to_owned(),
        provenance: "none".to_owned(),
        precision: Precision::Fp32,
        vision: Vision {
            image_size: 224,
            patch: 14,
            width: 1024,
            layers: 24,
            heads: 16,
            mlp: 4096,
            output_dim: 768,
            layer_norm_eps: 1e-5,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_55, 0.261_302_6, 0.275_777_1],
            std_eps: 1e-8,
        },
        temporal: Temporal {
            dim: 768,
            depth: 12,
            heads: 12,
            mlp: 2048,
            positions: 100,
            layer_norm_eps: 1e-5,
            activation: Gelu::Erf,
            projection: false,
        },
        t5: T5 {
            vocab_size: 32_200,
            d_model: 768,
            d_kv: 64,
            heads: 12,
            d_ff: 3072,
            encoder_layers: 12,
            decoder_layers: 12,
            relative_buckets: 32,
            relative_max_distance: 128,
            layer_norm_eps: 1e-6,
            feed_forward: FeedForward::Relu,
            tied: true,
        },
        frames: FrameRule { count: 100, pick: FramePick::Floor },
        time_tokens: TimeTokens { bins: 100, first_id: 32_100, quantise: Quantise::VidChapters },
        text: TextRule {
            pad_id: 0,
            eos_id: 1,
            unk_id: 2,
            extra_ids: 100,
            max_input_tokens: 1000,
            normalise: Normalise::VidChapters,
        },
        decoding: Decoding {
            beams: 4,
            length_penalty: 1.0,
            max_output_tokens: 256,
            scoring: Scoring::Length,
        },
        metrics: [].into(),
        files: [].into(),
    }
}

/// The rules of Scenic on the same sizes.
pub(crate) fn scenic() -> Manifest {
    let mut manifest = vid_chapters();
    manifest.t5.vocab_size = 32_228;
    manifest.frames.pick = FramePick::Linspace;
    manifest.time_tokens = TimeTokens { bins: 100, first_id: 32_128, quantise: Quantise::Scenic };
    manifest.text.normalise = Normalise::Scenic;
    manifest.decoding.scoring = Scoring::Brevity;
    manifest.decoding.length_penalty = 0.6;
    manifest
}

/// The ids of the tiny golden model.
pub(crate) fn tiny() -> Manifest {
    let mut manifest = vid_chapters();
    manifest.t5.vocab_size = 400;
    manifest.time_tokens.first_id = 300;
    manifest
}

/// Golden token ids.
pub(crate) fn ids(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
}

/// Golden seconds as microseconds.
#[expect(clippy::cast_possible_truncation, reason = "golden videos last at most half a day")]
pub(crate) fn microseconds(seconds: &Value) -> i64 {
    (seconds.as_f64().unwrap() * 1e6).round() as i64
}

/// Golden sentences.
pub(crate) fn cues(sentences: &Value) -> Vec<Cue> {
    sentences
        .as_array()
        .unwrap()
        .iter()
        .map(|sentence| Cue {
            span: TimeSpan::new(microseconds(&sentence["start"]), microseconds(&sentence["end"])),
            text: sentence["text"].as_str().unwrap().to_owned(),
        })
        .collect()
}
