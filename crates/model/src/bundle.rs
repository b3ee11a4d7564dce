//! A model bundle on disk: opened, checked, named by its digest.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    manifest::{FORMAT_VERSION, Manifest, files},
};

/// Files that every bundle lists.
const REQUIRED: [&str; 7] = [
    files::VISION,
    files::TEMPORAL,
    files::TEXT_ENCODER,
    files::CROSS,
    files::DECODER,
    files::WEIGHTS,
    files::TOKENIZER,
];

/// What the manifest of a kind of bundle must say for its folder to be opened.
pub trait BundleManifest: Serialize + DeserializeOwned + Clone {
    /// The name of its file.
    const FILE: &'static str;
    /// The version of its layout that this program reads and writes.
    const FORMAT_VERSION: u32;
    /// Files that every bundle of the kind lists.
    const REQUIRED: &'static [&'static str];
    /// The first line of what the digest is taken over.
    const KIND: &'static str;

    /// The SHA-256 of each file, by its name.
    fn files(&self) -> &BTreeMap<String, String>;

    /// What the digest covers of the manifest beside its files: itself without them.
    #[must_use]
    fn bare(&self) -> Self;

    /// Whether sizes, rules and tokens fit one another, whatever files are listed.
    ///
    /// # Errors
    /// [`Error::Field`] for the first that does not.
    fn validate(&self) -> Result<()>;
}

impl BundleManifest for Manifest {
    const FILE: &'static str = files::MANIFEST;
    const FORMAT_VERSION: u32 = FORMAT_VERSION;
    const REQUIRED: &'static [&'static str] = &REQUIRED;
    const KIND: &'static str = "eventide-bundle 1";

    fn files(&self) -> &BTreeMap<String, String> {
        &self.files
    }

    /// Without its scores: the same model scored anew keeps its name.
    fn bare(&self) -> Self {
        Self { files: BTreeMap::new(), metrics: BTreeMap::new(), ..self.clone() }
    }

    fn validate(&self) -> Result<()> {
        validate_name(self)?;
        validate_sizes(self)?;
        validate_encoders(self)?;
        validate_tokens(self)?;
        validate_decoding(self)
    }
}

/// A folder whose manifest is sound and whose files are those that the manifest lists, byte for byte.
#[derive(Debug, Clone, PartialEq)]
pub struct BundleOf<M> {
    folder: PathBuf,
    manifest: M,
    digest: String,
}

/// A bundle of Vid2Seq, `bundle.json`.
pub type Bundle = BundleOf<Manifest>;

