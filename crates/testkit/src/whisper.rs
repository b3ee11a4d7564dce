//! Real Whispers for tests: the weights of packages that carry them for `CTranslate2`, written as Hugging Face releases
//! them, and made into speech bundles.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use eventide_model::manifest::Precision;
use eventide_model::runtime::Runtime;
use eventide_training::Style;
use eventide_training::weights::{Weight, Weights};
use eventide_training::whisper::WhisperRelease;
use half::f16;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::tools::Tools;

/// A size of Whisper that `cargo xtask setup` brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Size {
    /// Multilingual, 74 million parameters.
    Base,
    /// English only, 39 million parameters.
    TinyEnglish,
}

impl Size {
    fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::TinyEnglish => "tiny-en",
        }
    }
}

/// Writes the speech bundle of a real Whisper to `place`, which must not be there yet; its parent must be.
///
/// # Errors
/// [`Error::MissingTool`] where the weights are missing; those of [`release`]; [`Error::Bundle`].
pub fn bundle(tools: &Tools, size: Size, place: &Path, style: Style) -> Result<()> {
    let parent = place.parent().unwrap_or(Path::new("."));
    let folder = tempfile::tempdir_in(parent).map_err(Error::file("write", parent))?;
    release(tools, size, folder.path())?;
    let release = WhisperRelease {
        folder: folder.path().to_owned(),
        voice: tools.voice_detector()?,
        model_id: format!("whisper-{}", size.name()),
        licence: "MIT".to_owned(),
    };
    let wrong = |source| Error::Bundle { path: place.to_path_buf(), source: Box::new(source) };
    let runtime = Runtime::load(&tools.onnx_runtime()?).map_err(|source| {
        wrong(eventide_training::Error::Run { source: Box::new(source.into()) })
    })?;
    release.import(place, style, Precision::Fp32, &runtime).map(|_| ()).map_err(wrong)
}

/// Writes a real Whisper to `folder` the way Hugging Face has it: `model.safetensors`, `config.json`,
/// `generation_config.json`, `tokenizer.json`.
///
/// # Errors
/// [`Error::MissingTool`] where the weights are missing, [`Error::File`], [`Error::Weights`] where they are not those of
/// a Whisper, [`Error::Bundle`] where they cannot be written.
pub fn release(tools: &Tools, size: Size, folder: &Path) -> Result<()> {
    let source = tools.whisper(size.name())?;
    let bytes = read_parts(&source)?;
    let wrong = |problem: String| Error::Weights { path: source.clone(), problem };
    let model = Model::read(&bytes).ok_or_else(|| wrong("it ends too soon".to_owned()))?;
    let settings = source.join("config.json");
    let settings: Value = serde_json::from_slice(&read(&settings)?)
        .map_err(|error| wrong(format!("config.json: {error}")))?;
    let weights = model.renamed().map_err(wrong)?;
    let config = model.config(&weights, &settings).ok_or_else(|| wrong("no sizes".to_owned()))?;
    let generation = json!({
        "alignment_heads": settings["alignment_heads"],
        "is_multilingual": size != Size::TinyEnglish,
        "suppress_tokens": settings["suppress_ids"],
        "begin_suppress_tokens": settings["suppress_ids_begin"],
    });
    write(&folder.join("config.json"), config.to_string().as_bytes())?;
    write(&folder.join("generation_config.json"), generation.to_string().as_bytes())?;
    write(&folder.join("tokenizer.json"), &read(&source.join("tokenizer.json"))?)?;
    let path = folder.join("model.safetensors");
    weights.write(&path).map_err(|source| Error::Bundle { path, source: Box::new(source) })
}

/// The weights, which lie in one file or in two halves.
fn read_parts(folder: &Path) -> Result<Vec<u8>> {
    let whole = folder.join("model.bin");
    if whole.exists() {
        return read(&whole);
    }
    let mut bytes = read(&folder.join("model.bin.part1"))?;
    bytes.extend(read(&folder.join("model.bin.part2"))?);
    Ok(bytes)
}

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::file("read", path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(Error::file("write", path))
}

