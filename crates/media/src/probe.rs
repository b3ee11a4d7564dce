//! What is in a file: streams, and when each picture is shown. Two runs of `ffprobe`, no decoding
//! beyond what it takes to know the streams.

use std::{ffi::OsString, path::Path, sync::Arc};

use eventide_schema::MediaFacts;
use serde::Deserialize;

use crate::{
    Error, Limits, Tools,
    child::{self, Budget, Exit, Launch, LineCutter, Overflow},
    grid::TimeBase,
    pictures::{Packet, Pictures},
};

/// Containers that are read, by the names of FFmpeg's demultiplexers. None of them opens another
/// file. Playlists (`hls`, `dash`, `concat`), stills, sessions and devices are absent on purpose.
pub(crate) const CONTAINERS: &str = "mov,matroska,avi,mpegts,mpeg,flv,live_flv,asf,asf_o,ogg,rm,mxf,nut,ivf,\
    dv,wtv,obu,av1,h261,h263,h264,hevc,vvc,m4v,mpegvideo,mjpeg,vc1,gif,apng,amv,viv,vivo,nsv,3dostr,\
    mp3,wav,w64,flac,aac,ac3,eac3,amr,aiff,au,caf,ape,wv,tta,dts,truehd,opus";

/// Timestamps past this are no longer exact in the filters' arithmetic.
const LARGEST_TICK: i64 = 1 << 52;

/// What is in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Length in microseconds: from the first presentation time of the video to the end of its
    /// last picture, as the packets say and not as the header does. Without a video, what the
    /// container says, or 0.
    pub duration_us: i64,
    /// First presentation time of the video, or of a file that is sound alone, on the container's clock, in
    /// microseconds. All other times of this crate count from it. May be negative.
    pub start_us: i64,
    /// How long the container has played when its first picture is shown, in microseconds: 0 but
    /// where sound comes first. A player counts the times of a side-car from the start of the
    /// container, so on the clock of this crate they are this much earlier.
    pub lead_us: i64,
    /// Length of the video in microseconds as the header says it. A value well over
    /// `duration_us` is that of a file which was cut off.
    pub claimed_us: Option<i64>,
    /// Short name of the container, such as `mp4`, `matroska`, `mpegts`.
    pub container: String,
    /// The video that pictures are taken from: the default one, else the first. A cover picture
    /// is none.
    pub video: Option<VideoStream>,
    /// Sound.
    pub audio: Vec<AudioStream>,
    /// Subtitles.
    pub subtitles: Vec<SubtitleStream>,
    /// The kinds of stream that there are, such as `audio, cover picture`, or `nothing`.
    pub found: String,
    pictures: Option<Arc<Pictures>>,
}

/// A video stream.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoStream {
    /// Its index in the container.
    pub index: u32,
    /// Short name of its codec, such as `h264`.
    pub codec: String,
    /// Width in pixels as stored, before rotation. 0 if unknown.
    pub width: u32,
    /// Height in pixels as stored, before rotation. 0 if unknown.
    pub height: u32,
    /// Pictures a second, on average, as counted.
    pub fps: f64,
    /// Degrees that a player turns the picture by, counter-clockwise; 0 mostly.
    pub rotation: i32,
}

/// A sound stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioStream {
    /// Its index in the container.
    pub index: u32,
    /// Short name of its codec, such as `aac`.
    pub codec: String,
    /// Language, where the container names one.
    pub language: Option<String>,
    /// When it ends on the clock of this crate, in microseconds, as the header says it. Sound that ends well
    /// before that was cut off, or damaged.
    pub claimed_end_us: Option<i64>,
}

/// A subtitle stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubtitleStream {
    /// Its index in the container.
    pub index: u32,
    /// Short name of its codec, such as `subrip`.
    pub codec: String,
    /// Language, where the container names one.
    pub language: Option<String>,
    /// Whether it holds text; else it holds pictures of text, which are not read.
    pub is_text: bool,
}

impl Probe {
    /// The video stream.
    ///
    /// # Errors
    /// [`Error::NoVideoStream`] where there is none.
    pub fn require_video(&self, file: &Path) -> Result<&VideoStream, Error> {
        self.video.as_ref().ok_or_else(|| self.no_video(file))
    }

