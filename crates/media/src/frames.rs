//! The pictures of wanted slots: decoded, put on the grid, scaled, cropped.
//!
//! Where the container has an index and the decoder of our own is there ([`Tools::decoder`]), one run of it brings them all,
//! each from the key picture before it. It brings them whole or not at all; then the long way is taken:
//!
//! One run of `ffmpeg` decodes, and tells the time of each decoded picture (`showinfo`) before
//! the grid (`fps`) and the selection; only wanted pictures are scaled and leave it. Where the
//! wanted pictures are far apart and the container has an index, several runs each start at the
//! key picture before theirs. A run that lands too late is done again from the beginning.
//!
//! Where key pictures will do ([`Exactness::Keyframe`]), one run decodes nothing but them.

use std::{ffi::OsString, fmt, path::Path};

use eventide_schema::TimeSpan;

use crate::{
    Error, Limits, Probe, Tools, VideoStream,
    child::{self, Budget, Exit, Launch},
    grid::{self, Follower, Picture},
    pictures::Pictures,
    probe,
};

/// Containers whose index leads to the wanted key picture.
const SEEKABLE: [&str; 2] = ["mp4", "matroska"];
/// Pictures that must be left out for another start of the decoder to be worth it.
const WORTH_A_START: usize = 250;
/// The largest side of a picture that a model looks at, in pixels.
const LARGEST_SIZE: u32 = 4096;

/// Which picture stands on a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exactness {
    /// The one that FFmpeg's `fps=1` puts there, as in the reference.
    #[default]
    Exact,
    /// Of those that a decoder can start at, the one that is shown nearest to it: far less is decoded. Where one of them
    /// cannot be had, all slots are exact.
    Keyframe,
}

/// Which pictures are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRequest<'a> {
    /// Both sides of a picture in pixels, `1..=4096`.
    pub size: u32,
    /// The part of the video that the slots count in, in microseconds from the first picture. Its
    /// start is taken to the nearest tick of the stream. The whole video is
    /// `0..probe.duration_us`.
    pub window: TimeSpan,
    /// Wanted slots, increasing, each less than [`slots`](crate::slots) of the window.
    pub slots: &'a [usize],
    /// Which picture stands on a slot.
    pub exactness: Exactness,
}

/// The pictures that are there.
///
/// A slot has its picture if the last picture decoded before the slot's half second (see
/// [`slots`](crate::slots)) was decoded without damage, and
///
/// - lies in the slot's own second, from half a second before it to half a second after; or
/// - is the very one that the container lists for the slot, so that a still that is held on
///   purpose stands as long as it is held. In a file that the demultiplexer complains about, a
///   gap of more than a second that no picture's stated duration covers is not a still but a
///   loss.
///
/// Any other slot is missing: counted, and never filled with another slot's picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Frames {
    /// Both sides of a picture in pixels.
    pub size: u32,
    /// `[slots.len(), size, size, 3]` bytes: rows from the top, red, green, blue.
    pub pixels: Vec<u8>,
    /// When each picture is really shown, in microseconds from the first presentation time of
    /// the video. Two slots have the same time where one picture stands on both.
    pub times_us: Vec<i64>,
    /// The slot of each picture, increasing: those wanted that are there.
    pub slots: Vec<usize>,
    /// Wanted slots that are not.
    pub missing: u32,
    /// How far a picture lies from the exact one of its slot, at most, in microseconds.
    pub shift_us: i64,
    /// The window is under half a second, where the grid has no slot; this is its first picture.
    pub is_short: bool,
}

