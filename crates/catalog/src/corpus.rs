//! The corpus: which objects of a folder are videos, in which version, and which subtitle file
//! lies beside each. Streams, so that a corpus of any size is listed in little memory.

use std::{collections::VecDeque, os::unix::fs::MetadataExt, path::Path as DiskPath, sync::Arc};

use eventide_schema::{Sidecar, SidecarFormat, Video, video_id};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, path::Path};
use serde::{Deserialize, Serialize};

use crate::{Error, Location, Result, Stores};

/// What is a video where a job does not say: by the ends of the names, in any case.
pub const DEFAULT_INCLUDE: [&str; 26] = [
    "*.mp4", "*.m4v", "*.mkv", "*.webm", "*.mov", "*.avi", "*.mpg", "*.mpeg", "*.ts", "*.m2ts",
    "*.mts", "*.wmv", "*.flv", "*.ogv", "*.3gp", "*.vob", "*.mxf", "*.mp3", "*.m4a", "*.aac",
    "*.wav", "*.flac", "*.ogg", "*.opus", "*.wma", "*.aiff",
];

/// Folders within folders that are followed on a local disk.
const DEEPEST_FOLDER: usize = 128;

/// What belongs to a corpus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CorpusOptions {
    /// The folder, such as `s3://bucket/videos`.
    pub uri: String,
    /// Globs, in any case of letters. One without a slash is matched against the name of the
    /// file at any depth; one with a slash against the path within the corpus, where `*` stays
    /// within a folder and `**` does not.
    pub include: Vec<String>,
    /// Globs, as in `include`, of what is left out, subtitle files too.
    pub exclude: Vec<String>,
    /// Whether subtitle files beside videos are looked for: same folder, same name, and
    /// `.vtt`, `.srt` or `.json`. A language may stand between, as in `talk.en.vtt`. A file without
    /// a language comes before one with, and then formats in this order; the best of each format is
    /// tried until one can be read.
    pub sidecars: bool,
}

impl Default for CorpusOptions {
    fn default() -> Self {
        Self {
            uri: String::new(),
            include: DEFAULT_INCLUDE.map(str::to_owned).to_vec(),
            exclude: Vec::new(),
            sidecars: true,
        }
    }
}

/// Videos as they are listed. Ends at the first error.
pub type Listing = BoxStream<'static, Result<Video>>;

/// Lists the videos of a corpus.
///
/// Each object is one video, once. At most the videos and subtitle files whose name begins the
/// name of the object at hand are held back.
///
/// # Errors
/// At once: [`Error::Pattern`], [`Error::Address`] or [`Error::Settings`] for wrong options. From
/// the stream: [`Error::NotFound`] for a local folder that is not there, and whatever keeps the
/// listing from being read to its end; such a listing must not be taken for a whole one.
pub fn list(stores: &Stores, options: &CorpusOptions) -> Result<Listing> {
    let location = stores.open(&options.uri)?;
    let rules = Rules {
        include: globs(&options.include)?,
        exclude: globs(&options.exclude)?,
        sidecars: options.sidecars,
    };
    let objects = if location.is_local() { walk(&location) } else { objects_of(&location) };
    Ok(videos(location, rules, objects))
}

/// One video by its address, with the side-car that lies beside it.
///
/// # Errors
/// [`Error::NotFound`] where there is no such object, and whatever keeps its folder from being listed.
pub async fn video_at(stores: &Stores, uri: &str) -> Result<Video> {
    let location = stores.open(uri)?;
    let unreadable = |source| Error::store("read", &location.uri, source);
    let object = location.store.head(&location.prefix).await.map_err(unreadable)?;
    let (stem, _) = split_extension(object.location.as_ref());
    let mut parts: Vec<_> = object.location.parts().collect();
    parts.pop();
    let folder = Path::from_iter(parts);
    let beside = location.store.list_with_delimiter(Some(&folder)).await.map_err(unreadable)?;
    let sidecars: Vec<_> = beside
        .objects
        .iter()
        .filter(|other| other.location != object.location)
        .filter_map(|other| sidecar(&location, other))
        .collect();
    let held = HeldVideo { stem: stem.to_owned(), video: video_of(&location, &object) };
    Ok(with_sidecars(held, &sidecars))
}

struct Rules {
    include: GlobSet,
    exclude: GlobSet,
    sidecars: bool,
}

