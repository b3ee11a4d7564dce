//! Files that want to do harm, or had harm done to them.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use eventide_media::{Error, Limits, Media, Sandbox};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rstest::rstest;
use tempfile::TempDir;

use crate::{all, clip, folder, make, media, some, tools};

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a temporary file");
    path
}

async fn check(file: &Path, reason: &str) -> Error {
    let error = all(&media(), file).await.expect_err(reason);
    assert_eq!(error.reason_code(), reason, "{error}");
    assert!(!error.is_transient());
    let text = error.to_string();
    let folder = file.parent().and_then(Path::to_str).expect("a folder");
    assert!(!text.contains(folder) && !text.contains('\n'), "{text}");
    error
}

#[rstest]
#[case::no_bytes("a.mp4", b"", "empty_file")]
#[case::text("a.mp4", b"Once upon a time there was a text.\n", "damaged")]
#[case::noise("a.mkv", &[0x5A; 5000], "damaged")]
#[case::only_a_header("a.mp4", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41", "damaged")]
#[case::an_odd_name("concat:x|y \n.mp4", b"text", "damaged")]
#[tokio::test]
async fn what_is_no_video(#[case] name: &str, #[case] bytes: &[u8], #[case] reason: &str) {
    let folder = folder();
    check(&write(&folder, name, bytes), reason).await;
}

#[tokio::test]
async fn what_is_not_there() {
    check(&folder().path().join("a.mp4"), "unreadable").await;
}

#[rstest]
#[case::sound("a.m4a", "-f lavfi -i sine=d=1 -c:a aac", "audio")]
#[case::cover(
    "a.mp3",
    "-f lavfi -i sine=d=1 -f lavfi -i testsrc2=s=64x64:d=0.04 -map 0 -map 1 -c:v mjpeg -disposition:v attached_pic",
    "audio, cover picture"
)]
#[tokio::test]
async fn what_has_no_video(#[case] name: &str, #[case] arguments: &str, #[case] found: &str) {
    let folder = folder();
    let error = check(&make(&folder, name, arguments), "no_video_stream").await;
    assert_eq!(error.to_string(), format!("no video stream in `{name}` (found: {found})"));
}