impl<M: BundleManifest> BundleOf<M> {
    /// Opens the bundle in a folder: reads and checks its manifest, then reads every listed file to
    /// its end and compares its SHA-256. Files that are not listed are not looked at.
    ///
    /// # Errors
    /// [`Error::Read`] if the manifest or a listed file cannot be read, [`Error::FormatVersion`],
    /// [`Error::Manifest`], [`Error::Field`] and [`Error::Unlisted`] if the manifest is wrong,
    /// [`Error::Damaged`] if a file is.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(M::FILE);
        let manifest = Self::read_manifest(&path, &read(&path)?)?;
        for (name, expected) in manifest.files() {
            verify(&folder.join(name), expected)?;
        }
        let digest = Self::digest_of(&manifest);
        Ok(Self { folder: folder.to_owned(), manifest, digest })
    }

    /// The manifest whose bytes were read from `path`, checked by itself: no other file is looked at.
    ///
    /// # Errors
    /// [`Error::FormatVersion`], [`Error::Manifest`], [`Error::Field`] and [`Error::Unlisted`].
    pub fn read_manifest(path: &Path, bytes: &[u8]) -> Result<M> {
        let manifest: M = parse(path, bytes, M::FORMAT_VERSION)?;
        manifest.validate()?;
        check_file_list(manifest.files(), M::REQUIRED, M::FILE)?;
        Ok(manifest)
    }

    /// What the bundle says about itself.
    #[must_use]
    pub fn manifest(&self) -> &M {
        &self.manifest
    }

    /// Where a file of the bundle lies.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The bundle's name: [`BundleOf::digest_of`] its manifest.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The name of the bundle that has this manifest: a SHA-256, 64 digits of lower-case hexadecimal.
    ///
    /// Over a line [`KIND`](BundleManifest::KIND), a line `<sha256>  <name>` for each listed file in the order of
    /// their names, and the [`bare`](BundleManifest::bare) manifest as compact JSON, its fields in the order of the type.
    #[must_use]
    pub fn digest_of(manifest: &M) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{}\n", M::KIND));
        for (name, digest) in manifest.files() {
            hash.update(format!("{}  {name}\n", digest.to_ascii_lowercase()));
        }
        // Writing plain fields to memory cannot fail; should it ever, the files still name the bundle.
        hash.update(serde_json::to_vec(&manifest.bare()).unwrap_or_default());
        format!("{:x}", hash.finalize())
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// A manifest of one version of its layout, whose bytes were read from `path`.
fn parse<M: DeserializeOwned>(path: &Path, bytes: &[u8], expected: u32) -> Result<M> {
    /// Read first, so that a manifest of another version is not reported as a misspelt key.
    #[derive(Deserialize)]
    struct Version {
        format_version: u64,
    }

    let wrong = |source| Error::Manifest { path: path.to_owned(), source };
    let version: Version = serde_json::from_slice(bytes).map_err(wrong)?;
    let found = version.format_version;
    if found != u64::from(expected) {
        return Err(Error::FormatVersion { path: path.to_owned(), found, expected });
    }
    serde_json::from_slice(bytes).map_err(wrong)
}

fn verify(path: &Path, expected: &str) -> Result<()> {
    let found = sha256(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Error::Damaged { path: path.to_owned(), expected: expected.to_owned(), found })
}

/// SHA-256 of a file in lower-case hexadecimal, read in pieces: weights may be larger than memory.
fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(format!("{:x}", hash.finalize())),
            Ok(length) => hash.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub(crate) fn require(
    holds: bool,
    field: &'static str,
    problem: impl FnOnce() -> String,
) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Field { field, problem: problem() }) }
}

fn validate_name(manifest: &Manifest) -> Result<()> {
    let id = &manifest.model_id;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    require(!id.is_empty() && id.chars().all(allowed), "model_id", || {
        format!("`{id}` is not made of lower-case letters, digits, `-` and `.`")
    })
}

fn validate_sizes(manifest: &Manifest) -> Result<()> {
    let (vision, temporal, t5) = (&manifest.vision, &manifest.temporal, &manifest.t5);
    let sizes = [
        ("vision.image_size", vision.image_size),
        ("vision.patch", vision.patch),
        ("vision.width", vision.width),
        ("vision.layers", vision.layers),
        ("vision.heads", vision.heads),
        ("vision.mlp", vision.mlp),
        ("vision.output_dim", vision.output_dim),
        ("temporal.dim", temporal.dim),
        ("temporal.depth", temporal.depth),
        ("temporal.heads", temporal.heads),
        ("temporal.mlp", temporal.mlp),
        ("temporal.positions", temporal.positions),
        ("t5.vocab_size", t5.vocab_size),
        ("t5.d_model", t5.d_model),
        ("t5.d_kv", t5.d_kv),
        ("t5.heads", t5.heads),
        ("t5.d_ff", t5.d_ff),
        ("t5.encoder_layers", t5.encoder_layers),
        ("t5.decoder_layers", t5.decoder_layers),
        ("t5.relative_buckets", t5.relative_buckets),
        ("t5.relative_max_distance", t5.relative_max_distance),
        ("frames.count", manifest.frames.count),
        ("text.max_input_tokens", manifest.text.max_input_tokens),
        ("decoding.beams", manifest.decoding.beams),
        ("decoding.max_output_tokens", manifest.decoding.max_output_tokens),
    ];
    sizes
        .into_iter()
        .try_for_each(|(field, size)| require(size > 0, field, || "it is 0".to_owned()))
}