fn globs(patterns: &[String]) -> Result<GlobSet> {
    let wrong = |pattern: &str, source| Error::Pattern { pattern: pattern.to_owned(), source };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let anywhere = format!("**/{pattern}");
        let whole = if pattern.contains('/') { pattern } else { &anywhere };
        let glob = GlobBuilder::new(whole.trim_start_matches('/'))
            .literal_separator(true)
            .case_insensitive(true)
            .build()
            .map_err(|source| wrong(pattern, source))?;
        set.add(glob);
    }
    set.build().map_err(|source| wrong(&patterns.join("`, `"), source))
}

type Objects = BoxStream<'static, Result<ObjectMeta>>;

/// What the store lists, in the order of its keys.
fn objects_of(location: &Location) -> Objects {
    let uri = location.uri.clone();
    location
        .store
        .list(Some(&location.prefix))
        .map_err(move |source| Error::store("list", &uri, source))
        .boxed()
}

/// A local folder in the order that a bucket would have: a store of files lists in none.
fn walk(location: &Location) -> Objects {
    let start = vec![Entry::Folder(location.prefix.clone(), 0)];
    let location = location.clone();
    stream::try_unfold((location, start), |(location, mut stack)| async move {
        while let Some(entry) = stack.pop() {
            match entry {
                Entry::File(object) => return Ok(Some((object, (location, stack)))),
                Entry::Folder(path, depth) => {
                    if depth == 0 {
                        check_is_folder(&location, &path).await?;
                    }
                    stack.extend(entries(&location, &path, depth).await?);
                }
            }
        }
        Ok(None)
    })
    .boxed()
}

/// What lies in a folder of this machine.
enum Entry {
    File(ObjectMeta),
    /// With how deep it lies in the corpus.
    Folder(Path, usize),
}

/// What lies in a folder, the last by name first. What can be no video of a corpus is left out with
/// a warning: a name that no store could hold, a link to a folder that it lies in, a pipe. What
/// cannot be read is an error: its videos must not be taken for gone.
async fn entries(location: &Location, folder: &Path, depth: usize) -> Result<Vec<Entry>> {
    if depth > DEEPEST_FOLDER {
        return Err(Error::TooDeep { uri: location.uri_of(folder), limit: DEEPEST_FOLDER });
    }
    let Some(disk) = location.local_path(folder) else { return Ok(Vec::new()) };
    let unreadable = |path: &DiskPath, source| Error::Disk {
        action: "read",
        path: path.display().to_string(),
        source,
    };
    let mut listed = tokio::fs::read_dir(&disk).await.map_err(|e| unreadable(&disk, e))?;
    let mut named = Vec::new();
    while let Some(found) = listed.next_entry().await.map_err(|e| unreadable(&disk, e))? {
        let (place, name) = (found.path(), found.file_name());
        let left_out = |because: &str| tracing::warn!(?place, because, "left out of the corpus");
        let path = name.to_str().and_then(|name| Path::parse(format!("{folder}/{name}")).ok());
        let Some(path) = path else {
            left_out("its name is not one that a store can hold");
            continue;
        };
        match tokio::fs::metadata(&place).await {
            Ok(facts) if facts.is_file() => {
                named.push((path.to_string(), Entry::File(object_of(path, &facts))));
            }
            Ok(facts) if facts.is_dir() && is_around(&place, &disk).await => {
                left_out("it leads back to a folder that it lies in");
            }
            Ok(facts) if facts.is_dir() => {
                named.push((format!("{path}/"), Entry::Folder(path, depth + 1)));
            }
            Ok(_) => left_out("it is neither a file nor a folder"),
            Err(source) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(unreadable(&place, source));
            }
            Err(source) => left_out(&source.to_string()),
        }
    }
    named.sort_by(|(a, _), (b, _)| b.cmp(a)); // the last is taken first
    Ok(named.into_iter().map(|(_, entry)| entry).collect())
}

/// Whether `place`, seen through its links, is `folder` or lies above it.
async fn is_around(place: &DiskPath, folder: &DiskPath) -> bool {
    match (tokio::fs::canonicalize(place).await, tokio::fs::canonicalize(folder).await) {
        (Ok(place), Ok(folder)) => folder.starts_with(place),
        _ => false,
    }
}

