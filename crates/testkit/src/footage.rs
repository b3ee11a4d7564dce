//! Drawn videos: a test card, narrated videos whose truth is known, and long videos that cost little to make.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::tools::Tools;

/// A moving test card with a tone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TestCard {
    /// Picture width in pixels, even.
    pub width: u32,
    /// Picture height in pixels, even.
    pub height: u32,
    /// Pictures a second.
    pub rate: u32,
    /// Length.
    pub length: Duration,
    /// Whether it has a sound track.
    pub sound: bool,
}

impl Default for TestCard {
    /// Four seconds of 320 x 240 at 25 pictures a second, with sound.
    fn default() -> Self {
        Self { width: 320, height: 240, rate: 25, length: Duration::from_secs(4), sound: true }
    }
}

impl TestCard {
    /// Draws it as H.264 (and AAC) into the container that the name of `to` asks for.
    ///
    /// # Errors
    /// Those of [`Tools::run_ffmpeg`].
    pub fn draw(self, tools: &Tools, to: &Path) -> Result<()> {
        let Self { width, height, rate, length, sound } = self;
        let length = length.as_secs_f64();
        let pictures = format!("testsrc2=size={width}x{height}:rate={rate}:duration={length}");
        let tone = format!("sine=frequency=440:sample_rate=16000:duration={length}");
        let sound =
            if sound { format!("-f lavfi -i {tone} -c:a aac -b:a 32k") } else { String::new() };
        let mut arguments = words(&format!("-f lavfi -i {pictures} {sound} {H264}"));
        arguments.push(to.display().to_string());
        tools.run_ffmpeg(arguments)
    }
}

/// The encoder's settings: quick, and a key picture every 50.
pub(crate) const H264: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 50 -threads 1";

/// Arguments that were written in one line. None of them holds a space.
pub(crate) fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// A stretch of a narrated video: one colour, and what is said meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// The colour, `0xRRGGBB`. A test that gives every video its own can tell from a picture whose it is.
    pub colour: u32,
    /// Its length in milliseconds; best a multiple of 40, a picture's.
    pub length_ms: u64,
    /// What is said from its first to its last millisecond; empty for silence.
    pub said: String,
}

/// What is said in a narrated video: milliseconds from its start, half-open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// First millisecond.
    pub start_ms: u64,
    /// Past the last millisecond.
    pub end_ms: u64,
    /// The sentence.
    pub text: String,
}

/// A narrated video, its side-car, and what they truly hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrated {
    /// The video, `STEM.mp4`.
    pub video: PathBuf,
    /// The cues beside it, `STEM.vtt`.
    pub side_car: PathBuf,
    /// What the cues say.
    pub spoken: Vec<Spoken>,
}

/// Draws a video of 160 x 120 pixels at 25 pictures a second, scene after scene, and writes its side-car.
///
/// # Errors
/// Those of [`Tools::run_ffmpeg`], and [`Error::File`] where the side-car cannot be written.
pub fn narrated(tools: &Tools, folder: &Path, stem: &str, scenes: &[Scene]) -> Result<Narrated> {
    let video = folder.join(format!("{stem}.mp4"));
    let mut arguments = Vec::new();
    for Scene { colour, length_ms, .. } in scenes {
        let source = format!("color=c=0x{colour:06x}:size=160x120:rate=25:duration={length_ms}ms");
        arguments.extend(words(&format!("-f lavfi -i {source}")));
    }
    let count = scenes.len();
    arguments.extend(words(&format!("-filter_complex concat=n={count}:v=1:a=0 {H264}")));
    arguments.push(video.display().to_string());
    tools.run_ffmpeg(arguments)?;

    let side_car = folder.join(format!("{stem}.vtt"));
    let spoken = spoken(scenes);
    fs::write(&side_car, web_vtt(&spoken)).map_err(Error::file("write", &side_car))?;
    Ok(Narrated { video, side_car, spoken })
}

