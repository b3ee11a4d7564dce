//! The visual features of videos, computed once: as `pipeline` computes them when a model captions a video,
//! kept as float16 as the reference keeps them (`vid2seq.md` §1.2).
//!
//! Each worker decodes one video and encodes its pictures, so that a core that waits for a decoder is used by
//! another worker.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, copy},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use eventide_media::Media;
use eventide_model::{
    Bundle, VisionEncoder,
    frames::pick,
    manifest::{FrameRule, files},
    runtime::{Runtime, SessionOptions},
};
use eventide_schema::TimeSpan;
use half::f16;
use ndarray::Array2;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{
    cache::{Cache, Features, Pictures, Rows},
    drawn,
    elsewhere::Elsewhere,
    error::{Error, Result},
    pictures::{Look, pictures},
};
use crate::{pb, synth::Recipe};

/// What computes features: a vision encoder, and which pictures it is shown.
#[derive(Debug, Clone)]
pub struct Vision<'a> {
    /// The bundle of the encoder.
    pub bundle: &'a Bundle,
    /// ONNX Runtime.
    pub runtime: &'a Runtime,
    /// How its sessions run. Each worker has one, so one thread each is enough on a processor.
    pub session: SessionOptions,
    /// Which seconds of a video: the bundle's own rule, or one of more pictures where examples are cropped.
    pub rule: FrameRule,
}

impl Vision<'_> {
    /// The name of all that decides the features of a picture and which pictures there are: 64 digits.
    ///
    /// Over the vision graph with the values of its weights, the size of its pictures, and the rule for
    /// frames. Where the weights lie does not count, nor does the rest of the model: a bundle whose decoder
    /// was trained on has the same features.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Graph`].
    pub fn digest(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update("eventide-features 1\n");
        let FrameRule { count, pick } = &self.rule;
        let size = self.bundle.manifest().vision.image_size;
        hash.update(format!("{size} {count} {pick:?}\n"));
        hash_graph(&mut hash, &self.bundle.path(files::VISION))?;
        Ok(format!("{:x}", hash.finalize()))
    }

    fn look(&self) -> Look {
        Look { size: self.bundle.manifest().vision.image_size, rule: self.rule.clone() }
    }
}

/// Hashes a graph with the values of its weights in place of where they lie.
fn hash_graph(hash: &mut Sha256, path: &Path) -> Result<()> {
    let read = |path: &Path| {
        fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
    };
    let damaged = |problem: String| Error::Graph { path: path.to_owned(), problem };
    let mut model = pb::ModelProto::decode(read(path)?.as_slice())
        .map_err(|error| damaged(error.to_string()))?;
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        let entries = std::mem::take(&mut tensor.external_data);
        let entry = |key: &str| {
            let found = entries.iter().find(|entry| entry.key.as_deref() == Some(key));
            found.and_then(|entry| entry.value.as_deref())
        };
        let Some(location) = entry("location") else { continue };
        let name = tensor.name.clone().unwrap_or_default();
        let number = |key| entry(key).and_then(|value| value.parse::<u64>().ok());
        let (Some(offset), Some(length)) = (number("offset"), number("length")) else {
            return Err(damaged(format!("it does not say where `{name}` lies")));
        };
        let file = path.with_file_name(location);
        let unreadable = |source| Error::Read { path: file.clone(), source };
        let mut weights = File::open(&file).map_err(unreadable)?;
        weights.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
        let copied = copy(&mut weights.take(length), hash).map_err(unreadable)?;
        if copied != length {
            return Err(damaged(format!("`{name}` lies past the end of `{}`", file.display())));
        }
    }
    hash.update(model.encode_to_vec());
    Ok(())
}

/// How far the work on some videos is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Videos that are done with.
    pub done: usize,
    /// Videos in all.
    pub videos: usize,
    /// Those done that were in the cache.
    pub cached: usize,
    /// Those done that cannot be seen.
    pub failed: usize,
    /// Pictures that were decoded.
    pub pictures: usize,
    /// Time of all workers that went into decoding, the waiting for it included.
    pub decoding: Duration,
    /// Time of all workers that went into the vision encoder.
    pub encoding: Duration,
}

