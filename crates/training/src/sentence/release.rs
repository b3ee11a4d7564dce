//! From a release of a text encoder, as sentence-transformers has it, to a sentence bundle.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use eventide_model::{
    Error as ModelError,
    bundle::BundleManifest as _,
    manifest::Precision,
    runtime::{Runtime, SessionOptions},
    sentence::{
        Bert, SentenceBundle, SentenceEncoder, SentenceManifest, golden,
        manifest::{FORMAT_VERSION, files},
    },
};
use serde::Deserialize;

use crate::{
    Style,
    bundle::{DraftFolder, Hashed, unwritable},
    checkpoint::Checkpoint,
    error::{Error, Result},
    import::Released,
    layout::Layout,
    released::{described, read_json, unfit, unreadable},
    sentence::{bert_tensors, graph},
};

/// What a release has beside: numbers of positions, and a layer for the first token, which is not looked at.
const PASSED_OVER: [&str; 3] =
    ["embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"];

/// A release of a text encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct SentenceRelease {
    /// The folder with `model.safetensors`, `config.json` and `tokenizer.json`, and perhaps `sentence_bert_config.json`
    /// and `1_Pooling/config.json`.
    pub folder: PathBuf,
    /// The name of the bundle.
    pub model_id: String,
    /// SPDX expression of the licence of the weights.
    pub licence: String,
}

/// What we read of `config.json`.
#[derive(Debug, Deserialize)]
struct Config {
    model_type: String,
    hidden_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    intermediate_size: u32,
    max_position_embeddings: u32,
    type_vocab_size: u32,
    vocab_size: u32,
    layer_norm_eps: f32,
    hidden_act: String,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

/// What we read of `sentence_bert_config.json`.
#[derive(Debug, Default, Deserialize)]
struct Lengths {
    max_seq_length: Option<u32>,
}

/// What we read of `1_Pooling/config.json`.
#[derive(Debug, Deserialize)]
struct Pooling {
    pooling_mode_mean_tokens: bool,
}

impl SentenceRelease {
    /// Writes the sentence bundle of a release to `place`, which must not be there yet; its parent must be.
    ///
    /// # Errors
    /// [`Error::Input`] for a configuration that is not one of a BERT with mean pooling, [`Error::Missing`],
    /// [`Error::Surplus`] or [`Error::Shape`] for tensors that are not those of that configuration, [`Error::Model`] if
    /// the parts do not fit one another, [`Error::Run`] if the network cannot be run, [`Error::Precision`] for
    /// [`Precision::Int8`]; and those of reading and writing. After an error there is no folder.
    pub fn import(
        &self,
        place: &Path,
        style: Style,
        precision: Precision,
        runtime: &Runtime,
    ) -> Result<SentenceManifest> {
        if precision == Precision::Int8 {
            return Err(Error::Precision { from: Precision::Fp32, to: precision });
        }
        let weights = self.folder.join("model.safetensors");
        let mut manifest = self.described(precision, &weights)?;
        manifest.validate().map_err(unfit)?;
        let checkpoint = Checkpoint::read_safetensors(&weights)?;
        let table = bert_tensors(&manifest.bert);
        let layout = Layout::of_tensors(&table, precision);
        let released = Released::new(&checkpoint, table, |name| PASSED_OVER.contains(&name))?;
        let tokenizer = self.folder.join("tokenizer.json");
        let tokenizer = fs::read(&tokenizer).map_err(unreadable(&tokenizer))?;
        let graph = graph::encoder(&manifest.bert, &layout, style)?;

        let folder = DraftFolder::start(place)?;
        add(&folder, &mut manifest, files::ENCODER, &graph)?;
        add(&folder, &mut manifest, files::TOKENIZER, &tokenizer)?;
        let written = folder
            .add(files::WEIGHTS, |file, path| layout.write(&released, file, unwritable(path)))?;
        manifest.files.insert(files::WEIGHTS.to_owned(), written);
        folder.add_manifest(files::MANIFEST, &manifest.model_id, &manifest)?;
        let golden = golden_of(folder.path(), runtime)?;
        add(&folder, &mut manifest, files::GOLDEN, &golden)?;
        folder.add_manifest(files::MANIFEST, &manifest.model_id, &manifest)?;
        folder.publish()?;
        Ok(manifest)
    }

    /// What the bundle says of itself, but for its files.
    fn described(&self, precision: Precision, weights: &Path) -> Result<SentenceManifest> {
        let path = self.folder.join("config.json");
        let config: Config = read_json(&path)?;
        let wrong = |path: &Path, name: &str, problem: &str| Error::Input {
            path: path.to_owned(),
            name: name.to_owned(),
            problem: problem.to_owned(),
        };
        let places = config.position_embedding_type.as_deref().unwrap_or("absolute");
        for (name, found, known) in [
            ("model_type", config.model_type.as_str(), "bert"),
            ("hidden_act", &config.hidden_act, "gelu"),
            ("position_embedding_type", places, "absolute"),
        ] {
            if found != known {
                return Err(wrong(&path, name, &format!("`{found}` is not `{known}`")));
            }
        }
        let pooling = self.folder.join("1_Pooling/config.json");
        if pooling.exists() && !read_json::<Pooling>(&pooling)?.pooling_mode_mean_tokens {
            return Err(wrong(&pooling, "pooling_mode_mean_tokens", "only the mean is known here"));
        }
        let lengths = self.folder.join("sentence_bert_config.json");
        let lengths: Lengths =
            if lengths.exists() { read_json(&lengths)? } else { Lengths::default() };
        let positions = config.max_position_embeddings;
        Ok(SentenceManifest {
            format_version: FORMAT_VERSION,
            model_id: self.model_id.clone(),
            licence: self.licence.clone(),
            provenance: format!("imported from {}", described(weights)?),
            precision,
            bert: Bert {
                width: config.hidden_size,
                layers: config.num_hidden_layers,
                heads: config.num_attention_heads,
                mlp: config.intermediate_size,
                positions,
                types: config.type_vocab_size,
                vocab_size: config.vocab_size,
                layer_norm_eps: config.layer_norm_eps,
            },
            most_tokens: lengths.max_seq_length.unwrap_or(positions).min(positions),
            files: BTreeMap::new(),
        })
    }
}

/// Writes a file, and lists it.
fn add(
    folder: &DraftFolder,
    manifest: &mut SentenceManifest,
    name: &str,
    bytes: &[u8],
) -> Result<()> {
    let write = |file: &mut Hashed, path: &Path| file.write_all(bytes).map_err(unwritable(path));
    manifest.files.insert(name.to_owned(), folder.add(name, write)?);
    Ok(())
}

/// What the bundle in a folder says of the golden sentences.
fn golden_of(folder: &Path, runtime: &Runtime) -> Result<Vec<u8>> {
    let unfit = |source: ModelError| Error::Model { source: Box::new(source) };
    let failed = |source: ModelError| Error::Run { source: Box::new(source) };
    let bundle = SentenceBundle::open(folder).map_err(unfit)?;
    let mut encoder =
        SentenceEncoder::load(&bundle, runtime, &SessionOptions::default()).map_err(unfit)?;
    let expected = golden::said(&mut encoder).map_err(failed)?;
    // Plain fields; to write them to memory cannot fail.
    Ok(serde_json::to_vec(&expected).unwrap_or_default())
}