/// Repeats a video until it is `length` long, copying its packets, so that hours cost seconds.
///
/// # Errors
/// Those of [`Tools::run_ffmpeg`].
pub fn looped(tools: &Tools, source: &Path, length: Duration, to: &Path) -> Result<()> {
    let length = length.as_secs_f64().to_string();
    let (source, to) = (source.as_os_str(), to.as_os_str());
    let mut arguments = ["-stream_loop", "-1", "-i"].map(AsRef::as_ref).to_vec();
    arguments.extend([source, "-t".as_ref(), length.as_ref(), "-c".as_ref(), "copy".as_ref(), to]);
    tools.run_ffmpeg(arguments)
}

/// A film of 1920 x 1080 at 25 pictures a second with sound, of any length: ten seconds drawn, then [`looped`]. Two
/// hours take seconds to make and some 150 MB.
///
/// # Errors
/// Those of [`Tools::run_ffmpeg`].
pub fn full_hd(tools: &Tools, length: Duration, to: &Path) -> Result<()> {
    let scene = to.with_extension("scene.mp4");
    let bars = "smptehdbars=size=1920x1080:rate=25:duration=10,\
                drawbox=x='mod(t*190,1900)':y=500:w=20:h=80:color=white:t=fill";
    let tone = "sine=sample_rate=16000:duration=10";
    let inputs = format!("-f lavfi -i {bars} -f lavfi -i {tone}");
    let mut arguments = words(&format!("{inputs} -c:a aac {H264} -crf 35"));
    arguments.push(scene.display().to_string());
    tools.run_ffmpeg(arguments)?;
    looped(tools, &scene, length, to)?;
    fs::remove_file(&scene).map_err(Error::file("remove", &scene))
}

fn spoken(scenes: &[Scene]) -> Vec<Spoken> {
    let mut end_ms = 0;
    let mut spoken = Vec::new();
    for scene in scenes {
        let start_ms = end_ms;
        end_ms += scene.length_ms;
        if !scene.said.is_empty() {
            spoken.push(Spoken { start_ms, end_ms, text: scene.said.clone() });
        }
    }
    spoken
}

/// Cues as a WebVTT file.
#[must_use]
pub fn web_vtt(cues: &[Spoken]) -> String {
    cues.iter().fold("WEBVTT\n".to_owned(), |mut text, cue| {
        let _ = write!(text, "\n{} --> {}\n{}\n", clock(cue.start_ms), clock(cue.end_ms), cue.text);
        text
    })
}

/// `hh:mm:ss.mmm`.
fn clock(milliseconds: u64) -> String {
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    format!("{:02}:{:02}:{:02}.{rest:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::Command;

    use super::*;
    use crate::tools::tools;

    /// One value of the file as ffprobe sees it, such as `format=duration`; empty where it sees none.
    pub(crate) fn probe(video: &Path, entry: &str) -> String {
        let mut command = Command::new(tools().unwrap().ffprobe().unwrap());
        command
            .args(["-v", "quiet", "-show_entries", entry, "-of", "default=nw=1:nk=1"])
            .arg(video);
        String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn a_narrated_video_is_as_long_as_its_scenes_and_its_cues_are_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let scenes = [
            Scene { colour: 0xff_00_00, length_ms: 1000, said: "Red.".to_owned() },
            Scene { colour: 0x00_00_00, length_ms: 520, said: String::new() },
            Scene { colour: 0x00_00_ff, length_ms: 2000, said: "Blue.".to_owned() },
        ];
        let made = narrated(&tools().unwrap(), folder.path(), "talk", &scenes).unwrap();
        assert_eq!(probe(&made.video, "format=duration"), "3.520000");
        assert_eq!(
            fs::read_to_string(&made.side_car).unwrap(),
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nRed.\n\n00:00:01.520 --> 00:00:03.520\nBlue.\n"
        );
        assert_eq!(
            made.spoken[1],
            Spoken { start_ms: 1520, end_ms: 3520, text: "Blue.".to_owned() }
        );
    }

    #[test]
    fn a_loop_is_as_long_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        let (card, long) = (folder.path().join("card.mp4"), folder.path().join("long.mp4"));
        let tools = tools().unwrap();
        TestCard { length: Duration::from_secs(2), ..TestCard::default() }
            .draw(&tools, &card)
            .unwrap();
        looped(&tools, &card, Duration::from_mins(5), &long).unwrap();
        let seconds: f64 = probe(&long, "format=duration").parse().unwrap();
        assert!((seconds - 300.0).abs() < 1.0, "{seconds}");
    }
}
