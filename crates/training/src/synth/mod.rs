//! Narrated synthetic videos with known truth, any number of them: something to learn from and to score against.
//!
//! Coloured shapes enter, grow, collide and so on before textured backgrounds ([`world`]), drawn small ([`draw`]) and
//! encoded by `media`. The truth is what was drawn, in sentences ([`grammar`]). A narrator tells part of it, at the
//! wrong time and not always to the point ([`speech`]). A video depends on the seed, the split and its number, and on
//! no other video, so that a data set can grow.

pub mod draw;
pub mod grammar;
pub mod looks;
pub mod scene;
pub mod speech;
pub mod world;

mod director;
mod error;

use std::{
    collections::BTreeMap,
    fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use eventide_media::encode::Encode;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use error::Error;

use draw::Painter;
use looks::Split;
use speech::Line;
use world::{RATE, World, milliseconds};

/// Which program made a data set: it changes whenever the same seed gives other videos.
pub const VERSION: u32 = 3;
/// Width and height of the pictures in pixels.
pub const SIZE: u16 = 128;
/// How many shapes are on stage at once, at most, where no fewer are asked for.
pub const CROWD: u8 = 6;
/// The name of a data set's recipe in its folder.
pub const RECIPE: &str = "synth.json";
/// The name of a data set's truth in its folder.
pub const TRUTH: &str = "truth.json";
/// The folder of the videos in a data set's.
pub const VIDEOS: &str = "videos";

/// The shortest and the longest video that can be asked for.
const LENGTHS: [Duration; 2] = [Duration::from_secs(10), Duration::from_hours(1)];
/// The fewest shapes that can be asked for: what one does to another needs two.
const PAIR: u8 = 2;
/// How long one video may take to be drawn and encoded: some thousand times what it does.
const DEADLINE: Duration = Duration::from_mins(30);

/// What the videos of a data set are made from. Any number of them can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    seed: u64,
    split: Split,
    shortest: u16,
    longest: u16,
    crowd: u8,
}

impl Recipe {
    /// Videos of 20 to 180 seconds with up to [`CROWD`] shapes.
    #[must_use]
    pub fn new(seed: u64, split: Split) -> Self {
        Self { seed, split, shortest: 20 * RATE, longest: 180 * RATE, crowd: CROWD }
    }

    /// The same with videos of other lengths, of at least ten seconds and at most an hour.
    ///
    /// # Errors
    /// [`Error::Lengths`].
    pub fn with_lengths(self, shortest: Duration, longest: Duration) -> Result<Self, Error> {
        let pictures = |length: Duration| {
            let within = length >= LENGTHS[0] && length <= LENGTHS[1];
            let pictures = length.as_millis() * u128::from(RATE) / 1000;
            within.then(|| u16::try_from(pictures).ok()).flatten()
        };
        match (pictures(shortest), pictures(longest)) {
            (Some(shortest), Some(longest)) if shortest <= longest => {
                Ok(Self { shortest, longest, ..self })
            }
            _ => Err(Error::Lengths { shortest, longest }),
        }
    }

    /// The same with at most `crowd` shapes on stage at once, 2 to [`CROWD`]: the fewer there are, the less there is to
    /// tell apart.
    ///
    /// # Errors
    /// [`Error::Crowd`].
    pub fn with_crowd(self, crowd: u8) -> Result<Self, Error> {
        if (PAIR..=CROWD).contains(&crowd) {
            Ok(Self { crowd, ..self })
        } else {
            Err(Error::Crowd { crowd })
        }
    }

    /// Video number `index`, undrawn. Takes a moment.
    #[must_use]
    pub fn video(&self, index: u32) -> Video {
        let length = self.numbers(index, "length").random_range(self.shortest..=self.longest);
        let world = World::new(&mut self.numbers(index, "world"), self.split, length, self.crowd);
        let mut numbers = self.numbers(index, "captions");
        let captions = world.events.iter().map(|event| grammar::caption(event, &mut numbers));
        Video {
            name: self.name(index),
            captions: captions.collect(),
            lines: speech::transcript(&world, &mut self.numbers(index, "speech")),
            tone: self.numbers(index, "tone").random_range(120..480),
            world,
        }
    }

