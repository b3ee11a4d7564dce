//! Fetch: the bytes of a video as a local file.
//!
//! Local videos are used where they lie. Remote ones are copied by ranged reads with If-Match to
//! scratch space, whose size is a limit over all videos in flight.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use bytesize::ByteSize;
use eventide_schema::{Failure, Stage, Video};
use futures::{StreamExt, TryStreamExt};
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, path::Path as ObjectPath};
use tempfile::NamedTempFile;
use tokio::{
    io::AsyncWriteExt,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::Error;

/// Bytes of one ranged read.
const RANGE_BYTES: u64 = 8 << 20;
/// Ranged reads of one video in flight: with [`RANGE_BYTES`], 32 MiB of memory.
const RANGES_IN_FLIGHT: usize = 4;
/// Reads of one range of which the store gives only a part.
const RANGE_TRIES: u32 = 4;
/// One permit of the scratch semaphore stands for this many bytes.
const PERMIT_BYTES: u64 = 1 << 20;
/// Largest side-car that is read.
const LARGEST_SIDECAR: u64 = 64 << 20;

/// An object and the store that holds it.
#[derive(Debug, Clone)]
pub struct Located {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The object's path in it.
    pub path: ObjectPath,
    /// Where the object lies on this machine, if it does.
    pub local: Option<PathBuf>,
}

/// Turns the URI of a video into a store and a path.
pub trait Sources: Send + Sync {
    /// The store and path of `uri`.
    ///
    /// # Errors
    /// What is wrong with the URI, for a person.
    fn locate(&self, uri: &str) -> Result<Located, String>;
}

/// Disk space for copies of remote videos.
#[derive(Debug, Clone)]
pub struct Scratch {
    folder: PathBuf,
    permits: Arc<Semaphore>,
    total: u32,
}

impl Scratch {
    /// Scratch space of `size` bytes in `folder`, which must exist.
    #[must_use]
    pub fn new(folder: PathBuf, size: ByteSize) -> Self {
        let total = u32::try_from(size.as_u64() / PERMIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self { folder, permits: Arc::new(Semaphore::new(total as usize)), total }
    }

    fn failed(&self, source: io::Error) -> Trouble {
        Trouble::Run(Error::Scratch { folder: self.folder.display().to_string(), source })
    }
}

/// A video on this machine. Dropping it gives its scratch space back.
#[derive(Debug)]
pub struct Fetched {
    pub(crate) path: PathBuf,
    pub(crate) bytes_read: u64,
    _copy: Option<(NamedTempFile, OwnedSemaphorePermit)>,
}

impl Fetched {
    /// Its file: that of the corpus, or a copy that goes with this value.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Either a fact about the video, or trouble with the run.
#[derive(Debug)]
pub enum Trouble {
    /// The video cannot be had, and will not be however often it is asked for.
    Video(Failure),
    /// Something that has nothing to do with the video, such as a store that is down.
    Run(Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Video(failure)
    }
}

fn failure(reason_code: &str, reason: String) -> Failure {
    Failure { stage: Stage::Fetch, reason_code: reason_code.to_owned(), reason }
}

/// A store's error as a fact about the video where it is one.
fn judged(uri: &str, source: object_store::Error) -> Trouble {
    match source {
        object_store::Error::NotFound { .. } => {
            failure("not_found", format!("`{uri}` was listed but is not there any more")).into()
        }
        object_store::Error::Precondition { .. } => changed(uri).into(),
        object_store::Error::PermissionDenied { .. } => {
            failure("forbidden", format!("the store does not let `{uri}` be read")).into()
        }
        source => match io_kind(&source) {
            // What this machine's file system says of one file, and will say again.
            Some(io::ErrorKind::PermissionDenied) => {
                failure("forbidden", format!("`{uri}` may not be read")).into()
            }
            Some(
                io::ErrorKind::IsADirectory
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::InvalidInput,
            ) => failure("unreadable", format!("`{uri}` is no file that can be read")).into(),
            _ => Trouble::Run(Error::Store { uri: uri.to_owned(), source }),
        },
    }
}

/// The kind of the first I/O error among the causes.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

/// Refuses what is not a regular file: to open a pipe is to wait for whoever writes to it.
async fn require_file(uri: &str, located: &Located) -> Result<(), Trouble> {
    let Some(path) = &located.local else { return Ok(()) };
    match tokio::fs::metadata(path).await {
        Ok(found) if !found.is_file() => {
            Err(failure("unreadable", format!("`{uri}` is no regular file")).into())
        }
        _ => Ok(()), // what else is wrong with it, opening it will tell
    }
}

fn changed(uri: &str) -> Failure {
    failure("changed", format!("`{uri}` was replaced after it was listed; the next run takes it"))
}

/// Brings `video` to this machine, if it is still what was listed.
///
/// # Errors
/// [`Trouble::Video`] if it is gone, was replaced, may not be read, or is larger than the scratch space;
/// [`Trouble::Run`] if its store or the scratch space fails.
pub async fn fetch(
    video: &Video,
    sources: &dyn Sources,
    scratch: &Scratch,
) -> Result<Fetched, Trouble> {
    let located = sources.locate(&video.uri).map_err(|reason| failure("bad_uri", reason))?;
    require_file(&video.uri, &located).await?;
    let meta = located.store.head(&located.path).await.map_err(|e| judged(&video.uri, e))?;
    if !is_as_listed(&meta, video) {
        return Err(changed(&video.uri).into());
    }
    if meta.size == 0 {
        return Err(failure("empty_file", format!("`{}` has no bytes", video.uri)).into());
    }
    match located.local {
        Some(path) => {
            let opened = tokio::fs::File::open(&path).await;
            opened.map_err(|source| {
                judged(
                    &video.uri,
                    object_store::Error::Generic { store: "local", source: source.into() },
                )
            })?;
            Ok(Fetched { path, bytes_read: meta.size, _copy: None })
        }
        None => copy(video, &located, &meta, scratch).await,
    }
}

/// Whether an object is still what was listed. Times are compared in whole seconds: a listing may
/// give fractions of them where a single answer cannot.
fn is_as_listed(meta: &ObjectMeta, video: &Video) -> bool {
    meta.size == video.size_bytes
        && meta.last_modified.timestamp() == video.last_modified_ms.div_euclid(1000)
}

/// Copies an object to scratch space, keeping the extension of its name: some formats are told by it.
async fn copy(
    video: &Video,
    located: &Located,
    meta: &ObjectMeta,
    scratch: &Scratch,
) -> Result<Fetched, Trouble> {
    let permits = u32::try_from(meta.size.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
    if permits > scratch.total {
        let reason = format!(
            "`{}` has {}, which is more than the scratch space holds",
            video.uri,
            ByteSize(meta.size)
        );
        return Err(failure("too_large_for_scratch", reason).into());
    }
    let permit = Arc::clone(&scratch.permits)
        .acquire_many_owned(permits)
        .await
        .expect("the semaphore is never closed");
    let extension = Path::new(located.path.filename().unwrap_or_default())
        .extension()
        .map(|e| format!(".{}", e.to_string_lossy()))
        .unwrap_or_default();
    let file = tempfile::Builder::new()
        .prefix("eventide-")
        .suffix(&extension)
        .tempfile_in(&scratch.folder)
        .map_err(|e| scratch.failed(e))?;
    let reopened = file.reopen().map_err(|e| scratch.failed(e))?;
    let mut out = tokio::fs::File::from_std(reopened);
    let mut parts = futures::stream::iter(ranges(meta.size))
        .map(|range| read_range(located, meta, range))
        .buffered(RANGES_IN_FLIGHT);
    let mut bytes_read = 0;
    while let Some(part) = parts.try_next().await.map_err(|e| judged(&video.uri, e))? {
        bytes_read += part.len() as u64;
        out.write_all(&part).await.map_err(|e| scratch.failed(e))?;
    }
    out.flush().await.map_err(|e| scratch.failed(e))?;
    if bytes_read != meta.size {
        let reason = format!("`{}` gave {bytes_read} of its {} bytes", video.uri, meta.size);
        return Err(failure("short_read", reason).into());
    }
    Ok(Fetched { path: file.path().to_owned(), bytes_read, _copy: Some((file, permit)) })
}

/// The bytes of a range; fewer where the store goes on giving fewer.
async fn read_range(
    located: &Located,
    meta: &ObjectMeta,
    range: Range<u64>,
) -> object_store::Result<Bytes> {
    let mut bytes = Bytes::new();
    for _ in 0..RANGE_TRIES {
        let options = GetOptions {
            range: Some(range.clone().into()),
            if_match: meta.e_tag.clone(),
            ..GetOptions::default()
        };
        bytes = located.store.get_opts(&located.path, options).await?.bytes().await?;
        if bytes.len() as u64 == range.end - range.start {
            break;
        }
    }
    Ok(bytes)
}

/// The ranges that make up `size` bytes.
fn ranges(size: u64) -> impl Iterator<Item = Range<u64>> {
    (0..size.div_ceil(RANGE_BYTES)).map(move |i| i * RANGE_BYTES..((i + 1) * RANGE_BYTES).min(size))
}

/// The whole of a side-car file.
pub(crate) async fn read_sidecar(uri: &str, sources: &dyn Sources) -> Result<Vec<u8>, Trouble> {
    let located = sources.locate(uri).map_err(|reason| failure("bad_uri", reason))?;
    require_file(uri, &located).await?;
    let answer = located.store.get(&located.path).await.map_err(|e| judged(uri, e))?;
    if answer.meta.size > LARGEST_SIDECAR {
        let reason =
            format!("`{uri}` has {}: no subtitles are that long", ByteSize(answer.meta.size));
        return Err(failure("sidecar_too_large", reason).into());
    }
    Ok(answer.bytes().await.map_err(|e| judged(uri, e))?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use rstest::rstest;

    struct Memory(Arc<InMemory>);

    impl Sources for Memory {
        fn locate(&self, uri: &str) -> Result<Located, String> {
            let path = uri.strip_prefix("memory:///").ok_or("not in memory")?;
            let store: Arc<dyn ObjectStore> = Arc::clone(&self.0) as _;
            Ok(Located { store, path: ObjectPath::from(path), local: None })
        }
    }

    async fn stored(bytes: Vec<u8>) -> (Memory, Video) {
        let store = Arc::new(InMemory::new());
        let path = ObjectPath::from("a.mp4");
        store.put(&path, bytes.into()).await.unwrap();
        let meta = store.head(&path).await.unwrap();
        let uri = "memory:///a.mp4".to_owned();
        let video = Video {
            video_id: eventide_schema::video_id(&uri),
            uri,
            source_version: "1".to_owned(),
            size_bytes: meta.size,
            last_modified_ms: meta.last_modified.timestamp_millis(),
            sidecars: Vec::new(),
        };
        (Memory(store), video)
    }

    fn scratch(folder: &tempfile::TempDir) -> Scratch {
        Scratch::new(folder.path().to_owned(), ByteSize::mib(64))
    }

    #[tokio::test]
    async fn copies_every_byte_and_gives_the_space_back() {
        let bytes: Vec<u8> = (0u32..5 << 20).flat_map(u32::to_le_bytes).collect(); // 20 MiB: 3 ranges
        let (sources, video) = stored(bytes.clone()).await;
        let folder = tempfile::tempdir().unwrap();
        let scratch = scratch(&folder);
        let fetched = fetch(&video, &sources, &scratch).await.unwrap();
        assert!(std::fs::read(&fetched.path).unwrap() == bytes);
        assert_eq!(scratch.permits.available_permits(), 64 - 20);
        drop(fetched);
        assert_eq!(scratch.permits.available_permits(), 64);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    fn code(trouble: Trouble) -> String {
        match trouble {
            Trouble::Video(failure) => failure.reason_code,
            Trouble::Run(error) => panic!("{error}"),
        }
    }

    #[rstest]
    #[case::no_bytes(vec![], "empty_file")]
    #[case::too_large(vec![0; 65 << 20], "too_large_for_scratch")]
    #[tokio::test]
    async fn refuses(#[case] bytes: Vec<u8>, #[case] expected: &str) {
        let (sources, video) = stored(bytes).await;
        let folder = tempfile::tempdir().unwrap();
        let trouble = fetch(&video, &sources, &scratch(&folder)).await.unwrap_err();
        assert_eq!(code(trouble), expected);
    }

    #[tokio::test]
    async fn a_replaced_object_is_left_to_the_next_run() {
        let (sources, video) = stored(vec![1, 2, 3]).await;
        sources.0.put(&ObjectPath::from("a.mp4"), vec![9].into()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let trouble = fetch(&video, &sources, &scratch(&folder)).await.unwrap_err();
        assert_eq!(code(trouble), "changed");
    }

    #[tokio::test]
    async fn a_time_within_the_same_second_is_the_same_object() {
        let (sources, video) = stored(vec![1, 2, 3]).await;
        let listed = video.last_modified_ms.div_euclid(1000) * 1000;
        let folder = tempfile::tempdir().unwrap();
        for millisecond in [0, 123, 999] {
            let video = Video { last_modified_ms: listed + millisecond, ..video.clone() };
            fetch(&video, &sources, &scratch(&folder)).await.unwrap();
        }
        let video = Video { last_modified_ms: listed + 1000, ..video };
        let trouble = fetch(&video, &sources, &scratch(&folder)).await.unwrap_err();
        assert_eq!(code(trouble), "changed");
    }

    struct Disk;

    impl Sources for Disk {
        fn locate(&self, uri: &str) -> Result<Located, String> {
            let path = uri.strip_prefix("file://").ok_or("not on disk")?;
            Ok(Located {
                store: Arc::new(object_store::local::LocalFileSystem::new()),
                path: ObjectPath::from_absolute_path(path).unwrap(),
                local: Some(PathBuf::from(path)),
            })
        }
    }

    #[tokio::test]
    async fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("a.mp4");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (_, video) = stored(vec![1]).await;
        let uri = format!("file://{}", pipe.display());
        let trouble = fetch(&Video { uri: uri.clone(), ..video }, &Disk, &scratch(&folder)).await;
        assert_eq!(code(trouble.unwrap_err()), "unreadable");
        assert_eq!(code(read_sidecar(&uri, &Disk).await.unwrap_err()), "unreadable");
    }

    #[test]
    fn what_the_file_system_forbids_is_the_fault_of_one_video() {
        for (kind, expected) in [
            (io::ErrorKind::PermissionDenied, "forbidden"),
            (io::ErrorKind::IsADirectory, "unreadable"),
        ] {
            let source = Box::new(io::Error::from(kind));
            let error = object_store::Error::Generic { store: "LocalFileSystem", source };
            assert_eq!(code(judged("file:///a", error)), expected);
        }
        let source = Box::new(io::Error::from(io::ErrorKind::TimedOut));
        let error = object_store::Error::Generic { store: "S3", source };
        assert!(matches!(judged("s3://b/a", error), Trouble::Run(Error::Store { .. })));
    }

    #[test]
    fn lost_credentials_are_not_the_fault_of_the_video() {
        let source = "expired".into();
        let error = object_store::Error::Unauthenticated { path: "a".to_owned(), source };
        assert!(matches!(judged("s3://b/a", error), Trouble::Run(Error::Store { .. })));
    }

    #[tokio::test]
    async fn a_removed_object_says_so() {
        let (sources, video) = stored(vec![1, 2, 3]).await;
        sources.0.delete(&ObjectPath::from("a.mp4")).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let trouble = fetch(&video, &sources, &scratch(&folder)).await.unwrap_err();
        assert_eq!(code(trouble), "not_found");
    }
}
