//! Writing a speech bundle. The folder appears whole, or not at all.

use std::{collections::BTreeMap, io::Write as _, path::Path};

use eventide_model::{
    Error as ModelError,
    runtime::{Runtime, SessionOptions},
    speech::{
        Recogniser, RecognitionOptions, SpeechBundle, SpeechManifest, golden, manifest::files,
    },
};

use crate::{
    bundle::{DraftFolder, Hashed, unwritable},
    error::{Error, Result},
    graph::Style,
    layout::Layout,
    weights::Source,
    whisper::{graphs, whisper_tensors},
};

/// The golden sound: "The Earth turns slowly in the dark.", said by Piper's voice `en_US-joe-medium` (MIT).
const GOLDEN_SOUND: &[u8] = include_bytes!("golden.wav");

/// A speech bundle in a hidden folder beside its place. Dropped before it is published, it removes
/// itself.
#[derive(Debug)]
pub struct SpeechDraft {
    folder: DraftFolder,
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
        let folder = DraftFolder::start(place)?;
        let manifest = SpeechManifest { files: BTreeMap::new(), ..manifest.clone() };
        let mut draft = Self { folder, manifest };
        let table = whisper_tensors(&draft.manifest.whisper);
        let layout = Layout::of_tensors(&table, draft.manifest.precision);
        for (name, bytes) in speech_graphs(&draft.manifest, &layout, style)? {
            draft.add(name, &bytes)?;
        }
        draft
            .add_with(files::WEIGHTS, |file, path| layout.write(weights, file, unwritable(path)))?;
        draft.add(files::TOKENIZER, tokenizer)?;
        draft.add(files::VOICE, voice)?;
        draft.write_manifest()?;
        Ok(draft)
    }

    /// Lets the recogniser hear the golden sound, and puts both it and what is heard into the bundle.
    ///
    /// # Errors
    /// [`Error::Model`] if the bundle cannot be opened, [`Error::Run`] if it cannot be run,
    /// [`Error::Write`].
    pub fn add_golden(&mut self, runtime: &Runtime) -> Result<()> {
        let unfit = |source: ModelError| Error::Model { source: Box::new(source) };
        let failed = |source: ModelError| Error::Run { source: Box::new(source) };
        let bundle = SpeechBundle::open(self.folder.path()).map_err(unfit)?;
        let options = (SessionOptions::default(), RecognitionOptions::default());
        let mut recogniser =
            Recogniser::load(&bundle, runtime, &options.0, options.1).map_err(unfit)?;
        let samples = golden::samples(GOLDEN_SOUND).unwrap_or_default(); // a test reads it
        let expected = golden::heard(&mut recogniser, &samples).map_err(failed)?;
        // Plain fields; to write them to memory cannot fail.
        let mut text = serde_json::to_vec_pretty(&expected).unwrap_or_default();
        text.push(b'\n');
        self.add(files::GOLDEN_SOUND, GOLDEN_SOUND)?;
        self.add(files::GOLDEN_EXPECTED, &text)?;
        self.write_manifest()
    }

    /// Gives the bundle its place. The answer is its manifest.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn publish(self) -> Result<SpeechManifest> {
        self.folder.publish()?;
        Ok(self.manifest)
    }

    fn write_manifest(&self) -> Result<()> {
        self.folder.add_manifest(files::MANIFEST, &self.manifest.model_id, &self.manifest)
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.add_with(name, |file, path| file.write_all(bytes).map_err(unwritable(path)))
    }

    fn add_with(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Hashed, &Path) -> Result<()>,
    ) -> Result<()> {
        let digest = self.folder.add(name, write)?;
        self.manifest.files.insert(name.to_owned(), digest);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_sound_can_be_read() {
        let samples = golden::samples(GOLDEN_SOUND).unwrap();
        assert!((32_000..48_000).contains(&samples.len()), "{}", samples.len());
    }
}
