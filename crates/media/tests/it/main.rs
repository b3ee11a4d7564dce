//! Media against real FFmpeg: golden pictures, odd files, hostile files.

mod encode;
mod golden;
mod hostile;
mod odd;
mod sound;
mod subtitles;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use eventide_media::{Error, Exactness, FrameRequest, Frames, Limits, Media, Probe, Tools, slots};
use eventide_schema::TimeSpan;
use tempfile::TempDir;

/// The size of the pictures in these tests, in pixels, where nothing depends on it.
const SIZE: u32 = 32;

fn tools() -> Tools {
    let folder = std::env::var_os("EVENTIDE_TOOLS").map(PathBuf::from).unwrap_or_default();
    let tool = |name: &str| {
        let tool = folder.join(name);
        assert!(tool.exists(), "`{}` is not there: run `cargo xtask setup`", tool.display());
        tool
    };
    Tools { ffmpeg: tool("ffmpeg"), ffprobe: tool("ffprobe") }
}

fn media() -> Media {
    Media::new(tools(), Limits::default())
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Makes `name` in `folder` with FFmpeg, outside the sandbox, from `arguments` split at spaces.
fn make(folder: &TempDir, name: &str, arguments: &str) -> PathBuf {
    let path = folder.path().join(name);
    let done = Command::new(tools().ffmpeg)
        .args(["-nostdin", "-v", "error", "-y"])
        .args(arguments.split_whitespace())
        .arg(&path)
        .current_dir(folder.path())
        .output()
        .expect("ffmpeg starts");
    assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    path
}

/// A clip of `seconds` at 25 pictures a second, each different, a key picture every two seconds.
fn clip(folder: &TempDir, name: &str, seconds: u32) -> PathBuf {
    let source = format!("-f lavfi -i testsrc2=s=128x72:r=25:d={seconds}");
    make(folder, name, &format!("{source} -c:v libx264 -g 50 -bf 2 -pix_fmt yuv420p"))
}

fn whole(probe: &Probe) -> TimeSpan {
    TimeSpan::new(0, probe.duration_us)
}

async fn probed(media: &Media, file: &Path) -> Probe {
    media.probe(file).await.unwrap_or_else(|error| panic!("{}: {error}", file.display())).value
}

/// The pictures of some slots of a window.
async fn pictures(
    media: &Media,
    file: &Path,
    window: TimeSpan,
    slots: &[usize],
) -> Result<Frames, Error> {
    let probe = probed(media, file).await;
    let request = FrameRequest { size: SIZE, window, slots, exactness: Exactness::Exact };
    Ok(media.frames(file, &probe, &request).await?.value)
}

/// The pictures of all slots of the whole file, from the first look on.
async fn all(media: &Media, file: &Path) -> Result<Frames, Error> {
    let probe = media.probe(file).await?.value;
    let slots: Vec<_> = (0..slots(whole(&probe))).collect();
    let request = FrameRequest {
        size: SIZE,
        window: whole(&probe),
        slots: &slots,
        exactness: Exactness::Exact,
    };
    Ok(media.frames(file, &probe, &request).await?.value)
}

/// A hundred pictures of the whole file or fewer, evenly apart, as the pipeline asks for them: however long it says that it is.
async fn some(media: &Media, file: &Path) -> Result<Frames, Error> {
    let probe = media.probe(file).await?.value;
    let window = whole(&probe);
    let slots: Vec<_> = (0..slots(window)).step_by(slots(window).div_ceil(100)).collect();
    let exactness = Exactness::Exact;
    let request = FrameRequest { size: SIZE, window, slots: &slots, exactness };
    Ok(media.frames(file, &probe, &request).await?.value)
}

/// Picture `i`.
fn picture(frames: &Frames, i: usize) -> &[u8] {
    let side = frames.size as usize;
    &frames.pixels[i * side * side * 3..][..side * side * 3]
}

/// Mean difference of two pictures, in steps of 256.
fn difference(one: &[u8], other: &[u8]) -> f64 {
    let sum: u64 = one.iter().zip(other).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let mean = sum as f64 / one.len() as f64;
    mean
}