/// What came of some videos.
#[derive(Debug)]
pub struct Prepared {
    /// What was done.
    pub progress: Progress,
    /// The videos that cannot be seen, and why, in the order given.
    pub failed: Vec<(PathBuf, Error)>,
}

/// Computes the features of `videos` that `cache` does not have, `workers` at a time, and keeps them there.
///
/// `told` hears of each video that is done. What is done stays done whatever happens later, so that a call that
/// was interrupted can be repeated. Blocks.
///
/// # Errors
/// [`Error::Model`] if the encoder fails, [`Error::Write`] and [`Error::Cache`] if nothing can be kept,
/// [`Error::Wait`]. A video that cannot be seen is no error, see [`Prepared::failed`].
pub fn prepare(
    videos: &[PathBuf],
    vision: &Vision<'_>,
    media: &Media,
    cache: &Cache,
    workers: NonZeroUsize,
    told: &(dyn Fn(&Progress) + Sync),
) -> Result<Prepared> {
    prepared(videos, workers, told, || {
        let mut eye = Eye { vision, media, encoder: None };
        move |video: &Path| {
            if cache.get::<f16>(video)?.is_some() {
                return Ok(Done::default());
            }
            let (features, done) = eye.see(video)?;
            cache.put(video, &features)?;
            Ok(done)
        }
    })
}

/// Computes the features of videos that are [`Elsewhere`], likewise: each is brought here for as long as it is looked at.
/// They are kept under the names and versions that `from` knows.
///
/// # Errors
/// As [`prepare`]; [`Error::Fetch`] if a store fails. A video that cannot be had is one that cannot be seen.
pub fn prepare_fetched(
    videos: &[PathBuf],
    from: &dyn Elsewhere,
    vision: &Vision<'_>,
    media: &Media,
    cache: &Cache,
    workers: NonZeroUsize,
    told: &(dyn Fn(&Progress) + Sync),
) -> Result<Prepared> {
    prepared(videos, workers, told, || {
        let mut eye = Eye { vision, media, encoder: None };
        move |video: &Path| {
            let Some(version) = from.version(video) else { return Ok(Done::default()) };
            let name = video.to_string_lossy();
            if cache.get_named::<f16>(&name, &version).is_some() {
                return Ok(Done::default());
            }
            let fetched = from.fetch(video)?;
            let (features, done) = eye.see(fetched.path()).map_err(|error| error.about(video))?;
            cache.put_named(&name, version, &features)?;
            Ok(done)
        }
    })
}

/// What a worker looks at files with.
struct Eye<'a> {
    vision: &'a Vision<'a>,
    media: &'a Media,
    /// Opened by the first video that needs it.
    encoder: Option<VisionEncoder>,
}

impl Eye<'_> {
    fn see(&mut self, file: &Path) -> Result<(Features, Done)> {
        let started = Instant::now();
        let pictures = pictures(self.media, file, &self.vision.look())?;
        let decoding = started.elapsed();
        let started = Instant::now();
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(load(self.vision)?),
        };
        let features = encode(encoder, &pictures)?;
        let encoding = started.elapsed();
        Ok((features, Done { pictures: pictures.slots.len(), decoding, encoding, is_new: true }))
    }
}

/// Decodes the pictures of `videos` that `cache` does not have, likewise: for training the vision encoder.
///
/// # Errors
/// As [`prepare`], but for [`Error::Model`].
pub fn prepare_pictures(
    videos: &[PathBuf],
    look: &Look,
    media: &Media,
    cache: &Cache,
    workers: NonZeroUsize,
    told: &(dyn Fn(&Progress) + Sync),
) -> Result<Prepared> {
    prepared(videos, workers, told, || {
        move |video: &Path| {
            if cache.get::<u8>(video)?.is_some() {
                return Ok(Done::default());
            }
            let started = Instant::now();
            let pictures = pictures(media, video, look)?;
            cache.put(video, &pictures)?;
            let decoding = started.elapsed();
            Ok(Done { pictures: pictures.slots.len(), decoding, is_new: true, ..Done::default() })
        }
    })
}