    /// The name of video number `index`.
    #[must_use]
    pub fn name(&self, index: u32) -> String {
        format!("synth-{}-{}-{index:06}", self.split, self.seed)
    }

    /// All that decides what a video of a name is.
    #[must_use]
    pub fn version(&self) -> String {
        let [shortest, longest] = [self.shortest, self.longest].map(milliseconds);
        format!("eventide synth {VERSION}, {shortest} to {longest} ms, up to {} shapes", self.crowd)
    }

    /// Random numbers of their own for each purpose, so that a change to one leaves the others as they were.
    fn numbers(&self, index: u32, purpose: &str) -> StdRng {
        let Self { seed, split, .. } = self;
        let text = format!("eventide-synth {VERSION} {seed} {split} {index} {purpose}");
        StdRng::from_seed(Sha256::digest(text).into())
    }

    fn written(&self, videos: u32) -> WrittenRecipe {
        WrittenRecipe {
            generator: "eventide synth".to_owned(),
            version: VERSION,
            seed: self.seed,
            split: self.split,
            shortest_ms: milliseconds(self.shortest),
            longest_ms: milliseconds(self.longest),
            crowd: self.crowd,
            size: SIZE,
            rate: RATE,
            videos,
        }
    }
}

/// A video: what it shows and what is true and said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Video {
    /// The stem of its files. Names of different seeds and splits differ.
    pub name: String,
    /// What it shows.
    pub world: World,
    /// A sentence for each event of the world.
    pub captions: Vec<String>,
    /// What the narrator says; `None` for silence.
    pub lines: Option<Vec<Line>>,
    /// The pitch of its sound in Hz.
    pub tone: u16,
}

impl Video {
    /// What is true of it, as data sets of dense captions are written.
    #[must_use]
    pub fn truth(&self) -> Truth {
        let seconds = |at| f64::from(milliseconds(at)) / 1000.0;
        let events = self.world.events.iter();
        Truth {
            duration: seconds(self.world.length),
            timestamps: events.map(|event| [seconds(event.start), seconds(event.end)]).collect(),
            sentences: self.captions.clone(),
        }
    }

    /// Writes `NAME.vtt`, where there is a narrator, and then `NAME.mp4` to `folder`, each whole or not at all.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::Encode`].
    pub fn draw(&self, ffmpeg: &Path, folder: &Path) -> Result<(), Error> {
        if let Some(lines) = &self.lines {
            write(&folder.join(&self.name).with_extension("vtt"), &speech::web_vtt(lines))?;
        }
        let mut painter = Painter::new(&self.world, SIZE);
        let (size, rate) = (u32::from(SIZE), u32::from(RATE));
        let pictures = u32::from(self.world.length);
        let settings = Encode {
            width: size,
            height: size,
            rate,
            pictures,
            tone: self.tone,
            deadline: DEADLINE,
        };
        let paint = |number, rgb: &mut [u8]| {
            painter.paint(u16::try_from(number).unwrap_or(u16::MAX), rgb);
        };
        settings
            .run(ffmpeg, &self.file(folder), paint)
            .map_err(|source| Error::Encode { name: self.name.clone(), source })
    }

    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(&self.name).with_extension("mp4")
    }
}

/// What is true of a video, in the form of the ActivityNet Captions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Its length in seconds.
    pub duration: f64,
    /// Start and end of each event in seconds.
    pub timestamps: Vec<[f64; 2]>,
    /// A sentence for each event.
    pub sentences: Vec<String>,
}

/// What a data set holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    /// Videos.
    pub videos: u32,
    /// Those of them that were there already.
    pub kept: u32,
    /// Those that have a narrator.
    pub narrated: u32,
    /// Events of all of them.
    pub events: u64,
    /// Length of all of them in milliseconds.
    pub video_ms: u64,
}

/// The recipe as it is written beside the videos.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct WrittenRecipe {
    generator: String,
    version: u32,
    seed: u64,
    split: Split,
    shortest_ms: u32,
    longest_ms: u32,
    #[serde(default = "crowd")]
    crowd: u8,
    size: u16,
    rate: u16,
    videos: u32,
}

fn crowd() -> u8 {
    CROWD
}

