//! From a release of Whisper under Hugging Face's names to a speech bundle.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use eventide_model::{
    bundle::BundleManifest as _,
    manifest::Precision,
    runtime::Runtime,
    speech::{SpeechManifest, SpeechTokens, Vocabulary, Whisper, manifest::FORMAT_VERSION},
};
use serde::Deserialize;

use crate::{
    Style,
    checkpoint::Checkpoint,
    error::{Error, Result},
    import::Released,
    released::{described, read_json, unfit, unreadable},
    whisper::{SpeechDraft, whisper_tensors},
};

/// The name that the output layer has beside that of the embedding table, which it is.
const HEAD: &str = "proj_out.weight";
/// The name of the embedding table.
const TABLE: &str = "model.decoder.embed_tokens.weight";
/// Rows of the smallest vocabulary that knows other languages than English.
const MULTILINGUAL: u32 = 51_865;

/// A release of Whisper, and the voice detector that goes with it.
#[derive(Debug, Clone, PartialEq)]
pub struct WhisperRelease {
    /// The folder with `model.safetensors`, `config.json`, `tokenizer.json` and perhaps
    /// `generation_config.json`.
    pub folder: PathBuf,
    /// Silero's voice detector for 16 kHz that reads many frames a run, as ONNX.
    pub voice: PathBuf,
    /// The name of the bundle.
    pub model_id: String,
    /// SPDX expression of the licences of all weights.
    pub licence: String,
}

/// What we read of `config.json`.
#[derive(Debug, Deserialize)]
struct Config {
    d_model: u32,
    encoder_layers: u32,
    encoder_attention_heads: u32,
    encoder_ffn_dim: u32,
    decoder_layers: u32,
    decoder_attention_heads: u32,
    decoder_ffn_dim: u32,
    num_mel_bins: u32,
    max_source_positions: u32,
    max_target_positions: u32,
    vocab_size: u32,
    activation_function: String,
    #[serde(default)]
    scale_embedding: bool,
    #[serde(default)]
    suppress_tokens: Option<Vec<u32>>,
    #[serde(default)]
    begin_suppress_tokens: Option<Vec<u32>>,
}

/// What we read of `generation_config.json`, which older releases lack.
#[derive(Debug, Default, Deserialize)]
struct Generation {
    #[serde(default)]
    alignment_heads: Option<Vec<[u32; 2]>>,
    #[serde(default)]
    is_multilingual: Option<bool>,
    #[serde(default)]
    suppress_tokens: Option<Vec<u32>>,
    #[serde(default)]
    begin_suppress_tokens: Option<Vec<u32>>,
}

impl WhisperRelease {
    /// Writes the speech bundle of a release to `place`, which must not be there yet; its parent must
    /// be. Tensors go from one file to the other one at a time.
    ///
    /// # Errors
    /// [`Error::Input`] for a configuration that is not one of Whisper's, [`Error::Missing`],
    /// [`Error::Surplus`] or [`Error::Shape`] for tensors that are not those of that configuration,
    /// [`Error::Tied`] if the output layer is not the embedding table, [`Error::Model`] if the parts
    /// do not fit one another, [`Error::Run`] if the golden sound cannot be heard, [`Error::Precision`] for [`Precision::Int8`]; and those of reading and
    /// writing. After an error there is no folder.
    pub fn import(
        &self,
        place: &Path,
        style: Style,
        precision: Precision,
        runtime: &Runtime,
    ) -> Result<SpeechManifest> {
        if precision == Precision::Int8 {
            return Err(Error::Precision { from: Precision::Fp32, to: precision });
        }
        let weights = self.folder.join("model.safetensors");
        let tokenizer = self.folder.join("tokenizer.json");
        let tokenizer = fs::read(&tokenizer).map_err(unreadable(&tokenizer))?;
        let voice = fs::read(&self.voice).map_err(unreadable(&self.voice))?;
        let vocabulary = Vocabulary::new(&tokenizer).map_err(unfit)?;
        let (whisper, tokens) = self.described(&vocabulary)?;
        let manifest = SpeechManifest {
            format_version: FORMAT_VERSION,
            model_id: self.model_id.clone(),
            licence: self.licence.clone(),
            provenance: format!(
                "imported from {} with the voice detector {}",
                described(&weights)?,
                described(&self.voice)?
            ),
            precision,
            whisper,
            tokens,
            files: BTreeMap::new(),
        };
        manifest.validate().map_err(unfit)?;
        let checkpoint = Checkpoint::read_safetensors(&weights)?;
        refuse_other_head(&checkpoint)?;
        let table = whisper_tensors(&manifest.whisper);
        let released = Released::new(&checkpoint, table, |name| name == HEAD)?;
        let parts: [&[u8]; 2] = [&tokenizer, &voice];
        let mut draft = SpeechDraft::write(place, &manifest, &released, parts, style)?;
        draft.add_golden(runtime)?;
        draft.publish()
    }

