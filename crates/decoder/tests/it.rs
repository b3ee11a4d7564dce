//! The decoder under `eventide-media`, in its sandbox, against real FFmpeg: the same pictures, to the bit, and none at all
//! where it cannot bring them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use eventide_media::{Exactness, FrameRequest, Frames, Limits, Media, Tools, slots};
use eventide_schema::TimeSpan;
use rstest::rstest;
use tempfile::TempDir;

const SECOND: i64 = 1_000_000;
/// The golden clips.
const CLIPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/golden/frames");

fn tool(name: &str) -> PathBuf {
    let folder = std::env::var_os("EVENTIDE_TOOLS").map(PathBuf::from).unwrap_or_default();
    let tool = folder.join(name);
    assert!(tool.exists(), "`{}` is not there: run `cargo xtask setup`", tool.display());
    tool
}

/// FFmpeg alone.
fn without() -> Media {
    let tools = Tools { ffmpeg: tool("ffmpeg"), ffprobe: tool("ffprobe"), decoder: None };
    Media::new(tools, Limits::default())
}

/// The decoder, and no `ffmpeg` that could stand in for it.
fn alone() -> Media {
    let decoder = Some(PathBuf::from(env!("CARGO_BIN_EXE_eventide-decoder")));
    let tools = Tools { ffmpeg: "/nowhere/ffmpeg".into(), ffprobe: tool("ffprobe"), decoder };
    Media::new(tools, Limits::default())
}

/// Both.
fn with() -> Media {
    let decoder = Some(PathBuf::from(env!("CARGO_BIN_EXE_eventide-decoder")));
    let tools = Tools { ffmpeg: tool("ffmpeg"), ffprobe: tool("ffprobe"), decoder };
    Media::new(tools, Limits::default())
}

/// Makes `name` in `folder` with FFmpeg from `arguments` split at spaces.
fn make(folder: &TempDir, name: &str, arguments: &str) -> PathBuf {
    let path = folder.path().join(name);
    let done = Command::new(tool("ffmpeg"))
        .args(["-nostdin", "-v", "error", "-y"])
        .args(arguments.split_whitespace())
        .arg(&path)
        .current_dir(folder.path())
        .output()
        .expect("ffmpeg starts");
    assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    path
}

/// The pictures of some slots of the whole file, or of all.
async fn frames(
    media: &Media,
    file: &Path,
    wanted: Option<&[usize]>,
    exactness: Exactness,
) -> Result<Frames, eventide_media::Error> {
    let probe = media.probe(file).await?.value;
    let window = TimeSpan::new(0, probe.duration_us);
    let all: Vec<usize> = (0..slots(window)).collect();
    let slots = wanted.unwrap_or(&all);
    let request = FrameRequest { size: 64, window, slots, exactness };
    Ok(media.frames(file, &probe, &request).await?.value)
}

/// What moves, with a key picture every two to three seconds.
const CARD: &str = "-f lavfi -i testsrc2=s=192x108:r=25:d=24 -pix_fmt yuv420p -g 75 -c:v";

#[rstest]
#[case::h264("a.mp4", "libx264 -bf 3 -preset veryfast")]
#[case::pyramids("a.mkv", "libx264 -bf 7 -x264-params b-pyramid=normal:ref=4")]
#[case::open_groups("a.mkv", "libx264 -bf 2 -x264-params open-gop=1")]
#[case::interlaced("a.mp4", "libx264 -flags +ildct+ilme -bf 2")]
#[case::several_slices("a.mp4", "libx264 -bf 2 -x264-params slices=4")]
#[case::hevc(
    "a.mp4",
    "libx265 -preset ultrafast -x265-params bframes=4:b-pyramid=1:log-level=none"
)]
#[case::open_hevc(
    "a.mkv",
    "libx265 -preset ultrafast -x265-params open-gop=1:bframes=3:log-level=none"
)]
#[case::vp9(
    "a.webm",
    "libvpx-vp9 -deadline realtime -cpu-used 8 -auto-alt-ref 1 -lag-in-frames 16"
)]
#[case::av1("a.mkv", "libaom-av1 -usage realtime -cpu-used 8")]
#[case::mpeg4("a.mp4", "mpeg4 -bf 2")]
#[case::ten_bits("a.mkv", "libx264 -pix_fmt yuv420p10le -bf 2")]
#[tokio::test]
async fn the_pictures_are_those_of_ffmpeg(#[case] name: &str, #[case] codec: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = make(&folder, name, &format!("{CARD} {codec}"));
    let some = [0, 3, 4, 11, 17, 23];
    for wanted in [None, Some(&some[..])] {
        for exactness in [Exactness::Exact, Exactness::Keyframe] {
            let expected = frames(&without(), &file, wanted, exactness).await.unwrap();
            let found = frames(&alone(), &file, wanted, exactness).await.unwrap();
            assert_eq!(found, expected, "{exactness:?}");
            assert!(found.pixels == expected.pixels, "{exactness:?}");
            assert_eq!(found.missing, 0);
        }
    }
}

#[tokio::test]
async fn every_golden_clip_is_the_same() {
    let mut seen = 0;
    for entry in std::fs::read_dir(CLIPS).expect("golden clips") {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|end| end == "json") {
            continue;
        }
        let expected = frames(&without(), &file, None, Exactness::Exact).await.unwrap();
        let found = frames(&with(), &file, None, Exactness::Exact).await.unwrap();
        assert!(found == expected, "{}: {found:?}, not {expected:?}", file.display());
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}