/// A file as a store lists it. It is not opened: that it may not be read is for its own row to say.
fn object_of(path: Path, facts: &std::fs::Metadata) -> ObjectMeta {
    let modified = facts.modified().unwrap_or(std::time::UNIX_EPOCH);
    let micros = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_micros();
    ObjectMeta {
        location: path,
        last_modified: modified.into(),
        size: facts.len(),
        e_tag: Some(format!("{:x}-{micros:x}-{:x}", facts.ino(), facts.len())),
        version: None,
    }
}

/// A folder that is not there would otherwise list as an empty one.
async fn check_is_folder(location: &Location, path: &Path) -> Result<()> {
    let Some(folder) = location.local_path(path) else { return Ok(()) };
    match tokio::fs::metadata(&folder).await {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Error::Address {
            uri: location.uri.clone(),
            because: "it is a file; give its folder, and its name under `include`",
        }),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::NotFound { uri: location.uri.clone() })
        }
        Err(source) => {
            Err(Error::Disk { action: "read", path: folder.display().to_string(), source })
        }
    }
}

/// The videos among `objects`, each with its side-cars.
fn videos(location: Location, rules: Rules, objects: Objects) -> Listing {
    let state = (Pairing::new(Arc::new(location), rules), objects, false);
    stream::try_unfold(state, |(mut pairing, mut objects, mut ended)| async move {
        loop {
            if let Some(video) = pairing.ready.pop_front() {
                return Ok(Some((video, (pairing, objects, ended))));
            }
            if ended {
                return Ok(None);
            }
            if let Some(object) = objects.try_next().await? {
                pairing.push(&object)?;
            } else {
                pairing.finish();
                ended = true;
            }
        }
    })
    .boxed()
}

struct HeldVideo {
    stem: String,
    video: Video,
}

struct HeldSidecar {
    /// The key without its extension.
    stem: String,
    /// That without its language too, where it has one.
    base: String,
    sidecar: Sidecar,
    version: String,
}

/// Brings videos and side-cars together, given the keys in their order: all keys that begin with
/// the same `stem.` are neighbours, so what is held can go as soon as a key begins otherwise.
struct Pairing {
    location: Arc<Location>,
    rules: Rules,
    last: String,
    videos: Vec<HeldVideo>,
    sidecars: Vec<HeldSidecar>,
    ready: VecDeque<Video>,
}