fn validate_encoders(manifest: &Manifest) -> Result<()> {
    let (vision, temporal, t5) = (&manifest.vision, &manifest.temporal, &manifest.t5);
    require(vision.image_size.is_multiple_of(vision.patch), "vision.patch", || {
        format!("`{}` does not divide the image of `{}`", vision.patch, vision.image_size)
    })?;
    require(vision.width.is_multiple_of(vision.heads), "vision.heads", || {
        format!("`{}` does not divide the width of `{}`", vision.heads, vision.width)
    })?;
    require(temporal.dim.is_multiple_of(temporal.heads), "temporal.heads", || {
        format!("`{}` does not divide the width of `{}`", temporal.heads, temporal.dim)
    })?;
    let spread = vision.std.iter().all(|std| *std > 0.0 && std.is_finite());
    require(spread, "vision.std", || format!("`{:?}` is not positive", vision.std))?;
    require(temporal.dim == vision.output_dim, "temporal.dim", || {
        format!("`{}` where frame features have `{}`", temporal.dim, vision.output_dim)
    })?;
    require(temporal.positions == manifest.frames.count, "temporal.positions", || {
        format!("`{}` for `{}` frames", temporal.positions, manifest.frames.count)
    })?;
    require(temporal.projection || temporal.dim == t5.d_model, "temporal.projection", || {
        format!("none from `{}` to the decoder's `{}`", temporal.dim, t5.d_model)
    })?;
    let epsilons = [
        ("vision.layer_norm_eps", vision.layer_norm_eps),
        ("temporal.layer_norm_eps", temporal.layer_norm_eps),
        ("t5.layer_norm_eps", t5.layer_norm_eps),
    ];
    epsilons.into_iter().try_for_each(|(field, eps)| {
        require(eps > 0.0 && eps.is_finite(), field, || format!("`{eps}` is not positive"))
    })
}

fn validate_tokens(manifest: &Manifest) -> Result<()> {
    let (times, text) = (&manifest.time_tokens, &manifest.text);
    require(times.bins >= 2, "time_tokens.bins", || format!("`{}` is less than 2", times.bins))?;
    let after = u64::from(times.first_id) + u64::from(times.bins);
    let vocabulary = manifest.t5.vocab_size;
    require(after <= u64::from(vocabulary), "time_tokens.first_id", || {
        format!("the last time token is outside the vocabulary of `{vocabulary}`")
    })?;
    let special =
        [("text.pad_id", text.pad_id), ("text.eos_id", text.eos_id), ("text.unk_id", text.unk_id)];
    for (field, id) in special {
        require(id < times.first_id, field, || format!("`{id}` is a time token or none at all"))?;
    }
    let distinct =
        text.pad_id != text.eos_id && text.pad_id != text.unk_id && text.eos_id != text.unk_id;
    require(distinct, "text.eos_id", || "pad, end and unknown are not three ids".to_owned())?;
    require(text.max_input_tokens >= 2, "text.max_input_tokens", || {
        "there is no room for a token and the end".to_owned()
    })
}

fn validate_decoding(manifest: &Manifest) -> Result<()> {
    let penalty = manifest.decoding.length_penalty;
    require(penalty.is_finite() && penalty >= 0.0, "decoding.length_penalty", || {
        format!("`{penalty}` is negative or no number")
    })
}