pub(crate) async fn frames(
    tools: &Tools,
    limits: &Limits,
    budget: &mut Budget,
    file: &Path,
    probe: &Probe,
    request: &FrameRequest<'_>,
) -> Result<Frames, Error> {
    check(request, limits)?;
    let (stream, pictures) = probe.pictures(file)?;
    let job = Job {
        tools,
        limits,
        file,
        stream,
        pictures,
        filters: scaling(file, limits, stream, request.size)?,
        size: request.size,
        origin: pictures.start().saturating_add(pictures.base.ticks(request.window.start_us)),
        is_short: grid::is_short(request.window),
    };
    let seekable = SEEKABLE.contains(&probe.container.as_str());
    if request.exactness == Exactness::Keyframe
        && let Some(frames) = job.key_frames(budget, request.slots, seekable).await?
    {
        return Ok(frames);
    }
    if seekable && let Some(frames) = job.seek_exact(budget, request.slots).await? {
        return Ok(frames);
    }
    let mut frames = Frames::none(request.size, job.is_short);
    let mut last = None;
    let mut runs = job.plan(request.slots, seekable).into_iter();
    while let Some(run) = runs.next() {
        let mut taken = job.decode(budget, &run).await?;
        if job.landed_late(&run, &taken) {
            let rest = runs.by_ref().flat_map(|later| later.slots);
            let again = Run { from: None, slots: run.slots.into_iter().chain(rest).collect() };
            taken = job.decode(budget, &again).await?;
            job.collect(&again, &taken, &mut frames);
        } else {
            job.collect(&run, &taken, &mut frames);
        }
        last = Some(taken.exit);
    }
    if frames.slots.is_empty() && !request.slots.is_empty() {
        return Err(job.nothing(request.slots.len(), last.as_ref()));
    }
    Ok(frames)
}

fn check(request: &FrameRequest<'_>, limits: &Limits) -> Result<(), Error> {
    let invalid = |what| Err(Error::InvalidRequest { what });
    if request.size == 0 || request.size > LARGEST_SIZE {
        return invalid("the size of a picture is 1 to 4096 pixels");
    }
    if request.slots.len() > limits.slots {
        return invalid("more slots are wanted than the limit allows");
    }
    if !request.slots.is_sorted_by(|a, b| a < b) {
        return invalid("wanted slots must increase");
    }
    if request.slots.last().is_some_and(|&last| last >= grid::slots(request.window)) {
        return invalid("a wanted slot is past the end of the window");
    }
    Ok(())
}

/// The filters that make a picture of `size` out of a decoded one: the short side to `size`, the
/// long side in proportion and cut to whole pixels, then the middle of it.
///
/// The sides are those after rotation, which FFmpeg applies before any filter. The reference
/// program takes those before it, and so distorts what was filmed upright on a telephone.
fn scaling(file: &Path, limits: &Limits, stream: &VideoStream, size: u32) -> Result<String, Error> {
    let (width, height) = (u64::from(stream.width), u64::from(stream.height));
    if width == 0 || height == 0 {
        let detail = "the size of its pictures is unknown".to_owned();
        return Err(Error::Damaged { file: child::name(file), detail });
    }
    let turned = stream.rotation % 180 == 90;
    let (width, height) = if turned { (height, width) } else { (width, height) };
    let short = u64::from(size);
    let (wide, high) = if height >= width {
        (short, height * short / width)
    } else {
        (width * short / height, short)
    };
    for (width, height) in [(width, height), (wide, high)] {
        if width.saturating_mul(height) > limits.pixels {
            let file = child::name(file);
            return Err(Error::TooManyPixels { file, width, height, limit: limits.pixels });
        }
    }
    let (x, y) = ((wide - short) / 2, (high - short) / 2);
    Ok(format!("scale={wide}:{high},format=rgb24,crop={short}:{short}:{x}:{y}"))
}

/// What all runs for one request share.
struct Job<'a> {
    tools: &'a Tools,
    limits: &'a Limits,
    file: &'a Path,
    stream: &'a VideoStream,
    pictures: &'a Pictures,
    filters: String,
    size: u32,
    /// Ticks at which the window starts.
    origin: i64,
    is_short: bool,
}

/// Slots that one run of the decoder brings.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    /// The key picture to start at, in ticks; `None` for the beginning of the file.
    from: Option<i64>,
    slots: Vec<usize>,
}

/// What a run brought.
struct Taken {
    pixels: Vec<u8>,
    /// The picture that stands on each wanted slot.
    pictures: Vec<Option<Picture>>,
    /// When the first decoded picture is shown, in ticks.
    first: Option<i64>,
    exit: Exit,
}