/// A model file of `CTranslate2`, version 6: a header, named tensors, and other names for some of them.
struct Model {
    tensors: BTreeMap<String, Weight>,
    numbers: BTreeMap<String, i64>,
}

impl Model {
    /// Reads the file; `None` where it ends too soon or holds an element that we do not know.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let _version = cursor.word()?;
        let _kind = cursor.text()?;
        let _revision = cursor.word()?;
        let mut model = Self { tensors: BTreeMap::new(), numbers: BTreeMap::new() };
        for _ in 0..cursor.word()? {
            let name = cursor.text()?;
            let rank = cursor.take(1)?[0];
            let shape: Option<Vec<usize>> = (0..rank).map(|_| cursor.size()).collect();
            let element = cursor.take(1)?[0];
            let length = cursor.size()?;
            let data = cursor.take(length)?;
            match element {
                0 => {
                    let values = data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                    model.tensors.insert(name, Weight::new(shape?, values.collect())?);
                }
                4 => {
                    let halves = data.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes));
                    let values = halves.map(f16::to_f32).collect();
                    model.tensors.insert(name, Weight::new(shape?, values)?);
                }
                1..=3 => {
                    let number =
                        data.iter().rev().fold(0, |sum, byte| sum * 256 + i64::from(*byte));
                    model.numbers.insert(name, number);
                }
                _ => return None,
            }
        }
        Some(model)
    }

    /// `config.json` as Hugging Face writes it.
    fn config(&self, weights: &Weights, settings: &Value) -> Option<Value> {
        let shape = |name: &str| weights.get(name).map(Weight::shape);
        let layers = |stack: &str| {
            let last = format!("{stack}.layers.");
            let ends = weights
                .iter()
                .filter(|(name, _)| name.contains(&last) && name.ends_with(".fc1.bias"));
            ends.count()
        };
        let wide = |stack: &str| Some(shape(&format!("model.{stack}.layers.0.fc1.bias"))?[0]);
        let rows = |name: &str| Some(shape(name)?[0]);
        Some(json!({
            "model_type": "whisper",
            "d_model": shape("model.encoder.layer_norm.weight")?[0],
            "encoder_layers": layers("encoder"),
            "encoder_attention_heads": self.numbers.get("encoder/num_heads")?,
            "encoder_ffn_dim": wide("encoder")?,
            "decoder_layers": layers("decoder"),
            "decoder_attention_heads": self.numbers.get("decoder/num_heads")?,
            "decoder_ffn_dim": wide("decoder")?,
            "num_mel_bins": shape("model.encoder.conv1.weight")?[1],
            "max_source_positions": rows("model.encoder.embed_positions.weight")?,
            "max_target_positions": rows("model.decoder.embed_positions.weight")?,
            "vocab_size": rows("model.decoder.embed_tokens.weight")?,
            "activation_function": "gelu",
            "scale_embedding": false,
            "suppress_tokens": settings["suppress_ids"],
            "begin_suppress_tokens": settings["suppress_ids_begin"],
        }))
    }

    /// The tensors under Hugging Face's names. `CTranslate2` has queries, keys and values in one.
    fn renamed(&self) -> std::result::Result<Weights, String> {
        let mut weights = Weights::default();
        for (name, weight) in &self.tensors {
            let unknown = || format!("`{name}` has no place in a Whisper");
            let (stem, kind) = name.rsplit_once('/').ok_or_else(unknown)?;
            let kind = match kind {
                "weight" | "gamma" | "encodings" => "weight",
                "bias" | "beta" => "bias",
                _ => return Err(unknown()),
            };
            let targets = targets(stem).ok_or_else(unknown)?;
            for (target, part) in targets.iter().zip(split(weight, targets.len())) {
                // Keys have no bias, which CTranslate2 writes as zeros.
                if kind == "weight" || !target.ends_with("k_proj") {
                    weights.insert(format!("model.{target}.{kind}"), part);
                }
            }
        }
        Ok(weights)
    }
}