#[rstest]
#[case::to_the_right("90")]
#[case::upside_down("180")]
#[case::to_the_left("270")]
#[tokio::test]
async fn what_was_filmed_upright_stands_upright(#[case] rotate: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    make(&folder, "flat.mp4", &format!("{CARD} libx264 -t 4"));
    let turn = format!("-i flat.mp4 -c copy -metadata:s:v:0 rotate={rotate}");
    let file = make(&folder, "turned.mp4", &turn);
    let expected = frames(&without(), &file, None, Exactness::Exact).await.unwrap();
    assert!(frames(&alone(), &file, None, Exactness::Exact).await.unwrap() == expected);
    let flat = folder.path().join("flat.mp4");
    assert!(frames(&without(), &flat, None, Exactness::Exact).await.unwrap() != expected);
}

#[tokio::test]
async fn stills_and_late_clocks() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let slides = make(
        &folder,
        "a.mkv",
        "-f lavfi -i testsrc2=s=64x64:r=1/5:d=20 -c:v libx264 -pix_fmt yuv420p",
    );
    make(&folder, "plain.mp4", &format!("{CARD} libx264 -bf 2 -t 6"));
    let late = make(&folder, "late.mkv", "-itsoffset 3600 -i plain.mp4 -c copy -copyts");
    for file in [slides, late] {
        let expected = frames(&without(), &file, None, Exactness::Exact).await.unwrap();
        assert!(frames(&alone(), &file, None, Exactness::Exact).await.unwrap() == expected);
    }
}

#[tokio::test]
async fn a_window_in_the_middle_is_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = make(&folder, "a.mp4", &format!("{CARD} libx264 -bf 3"));
    let probe = with().probe(&file).await.unwrap().value;
    let window = TimeSpan::new(7 * SECOND + 123_456, 19 * SECOND);
    let wanted: Vec<usize> = (0..slots(window)).collect();
    let request = FrameRequest { size: 64, window, slots: &wanted, exactness: Exactness::Exact };
    let expected = without().frames(&file, &probe, &request).await.unwrap().value;
    assert!(alone().frames(&file, &probe, &request).await.unwrap().value == expected);
}

/// A refresh in parts says that a decoder may start at it, but its picture is not whole: that is left to FFmpeg.
#[tokio::test]
async fn a_refresh_in_parts_is_no_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let refresh = "libx264 -bf 0 -x264-params intra-refresh=1:keyint=50";
    let file = make(&folder, "a.mp4", &format!("{CARD} {refresh}"));
    let expected = frames(&without(), &file, None, Exactness::Exact).await.unwrap();
    assert!(frames(&with(), &file, None, Exactness::Exact).await.unwrap() == expected);
    assert!(frames(&alone(), &file, None, Exactness::Exact).await.is_err());
}

/// Where a picture on the way is damaged, the long way is taken, so that what is missing and what stands is the same.
#[tokio::test]
async fn damage_is_left_to_ffmpeg() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = make(&folder, "a.mkv", &format!("{CARD} libx264 -bf 2"));
    let mut bytes = std::fs::read(&file).unwrap();
    let (from, to) = (bytes.len() / 3, bytes.len() / 2);
    bytes[from..to].iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
    let damaged = folder.path().join("damaged.mkv");
    std::fs::write(&damaged, bytes).unwrap();
    let expected = frames(&without(), &damaged, None, Exactness::Exact).await.unwrap();
    let found = frames(&with(), &damaged, None, Exactness::Exact).await.unwrap();
    assert_eq!(
        (found.slots.as_slice(), found.missing),
        (expected.slots.as_slice(), expected.missing)
    );
    assert!(found == expected);
    assert!(frames(&alone(), &damaged, None, Exactness::Exact).await.is_err());
}

#[test]
fn the_decoder_opens_nothing_but_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = make(&folder, "a.mp4", &format!("{CARD} libx264 -t 2"));
    let list = folder.path().join("list.ffconcat");
    std::fs::write(&list, "ffconcat version 1.0\nfile a.mp4\n").unwrap();
    let first = |file: &Path| {
        Command::new(env!("CARGO_BIN_EXE_eventide-decoder"))
            .args(["--stream=0", "--filters=scale=64:64,format=rgb24", "--wanted=0:0"])
            .arg(file)
            .output()
            .unwrap()
    };
    let listed = first(&list);
    assert!(!listed.status.success() && listed.stdout.is_empty());
    let whole = first(&file);
    assert_eq!((whole.status.success(), whole.stdout.len()), (true, 64 * 64 * 3));
}

#[test]
fn what_is_not_there_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = make(&folder, "a.mp4", &format!("{CARD} libx264 -bf 2 -t 4"));
    for (wanted, said) in [("0:1", "no picture at 1"), ("7:8", "no key picture at 7")] {
        let told = Command::new(env!("CARGO_BIN_EXE_eventide-decoder"))
            .args(["--stream=0", "--filters=scale=64:64,format=rgb24"])
            .arg(format!("--wanted={wanted}"))
            .arg(&file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&told.stderr);
        assert!(!told.status.success() && text.contains(said), "{wanted}: {text}");
    }
}

#[tokio::test]
async fn it_says_its_version() {
    let decoder = Some(PathBuf::from(env!("CARGO_BIN_EXE_eventide-decoder")));
    let tools = Tools { ffmpeg: tool("ffmpeg"), ffprobe: tool("ffprobe"), decoder };
    assert_eq!(tools.check().await.unwrap().decoder.as_deref(), Some(env!("CARGO_PKG_VERSION")));
}