impl Job<'_> {
    fn plan(&self, slots: &[usize], seekable: bool) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut decoded_to = self.pictures.start();
        for &slot in slots {
            let listed = self.listed(slot);
            let key = self.pictures.key_before(listed).filter(|&key| {
                seekable
                    && self.pictures.base.micros(key) > 0
                    && self.pictures.between(decoded_to, key) >= WORTH_A_START
            });
            match runs.last_mut() {
                Some(run) if key.is_none() => run.slots.push(slot),
                _ => runs.push(Run { from: key, slots: vec![slot] }),
            }
            decoded_to = listed;
        }
        runs
    }

    /// The pictures that the container lists for the slots, by the decoder that seeks; `None` unless it brings all of
    /// them, undamaged.
    async fn seek_exact(
        &self,
        budget: &mut Budget,
        slots: &[usize],
    ) -> Result<Option<Frames>, Error> {
        if self.is_short || self.pictures.is_torn() {
            return Ok(None);
        }
        let listed = |slot| Picture { ticks: self.listed(slot), damaged: false };
        let opens = |ticks: i64| self.pictures.base.slot(ticks.saturating_sub(self.origin));
        // Before the first picture nothing is shown.
        let is_shown = |slot, picture: Picture| {
            usize::try_from(opens(picture.ticks).max(0)).is_ok_and(|opens| opens <= slot)
        };
        let standing: Vec<_> = slots
            .iter()
            .map(|&slot| (slot, listed(slot)))
            .filter(|&(slot, picture)| is_shown(slot, picture) && self.stands(slot, picture))
            .collect();
        let mut at: Vec<_> = standing.iter().map(|(_, picture)| picture.ticks).collect();
        at.dedup();
        let Some(pixels) = self.seek(budget, &at).await? else { return Ok(None) };
        let mut frames = Frames::none(self.size, false);
        for (slot, picture) in standing {
            self.put(&mut frames, slot, picture.ticks, &at, &pixels);
        }
        let missing = slots.len().saturating_sub(frames.slots.len());
        frames.missing = u32::try_from(missing).unwrap_or(u32::MAX);
        Ok(Some(frames))
    }

    /// The pixels of the pictures at some ticks, increasing, by one run of the decoder that seeks; `None` unless all of
    /// them came.
    async fn seek(&self, budget: &mut Budget, at: &[i64]) -> Result<Option<Vec<u8>>, Error> {
        let Some(decoder) = self.tools.decoder.as_deref().filter(|_| !at.is_empty()) else {
            return Ok(None);
        };
        let with_key = |&at: &i64| Some(format!("{}:{at}", self.pictures.key_before(at)?));
        let Some(wanted) = at.iter().map(with_key).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let mut arguments: Vec<OsString> = [
            format!("--stream={}", self.stream.index),
            format!("--threads={}", self.limits.threads),
            format!("--max-pixels={}", self.limits.pixels),
            format!("--containers={}", probe::CONTAINERS),
            format!("--filters={}", self.filters),
            format!("--wanted={}", wanted.join(",")),
            "--".to_owned(),
        ]
        .map(OsString::from)
        .into();
        arguments.push(child::input(self.file)?);
        let mut pixels = Vec::new();
        let all = at.len().saturating_mul(self.picture_bytes());
        let mut output = child::keep(&mut pixels, all);
        let launch = Launch { tool: decoder, file: self.file, arguments };
        let exit = child::run(launch, self.limits, budget, &mut output, &mut |_| ()).await?;
        drop(output);
        Ok((exit.is_success() && pixels.len() == all).then_some(pixels))
    }

    /// Puts the picture at `ticks` on `slot`; `pixels` are those of the pictures at `at`.
    fn put(&self, frames: &mut Frames, slot: usize, ticks: i64, at: &[i64], pixels: &[u8]) {
        let place = at.partition_point(|&other| other < ticks) * self.picture_bytes();
        frames.pixels.extend_from_slice(&pixels[place..place + self.picture_bytes()]);
        let since = ticks.saturating_sub(self.pictures.start());
        frames.times_us.push(self.pictures.base.micros(since));
        frames.slots.push(slot);
    }

    /// The picture that the container lists for `slot`, in ticks.
    fn listed(&self, slot: usize) -> i64 {
        if self.is_short {
            return self.pictures.first_from(self.origin);
        }
        self.pictures.listed(self.origin, slot)
    }

    /// The key picture nearest to each slot; `None` where one of them cannot be had.
    async fn key_frames(
        &self,
        budget: &mut Budget,
        slots: &[usize],
        seekable: bool,
    ) -> Result<Option<Frames>, Error> {
        let nearest = |&slot: &usize| self.pictures.nearest_key(self.listed(slot));
        let Some(of_slots) = slots.iter().map(nearest).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let mut keys = of_slots.clone();
        keys.dedup();
        let Some(&first) = keys.first().filter(|_| !self.is_short) else { return Ok(None) };
        if seekable && let Some(pixels) = self.seek(budget, &keys).await? {
            return Ok(Some(self.on_slots(slots, &of_slots, &keys, &pixels)));
        }
        let far = self.pictures.between(self.pictures.start(), first) >= WORTH_A_START;
        let mut starts = vec![None];
        if seekable && far && self.pictures.base.micros(first) > 0 {
            starts.insert(0, Some(first));
        }
        for from in starts {
            let decoded = self.decode_keys(budget, from, &keys).await?;
            if let Some(pixels) = decoded {
                return Ok(Some(self.on_slots(slots, &of_slots, &keys, &pixels)));
            }
        }
        Ok(None)
    }

    /// The pixels of some key pictures, in their order; `None` unless all came out, undamaged.
    async fn decode_keys(
        &self,
        budget: &mut Budget,
        from: Option<i64>,
        keys: &[i64],
    ) -> Result<Option<Vec<u8>>, Error> {
        let is_key: Vec<String> = keys.iter().map(|key| format!("eq(pts,{key})")).collect();
        let chain =
            format!("showinfo@{TELLER}=checksum=0,select='{}',{}", sum(&is_key), self.filters);
        let mut arguments = self.input(from, &["-skip_frame", "nokey"])?;
        arguments.extend(self.output(&chain, keys.len()));
        let (mut pixels, mut came, mut damaged) = (Vec::new(), Vec::new(), false);
        let mut messages = |line: &str| {
            if let Some(ticks) = shown_at(line) {
                if !std::mem::take(&mut damaged) && keys.binary_search(&ticks).is_ok() {
                    came.push(ticks);
                }
            } else if line.contains("corrupt decoded frame") {
                damaged = true; // said of the picture that comes next
            }
        };
        self.run(budget, arguments, keys.len(), &mut pixels, &mut messages).await?;
        let all = came == keys && pixels.len() == keys.len().saturating_mul(self.picture_bytes());
        Ok(all.then_some(pixels))
    }

    /// Puts the pictures of `keys` on the slots that they are nearest to.
    fn on_slots(&self, slots: &[usize], of_slots: &[i64], keys: &[i64], pixels: &[u8]) -> Frames {
        let mut frames = Frames::none(self.size, false);
        for (&slot, &key) in slots.iter().zip(of_slots) {
            self.put(&mut frames, slot, key, keys, pixels);
            let shift = self.pictures.base.micros(key.saturating_sub(self.listed(slot))).abs();
            frames.shift_us = frames.shift_us.max(shift);
        }
        frames
    }

    async fn decode(&self, budget: &mut Budget, run: &Run) -> Result<Taken, Error> {
        let (mut pixels, mut first, mut damaged) = (Vec::new(), None, false);
        let mut follower = if self.is_short {
            Follower::first(self.pictures.base, self.origin)
        } else {
            Follower::new(self.pictures.base, self.origin, &run.slots)
        };
        let mut messages = |line: &str| {
            if let Some(ticks) = shown_at(line) {
                first.get_or_insert(ticks);
                follower.push(Picture { ticks, damaged: std::mem::take(&mut damaged) });
            } else if line.contains("corrupt decoded frame") {
                // Said of the picture that comes next.
                damaged = true;
            }
        };
        let mut arguments = self.input(run.from, &[])?;
        arguments.extend(self.output(&self.chain(&run.slots), run.slots.len()));
        let exit = self.run(budget, arguments, run.slots.len(), &mut pixels, &mut messages).await?;
        Ok(Taken { pixels, pictures: follower.finish(), first, exit })
    }

    /// Runs the decoder, which gives `count` pictures at most.
    async fn run(
        &self,
        budget: &mut Budget,
        arguments: Vec<OsString>,
        count: usize,
        pixels: &mut Vec<u8>,
        messages: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Exit, Error> {
        let launch = Launch { tool: &self.tools.ffmpeg, file: self.file, arguments };
        let mut output = child::keep(pixels, count.saturating_mul(self.picture_bytes()));
        let exit = child::run(launch, self.limits, budget, &mut output, messages).await?;
        drop(output);
        match exit.broken_limit(self.file, self.limits) {
            Some(error) => Err(error),
            None => Ok(exit),
        }
    }

    /// Arguments up to the input: the file from the key picture at `from` on, decoded with `options`.
    fn input(&self, from: Option<i64>, options: &[&str]) -> Result<Vec<OsString>, Error> {
        let mut arguments = probe::guarded();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
        add(&["-nostdin", "-nostats", "-v", "level+info", "-max_error_rate", "1"]);
        add(&["-filter_threads", "1", "-threads", &self.limits.threads.to_string()]);
        add(&["-max_pixels", &self.limits.pixels.to_string()]);
        // The clock of the container, and one chain of filters even where the size changes.
        add(&["-copyts", "-reinit_filter", "0"]);
        add(options);
        if let Some(key) = from {
            let us = self.pictures.base.micros(key).saturating_add(1);
            let at = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
            add(&["-seek_timestamp", "1", "-noaccurate_seek", "-ss", &at]);
        }
        add(&["-i"]);
        arguments.push(child::input(self.file)?);
        Ok(arguments)
    }

    /// Arguments behind the input: `count` pictures at most that come out of `chain`.
    fn output(&self, chain: &str, count: usize) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
        add(&["-map", &format!("0:{}", self.stream.index), "-an", "-sn", "-dn"]);
        add(&["-vf", chain, "-frames:v", &count.to_string()]);
        add(&[
            "-threads",
            "1",
            "-fps_mode",
            "passthrough",
            "-pix_fmt",
            "rgb24",
            "-f",
            "rawvideo",
            "pipe:1",
        ]);
        arguments
    }

    /// Tell the time, put on the grid, select, scale.
    fn chain(&self, slots: &[usize]) -> String {
        let (origin, filters) = (self.origin, &self.filters);
        let told = format!("showinfo@{TELLER}=checksum=0,setpts=PTS-({origin})");
        if self.is_short {
            return format!("{told},select='gte(pts,0)',{filters}");
        }
        format!("{told},fps=fps=1:start_time=0,select='{}',{filters}", selection(slots))
    }

    /// Whether the run began after the picture that its first slot needs.
    fn landed_late(&self, run: &Run, taken: &Taken) -> bool {
        let needed = run.slots.first().map(|&slot| self.listed(slot));
        run.from.is_some() && taken.first.is_none_or(|first| Some(first) > needed)
    }

    /// Adds the slots of a run that have their picture to `frames`, and counts the others.
    fn collect(&self, run: &Run, taken: &Taken, frames: &mut Frames) {
        let mut pixels = taken.pixels.chunks_exact(self.picture_bytes());
        for (&slot, &picture) in run.slots.iter().zip(&taken.pictures) {
            match (pixels.next(), picture) {
                (Some(pixels), Some(picture)) if self.stands(slot, picture) => {
                    let since = picture.ticks.saturating_sub(self.pictures.start());
                    frames.pixels.extend_from_slice(pixels);
                    frames.times_us.push(self.pictures.base.micros(since));
                    frames.slots.push(slot);
                }
                _ => frames.missing += 1,
            }
        }
    }

    /// The rule of [`Frames`].
    fn stands(&self, slot: usize, picture: Picture) -> bool {
        if picture.damaged || self.is_short {
            return !picture.damaged;
        }
        let second = self.pictures.base.slot(picture.ticks.saturating_sub(self.origin));
        let in_own_second = usize::try_from(second).is_ok_and(|second| second == slot);
        let is_held =
            picture.ticks >= self.listed(slot) && !self.pictures.is_torn_after(picture.ticks);
        in_own_second || is_held
    }

    fn nothing(&self, wanted: usize, exit: Option<&Exit>) -> Error {
        let file = child::name(self.file);
        let detail = exit.map_or_else(String::new, Exit::detail);
        if exit.is_some_and(|exit| exit.said(&child::OUT_OF_MEMORY)) {
            return Error::MemoryLimit { file, limit: self.limits.memory, detail };
        }
        Error::NoFrames { file, wanted, detail }
    }

    fn picture_bytes(&self) -> usize {
        let side = usize::try_from(self.size).unwrap_or(usize::MAX);
        side.saturating_mul(side).saturating_mul(3)
    }
}