/// Computes the features of synthetic videos that `cache` does not have, likewise, without files: pictures are drawn
/// and encoded at once.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_drawn(
    recipe: &Recipe,
    videos: &[u32],
    vision: &Vision<'_>,
    cache: &Cache,
    workers: NonZeroUsize,
    told: &(dyn Fn(&Progress) + Sync),
) -> Result<()> {
    let (look, version) = (vision.look(), recipe.version());
    let done = work(videos, workers, told, || {
        let mut encoder: Option<VisionEncoder> = None;
        let (look, version) = (&look, &version);
        move |&index: &u32| {
            let name = recipe.name(index);
            if cache.get_named::<f16>(&name, version).is_some() {
                return Ok(Done::default());
            }
            let started = Instant::now();
            let pictures = drawn::pictures(&recipe.video(index), look);
            let decoding = started.elapsed();
            let started = Instant::now();
            let encoder = match &mut encoder {
                Some(encoder) => encoder,
                none => none.insert(load(vision)?),
            };
            cache.put_named(&name, version.clone(), &encode(encoder, &pictures)?)?;
            let encoding = started.elapsed();
            Ok(Done { pictures: pictures.slots.len(), decoding, encoding, is_new: true })
        }
    });
    done.map(|_| ())
}

fn load(vision: &Vision<'_>) -> Result<VisionEncoder> {
    VisionEncoder::load(vision.bundle, vision.runtime, &vision.session).map_err(Error::Model)
}

fn encode(encoder: &mut VisionEncoder, pictures: &Pictures) -> Result<Features> {
    let Rows { values, slots, wanted, duration_us } = pictures;
    let bytes = values.as_slice().unwrap_or_default();
    let features = encoder.encode(bytes, slots.len(), &|| false).map_err(Error::Model)?;
    Ok(Rows {
        values: features.mapv(f16::from_f32),
        slots: slots.clone(),
        wanted: wanted.clone(),
        duration_us: *duration_us,
    })
}

/// What one video took.
#[derive(Debug, Default)]
struct Done {
    pictures: usize,
    decoding: Duration,
    encoding: Duration,
    is_new: bool,
}

/// The same for files, with their names.
fn prepared<W: FnMut(&Path) -> Result<Done>>(
    videos: &[PathBuf],
    workers: NonZeroUsize,
    told: &(dyn Fn(&Progress) + Sync),
    worker: impl Fn() -> W + Sync,
) -> Result<Prepared> {
    let worker = || {
        let mut worker = worker();
        move |video: &PathBuf| worker(video)
    };
    let (progress, failed) = work(videos, workers, told, worker)?;
    let failed = failed.into_iter().map(|(index, error)| (videos[index].clone(), error)).collect();
    Ok(Prepared { progress, failed })
}

