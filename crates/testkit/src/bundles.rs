//! Model bundles: of random weights, real graphs of real sizes whose captions mean nothing; and the small model of the
//! golden data, which was trained on an invented task and so writes events, though not about what it sees here.

use std::fs;
use std::path::Path;

use eventide_model::manifest::{Manifest, files};
use eventide_model::runtime::Runtime;
use eventide_training::Style;
use eventide_training::bundle::Draft;
use eventide_training::checkpoint::Checkpoint;
use eventide_training::import::{Given, Sizes, import};
use eventide_training::presets;
use eventide_training::seeded::Seeded;
use eventide_training::weights::Source;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::tools::{Tools, tools};

/// The small model of the golden data, as its training left it.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/golden/vid2seq-tiny");
/// The tokenizer of 200 pieces that belongs to [`presets::tiny`].
pub(crate) const TINY_TOKENIZER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/golden/vid2seq-tiny/spiece.model");

/// Writes a model of half a million parameters to `folder`, which must not be there yet; its parent must be. The same
/// seed gives the same model.
///
/// # Errors
/// [`Error::MissingTool`] where ONNX Runtime is missing, [`Error::File`] where the tokenizer cannot be read,
/// [`Error::Bundle`].
pub fn tiny(folder: &Path, seed: u64) -> Result<()> {
    seeded(&tools()?, folder, &presets::tiny(), Path::new(TINY_TOKENIZER), seed)
}

/// Writes a model of the sizes of the released Vid2Seq, some 2.5 GB, likewise.
///
/// # Errors
/// [`Error::MissingTool`] where T5's tokenizer or ONNX Runtime is missing, [`Error::File`], [`Error::Bundle`].
pub fn base(tools: &Tools, folder: &Path, seed: u64) -> Result<()> {
    seeded(tools, folder, &presets::base(), &tools.t5_tokenizer()?, seed)
}

/// Writes the model of the golden data, out of its checkpoint, likewise. Whatever it is shown, it writes captions with
/// times, and scores them.
///
/// # Errors
/// [`Error::File`], [`Error::Bundle`].
pub fn golden(folder: &Path) -> Result<()> {
    let source = Path::new(GOLDEN);
    let wrong = |source| Error::Bundle { path: folder.to_path_buf(), source: Box::new(source) };
    let read = |name: &str| Checkpoint::read(&source.join(name)).map_err(wrong);
    let given = Given { temporal_heads: 4, ..Given::default() };
    let (Sizes { vision, temporal, t5 }, weights) =
        import(&read("checkpoint.pth")?, &read("clip.pt")?, &given).map_err(wrong)?;
    let manifest = Manifest { vision, temporal, t5, trained: true, ..presets::tiny() };
    let tokenizer = source.join("spiece.model");
    write(&tools()?, folder, &manifest, &weights, &tokenizer)
}

/// The same model with a golden clip of which it is to say something else: to a worker every device looks broken.
///
/// # Errors
/// Those of [`golden`].
pub fn unfaithful(folder: &Path) -> Result<()> {
    golden(folder)?;
    let (said, manifest) = (folder.join(files::GOLDEN_EXPECTED), folder.join(files::MANIFEST));
    let read = |path: &Path| fs::read(path).map_err(Error::file("read", path));
    let text =
        String::from_utf8_lossy(&read(&said)?).replacen("\"tokens\": [", "\"tokens\": [7,", 1);
    let mut listed: Value = serde_json::from_slice(&read(&manifest)?).unwrap_or_default();
    let digest = Sha256::digest(text.as_bytes());
    let digest = digest.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    listed["files"][files::GOLDEN_EXPECTED] = Value::String(digest);
    let write =
        |path: &Path, bytes: &[u8]| fs::write(path, bytes).map_err(Error::file("write", path));
    write(&said, text.as_bytes())?;
    write(&manifest, listed.to_string().as_bytes())
}

fn seeded(
    tools: &Tools,
    folder: &Path,
    manifest: &Manifest,
    tokenizer: &Path,
    seed: u64,
) -> Result<()> {
    write(tools, folder, manifest, &Seeded::new(manifest, seed), tokenizer)
}

fn write(
    tools: &Tools,
    folder: &Path,
    manifest: &Manifest,
    weights: &dyn Source,
    tokenizer: &Path,
) -> Result<()> {
    let wrong = |source| Error::Bundle { path: folder.to_path_buf(), source: Box::new(source) };
    let tokenizer = fs::read(tokenizer).map_err(Error::file("read", tokenizer))?;
    let runtime = Runtime::load(&tools.onnx_runtime()?).map_err(|source| {
        wrong(eventide_training::Error::Model { source: Box::new(source.into()) })
    })?;
    let mut draft =
        Draft::write(folder, manifest, weights, &tokenizer, Style::default()).map_err(wrong)?;
    draft.add_golden(&runtime).map_err(wrong)?;
    draft.publish().map(|_| ()).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfaithful_bundle_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("bundle");
        unfaithful(&bundle).unwrap();
        let bundle = eventide_model::Bundle::open(&bundle).unwrap();
        let expected = eventide_model::golden::Expected::of(&bundle).unwrap().unwrap();
        assert_eq!(expected.greedy.tokens[0], 7);
    }

    #[test]
    fn a_seed_decides_the_weights() {
        let folder = tempfile::tempdir().unwrap();
        let weights = |name: &str, seed| {
            let bundle = folder.path().join(name);
            tiny(&bundle, seed).unwrap();
            fs::read(bundle.join("bundle.json")).unwrap()
        };
        let first = weights("first", 1);
        assert_eq!(first, weights("same", 1), "the manifest holds the digests of all files");
        assert_ne!(first, weights("other", 2));
    }
}