/// Whether a list of files and their digests has all of `required`, and nothing that lies elsewhere.
fn check_file_list(
    listed: &BTreeMap<String, String>,
    required: &[&str],
    own_name: &str,
) -> Result<()> {
    if let Some(missing) = required.iter().find(|name| !listed.contains_key(**name)) {
        return Err(Error::Unlisted { name: (*missing).to_owned() });
    }
    for (name, digest) in listed {
        let inside = !name.is_empty()
            && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
            && name != own_name;
        require(inside, "files", || format!("`{name}` is no file inside the bundle"))?;
        let hexadecimal = digest.len() == 64 && digest.bytes().all(|c| c.is_ascii_hexdigit());
        require(hexadecimal, "files", || format!("`{digest}` of `{name}` is no SHA-256"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vid_chapters;
    use rstest::rstest;

    /// A bundle whose files hold their own names: sound as far as this module looks.
    fn written() -> (tempfile::TempDir, Manifest) {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = vid_chapters();
        for name in REQUIRED.into_iter().chain(["golden/clip.json"]) {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
            manifest.files.insert(name.to_owned(), format!("{:x}", Sha256::digest(name)));
        }
        write(folder.path(), &manifest);
        (folder, manifest)
    }

    fn write(folder: &Path, manifest: &Manifest) {
        fs::write(folder.join(files::MANIFEST), serde_json::to_vec(manifest).unwrap()).unwrap();
    }

    fn check_refused(folder: &Path, because: &str) {
        let error = Bundle::open(folder).unwrap_err().to_string();
        assert!(error.contains(because), "{error}");
    }

    #[test]
    fn a_sound_bundle_opens() {
        let (folder, manifest) = written();
        let bundle = Bundle::open(folder.path()).unwrap();
        assert_eq!(bundle.manifest(), &manifest);
        assert_eq!(bundle.digest(), Bundle::digest_of(&manifest));
        assert_eq!(bundle.path(files::WEIGHTS), folder.path().join("model.safetensors"));
    }

    #[test]
    fn a_manifest_can_be_read_before_its_files_are_there() {
        let mut manifest = vid_chapters();
        for name in REQUIRED {
            manifest.files.insert(name.to_owned(), "0".repeat(64));
        }
        let read = |manifest: &Manifest| {
            Bundle::read_manifest(Path::new("bundle.json"), &serde_json::to_vec(manifest).unwrap())
        };
        assert_eq!(read(&manifest).unwrap(), manifest);
        manifest.files.remove(files::WEIGHTS);
        let error = read(&manifest).unwrap_err();
        assert_eq!(error.to_string(), "the bundle does not list `model.safetensors`");
    }

    #[test]
    fn the_digest_names_the_model_and_not_its_scores() {
        let (_folder, manifest) = written();
        let digest = Bundle::digest_of(&manifest);
        assert_eq!(digest.len(), 64);
        assert!(digest.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)));

        let mut scored = manifest.clone();
        scored.metrics.insert("synthetic/test/soda_c".to_owned(), 0.5);
        assert_eq!(Bundle::digest_of(&scored), digest);

        let mut loud = manifest.clone();
        loud.files.values_mut().for_each(|digest| *digest = digest.to_ascii_uppercase());
        assert_eq!(Bundle::digest_of(&loud), digest);

        let mut other_rule = manifest.clone();
        other_rule.decoding.beams = 5;
        assert_ne!(Bundle::digest_of(&other_rule), digest);

        let mut other_file = manifest;
        other_file.files.insert(files::WEIGHTS.to_owned(), "0".repeat(64));
        assert_ne!(Bundle::digest_of(&other_file), digest);
    }

    /// Tables of past nights hold digests: the way they are made must not change unawares.
    #[test]
    fn the_digest_of_a_manifest_stays() {
        let mut manifest = vid_chapters();
        manifest.files.insert("a".to_owned(), "0".repeat(64));
        assert_eq!(
            Bundle::digest_of(&manifest),
            "7c9e31932ee149781f3c03aaf6d71d93a1959425f92da81fcbf6a7e51a8ac4cb"
        );
    }

    #[test]
    fn a_changed_file_is_named() {
        let (folder, _) = written();
        fs::write(folder.path().join(files::DECODER), "other").unwrap();
        check_refused(folder.path(), "decoder.onnx` is damaged: its SHA-256 is `");
    }

    #[rstest]
    #[case(files::CROSS)]
    #[case("golden/clip.json")]
    fn a_missing_file_is_named(#[case] name: &str) {
        let (folder, _) = written();
        fs::remove_file(folder.path().join(name)).unwrap();
        let error = Bundle::open(folder.path()).unwrap_err();
        let Error::Read { path, .. } = error else { panic!("{error}") };
        assert!(path.ends_with(name));
    }

    #[test]
    fn a_folder_without_a_manifest_is_no_bundle() {
        let folder = tempfile::tempdir().unwrap();
        check_refused(folder.path(), "bundle.json`");
    }

    #[rstest]
    #[case::not_json("{", "is not a bundle manifest")]
    #[case::no_version("{}", "is not a bundle manifest")]
    #[case::newer(r#"{"format_version": 2, "new_key": 1}"#, "has format version `2`")]
    #[case::incomplete(r#"{"format_version": 1}"#, "is not a bundle manifest")]
    fn a_manifest_is_read_strictly(#[case] text: &str, #[case] because: &str) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(files::MANIFEST), text).unwrap();
        check_refused(folder.path(), because);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let (folder, manifest) = written();
        let mut value = serde_json::to_value(&manifest).unwrap();
        value["decoding"]["beam"] = 4.into();
        fs::write(folder.path().join(files::MANIFEST), value.to_string()).unwrap();
        let error = Bundle::open(folder.path()).unwrap_err();
        let Error::Manifest { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains("unknown field `beam`"), "{source}");
    }

    #[rstest]
    #[case::no_size(|m: &mut Manifest| m.t5.heads = 0, "`t5.heads` of the bundle is wrong: it is 0")]
    #[case::name(|m: &mut Manifest| m.model_id = "A b".to_owned(), "`model_id`")]
    #[case::patch(|m: &mut Manifest| m.vision.patch = 15, "does not divide the image")]
    #[case::heads(|m: &mut Manifest| m.vision.heads = 7, "`vision.heads`")]
    #[case::temporal_heads(|m: &mut Manifest| m.temporal.heads = 7, "`temporal.heads`")]
    #[case::std(|m: &mut Manifest| m.vision.std[1] = 0.0, "`vision.std`")]
    #[case::features(|m: &mut Manifest| m.temporal.dim = 512 * 12, "`temporal.dim`")]
    #[case::positions(|m: &mut Manifest| m.frames.count = 64, "`temporal.positions`")]
    #[case::projection(|m: &mut Manifest| m.t5.d_model = 512, "`temporal.projection`")]
    #[case::epsilon(|m: &mut Manifest| m.t5.layer_norm_eps = f32::MIN, "`t5.layer_norm_eps`")]
    #[case::one_bin(|m: &mut Manifest| m.time_tokens.bins = 1, "`time_tokens.bins`")]
    #[case::bins_past_the_table(|m: &mut Manifest| m.time_tokens.first_id = 32_101, "outside the vocabulary")]
    #[case::special(|m: &mut Manifest| m.text.eos_id = 32_100, "`text.eos_id`")]
    #[case::same_ids(|m: &mut Manifest| m.text.eos_id = 0, "not three ids")]
    #[case::penalty(|m: &mut Manifest| m.decoding.length_penalty = -1.0, "`decoding.length_penalty`")]
    #[case::unlisted(|m: &mut Manifest| drop(m.files.remove(files::WEIGHTS)), "does not list `model.safetensors`")]
    #[case::outside(|m: &mut Manifest| drop(m.files.insert("../a".to_owned(), "0".repeat(64))), "no file inside")]
    #[case::absolute(|m: &mut Manifest| drop(m.files.insert("/a".to_owned(), "0".repeat(64))), "no file inside")]
    #[case::digest(|m: &mut Manifest| drop(m.files.insert("a".to_owned(), "xyz".to_owned())), "no SHA-256")]
    fn sizes_that_do_not_fit_are_refused(#[case] spoil: fn(&mut Manifest), #[case] because: &str) {
        let (folder, mut manifest) = written();
        spoil(&mut manifest);
        write(folder.path(), &manifest);
        check_refused(folder.path(), because);
    }
}