/// A playlist that names `victim` in each way that there is.
fn playlists(victim: &str) -> [(&'static str, String); 5] {
    [
        ("a.m3u8", format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{victim}\n#EXT-X-ENDLIST\n")),
        ("b.mp4", format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{victim}\n#EXT-X-ENDLIST\n")),
        ("c.mp4", format!("ffconcat version 1.0\nfile {victim}\n")),
        ("d.mpd", format!("<?xml version=\"1.0\"?><MPD><Period><AdaptationSet><Representation><BaseURL>{victim}</BaseURL></Representation></AdaptationSet></Period></MPD>")),
        ("e.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n".to_owned()),
    ]
}

#[tokio::test]
async fn a_playlist_opens_nothing() {
    let folder = folder();
    let victim = clip(&folder, "victim.mp4", 1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = format!("http://{}/a.ts", listener.local_addr().unwrap());
    for victim in [victim.to_str().unwrap(), &address] {
        for (name, text) in playlists(victim) {
            let file = write(&folder, name, text.as_bytes());
            let error = all(&media(), &file).await.unwrap_err();
            let refused = ["unsupported_container", "damaged"].contains(&error.reason_code());
            assert!(refused, "{name}: {error}");
        }
    }
    let called = listener.accept().map(drop).unwrap_err();
    assert_eq!(called.kind(), std::io::ErrorKind::WouldBlock, "nobody called");
}

#[rstest]
#[case::after_the_beginning(0.02)]
#[case::in_the_middle(0.5)]
#[case::near_the_end(0.95)]
#[tokio::test]
async fn a_cut_matroska_gives_what_is_left(#[case] share: f64) {
    let folder = folder();
    let whole = std::fs::read(clip(&folder, "whole.mkv", 20)).unwrap();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
    #[expect(clippy::cast_precision_loss, reason = "a small file")]
    let left = (whole.len() as f64 * share) as usize;
    let file = write(&folder, "cut.mkv", &whole[..left]);
    match all(&media(), &file).await {
        Ok(frames) => assert!(!frames.slots.is_empty() && frames.slots.len() < 20),
        Err(error) => assert!(share < 0.1, "{error}"),
    }
    if share > 0.1 {
        let probe = media().probe(&file).await.unwrap().value;
        assert!(probe.claimed_us.unwrap() > probe.duration_us + 500_000, "{probe:?}");
    }
}

#[tokio::test]
async fn an_mp4_without_its_index_is_damaged() {
    let folder = folder();
    let whole = std::fs::read(clip(&folder, "whole.mp4", 4)).unwrap();
    check(&write(&folder, "cut.mp4", &whole[..whole.len() / 2]), "damaged").await;
}

#[tokio::test]
async fn pictures_lost_in_the_middle_are_counted_and_not_replaced() {
    let folder = folder();
    let source = "-f lavfi -i testsrc2=s=128x72:r=25:d=20 -c:v mpeg4 -g 25";
    let file = make(&folder, "whole.mkv", source);
    let mut bytes = std::fs::read(&file).unwrap();
    let whole = all(&media(), &file).await.unwrap();
    assert_eq!((whole.slots.len(), whole.missing), (20, 0));
    let length = bytes.len();
    bytes[length * 2 / 5..length * 3 / 5].fill(0);
    let frames = all(&media(), &write(&folder, "torn.mkv", &bytes)).await.unwrap();
    assert!((2..=6).contains(&frames.missing), "{} missing", frames.missing);
    assert_eq!(frames.slots.len() + frames.missing as usize, 20);
    let mut times = frames.times_us.clone();
    times.dedup();
    assert_eq!(times.len(), frames.times_us.len(), "no picture stands twice");
}

#[tokio::test]
async fn pictures_of_damaged_data_are_counted() {
    let folder = folder();
    let mut bytes = std::fs::read(clip(&folder, "whole.mp4", 20)).unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let length = bytes.len();
    for at in (length * 2 / 5..length * 3 / 5).step_by(10) {
        bytes[at] ^= 1 << random.random_range(0..8);
    }
    let frames = all(&media(), &write(&folder, "bad.mp4", &bytes)).await.unwrap();
    assert!((1..=8).contains(&frames.missing), "{} missing", frames.missing);
    assert_eq!(frames.slots.len() + frames.missing as usize, 20);
}

/// Files of each kind: a few, or as many as `EVENTIDE_MUTATIONS` says (`cargo xtask bench mutations`).
fn rounds() -> u32 {
    let asked = std::env::var("EVENTIDE_MUTATIONS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(10)
}

/// Files of a kind with some bits turned, bytes cut out or doubled.
fn mutated(whole: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..random.random_range(1..40) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..10) {
            0 if bytes.len() > 100 => drop(bytes.drain(at..bytes.len().min(at + 50))),
            1 => bytes.truncate(at.max(100)),
            2 => bytes[at] = 0xFF,
            _ => bytes[at] ^= 1 << random.random_range(0..8),
        }
    }
    bytes
}

#[rstest]
#[case::mp4("a.mp4", "libx264", 1)]
#[case::matroska("a.mkv", "mpeg4", 2)]
#[case::webm("a.webm", "libvpx -deadline realtime -cpu-used 8", 3)]
#[case::avi("a.avi", "mpeg4", 4)]
#[tokio::test]
async fn any_mutation_ends_in_a_result_or_a_reason(
    #[case] name: &str,
    #[case] codec: &str,
    #[case] seed: u64,
) {
    let folder = folder();
    let source = "-f lavfi -i testsrc2=s=64x64:r=10:d=4 -pix_fmt yuv420p -c:v";
    let whole = std::fs::read(make(&folder, name, &format!("{source} {codec}"))).unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let limits = Limits { wall: Duration::from_secs(20), ..Limits::default() };
    let media = Media::new(tools(), limits);
    for round in 0..rounds() {
        let file = write(&folder, name, &mutated(&whole, &mut random));
        let started = Instant::now();
        match some(&media, &file).await {
            Ok(frames) => {
                let bytes = frames.slots.len() * frames.size as usize * frames.size as usize * 3;
                assert_eq!(frames.pixels.len(), bytes);
                assert_eq!(frames.times_us.len(), frames.slots.len());
            }
            Err(error) => {
                let fault = ["invalid_request", "spawn_failed", "tool_unusable"];
                assert!(!fault.contains(&error.reason_code()), "round {round}: {error}");
            }
        }
        assert!(started.elapsed() < Duration::from_secs(50), "round {round}");
    }
}

#[tokio::test]
async fn memory_has_a_limit() {
    let folder = folder();
    // 16 bits of four colours: a quarter of a gigabyte for one picture.
    let source = "-f lavfi -i color=s=4000x8000:r=1:d=1 -pix_fmt rgba64be";
    let codec = "-c:v png -compression_level 1 -pred none";
    let file = make(&folder, "big.mkv", &format!("{source} {codec}"));
    let limits = Limits { memory: 300 << 20, ..Limits::default() };
    let error = all(&Media::new(tools(), limits), &file).await.unwrap_err();
    assert_eq!(error.reason_code(), "memory_limit", "{error}");
    assert_eq!(all(&media(), &file).await.unwrap().slots.len(), 1, "and without it all is well");
}

#[tokio::test]
async fn pixels_have_a_limit() {
    let folder = folder();
    let file = clip(&folder, "a.mp4", 1);
    let limits = Limits { pixels: 128 * 72 - 1, ..Limits::default() };
    let error = all(&Media::new(tools(), limits), &file).await.unwrap_err();
    assert_eq!(error.reason_code(), "too_many_pixels", "{error}");
}

#[tokio::test]
async fn a_video_of_a_day_with_a_second_in_it_is_a_second_long() {
    let folder = folder();
    let mut bytes = std::fs::read(clip(&folder, "a.mp4", 1)).unwrap();
    // The length in the movie header and in the track header, in milliseconds.
    for (name, offset) in [(b"mvhd", 20), (b"tkhd", 24)] {
        let at = bytes.windows(4).position(|word| word == name).unwrap() + offset;
        bytes[at..at + 4].copy_from_slice(&86_400_000u32.to_be_bytes());
    }
    let file = write(&folder, "day.mp4", &bytes);
    let probe = media().probe(&file).await.unwrap().value;
    assert_eq!(probe.duration_us, 1_000_000);
    assert_eq!(all(&media(), &file).await.unwrap().slots, [0]);
}

#[tokio::test]
async fn length_and_pictures_have_limits() {
    let folder = folder();
    let file = clip(&folder, "a.mp4", 3);
    let short = Limits { length: Duration::from_secs(2), ..Limits::default() };
    let few = Limits { pictures: 20, ..Limits::default() };
    for (limits, reason) in [(short, "too_long"), (few, "too_many_pictures")] {
        let error = Media::new(tools(), limits).probe(&file).await.unwrap_err();
        assert_eq!(error.reason_code(), reason);
    }
}

#[tokio::test]
async fn time_has_a_limit() {
    let folder = folder();
    let file = clip(&folder, "a.mp4", 20);
    let limits = Limits { wall: Duration::from_millis(5), ..Limits::default() };
    let error = Media::new(tools(), limits).probe(&file).await.unwrap_err();
    assert_eq!(error.reason_code(), "deadline");
}

#[test]
fn this_machine_says_what_holds() {
    println!("sandbox: {}", Sandbox::report());
    assert!(Sandbox::report().no_new_privileges);
}