impl Frames {
    fn none(size: u32, is_short: bool) -> Self {
        Self {
            size,
            pixels: Vec::new(),
            times_us: Vec::new(),
            slots: Vec::new(),
            missing: 0,
            shift_us: 0,
            is_short,
        }
    }
}

impl fmt::Debug for Frames {
    /// Everything but the pixels, of which there are millions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("size", &self.size)
            .field("times_us", &self.times_us)
            .field("slots", &self.slots)
            .field("missing", &self.missing)
            .field("is_short", &self.is_short)
            .finish_non_exhaustive()
    }
}

/// The name of the filter that tells of each decoded picture.
const TELLER: &str = "decoded";

/// The presentation time in ticks that a line of messages tells of a decoded picture.
///
/// Only a line that begins with the filter's own name counts: names and tags in a file are told
/// too, and may contain anything.
fn shown_at(line: &str) -> Option<i64> {
    let told = line.strip_prefix("[showinfo@")?.strip_prefix(TELLER)?;
    let (_, told) = told.split_once("[info] n:")?;
    let (_, ticks) = told.split_once(" pts:")?;
    ticks.split_whitespace().next()?.parse().ok()
}

/// An expression that is not 0 on the wanted slots, with neighbours joined.
///
/// The sum is a balanced tree: FFmpeg's parser goes one level deeper for each term of a flat sum, and
/// gives up at its hundredth level.
fn selection(slots: &[usize]) -> String {
    let terms: Vec<String> = slots
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| format!("between(pts,{},{})", run[0], run[run.len() - 1]))
        .collect();
    if terms.is_empty() { String::from("0") } else { sum(&terms) }
}

