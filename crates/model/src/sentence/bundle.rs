//! A sentence bundle on disk: opened, checked, named by its digest.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    bundle::{check_file_list, digest, parse, read, require, verify},
    error::Result,
    sentence::manifest::{FORMAT_VERSION, SentenceManifest, files},
};

/// Files that every sentence bundle lists.
const REQUIRED: [&str; 3] = [files::ENCODER, files::WEIGHTS, files::TOKENIZER];

/// A folder whose `sentence.json` is sound and whose files are those that it lists, byte for byte.
#[derive(Debug, Clone, PartialEq)]
pub struct SentenceBundle {
    folder: PathBuf,
    manifest: SentenceManifest,
    digest: String,
}

impl SentenceBundle {
    /// Opens the sentence bundle in a folder: reads and checks `sentence.json`, then reads every listed file to its end
    /// and compares its SHA-256.
    ///
    /// # Errors
    /// [`Error::Read`] if the manifest or a listed file cannot be read, [`Error::FormatVersion`], [`Error::Manifest`],
    /// [`Error::Field`] and [`Error::Unlisted`] if the manifest is wrong, [`Error::Damaged`] if a file is.
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
    /// As [`SentenceBundle::open`], of the manifest.
    pub fn read_manifest(path: &Path, bytes: &[u8]) -> Result<SentenceManifest> {
        let manifest = parse(path, bytes, FORMAT_VERSION)?;
        validate(&manifest)?;
        check_file_list(&manifest.files, &REQUIRED, files::MANIFEST)?;
        Ok(manifest)
    }

    /// What the bundle says about itself.
    #[must_use]
    pub fn manifest(&self) -> &SentenceManifest {
        &self.manifest
    }

    /// Where a file of the bundle lies.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The bundle's name: [`SentenceBundle::digest_of`] its manifest.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The name of the bundle that has this manifest: a SHA-256, 64 digits of lower-case hexadecimal, over a line
    /// `eventide-sentence 1`, a line `<sha256>  <name>` for each listed file in the order of their names, and the
    /// manifest as compact JSON with `files` emptied.
    #[must_use]
    pub fn digest_of(manifest: &SentenceManifest) -> String {
        let bare = SentenceManifest { files: BTreeMap::new(), ..manifest.clone() };
        digest("eventide-sentence 1", &manifest.files, &bare)
    }
}

/// Whether the sizes of a manifest fit one another, whatever files it lists.
///
/// # Errors
/// [`Error::Field`] for the first that does not.
pub fn validate(manifest: &SentenceManifest) -> Result<()> {
    let sizes = &manifest.bert;
    let counts = [
        ("bert.width", sizes.width),
        ("bert.layers", sizes.layers),
        ("bert.heads", sizes.heads),
        ("bert.mlp", sizes.mlp),
        ("bert.positions", sizes.positions),
        ("bert.types", sizes.types),
        ("bert.vocab_size", sizes.vocab_size),
    ];
    for (field, count) in counts {
        require(count > 0, field, || "it is 0".to_owned())?;
    }
    require(sizes.width.is_multiple_of(sizes.heads), "bert.heads", || {
        format!("`{}` does not divide the width of `{}`", sizes.heads, sizes.width)
    })?;
    let most = manifest.most_tokens;
    require((3..=sizes.positions).contains(&most), "most_tokens", || {
        format!("`{most}` is not from 3 to the {} positions", sizes.positions)
    })?;
    let eps = sizes.layer_norm_eps;
    require(eps > 0.0 && eps.is_finite(), "bert.layer_norm_eps", || {
        format!("`{eps}` is not positive")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifest::Precision, sentence::Bert};
    use rstest::rstest;

    fn manifest() -> SentenceManifest {
        SentenceManifest {
            format_version: FORMAT_VERSION,
            model_id: "tiny".to_owned(),
            licence: "MIT".to_owned(),
            provenance: "a test".to_owned(),
            precision: Precision::Fp32,
            bert: Bert {
                width: 8,
                layers: 1,
                heads: 2,
                mlp: 16,
                positions: 32,
                types: 2,
                vocab_size: 10,
                layer_norm_eps: 1e-12,
            },
            most_tokens: 32,
            files: BTreeMap::new(),
        }
    }

    #[rstest]
    #[case::heads(|it: &mut SentenceManifest| it.bert.heads = 3, "bert.heads")]
    #[case::no_layer(|it: &mut SentenceManifest| it.bert.layers = 0, "bert.layers")]
    #[case::too_long(|it: &mut SentenceManifest| it.most_tokens = 33, "most_tokens")]
    #[case::eps(|it: &mut SentenceManifest| it.bert.layer_norm_eps = 0.0, "layer_norm_eps")]
    fn sizes_must_fit(#[case] change: fn(&mut SentenceManifest), #[case] field: &str) {
        let mut manifest = manifest();
        validate(&manifest).unwrap();
        change(&mut manifest);
        let error = validate(&manifest).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}
