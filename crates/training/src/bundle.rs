//! Writing a bundle: the graphs, the weights, the tokenizer and the manifest with their digests.
//! The folder appears whole, or not at all.

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use eventide_model::{
    Bundle, Vid2Seq,
    golden::{Clip, Expected, said},
    manifest::{Manifest, files},
    runtime::{Runtime, SessionOptions},
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{
    error::{Error, Result},
    golden::{GOLDEN_SEED, clip_file, expected_file, painted},
    graph::Style,
    layout::Layout,
    t5, temporal, vision,
    weights::{Source, check},
};

/// The fewest decoder steps that a bundle is made for, so that a job may raise the limit.
const DECODER_POSITIONS: usize = 1024;

/// Writes the bundle of a model to `folder`, which must not be there yet; its parent must be. It has
/// no golden clip; [`Draft`] is the way to one.
///
/// # Errors
/// As [`Draft::write`] and [`Draft::publish`]. After an error there is no folder.
pub fn write_bundle(
    folder: &Path,
    manifest: &Manifest,
    weights: &dyn Source,
    tokenizer: &[u8],
    style: Style,
) -> Result<()> {
    Draft::write(folder, manifest, weights, tokenizer, style)?.publish().map(|_| ())
}

/// A hidden folder beside the place that a bundle will have. Dropped before it is published, it removes
/// itself.
#[derive(Debug)]
pub(crate) struct DraftFolder {
    place: PathBuf,
    folder: TempDir,
}

impl DraftFolder {
    /// Makes the folder. Nothing must be at `place` yet; its parent must be.
    ///
    /// # Errors
    /// [`Error::Exists`] and [`Error::Write`].
    pub(crate) fn start(place: &Path) -> Result<Self> {
        if place.exists() {
            return Err(Error::Exists { path: place.to_owned() });
        }
        let folder = tempfile::Builder::new()
            .prefix(".bundle-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(parent(place))
            .map_err(unwritable(place))?;
        Ok(Self { place: place.to_owned(), folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file. The answer is its SHA-256 in hexadecimal.
    ///
    /// # Errors
    /// [`Error::Write`], and what `write` gives.
    pub(crate) fn add(
        &self,
        name: &str,
        write: impl FnOnce(&mut Hashed, &Path) -> Result<()>,
    ) -> Result<String> {
        let path = self.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(unwritable(folder))?;
        }
        let mut file = Hashed::create(&path)?;
        write(&mut file, &path)?;
        file.finish(&path)
    }

    /// Writes the manifest of the model `model_id`.
    ///
    /// # Errors
    /// [`Error::Manifest`] and [`Error::Write`].
    pub(crate) fn add_manifest(
        &self,
        name: &str,
        model_id: &str,
        manifest: &impl Serialize,
    ) -> Result<()> {
        let text = serde_json::to_string_pretty(manifest)
            .map_err(|source| Error::Manifest { model_id: model_id.to_owned(), source })?;
        self.add(name, |file, path| writeln!(file, "{text}").map_err(unwritable(path)))?;
        Ok(())
    }

    /// Gives the folder its place.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(crate) fn publish(self) -> Result<()> {
        fs::rename(self.path(), &self.place).map_err(unwritable(&self.place))?;
        // What it points to is gone by now, and must not be looked for.
        let _ = self.folder.keep();
        let parent = File::open(parent(&self.place));
        parent.and_then(|parent| parent.sync_all()).map_err(unwritable(&self.place))
    }
}

/// A bundle in a hidden folder beside its place. Dropped before it is published, it removes itself.
#[derive(Debug)]
pub struct Draft {
    folder: DraftFolder,
    manifest: Manifest,
}

impl Draft {
    /// Writes a bundle beside `place`, which must not be there yet; its parent must be.
    ///
    /// The manifest is written with the digests of the other files, whatever it lists now. Weights are
    /// asked for one at a time, in the precision that it says.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Shape`] or [`Error::Surplus`] if `weights` are not those that
    /// `manifest` describes, and what they say when they are read; [`Error::Divide`] if heads do not
    /// divide a width; [`Error::Exists`] and [`Error::Write`].
    pub fn write(
        place: &Path,
        manifest: &Manifest,
        weights: &dyn Source,
        tokenizer: &[u8],
        style: Style,
    ) -> Result<Self> {
        check_heads(manifest)?;
        check(weights, manifest)?;
        let folder = DraftFolder::start(place)?;
        let manifest = Manifest { files: BTreeMap::new(), ..manifest.clone() };
        let mut draft = Self { folder, manifest };
        let layout = Layout::of_model(&draft.manifest);
        for (name, bytes) in graphs(&draft.manifest, &layout, style)? {
            draft.add(name, &bytes)?;
        }
        let write = |file: &mut Hashed, path: &Path| layout.write(weights, file, unwritable(path));
        let digest = draft.folder.add(files::WEIGHTS, write)?;
        draft.manifest.files.insert(files::WEIGHTS.to_owned(), digest);
        draft.add(files::TOKENIZER, tokenizer)?;
        draft.write_manifest()?;
        Ok(draft)
    }

    /// What the bundle says about itself so far.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bundle, to be run before it is published.
    ///
    /// # Errors
    /// [`Error::Model`].
    pub fn open(&self) -> Result<Bundle> {
        Bundle::open(self.folder.path()).map_err(|source| Error::Model { source: Box::new(source) })
    }

    /// Paints a clip, shows it to the model, and puts both it and what the model says into the bundle.
    ///
    /// # Errors
    /// [`Error::Model`] and [`Error::Run`] if the model cannot be run, [`Error::Write`].
    pub fn add_golden(&mut self, runtime: &Runtime) -> Result<()> {
        let mut model = load(&self.open()?, runtime)?;
        let clip = painted(&self.manifest, model.tokenizer(), GOLDEN_SEED)?;
        let expected = said(&mut model, &clip)?;
        self.add_said(&clip, &expected)
    }

    /// Puts a clip and what the model says of it into the bundle.
    pub(crate) fn add_said(&mut self, clip: &Clip, expected: &Expected) -> Result<()> {
        self.add(files::GOLDEN_CLIP, &clip_file(clip))?;
        self.add(files::GOLDEN_EXPECTED, &expected_file(expected))?;
        self.write_manifest()
    }

    /// Puts figures into the manifest, in place of any of their names.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn add_metrics(&mut self, metrics: BTreeMap<String, f64>) -> Result<()> {
        self.manifest.metrics.extend(metrics);
        self.write_manifest()
    }

    /// Gives the bundle its place. The answer is its manifest.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn publish(self) -> Result<Manifest> {
        self.folder.publish()?;
        Ok(self.manifest)
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let digest =
            self.folder.add(name, |file, path| file.write_all(bytes).map_err(unwritable(path)))?;
        self.manifest.files.insert(name.to_owned(), digest);
        Ok(())
    }

    fn write_manifest(&self) -> Result<()> {
        self.folder.add_manifest(files::MANIFEST, &self.manifest.model_id, &self.manifest)
    }
}

/// The model of a bundle on the processor.
pub(crate) fn load(bundle: &Bundle, runtime: &Runtime) -> Result<Vid2Seq> {
    Vid2Seq::load(bundle, runtime, &SessionOptions::default())
        .map_err(|source| Error::Model { source: Box::new(source) })
}

pub(crate) fn parent(place: &Path) -> &Path {
    match place.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

pub(crate) fn unwritable(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Write { path: path.to_owned(), source }
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

/// A file whose bytes are hashed as they pass.
pub(crate) struct Hashed {
    hash: Sha256,
    file: BufWriter<File>,
}

impl Hashed {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(unwritable(path))?;
        Ok(Self { hash: Sha256::new(), file: BufWriter::new(file) })
    }

    /// Brings it to the disk; the answer is its SHA-256 in hexadecimal.
    pub(crate) fn finish(mut self, path: &Path) -> Result<String> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .map_err(unwritable(path))?;
        Ok(format!("{:x}", self.hash.finalize()))
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
