//! Small pictures of moments of videos, made when they are first asked for and kept on disk.
//!
//! Only `media` decodes. A video in a remote store is copied for it, as long as it is not large; a video of which no
//! picture can be had is not looked at again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use eventide_catalog::{Location, Stores};
use eventide_media::{Exactness, FrameRequest, Limits, Media, Tools, slots};
use eventide_query::{Moment, Pictures};
use eventide_schema::{TimeSpan, video_id};
use futures::{FutureExt, TryStreamExt};
use object_store::{GetOptions, ObjectStoreExt};
use tempfile::NamedTempFile;
use tokio::{io::AsyncWriteExt, sync::Semaphore};

use crate::commands::chain;

/// Both sides of a picture in pixels.
const SIZE: u32 = 192;
/// Pictures that are made at a time.
const AT_ONCE: usize = 2;
/// Bytes of the largest video that is copied from a remote store for a picture.
const LARGEST_COPY: u64 = 256 << 20;
/// Bytes of the largest local video that is read for one.
const LARGEST_LOCAL: u64 = 4 << 30;
/// Bytes of pictures that are kept. Past that, the older half goes.
const MOST_KEPT: u64 = 256 << 20;
/// What a look at a video may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// Makes pictures, and keeps them in a folder.
struct Maker {
    media: Media,
    stores: Arc<Stores>,
    folder: PathBuf,
    kept_bytes: AtomicU64,
    turns: Semaphore,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot use the folder of pictures")]
    Folder(#[from] io::Error),
    #[error("cannot read the video")]
    Store(#[from] object_store::Error),
    #[error("cannot find the video")]
    Place(#[from] eventide_catalog::Error),
    #[error("cannot decode the video")]
    Media(#[from] eventide_media::Error),
    #[error("cannot write the picture")]
    Encode(#[from] lodepng::Error),
    #[error("it has {bytes} bytes, too many to be copied for a picture")]
    Large { bytes: u64 },
    #[error("it is not the version that was indexed, or there is no picture then")]
    Nothing,
}

impl Error {
    /// Whether it would be no other another time.
    fn stays(&self) -> bool {
        matches!(self, Self::Media(_) | Self::Large { .. } | Self::Nothing)
    }
}

/// Makes pictures with these tools, and keeps them in `folder`.
pub(super) fn pictures(
    tools: Tools,
    stores: &Arc<Stores>,
    folder: PathBuf,
) -> io::Result<Pictures> {
    fs::create_dir_all(&folder)?;
    let limits = Limits { wall: PATIENCE, cpu: PATIENCE, ..Limits::default() };
    let kept_bytes = kept(&folder)?.iter().map(|kept| kept.bytes).sum::<u64>().into();
    let (media, stores) = (Media::new(tools, limits), Arc::clone(stores));
    let turns = Semaphore::new(AT_ONCE);
    let maker = Arc::new(Maker { media, stores, folder, kept_bytes, turns });
    Ok(Arc::new(move |moment: Moment| {
        let maker = Arc::clone(&maker);
        let picture = async move {
            let made = maker.picture(&moment).await;
            let told = |error: &Error| {
                let (uri, error) = (&moment.uri, chain(error));
                tracing::debug!(uri, error, "no picture");
            };
            made.inspect_err(told).unwrap_or_default()
        };
        picture.boxed()
    }))
}

impl Maker {
    /// The picture, from the folder if it is there. One that is there and empty is known not to be had.
    async fn picture(&self, moment: &Moment) -> Result<Option<Vec<u8>>, Error> {
        let second = moment.at_ms.max(0).saturating_add(500) / 1000;
        let key = format!("{} {} {second}", moment.uri, moment.source_version);
        let place = self.folder.join(format!("{}.png", video_id(&key)));
        let known = |bytes: Vec<u8>| (!bytes.is_empty()).then_some(bytes);
        if let Ok(bytes) = fs::read(&place) {
            return Ok(known(bytes));
        }
        // It is never closed.
        let _turn = self.turns.acquire().await;
        if let Ok(bytes) = fs::read(&place) {
            return Ok(known(bytes));
        }
        let made = match self.make(moment, second).await {
            Ok(bytes) => bytes,
            Err(error) if error.stays() => {
                self.keep(&place, &[])?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        self.keep(&place, &made)?;
        Ok(known(made))
    }

    /// Decodes the picture at a second of the video.
    async fn make(&self, moment: &Moment, second: i64) -> Result<Vec<u8>, Error> {
        let location = self.stores.open(&moment.uri)?;
        let (path, _copy) = local(&location).await?;
        let probe = self.media.probe(&path).await?.value;
        let window = TimeSpan::new(0, probe.duration_us);
        let last = slots(window).saturating_sub(1);
        let slot = usize::try_from(second).unwrap_or(last).min(last);
        let request =
            FrameRequest { size: SIZE, window, slots: &[slot], exactness: Exactness::Exact };
        let frames = self.media.frames(&path, &probe, &request).await?.value;
        if frames.slots.is_empty() {
            return Err(Error::Nothing);
        }
        Ok(lodepng::encode24(&frames.pixels, SIZE as usize, SIZE as usize)?)
    }

    /// Keeps a picture, and lets the older half of all go where there are too many.
    fn keep(&self, place: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut draft = NamedTempFile::new_in(&self.folder)?;
        io::Write::write_all(&mut draft, bytes)?;
        draft.persist(place).map_err(|error| error.error)?;
        let size = bytes.len() as u64;
        if self.kept_bytes.fetch_add(size, Ordering::Relaxed) + size <= MOST_KEPT {
            return Ok(());
        }
        let mut all = kept(&self.folder)?;
        all.sort_by_key(|kept| kept.since);
        let mut left: u64 = all.iter().map(|kept| kept.bytes).sum();
        for old in all {
            if left <= MOST_KEPT / 2 {
                break;
            }
            fs::remove_file(&old.path)?;
            left -= old.bytes;
        }
        self.kept_bytes.store(left, Ordering::Relaxed);
        Ok(())
    }
}

/// A picture on disk.
struct Kept {
    path: PathBuf,
    bytes: u64,
    since: SystemTime,
}

fn kept(folder: &Path) -> io::Result<Vec<Kept>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // One that goes meanwhile is not there.
        let Ok(about) = entry.metadata() else { continue };
        let since = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        all.push(Kept { path: entry.path(), bytes: about.len(), since });
    }
    Ok(all)
}

/// The video as a file of this machine, and its copy if it is one.
async fn local(location: &Location) -> Result<(PathBuf, Option<NamedTempFile>), Error> {
    let found = location.store.head(&location.prefix).await?;
    let path = location.local_path(&location.prefix);
    let largest = if path.is_some() { LARGEST_LOCAL } else { LARGEST_COPY };
    if found.size > largest {
        return Err(Error::Large { bytes: found.size });
    }
    if let Some(path) = path {
        return Ok((path, None));
    }
    let copy = NamedTempFile::new()?;
    let options = GetOptions { if_match: found.e_tag, ..GetOptions::default() };
    let mut bytes = location.store.get_opts(&location.prefix, options).await?.into_stream();
    let mut file = tokio::fs::File::from_std(copy.reopen()?);
    while let Some(part) = bytes.try_next().await? {
        file.write_all(&part).await?;
    }
    file.flush().await?;
    Ok((copy.path().to_owned(), Some(copy)))
}
