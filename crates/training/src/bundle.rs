//! Writing a bundle: the graphs, the weights, the tokenizer and the manifest with their digests.
//! The folder appears whole, or not at all.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use eventide_model::manifest::{Manifest, files};
use sha2::{Digest as _, Sha256};

use crate::{
    error::{Error, Result},
    graph::Style,
    layout::Layout,
    t5, temporal, vision,
    weights::Weights,
};

/// The fewest decoder steps that a bundle is made for, so that a job may raise the limit.
const DECODER_POSITIONS: usize = 1024;

/// Writes the bundle of a model to `folder`, which must not be there yet; its parent must be.
///
/// The manifest is written with the digests of the other files, whatever it lists now.
///
/// # Errors
/// [`Error::Missing`], [`Error::Shape`] or [`Error::Surplus`] if `weights` are not those that
/// `manifest` describes; [`Error::Divide`] if heads do not divide a width; [`Error::Exists`] and
/// [`Error::Write`]. After an error there is no folder.
pub fn write_bundle(
    folder: &Path,
    manifest: &Manifest,
    weights: &Weights,
    tokenizer: &[u8],
    style: Style,
) -> Result<()> {
    check_heads(manifest)?;
    weights.check(manifest)?;
    if folder.exists() {
        return Err(Error::Exists { path: folder.to_owned() });
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let unwritable = |source| Error::Write { path: folder.to_owned(), source };
    // Dropped before it is renamed, it removes itself and what is in it.
    let partial = tempfile::Builder::new()
        .prefix(".bundle-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .map_err(unwritable)?;
    fill(partial.path(), manifest, weights, tokenizer, style)?;
    fs::rename(partial.path(), folder).map_err(unwritable)?;
    // What it points to is gone by now, and must not be looked for.
    let _ = partial.keep();
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(unwritable)
}

fn fill(
    folder: &Path,
    manifest: &Manifest,
    weights: &Weights,
    tokenizer: &[u8],
    style: Style,
) -> Result<()> {
    let layout = Layout::of(weights);
    let mut manifest = manifest.clone();
    manifest.files.clear();
    for (name, bytes) in graphs(&manifest, &layout, style)? {
        let digest = write(&folder.join(name), |file| file.write_all(&bytes))?;
        manifest.files.insert(name.to_owned(), digest);
    }
    let digest = write(&folder.join(files::WEIGHTS), |file| layout.write(weights, file))?;
    manifest.files.insert(files::WEIGHTS.to_owned(), digest);
    let digest = write(&folder.join(files::TOKENIZER), |file| file.write_all(tokenizer))?;
    manifest.files.insert(files::TOKENIZER.to_owned(), digest);

    let text = serde_json::to_string_pretty(&manifest)
        .map_err(|source| Error::Manifest { model_id: manifest.model_id.clone(), source })?;
    write(&folder.join(files::MANIFEST), |file| writeln!(file, "{text}"))?;
    Ok(())
}

/// The graphs of a model by file name. `layout` says where the weights lie.
///
/// # Errors
/// [`Error::Missing`] if the layout lacks a weight.
pub fn graphs(
    manifest: &Manifest,
    layout: &Layout,
    style: Style,
) -> Result<[(&'static str, Vec<u8>); 5]> {
    let sizes = &manifest.t5;
    let inputs = manifest.text.max_input_tokens as usize;
    let steps = DECODER_POSITIONS.max(manifest.decoding.max_output_tokens as usize + 1);
    let d_model = sizes.d_model as usize;
    Ok([
        (files::VISION, vision::vision(&manifest.vision, layout, style)?),
        (files::TEMPORAL, temporal::temporal(&manifest.temporal, d_model, layout, style)?),
        (files::TEXT_ENCODER, t5::text_encoder(sizes, inputs, layout, style)?),
        (files::CROSS, t5::cross(sizes, layout, style)?),
        (files::DECODER, t5::decoder(sizes, steps, layout, style)?),
    ])
}

fn check_heads(manifest: &Manifest) -> Result<()> {
    let (vision, temporal) = (&manifest.vision, &manifest.temporal);
    let parts = [
        ("vision.width", vision.width, vision.heads),
        ("vision.image_size", vision.image_size, vision.patch),
        ("temporal.dim", temporal.dim, temporal.heads),
    ];
    match parts.into_iter().find(|&(_, whole, by)| by == 0 || whole % by != 0) {
        Some((part, whole, by)) => {
            Err(Error::Divide { part, whole: whole as usize, by: by as usize })
        }
        None => Ok(()),
    }
}

/// Writes a file through to the disk; the answer is its SHA-256 in hexadecimal.
fn write(
    path: &Path,
    content: impl FnOnce(&mut Hashed<BufWriter<File>>) -> io::Result<()>,
) -> Result<String> {
    let written = || {
        let mut hashed = Hashed { hash: Sha256::new(), file: BufWriter::new(File::create(path)?) };
        content(&mut hashed)?;
        hashed.file.flush()?;
        hashed.file.get_ref().sync_all()?;
        Ok(format!("{:x}", hashed.hash.finalize()))
    };
    written().map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// A file whose bytes are hashed as they pass.
struct Hashed<W> {
    hash: Sha256,
    file: W,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