impl Pairing {
    fn new(location: Arc<Location>, rules: Rules) -> Self {
        Self {
            location,
            rules,
            last: String::new(),
            videos: Vec::new(),
            sidecars: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    fn push(&mut self, object: &ObjectMeta) -> Result<()> {
        let key = object.location.as_ref();
        if self.rules.sidecars && key < self.last.as_str() {
            return Err(Error::Unsorted { uri: self.location.uri.clone(), key: key.to_owned() });
        }
        self.release(|stem| key.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.')));
        key.clone_into(&mut self.last);

        let within = key.strip_prefix(self.location.prefix.as_ref()).unwrap_or(key);
        let within = within.trim_start_matches('/');
        if self.rules.exclude.is_match(within) {
            return Ok(());
        }
        if self.rules.include.is_match(within) {
            self.push_video(object);
        } else if self.rules.sidecars {
            self.sidecars.extend(sidecar(&self.location, object));
        }
        Ok(())
    }

    fn push_video(&mut self, object: &ObjectMeta) {
        let video = video_of(&self.location, object);
        if self.rules.sidecars {
            let stem = split_extension(object.location.as_ref()).0.to_owned();
            self.videos.push(HeldVideo { stem, video });
        } else {
            self.ready.push_back(video);
        }
    }

    fn finish(&mut self) {
        self.release(|_| false);
    }

    /// Lets go of what is held under a stem that is no longer `open`.
    fn release(&mut self, open: impl Fn(&str) -> bool) {
        let (held, done) = self.videos.drain(..).partition(|held: &HeldVideo| open(&held.stem));
        self.videos = held;
        let sidecars = &self.sidecars;
        self.ready.extend(done.into_iter().map(|held: HeldVideo| with_sidecars(held, sidecars)));
        self.sidecars.retain(|held| open(&held.base));
    }
}

/// A video before its side-cars are known.
fn video_of(location: &Location, object: &ObjectMeta) -> Video {
    let uri = location.uri_of(&object.location);
    Video {
        video_id: video_id(&uri),
        uri,
        source_version: version(object),
        size_bytes: object.size,
        last_modified_ms: object.last_modified.timestamp_millis(),
        sidecars: Vec::new(),
    }
}

/// The video with the side-cars that lie beside it: the best of each format, the best first.
fn with_sidecars(held: HeldVideo, sidecars: &[HeldSidecar]) -> Video {
    let HeldVideo { stem, mut video } = held;
    let is_plain = |s: &HeldSidecar| s.stem == stem;
    let is_in_language = |s: &HeldSidecar| s.sidecar.language.is_some() && s.base == stem;
    let mut beside: Vec<_> = sidecars
        .iter()
        .filter(|s| is_plain(s) || is_in_language(s))
        .map(|s| {
            let mut sidecar = s.sidecar.clone();
            if is_plain(s) {
                sidecar.language = None; // what looks like a language is part of the video's name
            }
            (sidecar, &s.version)
        })
        .collect();
    beside.sort_by_cached_key(|(s, _)| (s.language.is_some(), s.format, s.language.clone()));
    for (sidecar, version) in beside {
        if video.sidecars.iter().all(|better| better.format != sidecar.format) {
            video.source_version = format!("{}+{version}", video.source_version);
            video.sidecars.push(sidecar);
        }
    }
    video
}

fn sidecar(location: &Location, object: &ObjectMeta) -> Option<HeldSidecar> {
    let (stem, extension) = split_extension(object.location.as_ref());
    let format = SidecarFormat::from_extension(extension)?;
    let (base, tag) = split_extension(stem);
    let language = is_language(tag).then(|| tag.to_owned());
    let base = if language.is_some() { base } else { stem };
    Some(HeldSidecar {
        stem: stem.to_owned(),
        base: base.to_owned(),
        sidecar: Sidecar { uri: location.uri_of(&object.location), format, language },
        version: version(object),
    })
}

/// A key before and after the last dot of its last part. A leading dot is not one.
fn split_extension(key: &str) -> (&str, &str) {
    let name = key.rfind('/').map_or(0, |slash| slash + 1);
    match key[name..].rfind('.') {
        Some(dot) if dot > 0 => (&key[..name + dot], &key[name + dot + 1..]),
        _ => (key, ""),
    }
}

/// Whether `tag` looks like a language code: `en`, `pt-BR`, `zh-Hant`.
fn is_language(tag: &str) -> bool {
    let mut parts = tag.split(['-', '_']);
    let language = parts.next().unwrap_or_default();
    matches!(language.len(), 2 | 3)
        && language.bytes().all(|b| b.is_ascii_lowercase())
        && parts.all(|p| (2..=8).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// What changes whenever the object does: its version, else its `ETag` and size, else when it was
/// written and its size.
fn version(object: &ObjectMeta) -> String {
    let ObjectMeta { last_modified, size, e_tag, version, .. } = object;
    match (version, e_tag) {
        (Some(version), _) => version.clone(),
        (None, Some(e_tag)) => {
            let e_tag = e_tag.trim_start_matches("W/").trim_matches('"');
            format!("{e_tag}-{size}")
        }
        (None, None) => format!("{}-{size}", last_modified.timestamp_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::{ObjectStoreExt, memory::InMemory};
    use rstest::rstest;
    use std::{collections::BTreeMap, fs};

    async fn bucket(keys: &[&str]) -> Stores {
        let stores = Stores::new(BTreeMap::new());
        let store = InMemory::new();
        for key in keys {
            let content = key.as_bytes().to_vec();
            store.put(&Path::parse(key).unwrap(), content.into()).await.unwrap();
        }
        stores.insert("s3://b", Arc::new(store));
        stores
    }

    fn options(uri: &str) -> CorpusOptions {
        CorpusOptions { uri: uri.to_owned(), ..CorpusOptions::default() }
    }

    async fn listed(stores: &Stores, options: &CorpusOptions) -> Vec<Video> {
        list(stores, options).unwrap().try_collect().await.unwrap()
    }

    /// `video + side-car (language) + side-car`, without the root.
    fn shown(videos: &[Video]) -> Vec<String> {
        let short = |uri: &str| uri.replace("s3://b/", "");
        videos
            .iter()
            .map(|v| {
                v.sidecars.iter().fold(short(&v.uri), |shown, s| {
                    let language = s.language.as_deref().map(|l| format!(" ({l})"));
                    format!("{shown} + {}{}", short(&s.uri), language.unwrap_or_default())
                })
            })
            .collect()
    }

    #[rstest]
    #[case::vtt_first(&["a.json", "a.mp4", "a.srt", "a.vtt"], &["a.mp4 + a.vtt + a.srt + a.json"])]
    #[case::srt_next(&["a.json", "a.mp4", "a.srt"], &["a.mp4 + a.srt + a.json"])]
    #[case::json_last(&["a.json", "a.mp4"], &["a.mp4 + a.json"])]
    #[case::json_of_no_video(&["a.mp4", "config.json"], &["a.mp4"])]
    #[case::language(&["a.en.vtt", "a.mp4"], &["a.mp4 + a.en.vtt (en)"])]
    #[case::plain_before_language(&["a.de.vtt", "a.mp4", "a.vtt"], &["a.mp4 + a.vtt"])]
    #[case::first_language(&["a.de.vtt", "a.en.vtt", "a.mp4"], &["a.mp4 + a.de.vtt (de)"])]
    #[case::no_language_before_format(&["a.en.vtt", "a.mp4", "a.srt"], &["a.mp4 + a.srt + a.en.vtt (en)"])]
    #[case::format_before_language(&["a.de.srt", "a.en.vtt", "a.mp4"], &["a.mp4 + a.en.vtt (en) + a.de.srt (de)"])]
    #[case::not_a_language(&["a.mp4", "a.part1.vtt"], &["a.mp4"])]
    #[case::name_with_language(&["a.en.mp4", "a.en.vtt"], &["a.en.mp4 + a.en.vtt"])]
    #[case::longer_name(&["a.2.mp4", "a.2.vtt", "a.mp4"], &["a.2.mp4 + a.2.vtt", "a.mp4"])]
    #[case::two_videos(&["a.mkv", "a.mp4", "a.vtt"], &["a.mkv + a.vtt", "a.mp4 + a.vtt"])]
    #[case::other_folder(&["x/a.mp4", "y/a.vtt"], &["x/a.mp4"])]
    #[case::folder_between(
        &["a.d/a.mp4", "a.d/b.vtt", "a.mp4", "a.vtt"],
        &["a.d/a.mp4", "a.mp4 + a.vtt"]
    )]
    #[tokio::test]
    async fn pairs(#[case] keys: &[&str], #[case] expected: &[&str]) {
        let stores = bucket(keys).await;
        assert_eq!(shown(&listed(&stores, &options("s3://b")).await), expected);
    }

    #[rstest]
    #[case::default(&[], &[], &["a/B.MP4", "a/c.wav", "d.mkv"])]
    #[case::by_name(&["*.mkv"], &[], &["d.mkv"])]
    #[case::by_folder(&["a/*"], &[], &["a/B.MP4", "a/c.wav", "a/n.txt"])]
    #[case::one_level(&["*/*.mp4"], &[], &["a/B.MP4"])]
    #[case::excluded(&[], &["a/**"], &["d.mkv"])]
    #[case::excluded_by_name(&[], &["c.*"], &["a/B.MP4", "d.mkv"])]
    #[tokio::test]
    async fn chooses(
        #[case] include: &[&str],
        #[case] exclude: &[&str],
        #[case] expected: &[&str],
    ) {
        let stores = bucket(&["a/B.MP4", "a/c.wav", "a/n.txt", "d.mkv"]).await;
        let mut options = options("s3://b");
        if !include.is_empty() {
            options.include = include.iter().map(|&s| s.to_owned()).collect();
        }
        options.exclude = exclude.iter().map(|&s| s.to_owned()).collect();
        assert_eq!(shown(&listed(&stores, &options).await), expected);
    }

    #[tokio::test]
    async fn a_prefix_is_a_folder_and_side_cars_can_be_off() {
        let stores = bucket(&["v/a.mp4", "v/a.vtt", "v2/b.mp4"]).await;
        let options = CorpusOptions { sidecars: false, ..options("s3://b/v") };
        assert_eq!(shown(&listed(&stores, &options).await), ["v/a.mp4"]);
    }

    #[tokio::test]
    async fn a_new_side_car_or_new_bytes_are_a_new_version() {
        let stores = bucket(&["a.mp4", "a.srt", "a.vtt"]).await;
        let options = options("s3://b");
        let first = listed(&stores, &options).await.remove(0);
        assert_eq!(listed(&stores, &options).await.remove(0), first);
        for key in ["a.vtt", "a.srt", "a.mp4"] {
            let before = listed(&stores, &options).await.remove(0).source_version;
            let location = stores.open(&format!("s3://b/{key}")).unwrap();
            location.store.put(&location.prefix, "new".into()).await.unwrap();
            let after = listed(&stores, &options).await.remove(0).source_version;
            assert_ne!(after, before, "{key} is new");
        }
    }

    #[rstest]
    #[case::versioned(Some("v7"), Some("\"e\""), "v7")]
    #[case::strong(None, Some("\"e\""), "e-3")]
    #[case::weak(None, Some("W/\"e\""), "e-3")]
    #[case::neither(None, None, "1000-3")]
    fn names_a_version(
        #[case] version_id: Option<&str>,
        #[case] e_tag: Option<&str>,
        #[case] expected: &str,
    ) {
        let object = ObjectMeta {
            location: Path::from("a"),
            last_modified: chrono::DateTime::from_timestamp(1, 0).unwrap(),
            size: 3,
            e_tag: e_tag.map(str::to_owned),
            version: version_id.map(str::to_owned),
        };
        assert_eq!(version(&object), expected);
    }

    const WEIRD: [&str; 6] =
        ["100% sure.mp4", "a b #1 ü 日本.mp4", "a?b&c.mp4", "q'uo\"te.mp4", "plus+.mp4", "%41.mp4"];

    #[tokio::test]
    async fn weird_names_round_trip_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("sub folder");
        fs::create_dir(&below).unwrap();
        for name in WEIRD {
            fs::write(below.join(name), name).unwrap();
        }
        let stores = Stores::new(BTreeMap::new());
        let videos = listed(&stores, &options(folder.path().to_str().unwrap())).await;
        check_round_trip(&stores, &videos).await;
    }

    #[tokio::test]
    async fn weird_names_round_trip_in_a_bucket() {
        let stores = bucket(&WEIRD).await;
        let videos = listed(&stores, &options("s3://b")).await;
        check_round_trip(&stores, &videos).await;
    }

    /// The object behind each URI holds its own name.
    async fn check_round_trip(stores: &Stores, videos: &[Video]) {
        let mut names = Vec::new();
        for video in videos {
            assert!(video.uri.is_ascii() && !video.uri.contains([' ', '#', '?']), "{}", video.uri);
            let location = stores.open(&video.uri).unwrap();
            assert_eq!(location.uri, video.uri);
            let bytes = location.store.get(&location.prefix).await.unwrap().bytes().await.unwrap();
            names.push(String::from_utf8(bytes.to_vec()).unwrap());
        }
        names.sort_unstable();
        let mut expected = WEIRD.to_vec();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }

    #[tokio::test]
    async fn a_disk_lists_like_a_bucket() {
        let keys = ["a.d/x.mp4", "a.mp4", "a.vtt", "a/y.mp4", "a-1.mp4", "b/c/d/z.mp4"];
        let folder = tempfile::tempdir().unwrap();
        for key in keys {
            let path = folder.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, key).unwrap();
        }
        let on_disk = Stores::new(BTreeMap::new());
        let root = format!("file://{}/", folder.path().display());
        let on_disk = shown(&listed(&on_disk, &options(&root)).await);
        let in_bucket = shown(&listed(&bucket(&keys).await, &options("s3://b")).await);
        let on_disk: Vec<_> = on_disk.iter().map(|s| s.replace(&root, "")).collect();
        assert_eq!(on_disk, in_bucket);
        assert_eq!(in_bucket.len(), 5);
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_not_an_empty_one() {
        let stores = Stores::new(BTreeMap::new());
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let first = list(&stores, &options(gone.to_str().unwrap())).unwrap().next().await;
        assert!(matches!(first, Some(Err(Error::NotFound { .. }))), "{first:?}");
    }

    #[tokio::test]
    async fn a_listing_that_breaks_off_ends_in_an_error() {
        let stores = bucket(&[]).await;
        let location = stores.open("s3://b").unwrap();
        let object = |key: &str| ObjectMeta {
            location: Path::from(key),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: 1,
            e_tag: None,
            version: None,
        };
        let broken = Error::NotFound { uri: "page 2".to_owned() };
        let objects = stream::iter([Ok(object("a.mp4")), Err(broken)]).boxed();
        let rules = Rules {
            include: globs(&["*".to_owned()]).unwrap(),
            exclude: GlobSet::empty(),
            sidecars: true,
        };
        let listed: Vec<_> = videos(location, rules, objects).collect().await;
        assert!(listed.last().unwrap().is_err());
    }

    /// The property of the stream that bounds memory: it asks for few objects more than it has
    /// given videos, however many there are.
    #[tokio::test]
    async fn a_hundred_thousand_objects_stream() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        const VIDEOS: usize = 100_000;
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let objects = stream::iter(0..VIDEOS)
            .map(move |n| {
                counter.fetch_add(1, Ordering::Relaxed);
                Ok(ObjectMeta {
                    location: Path::from(format!("v/clip.{n:06}.mp4")),
                    last_modified: chrono::DateTime::UNIX_EPOCH,
                    size: 1,
                    e_tag: None,
                    version: None,
                })
            })
            .boxed();
        let stores = bucket(&[]).await;
        let rules = Rules {
            include: globs(&["*.mp4".to_owned()]).unwrap(),
            exclude: GlobSet::empty(),
            sidecars: true,
        };
        let mut listing = videos(stores.open("s3://b/v").unwrap(), rules, objects);
        let mut given = 0;
        while let Some(video) = listing.next().await {
            video.unwrap();
            given += 1;
            let held = asked.load(Ordering::Relaxed) - given;
            assert!(held <= 1, "{held} objects are held back");
        }
        assert_eq!(given, VIDEOS);
    }

    #[tokio::test]
    async fn an_unsorted_listing_is_refused_where_order_matters() {
        let stores = bucket(&[]).await;
        let object = |key: &str| {
            Ok(ObjectMeta {
                location: Path::from(key),
                last_modified: chrono::DateTime::UNIX_EPOCH,
                size: 1,
                e_tag: None,
                version: None,
            })
        };
        let objects = || stream::iter(["b.mp4", "a.mp4"]).map(object).boxed();
        for (sidecars, is_fine) in [(true, false), (false, true)] {
            let rules = Rules {
                include: globs(&["*".to_owned()]).unwrap(),
                exclude: GlobSet::empty(),
                sidecars,
            };
            let listing = videos(stores.open("s3://b").unwrap(), rules, objects());
            let listed: Result<Vec<_>> = listing.try_collect().await;
            assert_eq!(listed.is_ok(), is_fine);
        }
    }

    #[tokio::test]
    async fn what_can_be_no_video_is_left_out_and_the_rest_is_listed() {
        use std::os::unix::{ffi::OsStrExt, fs::symlink};

        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("good.mp4"), "x").unwrap();
        std::fs::write(folder.path().join("tab\there.mp4"), "x").unwrap();
        std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"bad\xff.mp4")), "x")
            .unwrap();
        symlink(".", folder.path().join("loop")).unwrap();
        symlink("..", inner.join("up")).unwrap();
        symlink("self.mp4", folder.path().join("self.mp4")).unwrap();
        symlink("inner/good.mp4", folder.path().join("link.mp4")).unwrap();
        let stores = Stores::new(std::collections::BTreeMap::new());
        let uri = folder.path().display().to_string();
        let options = CorpusOptions { uri, ..CorpusOptions::default() };
        let videos: Vec<Video> = list(&stores, &options).unwrap().try_collect().await.unwrap();
        let names: Vec<_> =
            videos.iter().map(|video| video.uri.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["good.mp4", "link.mp4"]);
    }

    #[tokio::test]
    async fn one_video_comes_with_what_lies_beside_it() {
        let stores = Stores::new(BTreeMap::new());
        stores.insert("s3://b", Arc::new(InMemory::new()));
        let keys = [
            "v/talk.mp4",
            "v/talk.en.vtt",
            "v/talk.srt",
            "v/talks.vtt",
            "v/deep/talk.vtt",
            "lone.mp4",
        ];
        for key in keys {
            let at = stores.open("s3://b").unwrap();
            at.store.put(&at.child(key), key.to_owned().into()).await.unwrap();
        }
        let talk = video_at(&stores, "s3://b/v/talk.mp4").await.unwrap();
        assert_eq!((talk.uri.as_str(), talk.size_bytes), ("s3://b/v/talk.mp4", 10));
        assert_eq!(talk.sidecars[0].uri, "s3://b/v/talk.srt");
        assert_eq!(video_at(&stores, "s3://b/lone.mp4").await.unwrap().sidecars, []);
        let gone = video_at(&stores, "s3://b/v/gone.mp4").await;
        assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
    }
}
