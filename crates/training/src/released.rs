//! From the files of a release to a bundle: a `VidChapters` checkpoint, a CLIP model and a tokenizer.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use eventide_model::{
    Tokenizer,
    bundle::BundleManifest as _,
    manifest::{FrameRule, Manifest, Precision, TimeTokens},
    runtime::Runtime,
};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::{
    Style,
    bundle::Draft,
    checkpoint::Checkpoint,
    convert::convert,
    error::{Error, Result},
    import::{Given, Released, Sizes},
    presets,
    weights::Source as _,
};

/// A release, and what its files do not tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// The checkpoint of the temporal encoder and T5.
    pub vid2seq: PathBuf,
    /// The CLIP model, under `OpenAI`'s names or Hugging Face's.
    pub clip: PathBuf,
    /// The SentencePiece model.
    pub tokenizer: PathBuf,
    /// The name of the bundle.
    pub model_id: String,
    /// SPDX expression of the weights' licence.
    pub licence: String,
    /// How many rows of the vocabulary, the last ones, are time tokens.
    pub time_tokens: u32,
    /// Sizes and rules of the network.
    pub given: Given,
}

/// A bundle that was made of a release.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// Its manifest, as it was written.
    pub manifest: Manifest,
    /// The number of values in all tensors.
    pub parameters: usize,
    /// The number of tensors.
    pub tensors: usize,
}

impl Release {
    /// Writes the bundle of a release to `folder`, which must not be there yet; its parent must be.
    ///
    /// Tensors go from the files of the release to that of the bundle one at a time. What is not of full
    /// precision is made of a bundle that is, which is removed again.
    ///
    /// # Errors
    /// Those of [`Checkpoint::read`], [`Released`], [`Draft`] and [`convert`]; [`Error::Vocabulary`] if the
    /// tokenizer is not that of the checkpoint, [`Error::Model`] if it is none, or if the parts do not
    /// fit one another. After an error there is no folder.
    pub fn import(
        &self,
        folder: &Path,
        style: Style,
        precision: Precision,
        runtime: &Runtime,
    ) -> Result<Imported> {
        if folder.exists() {
            return Err(Error::Exists { path: folder.to_owned() });
        }
        let tokenizer = fs::read(&self.tokenizer).map_err(unreadable(&self.tokenizer))?;
        let vid2seq = Checkpoint::read(&self.vid2seq)?;
        let clip = Checkpoint::read(&self.clip)?.with_openai_names()?;
        let (vision, weights) = Released::vision(&clip, &self.given)?;
        let (temporal, t5, more) = Released::vid2seq(&vid2seq, &self.given)?;
        let weights = weights.with(more);
        let manifest = self.manifest(Sizes { vision, temporal, t5 }, &tokenizer)?;
        let shapes = weights.shapes();
        let tensors = shapes.len();
        let parameters = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let mut draft = Draft::write(folder, &manifest, &weights, &tokenizer, style)?;
        draft.add_golden(runtime)?;
        let manifest = match precision {
            Precision::Fp32 => draft.publish()?,
            Precision::Fp16 | Precision::Int8 => {
                convert(&draft.open()?, precision, folder, runtime)?
            }
        };
        Ok(Imported { manifest, parameters, tensors })
    }

    /// The manifest of the bundle, without its files.
    fn manifest(&self, sizes: Sizes, tokenizer: &[u8]) -> Result<Manifest> {
        let base = presets::base();
        let vocabulary = sizes.t5.vocab_size;
        let first_id = vocabulary.saturating_sub(self.time_tokens);
        let manifest = Manifest {
            model_id: self.model_id.clone(),
            trained: true,
            licence: self.licence.clone(),
            provenance: format!(
                "imported from {} and {}",
                described(&self.vid2seq)?,
                described(&self.clip)?
            ),
            frames: FrameRule { count: sizes.temporal.positions, ..base.frames },
            time_tokens: TimeTokens { bins: self.time_tokens, first_id, ..base.time_tokens },
            vision: sizes.vision,
            temporal: sizes.temporal,
            t5: sizes.t5,
            ..base
        };
        manifest.validate().map_err(unfit)?;
        let pieces = Tokenizer::pieces_of(tokenizer).map_err(unfit)?;
        let extra_ids = manifest.text.extra_ids;
        if u64::from(pieces) + u64::from(extra_ids) != u64::from(first_id) {
            let time_tokens = self.time_tokens;
            return Err(Error::Vocabulary { pieces, extra_ids, time_tokens, vocabulary });
        }
        Tokenizer::new(tokenizer, &manifest).map_err(unfit)?;
        Ok(manifest)
    }
}

/// A file by its name and its digest.
pub(crate) fn described(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut hash))
        .map_err(unreadable(path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("`{name}` (SHA-256 {:x})", hash.finalize()))
}

/// What a file of JSON holds, as far as it is read.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).map_err(unreadable(path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Input {
        path: path.to_owned(),
        name: "the whole".to_owned(),
        problem: error.to_string(),
    })
}

pub(crate) fn unreadable(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Read { path: path.to_owned(), source }
}

pub(crate) fn unfit(source: eventide_model::Error) -> Error {
    Error::Model { source: Box::new(source) }
}
