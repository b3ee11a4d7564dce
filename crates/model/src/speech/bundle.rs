//! A speech bundle on disk: opened, checked, named by its digest.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    bundle::{check_file_list, digest, parse, read, require, verify},
    error::Result,
    speech::manifest::{FORMAT_VERSION, SpeechManifest, files},
};

/// Files that every speech bundle lists.
const REQUIRED: [&str; 6] = [
    files::ENCODER,
    files::DECODER,
    files::ALIGNER,
    files::WEIGHTS,
    files::TOKENIZER,
    files::VOICE,
];

/// A folder whose `speech.json` is sound and whose files are those that it lists, byte for byte.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeechBundle {
    folder: PathBuf,
    manifest: SpeechManifest,
    digest: String,
}

impl SpeechBundle {
    /// Opens the speech bundle in a folder: reads and checks `speech.json`, then reads every listed
    /// file to its end and compares its SHA-256.
    ///
    /// # Errors
    /// [`Error::Read`] if the manifest or a listed file cannot be read, [`Error::FormatVersion`],
    /// [`Error::Manifest`], [`Error::Field`] and [`Error::Unlisted`] if the manifest is wrong,
    /// [`Error::Damaged`] if a file is.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(files::MANIFEST);
        let manifest = Self::read_manifest(&path, &read(&path)?)?;
        for (name, expected) in &manifest.files {
            verify(&folder.join(name), expected)?;
        }
        let digest = Self::digest_of(&manifest);
        Ok(Self { folder: folder.to_owned(), manifest, digest })
    }

    /// The manifest whose bytes were read from `path`, checked by itself: no other file is looked at.
    ///
    /// # Errors
    /// [`Error::FormatVersion`], [`Error::Manifest`], [`Error::Field`] and [`Error::Unlisted`].
    pub fn read_manifest(path: &Path, bytes: &[u8]) -> Result<SpeechManifest> {
        let manifest = parse(path, bytes, FORMAT_VERSION)?;
        validate(&manifest)?;
        check_file_list(&manifest.files, &REQUIRED, files::MANIFEST)?;
        Ok(manifest)
    }

    /// What the bundle says about itself.
    #[must_use]
    pub fn manifest(&self) -> &SpeechManifest {
        &self.manifest
    }

    /// Where a file of the bundle lies.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The bundle's name: [`SpeechBundle::digest_of`] its manifest.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The name of the bundle that has this manifest: a SHA-256, 64 digits of lower-case hexadecimal.
    ///
    /// Over a line `eventide-speech 1`, a line `<sha256>  <name>` for each listed file in the order of
    /// their names, and the manifest as compact JSON with `files` emptied.
    #[must_use]
    pub fn digest_of(manifest: &SpeechManifest) -> String {
        let bare = SpeechManifest { files: BTreeMap::new(), ..manifest.clone() };
        digest("eventide-speech 1", &manifest.files, &bare)
    }
}

/// Whether the sizes and tokens of a manifest fit one another, whatever files it lists.
///
/// # Errors
/// [`Error::Field`] for the first that does not.
pub fn validate(manifest: &SpeechManifest) -> Result<()> {
    validate_sizes(manifest)?;
    validate_tokens(manifest)
}

fn validate_sizes(manifest: &SpeechManifest) -> Result<()> {
    let sizes = &manifest.whisper;
    let counts = [
        ("whisper.mel_bands", sizes.mel_bands),
        ("whisper.audio_positions", sizes.audio_positions),
        ("whisper.text_positions", sizes.text_positions),
        ("whisper.width", sizes.width),
        ("whisper.encoder_layers", sizes.encoder_layers),
        ("whisper.encoder_heads", sizes.encoder_heads),
        ("whisper.encoder_mlp", sizes.encoder_mlp),
        ("whisper.decoder_layers", sizes.decoder_layers),
        ("whisper.decoder_heads", sizes.decoder_heads),
        ("whisper.decoder_mlp", sizes.decoder_mlp),
        ("whisper.vocab_size", sizes.vocab_size),
    ];
    for (field, count) in counts {
        require(count > 0, field, || "it is 0".to_owned())?;
    }
    let heads = [
        ("whisper.encoder_heads", sizes.encoder_heads),
        ("whisper.decoder_heads", sizes.decoder_heads),
    ];
    for (field, heads) in heads {
        require(sizes.width.is_multiple_of(heads), field, || {
            format!("`{heads}` does not divide the width of `{}`", sizes.width)
        })?;
    }
    let inside =
        |[layer, head]: &[u32; 2]| *layer < sizes.decoder_layers && *head < sizes.decoder_heads;
    let field = "whisper.alignment_heads";
    require(!sizes.alignment_heads.is_empty(), field, || "there are none".to_owned())?;
    require(sizes.alignment_heads.iter().all(inside), field, || {
        "one is outside the layers and heads of the decoder".to_owned()
    })?;
    let eps = sizes.layer_norm_eps;
    require(eps > 0.0 && eps.is_finite(), "whisper.layer_norm_eps", || {
        format!("`{eps}` is not positive")
    })
}

fn validate_tokens(manifest: &SpeechManifest) -> Result<()> {
    let (tokens, sizes) = (&manifest.tokens, &manifest.whisper);
    let last_time = u64::from(tokens.first_time) + u64::from(sizes.audio_positions);
    require(last_time < u64::from(sizes.vocab_size), "tokens.first_time", || {
        format!("the last time is outside the vocabulary of `{}`", sizes.vocab_size)
    })?;
    let specials = [
        ("tokens.end", tokens.end),
        ("tokens.start", tokens.start),
        ("tokens.transcribe", tokens.transcribe.unwrap_or_default()),
        ("tokens.previous", tokens.previous),
        ("tokens.no_speech", tokens.no_speech),
        ("tokens.no_timestamps", tokens.no_timestamps),
    ];
    for (field, id) in specials {
        require(id < tokens.first_time, field, || format!("`{id}` is a time or none at all"))?;
    }
    let sayable = |id: &u32| *id < tokens.first_time;
    require(tokens.languages.values().all(sayable), "tokens.languages", || {
        "one is a time or none at all".to_owned()
    })?;
    let mut suppressed = tokens.suppressed.iter().chain(&tokens.suppressed_first);
    require(suppressed.all(sayable), "tokens.suppressed", || {
        "one is a time or none at all".to_owned()
    })
}