/// What Hugging Face calls the parts of a tensor, without `weight` or `bias`.
fn targets(stem: &str) -> Option<Vec<String>> {
    let (stack, rest) = stem.split_once('/')?;
    let Some((layer, part)) = rest.strip_prefix("layer_").and_then(|rest| rest.split_once('/'))
    else {
        let name = match rest {
            "embeddings" => "embed_tokens",
            "position_encodings" => "embed_positions",
            other => other,
        };
        return Some(vec![format!("{stack}.{name}")]);
    };
    let (block, part) = part.split_once('/')?;
    let names: &[&str] = match (block, part) {
        ("self_attention", "linear_0") => {
            &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
        }
        ("self_attention", "linear_1") => &["self_attn.out_proj"],
        ("self_attention", "layer_norm") => &["self_attn_layer_norm"],
        ("attention", "linear_0") => &["encoder_attn.q_proj"],
        ("attention", "linear_1") => &["encoder_attn.k_proj", "encoder_attn.v_proj"],
        ("attention", "linear_2") => &["encoder_attn.out_proj"],
        ("attention", "layer_norm") => &["encoder_attn_layer_norm"],
        ("ffn", "linear_0") => &["fc1"],
        ("ffn", "linear_1") => &["fc2"],
        ("ffn", "layer_norm") => &["final_layer_norm"],
        _ => return None,
    };
    Some(names.iter().map(|name| format!("{stack}.layers.{layer}.{name}")).collect())
}

/// A tensor in equal parts, one below the other.
fn split(weight: &Weight, parts: usize) -> Vec<Weight> {
    let mut shape = weight.shape().to_vec();
    if let Some(rows) = shape.first_mut() {
        *rows /= parts;
    }
    let length = weight.values().len() / parts;
    let pieces = weight.values().chunks(length.max(1));
    pieces.filter_map(|values| Weight::new(shape.clone(), values.to_vec())).collect()
}

/// Bytes that are read from the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn word(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn size(&mut self) -> Option<usize> {
        self.word().and_then(|word| usize::try_from(word).ok())
    }

    /// A text with its length before it and a zero after it.
    fn text(&mut self) -> Option<String> {
        let length = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
        let text = std::str::from_utf8(self.take(length.into())?).ok()?;
        Some(text.trim_end_matches('\0').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::tools;
    use eventide_model::speech::SpeechBundle;

    #[test]
    fn a_real_whisper_becomes_a_bundle() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("bundle");
        bundle(&tools().unwrap(), Size::TinyEnglish, &place, Style::Fused).unwrap();
        let bundle = SpeechBundle::open(&place).unwrap();
        let (sizes, tokens) = (&bundle.manifest().whisper, &bundle.manifest().tokens);
        assert_eq!((sizes.width, sizes.decoder_layers, sizes.vocab_size), (384, 4, 51_864));
        assert_eq!((tokens.start, tokens.end, tokens.first_time), (50_257, 50_256, 50_363));
        assert!(
            tokens.languages.is_empty() && tokens.transcribe.is_none(),
            "it knows English only"
        );
    }

    #[test]
    fn a_file_that_is_cut_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let whisper = folder.path().join("whisper/tiny-en");
        fs::create_dir_all(&whisper).unwrap();
        fs::write(whisper.join("model.bin"), [6, 0, 0, 0, 12, 0, b'W']).unwrap();
        let tools = Tools::in_folder(folder.path());
        let error = release(&tools, Size::TinyEnglish, folder.path()).unwrap_err().to_string();
        assert!(error.contains("ends too soon"), "{error}");
    }
}