    /// The sizes of the network and the meaning of its tokens.
    fn described(&self, vocabulary: &Vocabulary) -> Result<(Whisper, SpeechTokens)> {
        let path = self.folder.join("config.json");
        let config: Config = read_json(&path)?;
        let wrong = |name: &str, problem: String| Error::Input {
            path: path.clone(),
            name: name.to_owned(),
            problem,
        };
        if config.activation_function != "gelu" {
            let problem = format!("`{}` is not `gelu`", config.activation_function);
            return Err(wrong("activation_function", problem));
        }
        if config.scale_embedding {
            return Err(wrong("scale_embedding", "no Whisper scales its embeddings".to_owned()));
        }
        let path = self.folder.join("generation_config.json");
        let generation: Generation =
            if path.exists() { read_json(&path)? } else { Generation::default() };
        let multilingual = generation.is_multilingual.unwrap_or(config.vocab_size >= MULTILINGUAL);
        let suppressed = generation.suppress_tokens.or(config.suppress_tokens.clone());
        let first = generation.begin_suppress_tokens.or(config.begin_suppress_tokens.clone());
        let tokens = SpeechTokens {
            suppressed: suppressed.unwrap_or_default(),
            suppressed_first: first.unwrap_or_default(),
            ..tokens(vocabulary, multilingual)?
        };
        let heads = generation.alignment_heads.unwrap_or_else(|| upper_heads(&config));
        Ok((sizes(&config, heads), tokens))
    }
}

fn sizes(config: &Config, alignment_heads: Vec<[u32; 2]>) -> Whisper {
    Whisper {
        mel_bands: config.num_mel_bins,
        audio_positions: config.max_source_positions,
        text_positions: config.max_target_positions,
        width: config.d_model,
        encoder_layers: config.encoder_layers,
        encoder_heads: config.encoder_attention_heads,
        encoder_mlp: config.encoder_ffn_dim,
        decoder_layers: config.decoder_layers,
        decoder_heads: config.decoder_attention_heads,
        decoder_mlp: config.decoder_ffn_dim,
        vocab_size: config.vocab_size,
        layer_norm_eps: 1e-5,
        alignment_heads,
    }
}

/// All heads of the upper half of the decoder, which is what stands in where a release does not say
/// which of them follow the sound.
fn upper_heads(config: &Config) -> Vec<[u32; 2]> {
    let layers = config.decoder_layers / 2..config.decoder_layers;
    let heads = |layer| (0..config.decoder_attention_heads).map(move |head| [layer, head]);
    layers.flat_map(heads).collect()
}

/// The special tokens by their spelling.
fn tokens(vocabulary: &Vocabulary, multilingual: bool) -> Result<SpeechTokens> {
    let find = |spellings: &[&str]| {
        let found = spellings.iter().find_map(|spelling| vocabulary.id(spelling));
        found.ok_or_else(|| Error::Missing { name: spellings.concat() })
    };
    let start = find(&["<|startoftranscript|>"])?;
    let transcribe = find(&["<|transcribe|>"])?;
    let no_timestamps = find(&["<|notimestamps|>"])?;
    let languages = vocabulary.added().filter_map(|(spelling, id)| {
        let code = spelling.strip_prefix("<|")?.strip_suffix("|>")?;
        let is_code = (2..=3).contains(&code.len()) && code.bytes().all(|c| c.is_ascii_lowercase());
        (is_code && id > start).then(|| (code.to_owned(), id))
    });
    Ok(SpeechTokens {
        end: find(&["<|endoftext|>"])?,
        start,
        transcribe: multilingual.then_some(transcribe),
        previous: find(&["<|startofprev|>"])?,
        no_speech: find(&["<|nospeech|>", "<|nocaptions|>"])?,
        no_timestamps,
        first_time: no_timestamps + 1,
        languages: if multilingual { languages.collect() } else { BTreeMap::new() },
        suppressed: Vec::new(),
        suppressed_first: Vec::new(),
    })
}

/// Refuses an output layer that is not the embedding table.
fn refuse_other_head(checkpoint: &Checkpoint) -> Result<()> {
    if checkpoint.contains(HEAD) && checkpoint.weight(HEAD)? != checkpoint.weight(TABLE)? {
        return Err(Error::Tied { name: HEAD.to_owned(), tied: TABLE.to_owned() });
    }
    Ok(())
}