    /// What the tables say about the file.
    #[must_use]
    pub fn facts(&self) -> MediaFacts {
        let video = self.video.as_ref();
        MediaFacts {
            duration_us: Some(self.duration_us),
            container: Some(self.container.clone()),
            video_codec: video.map(|video| video.codec.clone()),
            width: video.map(|video| video.width),
            height: video.map(|video| video.height),
            fps: video.map(|video| video.fps),
            has_audio: Some(!self.audio.is_empty()),
        }
    }

    /// The video stream and its pictures.
    pub(crate) fn pictures(&self, file: &Path) -> Result<(&VideoStream, &Pictures), Error> {
        let both = self.video.as_ref().zip(self.pictures.as_deref());
        both.ok_or_else(|| self.no_video(file))
    }

    /// Lets all times count from a moment of the container's clock.
    fn start_at(&mut self, start_us: i64) {
        self.start_us = start_us;
        for sound in &mut self.audio {
            sound.claimed_end_us = sound.claimed_end_us.map(|end| end.saturating_sub(start_us));
        }
    }

    fn no_video(&self, file: &Path) -> Error {
        Error::NoVideoStream { file: child::name(file), found: self.found.clone() }
    }
}

/// The arguments that both tools take before their input.
pub(crate) fn guarded() -> Vec<OsString> {
    ["-hide_banner", "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS]
        .map(OsString::from)
        .into()
}

pub(crate) async fn probe(
    tools: &Tools,
    limits: &Limits,
    budget: &mut Budget,
    file: &Path,
) -> Result<Probe, Error> {
    let unreadable = |source| Error::Read { file: child::name(file), source };
    if tokio::fs::metadata(file).await.map_err(unreadable)?.len() == 0 {
        return Err(Error::EmptyFile { file: child::name(file) });
    }
    let told = streams(tools, limits, budget, file).await?;
    let mut probe = describe(&told);
    let first = told.format.start_time.as_deref().and_then(seconds_us);
    let Some((stream, base)) = told.video().and_then(|s| Some((s, s.time_base()?))) else {
        probe.start_at(first.unwrap_or(0));
        return Ok(probe);
    };
    let pictures = pictures(tools, limits, budget, file, stream.index, base).await?;
    check_times(&pictures, limits, file)?;
    probe.duration_us = pictures.duration_us();
    probe.start_at(base.micros(pictures.start()));
    probe.lead_us = first.map_or(0, |first| probe.start_us.saturating_sub(first).max(0));
    probe.claimed_us = stream.claimed_us(probe.start_us);
    if let Some(video) = &mut probe.video {
        video.fps = rate(pictures.len(), probe.duration_us);
    }
    probe.pictures = Some(Arc::new(pictures));
    Ok(probe)
}

fn check_times(pictures: &Pictures, limits: &Limits, file: &Path) -> Result<(), Error> {
    let span = pictures.duration_us();
    if i128::from(span) > i128::try_from(limits.length.as_micros()).unwrap_or(i128::MAX) {
        let (file, seconds) = (child::name(file), span / 1_000_000);
        return Err(Error::TooLong { file, seconds, limit: limits.length });
    }
    if pictures.start().abs() > LARGEST_TICK {
        let detail = "its timestamps are out of range".to_owned();
        return Err(Error::Damaged { file: child::name(file), detail });
    }
    Ok(())
}

/// `count` things in `us` microseconds, a second; 0 in no time.
#[expect(clippy::cast_precision_loss, reason = "a rate for a person to read")]
fn rate(count: usize, us: i64) -> f64 {
    if us > 0 { count as f64 * 1e6 / us as f64 } else { 0.0 }
}

/// What `ffprobe` tells, as it tells it.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(default)]
    format: Format,
    #[serde(default)]
    streams: Vec<Stream>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Format {
    #[serde(rename = "format_name")]
    names: String,
    duration: Option<String>,
    start_time: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Stream {
    index: u32,
    #[serde(default)]
    codec_name: Option<String>,
    #[serde(default)]
    codec_type: Option<String>,
    #[serde(default)]
    width: i64,
    #[serde(default)]
    height: i64,
    #[serde(default)]
    time_base: String,
    #[serde(default)]
    start_time: Option<String>,
    #[serde(default)]
    duration: Option<String>,
    #[serde(default)]
    disposition: Disposition,
    #[serde(default)]
    tags: Tags,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Disposition {
    default: u8,
    attached_pic: u8,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tags {
    language: Option<String>,
    #[serde(rename = "DURATION")]
    duration: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SideData {
    #[serde(default)]
    rotation: Option<f64>,
}

impl Told {
    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Stream> {
        self.streams.iter().filter(move |stream| stream.kind() == kind)
    }

    fn video(&self) -> Option<&Stream> {
        let default = self.of_kind("video").find(|stream| stream.disposition.default == 1);
        default.or_else(|| self.of_kind("video").next())
    }
}

impl Stream {
    fn kind(&self) -> &str {
        match self.codec_type.as_deref() {
            Some("video") if self.disposition.attached_pic == 1 => "cover picture",
            Some(kind) => kind,
            None => "unknown",
        }
    }

    fn codec(&self) -> String {
        self.codec_name.clone().unwrap_or_else(|| "unknown".to_owned())
    }

    fn language(&self) -> Option<String> {
        self.tags.language.clone().filter(|language| !language.is_empty() && language != "und")
    }

    fn time_base(&self) -> Option<TimeBase> {
        let (numerator, denominator) = self.time_base.split_once('/')?;
        let (numerator, denominator) = (numerator.parse().ok()?, denominator.parse().ok()?);
        (numerator > 0 && denominator > 0).then_some(TimeBase { numerator, denominator })
    }

    fn rotation(&self) -> i32 {
        let told = self.side_data_list.iter().find_map(|data| data.rotation).unwrap_or(0.0);
        #[expect(clippy::cast_possible_truncation, reason = "degrees; the cast saturates")]
        let degrees = told.round() as i32;
        degrees.rem_euclid(360)
    }

    /// MP4 says how long the stream is, Matroska in a tag at which moment it ends.
    fn claimed_us(&self, start_us: i64) -> Option<i64> {
        let length = self.duration.as_deref().and_then(seconds_us);
        let end = || self.tags.duration.as_deref().and_then(clock_us);
        length.or_else(|| Some(end()? - start_us))
    }

    /// When it ends on the container's clock. Unless it `has_length` of its own, the length that is told is that of
    /// the whole file.
    fn claimed_end_us(&self, has_length: bool) -> Option<i64> {
        let start = self.start_time.as_deref().and_then(seconds_us);
        let length = self.duration.as_deref().filter(|_| has_length).and_then(seconds_us);
        let by_length = start.zip(length).and_then(|(start, length)| start.checked_add(length));
        let by_tag = self.tags.duration.as_deref().and_then(clock_us);
        by_length.into_iter().chain(by_tag).min()
    }
}

/// `12.345678` seconds in microseconds.
fn seconds_us(text: &str) -> Option<i64> {
    let seconds: f64 = text.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    seconds.is_finite().then_some((seconds * 1e6).round() as i64)
}

/// `00:00:04.201000000` in microseconds.
fn clock_us(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let whole = hours.checked_mul(60)?.checked_add(minutes)?.checked_mul(60_000_000)?;
    whole.checked_add(seconds_us(parts.next()?)?)
}

async fn streams(
    tools: &Tools,
    limits: &Limits,
    budget: &mut Budget,
    file: &Path,
) -> Result<Told, Error> {
    let mut arguments = guarded();
    arguments.extend(["-v", "level+error", "-of", "json", "-show_entries"].map(OsString::from));
    arguments.push(
        "format=format_name,duration,start_time:stream=index,codec_name,codec_type,width,height,\
         time_base,start_time,duration:stream_disposition=default,attached_pic:stream_tags=language,DURATION:\
         stream_side_data=rotation"
            .into(),
    );
    arguments.push(child::input(file)?);
    let mut said = Vec::new();
    let launch = Launch { tool: &tools.ffprobe, file, arguments };
    let mut output = child::keep(&mut said, limits.text);
    let exit = child::run(launch, limits, budget, &mut output, &mut |_| ()).await?;
    drop(output);
    if !exit.is_success() {
        return Err(refusal(&exit, file, limits));
    }
    serde_json::from_slice(&said).map_err(|error| Error::Damaged {
        file: child::name(file),
        detail: format!("what is told of its streams makes no sense: {error}"),
    })
}

/// What it means that a tool gives up on `file`.
fn refusal(exit: &Exit, file: &Path, limits: &Limits) -> Error {
    if let Some(error) = exit.broken_limit(file, limits) {
        return error;
    }
    let (file, detail) = (child::name(file), exit.detail());
    if exit.said(&["not on whitelist", "Protocol not found"]) {
        let detail = detail.replace(CONTAINERS, "..");
        return Error::UnsupportedContainer { file, detail };
    }
    Error::Damaged { file, detail }
}

fn describe(told: &Told) -> Probe {
    let mut kinds: Vec<_> = told.streams.iter().map(Stream::kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let size = |side: i64| u32::try_from(side).unwrap_or(0);
    let video = told.video().map(|stream| VideoStream {
        index: stream.index,
        codec: stream.codec(),
        width: size(stream.width),
        height: size(stream.height),
        fps: 0.0,
        rotation: stream.rotation(),
    });
    let container = container(&told.format.names);
    let has_lengths = container == "mp4" || video.is_none();
    let audio = told.of_kind("audio").map(|stream| AudioStream {
        index: stream.index,
        codec: stream.codec(),
        language: stream.language(),
        claimed_end_us: stream.claimed_end_us(has_lengths),
    });
    let subtitles = told.of_kind("subtitle").map(|stream| SubtitleStream {
        index: stream.index,
        codec: stream.codec(),
        language: stream.language(),
        is_text: crate::cues::is_text(&stream.codec()),
    });
    Probe {
        duration_us: told.format.duration.as_deref().and_then(seconds_us).unwrap_or(0).max(0),
        start_us: 0,
        lead_us: 0,
        claimed_us: None,
        container: container.to_owned(),
        video,
        audio: audio.collect(),
        subtitles: subtitles.collect(),
        found: if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") },
        pictures: None,
    }
}

/// One name out of those that FFmpeg gives a family of containers.
fn container(names: &str) -> &str {
    let mut each = names.split(',');
    if names.split(',').any(|name| name == "mp4") { "mp4" } else { each.next().unwrap_or(names) }
}

/// Reads when each picture of stream `index` is shown.
async fn pictures(
    tools: &Tools,
    limits: &Limits,
    budget: &mut Budget,
    file: &Path,
    index: u32,
    base: TimeBase,
) -> Result<Pictures, Error> {
    let mut arguments = guarded();
    arguments
        .extend(["-v", "level+error", "-of", "csv=p=0", "-select_streams"].map(OsString::from));
    arguments.push(index.to_string().into());
    arguments.extend(["-show_entries", "packet=pts,dts,duration,flags"].map(OsString::from));
    arguments.push(child::input(file)?);
    let mut packets = Vec::new();
    let mut cutter = LineCutter::default();
    let mut output = |bytes: &[u8]| {
        cutter.push(bytes, &mut |line| packets.extend(Packet::parse(line)));
        let over = packets.len() > limits.pictures;
        if over { Err(Overflow::Pictures(limits.pictures)) } else { Ok(()) }
    };
    let launch = Launch { tool: &tools.ffprobe, file, arguments };
    let exit = child::run(launch, limits, budget, &mut output, &mut |_| ()).await?;
    if let Some(error) = exit.broken_limit(file, limits) {
        return Err(error);
    }
    Pictures::new(base, packets, exit.complained()).ok_or_else(|| Error::Damaged {
        file: child::name(file),
        detail: "its video stream has no pictures".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::hours("01:00:04.201000000", Some(3_604_201_000))]
    #[case::nothing("", None)]
    #[case::words("one:two:three", None)]
    #[case::absurd("9223372036854775807:00:00", None)]
    fn reads_a_clock(#[case] text: &str, #[case] expected: Option<i64>) {
        assert_eq!(clock_us(text), expected);
    }

    #[rstest]
    #[case::mp4("mov,mp4,m4a,3gp,3g2,mj2", "mp4")]
    #[case::matroska("matroska,webm", "matroska")]
    #[case::one("mpegts", "mpegts")]
    #[case::none("", "")]
    fn names_a_container(#[case] names: &str, #[case] expected: &str) {
        assert_eq!(container(names), expected);
    }
}
