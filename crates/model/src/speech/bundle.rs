//! A speech bundle on disk: opened, checked, named by its digest.

use std::collections::BTreeMap;

use crate::{
    bundle::{BundleManifest, BundleOf, require},
    error::Result,
    speech::manifest::{FORMAT_VERSION, SpeechManifest, files},
};

/// A bundle of a speech recogniser, `speech.json`.
pub type SpeechBundle = BundleOf<SpeechManifest>;

impl BundleManifest for SpeechManifest {
    const FILE: &'static str = files::MANIFEST;
    const FORMAT_VERSION: u32 = FORMAT_VERSION;
    const REQUIRED: &'static [&'static str] = &[
        files::ENCODER,
        files::DECODER,
        files::ALIGNER,
        files::WEIGHTS,
        files::TOKENIZER,
        files::VOICE,
    ];
    const KIND: &'static str = "eventide-speech 1";

    fn files(&self) -> &BTreeMap<String, String> {
        &self.files
    }

    fn bare(&self) -> Self {
        Self { files: BTreeMap::new(), ..self.clone() }
    }

    fn validate(&self) -> Result<()> {
        validate_sizes(self)?;
        validate_tokens(self)
    }
}

fn validate_sizes(manifest: &SpeechManifest) -> Result<()> {
    let sizes = &manifest.whisper;
    let counts = [
        ("whisper.mel_bands", sizes.mel_bands),
        ("whisper.audio_positions", sizes.audio_positions),
        ("whisper.text_positions", sizes.text_positions),
        ("whisper.width", sizes.width),
        ("whisper.encoder_layers", sizes.encoder_layers),
        ("whisper.encoder_heads", sizes.encoder_heads),
        ("whisper.encoder_mlp", sizes.encoder_mlp),
        ("whisper.decoder_layers", sizes.decoder_layers),
        ("whisper.decoder_heads", sizes.decoder_heads),
        ("whisper.decoder_mlp", sizes.decoder_mlp),
        ("whisper.vocab_size", sizes.vocab_size),
    ];
    for (field, count) in counts {
        require(count > 0, field, || "it is 0".to_owned())?;
    }
    let heads = [
        ("whisper.encoder_heads", sizes.encoder_heads),
        ("whisper.decoder_heads", sizes.decoder_heads),
    ];
    for (field, heads) in heads {
        require(sizes.width.is_multiple_of(heads), field, || {
            format!("`{heads}` does not divide the width of `{}`", sizes.width)
        })?;
    }
    let inside =
        |[layer, head]: &[u32; 2]| *layer < sizes.decoder_layers && *head < sizes.decoder_heads;
    let field = "whisper.alignment_heads";
    require(!sizes.alignment_heads.is_empty(), field, || "there are none".to_owned())?;
    require(sizes.alignment_heads.iter().all(inside), field, || {
        "one is outside the layers and heads of the decoder".to_owned()
    })?;
    let eps = sizes.layer_norm_eps;
    require(eps > 0.0 && eps.is_finite(), "whisper.layer_norm_eps", || {
        format!("`{eps}` is not positive")
    })
}

fn validate_tokens(manifest: &SpeechManifest) -> Result<()> {
    let (tokens, sizes) = (&manifest.tokens, &manifest.whisper);
    let last_time = u64::from(tokens.first_time) + u64::from(sizes.audio_positions);
    require(last_time < u64::from(sizes.vocab_size), "tokens.first_time", || {
        format!("the last time is outside the vocabulary of `{}`", sizes.vocab_size)
    })?;
    let specials = [
        ("tokens.end", tokens.end),
        ("tokens.start", tokens.start),
        ("tokens.transcribe", tokens.transcribe.unwrap_or_default()),
        ("tokens.previous", tokens.previous),
        ("tokens.no_speech", tokens.no_speech),
        ("tokens.no_timestamps", tokens.no_timestamps),
    ];
    for (field, id) in specials {
        require(id < tokens.first_time, field, || format!("`{id}` is a time or none at all"))?;
    }
    let sayable = |id: &u32| *id < tokens.first_time;
    require(tokens.languages.values().all(sayable), "tokens.languages", || {
        "one is a time or none at all".to_owned()
    })?;
    let mut suppressed = tokens.suppressed.iter().chain(&tokens.suppressed_first);
    require(suppressed.all(sayable), "tokens.suppressed", || {
        "one is a time or none at all".to_owned()
    })
}
