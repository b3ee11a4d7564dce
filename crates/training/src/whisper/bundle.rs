//! Writing a speech bundle. The folder appears whole, or not at all.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use eventide_model::speech::{SpeechManifest, manifest::files};
use tempfile::TempDir;

use crate::{
    bundle::{Hashed, parent, unwritable},
    error::{Error, Result},
    graph::Style,
    layout::Layout,
    weights::Source,
    whisper::{graphs, whisper_tensors},
};

/// A speech bundle in a hidden folder beside its place. Dropped before it is published, it removes
/// itself.
#[derive(Debug)]
pub struct SpeechDraft {
    place: PathBuf,
    folder: TempDir,
    manifest: SpeechManifest,
}

impl SpeechDraft {
    /// Writes a speech bundle beside `place`, which must not be there yet; its parent must be.
    /// `weights` are those of [`whisper_tensors`]; `tokenizer` and `voice` are written as they are.
    ///
    /// # Errors
    /// What `weights` say when they are read; [`Error::Exists`] and [`Error::Write`].
    pub fn write(
        place: &Path,
        manifest: &SpeechManifest,
        weights: &dyn Source,
        [tokenizer, voice]: [&[u8]; 2],
        style: Style,
    ) -> Result<Self> {
        if place.exists() {
            return Err(Error::Exists { path: place.to_owned() });
        }
        let folder = tempfile::Builder::new()
            .prefix(".speech-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(parent(place))
            .map_err(unwritable(place))?;
        let manifest = SpeechManifest { files: BTreeMap::new(), ..manifest.clone() };
        let mut draft = Self { place: place.to_owned(), folder, manifest };
        let table = whisper_tensors(&draft.manifest.whisper);
        let layout = Layout::of_tensors(&table, draft.manifest.precision);
        for (name, bytes) in speech_graphs(&draft.manifest, &layout, style)? {
            draft.add(name, &bytes)?;
        }
        draft
            .add_with(files::WEIGHTS, |file, path| layout.write(weights, file, unwritable(path)))?;
        draft.add(files::TOKENIZER, tokenizer)?;
        draft.add(files::VOICE, voice)?;
        Ok(draft)
    }

    /// Gives the bundle its manifest and its place. The answer is its manifest.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn publish(self) -> Result<SpeechManifest> {
        let model_id = || self.manifest.model_id.clone();
        let text = serde_json::to_string_pretty(&self.manifest)
            .map_err(|source| Error::Manifest { model_id: model_id(), source })?;
        let path = self.folder.path().join(files::MANIFEST);
        let mut file = Hashed::create(&path)?;
        writeln!(file, "{text}").map_err(unwritable(&path))?;
        file.finish(&path)?;
        fs::rename(self.folder.path(), &self.place).map_err(unwritable(&self.place))?;
        // What it points to is gone by now, and must not be looked for.
        let _ = self.folder.keep();
        let parent = fs::File::open(parent(&self.place));
        parent.and_then(|parent| parent.sync_all()).map_err(unwritable(&self.place))?;
        Ok(self.manifest)
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.add_with(name, |file, path| file.write_all(bytes).map_err(unwritable(path)))
    }

    fn add_with(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Hashed, &Path) -> Result<()>,
    ) -> Result<()> {
        let path = self.folder.path().join(name);
        let mut file = Hashed::create(&path)?;
        write(&mut file, &path)?;
        self.manifest.files.insert(name.to_owned(), file.finish(&path)?);
        Ok(())
    }
}

/// The graphs of Whisper by file name. `layout` says where the weights lie.
///
/// # Errors
/// [`Error::Missing`] if the layout lacks a weight.
pub fn speech_graphs(
    manifest: &SpeechManifest,
    layout: &Layout,
    style: Style,
) -> Result<[(&'static str, Vec<u8>); 3]> {
    let sizes = &manifest.whisper;
    Ok([
        (files::ENCODER, graphs::encoder(sizes, layout, style)?),
        (files::DECODER, graphs::decoder(sizes, layout, style)?),
        (files::ALIGNER, graphs::aligner(sizes, layout, style)?),
    ])
}