/// The sum of one or more terms, as deep as the logarithm of their number.
fn sum(terms: &[String]) -> String {
    if let [term] = terms {
        return term.clone();
    }
    let (left, right) = terms.split_at(terms.len() / 2);
    format!("({}+{})", sum(left), sum(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{grid::TimeBase, pictures::Packet};
    use rstest::rstest;

    #[rstest]
    #[case::a_picture(
        "[showinfo@decoded @ 0x5] [info] n:  80 pts: 112560 pts_time:9.38    pos:    42673 fmt:x",
        Some(112_560)
    )]
    #[case::before_zero("[showinfo@decoded @ 0x5] [info] n:   0 pts:-512 pts_time:-0.04", Some(-512))]
    #[case::no_time("[showinfo@decoded @ 0x5] [info] n:   0 pts:NOPTS pts_time:NOPTS", None)]
    #[case::its_colours("[showinfo@decoded @ 0x5] [info] color_range:unknown", None)]
    #[case::a_tag_that_pretends(
        "[info]     title : [showinfo@decoded @ 0x5] [info] n: 0 pts: 1",
        None
    )]
    fn reads_what_is_told(#[case] line: &str, #[case] ticks: Option<i64>) {
        assert_eq!(shown_at(line), ticks);
    }

    #[test]
    fn a_hundred_slots_apart_are_not_a_hundred_deep() {
        let apart: Vec<_> = (0..4096).map(|slot| slot * 2).collect();
        let text = selection(&apart);
        assert_eq!(text.matches("between").count(), 4096);
        let depth =
            |depth: i32, letter| depth + i32::from(letter == '(') - i32::from(letter == ')');
        let deepest = text.chars().scan(0, |at, letter| {
            *at = depth(*at, letter);
            Some(*at)
        });
        assert_eq!(deepest.max(), Some(12 + 1));
    }

    #[test]
    fn neighbours_are_joined() {
        assert_eq!(selection(&[0, 1, 2, 7]), "(between(pts,0,2)+between(pts,7,7))");
        assert_eq!(selection(&[4]), "between(pts,4,4)");
        assert_eq!(selection(&[]), "0");
    }

    #[rstest]
    #[case::landscape(320, 180, 0, "scale=398:224,format=rgb24,crop=224:224:87:0")]
    #[case::portrait(144, 256, 0, "scale=224:398,format=rgb24,crop=224:224:0:87")]
    #[case::square(192, 192, 0, "scale=224:224,format=rgb24,crop=224:224:0:0")]
    #[case::turned(320, 180, 90, "scale=224:398,format=rgb24,crop=224:224:0:87")]
    #[case::upside_down(320, 180, 180, "scale=398:224,format=rgb24,crop=224:224:87:0")]
    fn scales(
        #[case] width: u32,
        #[case] height: u32,
        #[case] rotation: i32,
        #[case] expected: &str,
    ) {
        let filters =
            scaling(Path::new("a"), &Limits::default(), &stream(width, height, rotation), 224);
        assert_eq!(filters.unwrap(), expected);
    }

    #[rstest]
    #[case::claims_too_much(12_336, 12_336)]
    #[case::larger_than_memory(32_768, 32_768)]
    #[case::a_thread_that_scales_to_a_wall(1, 1_000_000)]
    fn refuses_what_is_too_large(#[case] width: u32, #[case] height: u32) {
        let error = scaling(Path::new("a"), &Limits::default(), &stream(width, height, 0), 224);
        assert_eq!(error.unwrap_err().reason_code(), "too_many_pixels");
    }

    fn stream(width: u32, height: u32, rotation: i32) -> VideoStream {
        VideoStream { index: 0, codec: "h264".to_owned(), width, height, fps: 25.0, rotation }
    }

    #[rstest]
    #[case::neighbours_share_a_run(&[0, 1, 2], true, vec![(None, vec![0, 1, 2])])]
    #[case::far_ones_start_at_their_key(&[0, 20, 21, 60], true, vec![(None, vec![0]), (Some(20_000), vec![20, 21]), (Some(60_000), vec![60])])]
    #[case::the_first_may_be_far(&[40], true, vec![(Some(40_000), vec![40])])]
    #[case::no_index(&[0, 20, 60], false, vec![(None, vec![0, 20, 60])])]
    fn decodes_no_more_than_it_must(
        #[case] slots: &[usize],
        #[case] seekable: bool,
        #[case] expected: Vec<(Option<i64>, Vec<usize>)>,
    ) {
        let base = TimeBase { numerator: 1, denominator: 1000 };
        let packet =
            |i: i64| Packet { ticks: i * 40, duration: 40, key: i % 50 == 0, damaged: false };
        let pictures = Pictures::new(base, (0..2500).map(packet).collect(), false).unwrap();
        let job = Job {
            tools: &Tools { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into(), decoder: None },
            limits: &Limits::default(),
            file: Path::new("a"),
            stream: &stream(320, 180, 0),
            pictures: &pictures,
            filters: String::new(),
            size: 224,
            origin: 0,
            is_short: false,
        };
        let runs = job.plan(slots, seekable);
        let runs: Vec<_> = runs.into_iter().map(|run| (run.from, run.slots)).collect();
        assert_eq!(runs, expected);
    }
}