/// Gives each video to one of some workers, each of which does what `worker` makes. What was done, and the numbers of
/// the videos that cannot be seen.
fn work<T: Sync, W: FnMut(&T) -> Result<Done>>(
    videos: &[T],
    workers: NonZeroUsize,
    told: &(dyn Fn(&Progress) + Sync),
    worker: impl Fn() -> W + Sync,
) -> Result<(Progress, Vec<(usize, Error)>)> {
    let next = AtomicUsize::new(0);
    let progress = Progress { videos: videos.len(), ..Progress::default() };
    let state = Mutex::new((progress, Vec::new()));
    let run = || -> Result<()> {
        let mut worker = worker();
        while let Some((index, video)) = take(videos, &next) {
            let done = worker(video);
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let (progress, failed) = &mut *state;
            match done {
                Ok(done) => progress.count(&done),
                Err(
                    error @ (Error::Video { .. } | Error::Read { .. } | Error::Unfetched { .. }),
                ) => {
                    progress.failed += 1;
                    failed.push((index, error));
                }
                Err(error) => {
                    // The others end after the video that they are at.
                    next.store(videos.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
            progress.done += 1;
            told(progress);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let count = workers.get().min(videos.len());
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(run)).collect();
        let joined = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.collect::<Result<()>>()
    })?;
    let (progress, mut failed) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_by_key(|(index, _)| *index);
    Ok((progress, failed))
}

fn take<'a, T>(videos: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, videos.get(index)?))
}

impl Progress {
    fn count(&mut self, done: &Done) {
        self.cached += usize::from(!done.is_new);
        self.pictures += done.pictures;
        self.decoding += done.decoding;
        self.encoding += done.encoding;
    }
}

impl Features {
    /// The features `[n, dim]` of a part of the video as the model takes them: of the seconds that were
    /// computed within `span`, those that `rule` picks; zero where a picture is lost.
    ///
    /// `span` starts at a whole second and ends at one or at the end of the video. Where every second was
    /// computed these are the features of that part as a video of its own; where fewer were, they are further
    /// apart than those would be.
    #[must_use]
    pub fn within(&self, span: TimeSpan, rule: &FrameRule) -> Array2<f32> {
        let first = usize::try_from(span.start_us.max(0) / 1_000_000).unwrap_or(usize::MAX);
        let after = first.saturating_add(eventide_media::slots(span));
        let from = self.wanted.partition_point(|&slot| slot < first);
        let to = self.wanted.partition_point(|&slot| slot < after);
        let picked = pick(to - from, rule);
        let mut features = Array2::zeros((picked.len(), self.values.ncols()));
        for (mut row, index) in features.rows_mut().into_iter().zip(picked) {
            if let Ok(found) = self.slots.binary_search(&self.wanted[from + index]) {
                row.zip_mut_with(&self.values.row(found), |to, from| *to = from.to_f32());
            }
        }
        features
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventide_model::manifest::FramePick;
    use rstest::rstest;

    /// Features whose only number is the second that they are of; second 3 is lost.
    fn features(wanted: Vec<usize>) -> Features {
        let slots: Vec<usize> = wanted.iter().copied().filter(|&slot| slot != 3).collect();
        let values = slots.iter().map(|&slot| f16::from_f32(u16::try_from(slot).unwrap().into()));
        let values = Array2::from_shape_vec((slots.len(), 1), values.collect()).unwrap();
        Rows { values, slots, wanted, duration_us: 20_400_000 }
    }

    #[rstest]
    #[case::whole(0, 20_400_000, 100, &[0, 1, 2, 0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19])]
    #[case::a_part(2_000_000, 6_000_000, 100, &[2, 0, 4, 5])]
    #[case::to_the_end(17_000_000, 20_400_000, 100, &[17, 18, 19])]
    #[case::fewer(10_000_000, 20_000_000, 4, &[10, 12, 15, 17])]
    #[case::past_the_end(30_000_000, 31_000_000, 4, &[])]
    fn a_part_of_a_video(
        #[case] start: i64,
        #[case] end: i64,
        #[case] count: u32,
        #[case] expected: &[u8],
    ) {
        let rule = FrameRule { count, pick: FramePick::Floor };
        let found = features((0..20).collect()).within(TimeSpan::new(start, end), &rule);
        let expected: Vec<f32> = expected.iter().map(|&second| second.into()).collect();
        assert_eq!(found.into_raw_vec_and_offset().0, expected);
    }

    #[test]
    fn what_was_not_computed_is_further_apart() {
        let features = features((0..20).step_by(4).collect());
        let rule = FrameRule { count: 100, pick: FramePick::Floor };
        let found = features.within(TimeSpan::new(6_000_000, 18_000_000), &rule);
        assert_eq!(found.into_raw_vec_and_offset().0, [8.0, 12.0, 16.0]);
    }
}