/// Makes the first `videos` videos of a recipe in `folder`, `workers` at a time, and then their truth.
///
/// What an earlier call has finished is kept, so that an interrupted call can be repeated and a data set can grow.
/// The truth lists what this call was asked for, even where there are more videos. `made` is told of each video as
/// it is there. Blocks.
///
/// # Errors
/// [`Error::OtherRecipe`] and [`Error::Recipe`] where the folder holds something else; [`Error::Write`] and
/// [`Error::Encode`]. After an error each video is there whole or not at all.
pub fn generate(
    folder: &Path,
    recipe: &Recipe,
    videos: u32,
    ffmpeg: &Path,
    workers: NonZeroUsize,
    made: &(dyn Fn(&Summary) + Sync),
) -> Result<Summary, Error> {
    claim(folder, &recipe.written(videos))?;
    let place = folder.join(VIDEOS);
    fs::create_dir_all(&place).map_err(unwritable(&place))?;
    let next = AtomicU32::new(0);
    let state = Mutex::new((Summary::default(), BTreeMap::new()));
    let work = || -> Result<(), Error> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= videos {
                return Ok(());
            }
            let video = recipe.video(index);
            let kept = video.file(&place).is_file();
            if !kept {
                // An error ends the work of the others after the video that they are at.
                video
                    .draw(ffmpeg, &place)
                    .inspect_err(|_| next.store(videos, Ordering::Relaxed))?;
            }
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.0.count(&video, kept);
            state.1.insert(video.name.clone(), video.truth());
            made(&state.0);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers.get()).map(|_| scope.spawn(work)).collect();
        let joined = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.collect::<Result<(), _>>()
    })?;
    let (summary, truth) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    write_json(&folder.join(TRUTH), &truth)?;
    Ok(summary)
}

/// The worlds of the videos that [`generate`] made in `folder`, by name. Takes a moment for each hundred.
///
/// # Errors
/// [`Error::Read`] and [`Error::Recipe`] where the folder holds something else, [`Error::OtherRecipe`] where another
/// version of this program made it.
pub fn worlds(folder: &Path) -> Result<BTreeMap<String, World>, Error> {
    let path = folder.join(RECIPE);
    let bytes = fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let written: WrittenRecipe = serde_json::from_slice(&bytes)
        .map_err(|source| Error::Recipe { path: path.clone(), source })?;
    let length = |ms: u32| Duration::from_millis(ms.into());
    let recipe = Recipe::new(written.seed, written.split)
        .with_lengths(length(written.shortest_ms), length(written.longest_ms))?
        .with_crowd(written.crowd)?;
    if recipe.written(written.videos) != written {
        return Err(Error::OtherRecipe { path });
    }
    let videos = (0..written.videos).map(|index| recipe.video(index));
    Ok(videos.map(|video| (video.name, video.world)).collect())
}

impl Summary {
    fn count(&mut self, video: &Video, kept: bool) {
        self.videos += 1;
        self.kept += u32::from(kept);
        self.narrated += u32::from(video.lines.is_some());
        self.events += video.captions.len() as u64;
        self.video_ms += u64::from(milliseconds(video.world.length));
    }
}

/// Writes the recipe into the folder, unless it holds what another recipe made.
fn claim(folder: &Path, recipe: &WrittenRecipe) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(unwritable(folder))?;
    let path = folder.join(RECIPE);
    match fs::read(&path) {
        Ok(bytes) => {
            let found: WrittenRecipe = serde_json::from_slice(&bytes)
                .map_err(|source| Error::Recipe { path: path.clone(), source })?;
            if (WrittenRecipe { videos: recipe.videos, ..found }) != *recipe {
                return Err(Error::OtherRecipe { path });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(source) => return Err(Error::Read { path, source }),
    }
    write_json(&path, recipe)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| Error::Write { path: path.to_owned(), source: source.into() })?;
    write(path, &format!("{text}\n"))
}

/// Writes a file that is there whole or as it was before.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let partial = path.with_file_name(name);
    fs::write(&partial, text).and_then(|()| fs::rename(&partial, path)).map_err(unwritable(path))
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Write { path, source }
}

#[cfg(test)]
mod tests;
