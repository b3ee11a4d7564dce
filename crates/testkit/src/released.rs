//! Checkpoints as they are released, of random weights: VidChapters' zip of a pickle and its storages, and CLIP's in
//! half precision. One tensor is in memory at a time, so that those of full size can be written anywhere.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use eventide_model::manifest::Manifest;
use eventide_training::presets;
use eventide_training::seeded::Seeded;
use eventide_training::tensors::{TensorSpec, t5_tensors, temporal_tensors, vision_tensors};
use eventide_training::weights::Source as _;
use half::f16;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::bundles::TINY_TOKENIZER;
use crate::error::{Error, Result};
use crate::tools::Tools;

/// The names that T5's embedding table has in a checkpoint; all share one storage.
const TIED: [&str; 4] = [
    "t5_model.shared.weight",
    "t5_model.encoder.embed_tokens.weight",
    "t5_model.decoder.embed_tokens.weight",
    "t5_model.lm_head.weight",
];

/// The files of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoints {
    /// The SentencePiece model.
    pub tokenizer: PathBuf,
    /// Temporal encoder and T5, under `model`, as floats.
    pub vid2seq: PathBuf,
    /// The vision encoder as half floats.
    pub clip: PathBuf,
}

/// Writes `vid2seq.pth`, `clip.pt` and `spiece.model` to `folder`, which must be there: the model that
/// [`bundles::tiny`](crate::bundles::tiny) makes of this seed, the way one is released.
///
/// # Errors
/// [`Error::File`], [`Error::Bundle`].
pub fn tiny(folder: &Path, seed: u64) -> Result<Checkpoints> {
    write(folder, &presets::tiny(), Path::new(TINY_TOKENIZER), seed)
}

/// The same of full size, 1.8 GB: T5-base, a temporal encoder of 12 layers, and CLIP's ViT-L/14.
///
/// # Errors
/// [`Error::MissingTool`] where T5's tokenizer is missing, [`Error::File`], [`Error::Bundle`].
pub fn base(tools: &Tools, folder: &Path, seed: u64) -> Result<Checkpoints> {
    write(folder, &presets::base(), &tools.t5_tokenizer()?, seed)
}

/// The same of any sizes, with a copy of a SentencePiece model.
///
/// # Errors
/// [`Error::File`], [`Error::Bundle`].
pub fn write(
    folder: &Path,
    manifest: &Manifest,
    tokenizer: &Path,
    seed: u64,
) -> Result<Checkpoints> {
    let [vid2seq, clip, spiece] =
        ["vid2seq.pth", "clip.pt", "spiece.model"].map(|name| folder.join(name));
    let weights = Seeded::new(manifest, seed);
    let mut tensors = t5_tensors(&manifest.t5);
    tensors.extend(temporal_tensors(&manifest.temporal, manifest.t5.d_model));
    Dictionary { tensors, element: Element::Float, key: Some("model") }
        .write(&weights, &vid2seq)?;
    let tensors = vision_tensors(&manifest.vision);
    Dictionary { tensors, element: Element::Half, key: None }.write(&weights, &clip)?;
    fs::copy(tokenizer, &spiece).map_err(Error::file("write", &spiece))?;
    Ok(Checkpoints { tokenizer: spiece, vid2seq, clip })
}

#[derive(Debug, Clone, Copy)]
enum Element {
    Float,
    Half,
}

impl Element {
    fn storage(self) -> &'static str {
        match self {
            Self::Float => "FloatStorage",
            Self::Half => "HalfStorage",
        }
    }

    fn bytes(self, value: f32) -> Vec<u8> {
        match self {
            Self::Float => value.to_le_bytes().to_vec(),
            Self::Half => f16::from_f32(value).to_le_bytes().to_vec(),
        }
    }
}

/// A state dictionary to be written.
struct Dictionary {
    tensors: Vec<TensorSpec>,
    element: Element,
    /// The key under which it lies in another dictionary.
    key: Option<&'static str>,
}

impl Dictionary {
    fn write(&self, weights: &Seeded, path: &Path) -> Result<()> {
        let unwritable = |source: io::Error| Error::file("write", path)(source);
        let file = File::create(path).map_err(unwritable)?;
        let mut zip = ZipWriter::new(BufWriter::new(file));
        let stored =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        let entry = |zip: &mut ZipWriter<_>, name: String| {
            zip.start_file(name, stored).map_err(|error| unwritable(error.into()))
        };
        entry(&mut zip, "archive/data.pkl".to_owned())?;
        zip.write_all(&self.pickle()).map_err(unwritable)?;
        // Without its version `torch.load` takes it for no checkpoint at all.
        entry(&mut zip, "archive/version".to_owned())?;
        zip.write_all(b"3\n").map_err(unwritable)?;
        for (number, tensor) in self.tensors.iter().enumerate() {
            let weight = weights.weight(&tensor.name).map_err(|source| Error::Bundle {
                path: path.to_path_buf(),
                source: Box::new(source),
            })?;
            entry(&mut zip, format!("archive/data/{number}"))?;
            let turned = tensor.turned.then(|| weight.transposed());
            let values = turned.as_ref().unwrap_or(&weight).values();
            for values in values.chunks(1 << 16) {
                let bytes: Vec<u8> =
                    values.iter().flat_map(|value| self.element.bytes(*value)).collect();
                zip.write_all(&bytes).map_err(unwritable)?;
            }
        }
        zip.finish().map_err(|error| unwritable(error.into()))?.flush().map_err(unwritable)
    }

    /// The pickle of protocol 2 that `torch.save` writes.
    fn pickle(&self) -> Vec<u8> {
        let mut pickle = vec![0x80, 2];
        if let Some(key) = self.key {
            pickle.push(b'}');
            text(&mut pickle, key);
        }
        pickle.extend(b"ccollections\nOrderedDict\n)R(");
        for (number, tensor) in self.tensors.iter().enumerate() {
            let one = [tensor.source.as_str()];
            let names = if tensor.source == TIED[0] { &TIED[..] } else { &one };
            for name in names.iter().filter(|name| !self.is_other(tensor, name)) {
                text(&mut pickle, name);
                self.tensor(&mut pickle, number, &tensor.source_shape);
            }
        }
        pickle.push(b'u');
        if self.key.is_some() {
            pickle.push(b's');
        }
        pickle.push(b'.');
        pickle
    }

    /// Whether one of the names of the embedding table is that of another tensor, as an output layer of its own is.
    fn is_other(&self, tensor: &TensorSpec, name: &str) -> bool {
        name != tensor.source && self.tensors.iter().any(|other| other.source == name)
    }

    /// A call that makes a tensor of storage `number`.
    fn tensor(&self, pickle: &mut Vec<u8>, number: usize, shape: &[usize]) {
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(pickle, "storage");
        pickle.extend(format!("ctorch\n{}\n", self.element.storage()).bytes());
        text(pickle, &number.to_string());
        text(pickle, "cpu");
        integer(pickle, shape.iter().product());
        pickle.extend(b"tQ");
        integer(pickle, 0);
        pickle.push(b'(');
        for size in shape {
            integer(pickle, *size);
        }
        pickle.extend(b"t(");
        for axis in 1..=shape.len() {
            integer(pickle, shape[axis..].iter().product());
        }
        pickle.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
    }
}

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend(u32::try_from(text.len()).unwrap_or_default().to_le_bytes());
    pickle.extend(text.bytes());
}

/// A whole number below 2^31.
fn integer(pickle: &mut Vec<u8>, value: usize) {
    pickle.push(b'J');
    pickle.extend(i32::try_from(value).unwrap_or(i32::MAX).to_le_bytes());
}
