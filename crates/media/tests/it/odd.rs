//! Files that are whole but out of the ordinary.

use std::process::Command;

use eventide_media::{Exactness, FrameRequest, Limits, Media, slots};
use eventide_schema::TimeSpan;
use rstest::rstest;

use crate::{
    SIZE, all, clip, difference, folder, make, media, picture, pictures, probed, tools, whole,
};

const SECOND: i64 = 1_000_000;

#[tokio::test]
async fn the_tools_have_versions() {
    let versions = tools().check().await.unwrap();
    assert!(!versions.ffmpeg.is_empty());
    assert_eq!(versions.ffmpeg, versions.ffprobe);
}

#[tokio::test]
async fn a_window_is_the_same_pictures_as_the_whole() {
    let (media, folder) = (media(), folder());
    let file = clip(&folder, "a.mp4", 12);
    let whole = all(&media, &file).await.unwrap();
    assert_eq!(whole.slots, (0..12).collect::<Vec<_>>());
    let window = TimeSpan::new(4 * SECOND, 9 * SECOND);
    let part = pictures(&media, &file, window, &[0, 1, 2, 3, 4]).await.unwrap();
    for i in 0..5 {
        assert!(picture(&part, i) == picture(&whole, i + 4), "slot {i}");
        assert_eq!(part.times_us[i], whole.times_us[i + 4]);
    }
}

#[rstest]
#[case::mp4("a.mp4", "libx264 -bf 2")]
#[case::matroska("a.mkv", "libx264 -bf 2")]
#[case::open_groups("b.mkv", "libx264 -bf 2 -x264-params open-gop=1")]
#[case::no_index("a.ts", "libx264 -bf 2")]
#[case::no_presentation_times("a.avi", "mpeg4 -bf 2")]
#[tokio::test]
async fn sparse_pictures_are_the_same_as_among_all(#[case] name: &str, #[case] codec: &str) {
    let (media, folder) = (media(), folder());
    let source = "-f lavfi -i testsrc2=s=128x72:r=25:d=70 -g 50 -pix_fmt yuv420p -c:v";
    let file = make(&folder, name, &format!("{source} {codec}"));
    let whole = all(&media, &file).await.unwrap();
    assert_eq!((whole.slots.len(), whole.missing), (70, 0));
    let wanted = [3, 20, 21, 47, 69];
    let window = TimeSpan::new(0, 70 * SECOND);
    let spent = media.metered();
    let sparse = pictures(&spent, &file, window, &wanted).await.unwrap();
    assert_eq!((sparse.slots.as_slice(), sparse.missing), (&wanted[..], 0));
    for (i, &slot) in wanted.iter().enumerate() {
        assert_eq!(sparse.times_us[i], whole.times_us[slot], "slot {slot}");
        assert!(picture(&sparse, i) == picture(&whole, slot), "slot {slot}");
    }
    assert!(spent.core_ms() > 0);
}

/// The key picture nearest to the exact one stands on each slot, to the bit, and the shift is told.
#[rstest]
#[case::h264("a.mp4", "libx264 -bf 2")]
#[case::open_groups("b.mkv", "libx264 -bf 2 -x264-params open-gop=1")]
#[case::hevc("a.mp4", "libx265 -x265-params log-level=none")]
#[case::vp9("a.webm", "libvpx-vp9 -deadline realtime -cpu-used 8")]
#[case::av1("a.mkv", "libaom-av1 -usage realtime -cpu-used 8")]
#[case::no_index("a.ts", "libx264 -bf 2")]
#[tokio::test]
async fn key_pictures_stand_where_they_are_nearest(#[case] name: &str, #[case] codec: &str) {
    let (media, folder) = (media(), folder());
    let source = "-f lavfi -i testsrc2=s=128x72:r=25:d=40 -g 75 -pix_fmt yuv420p -c:v";
    let file = make(&folder, name, &format!("{source} {codec}"));
    let probe = probed(&media, &file).await;
    let wanted = [0, 1, 2, 5, 20, 21, 37, 39];
    let ask = async |window, slots: &[usize], exactness| {
        let request = FrameRequest { size: SIZE, window, slots, exactness };
        media.frames(&file, &probe, &request).await.unwrap().value
    };
    let frames = ask(whole(&probe), &wanted, Exactness::Keyframe).await;
    assert_eq!((frames.slots.as_slice(), frames.missing), (&wanted[..], 0));
    let exact = ask(whole(&probe), &wanted, Exactness::Exact).await;
    assert_eq!(exact.shift_us, 0);
    let moved = |i: usize| (frames.times_us[i] - exact.times_us[i]).abs();
    assert_eq!(frames.shift_us, (0..wanted.len()).map(moved).max().unwrap());
    // A key picture every three seconds at least, so none is further than half of that.
    assert!((SECOND / 2..=3 * SECOND / 2).contains(&frames.shift_us), "{frames:?}");
    for (i, &time_us) in frames.times_us.iter().enumerate() {
        // The window whose first half second ends right behind the picture has it on its first slot.
        let window = TimeSpan::new(time_us - SECOND / 2 + 20_000, time_us + 2 * SECOND);
        let same = ask(window, &[0], Exactness::Exact).await;
        assert_eq!(same.times_us, [time_us], "slot {}", wanted[i]);
        assert!(picture(&frames, i) == picture(&same, 0), "slot {}", wanted[i]);
    }
}

#[tokio::test]
async fn where_a_key_picture_is_damaged_all_slots_are_exact() {
    let (media, folder) = (media(), folder());
    let file = clip(&folder, "a.mkv", 12);
    let listed = Command::new(tools().ffprobe)
        .args(["-v", "error", "-select_streams", "v", "-of", "csv=p=0"])
        .args(["-show_entries", "packet=pos,size,flags"])
        .arg(&file)
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let third = listed.lines().filter(|line| line.contains(",K")).nth(2).unwrap();
    let field = |n: usize| third.split(',').nth(n).unwrap().parse::<usize>().unwrap();
    let (size, place) = (field(0), field(1));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[place + 16..place + size - 8].fill(0);
    let damaged = folder.path().join("damaged.mkv");
    std::fs::write(&damaged, bytes).unwrap();
    let probe = probed(&media, &file).await;
    let slots: Vec<usize> = (0..slots(whole(&probe))).collect();
    let ask = async |file, exactness| {
        let probe = probed(&media, file).await;
        let request = FrameRequest { size: SIZE, window: whole(&probe), slots: &slots, exactness };
        media.frames(file, &probe, &request).await.unwrap().value
    };
    assert!(ask(&file, Exactness::Keyframe).await.shift_us > 0);
    let keys = ask(&damaged, Exactness::Keyframe).await;
    assert_eq!(keys.shift_us, 0);
    assert_eq!(keys, ask(&damaged, Exactness::Exact).await);
}

/// The two halves of a picture that is black above and white below.
fn halves(picture: &[u8]) -> (u8, u8) {
    (picture[picture.len() / 4], picture[picture.len() * 3 / 4])
}

#[tokio::test]
async fn a_turned_picture_stands_upright_and_keeps_its_shape() {
    let (media, folder) = (media(), folder());
    // White on the right; turned by 90 degrees, white is below or above.
    let lying = "-f lavfi -i color=black:s=64x128:r=5:d=2 -f lavfi -i color=white:s=64x128:r=5:d=2 \
        -filter_complex hstack -c:v libx264 -pix_fmt yuv420p";
    let flat = make(&folder, "flat.mp4", &lying.replace("64x128", "128x96"));
    let turned = make(&folder, "turned.mp4", "-i flat.mp4 -c copy -metadata:s:v:0 rotate=90");
    let probe = probed(&media, &turned).await;
    let video = probe.video.as_ref().unwrap();
    assert_eq!((video.width, video.height), (256, 96), "as stored");
    assert_eq!(video.rotation % 180, 90);
    let frames = all(&media, &turned).await.unwrap();
    let (above, below) = halves(picture(&frames, 0));
    assert!(above.abs_diff(below) > 200, "{above} {below}");
    let frames = all(&media, &flat).await.unwrap();
    let row = &picture(&frames, 0)[..SIZE as usize * 3];
    assert!(row[0] < 20 && row[row.len() - 1] > 235, "black left, white right");
}

#[tokio::test]
async fn a_turned_picture_is_not_distorted() {
    let (media, folder) = (media(), folder());
    // A white square in the middle of a wide picture: it must be square when it stands, too.
    let source = "-f lavfi -i color=black:s=320x160:r=5:d=1 -c:v libx264 -pix_fmt yuv420p -vf \
        drawbox=x=120:y=40:w=80:h=80:color=white:t=fill";
    make(&folder, "flat.mp4", source);
    let turned = make(&folder, "turned.mp4", "-i flat.mp4 -c copy -metadata:s:v:0 rotate=270");
    let frames = all(&media, &turned).await.unwrap();
    let (side, pixels) = (SIZE as usize, picture(&frames, 0));
    let white = |row: usize, column: usize| pixels[(row * side + column) * 3] > 128;
    let wide = (0..side).filter(|&column| white(side / 2, column)).count();
    let high = (0..side).filter(|&row| white(row, side / 2)).count();
    assert_eq!((wide, high), (side / 2, side / 2));
}

#[tokio::test]
async fn less_than_half_a_second_gives_its_first_picture() {
    let (media, folder) = (media(), folder());
    let file = make(&folder, "a.mp4", "-f lavfi -i testsrc2=s=64x64:r=25:d=0.2 -c:v libx264");
    let frames = all(&media, &file).await.unwrap();
    assert!(frames.is_short);
    assert_eq!((frames.slots, frames.times_us, frames.missing), (vec![0], vec![0], 0));
}

#[tokio::test]
async fn a_still_that_is_held_is_no_loss() {
    let (media, folder) = (media(), folder());
    let file = make(
        &folder,
        "slides.mkv",
        "-f lavfi -i testsrc2=s=64x64:r=1/5:d=20 -c:v libx264 -pix_fmt yuv420p",
    );
    let frames = all(&media, &file).await.unwrap();
    assert_eq!((frames.slots.len(), frames.missing), (20, 0));
    assert!(frames.times_us.iter().all(|time| time % (5 * SECOND) == 0), "{:?}", frames.times_us);
    assert!(picture(&frames, 0) == picture(&frames, 4));
    assert!(difference(picture(&frames, 4), picture(&frames, 5)) > 0.5);
}

#[tokio::test]
async fn a_thousand_pictures_a_second() {
    let (media, folder) = (media(), folder());
    let file = make(&folder, "a.mp4", "-f lavfi -i testsrc2=s=64x64:r=1000:d=2 -c:v mpeg4");
    let probe = probed(&media, &file).await;
    assert!((probe.video.as_ref().unwrap().fps - 1000.0).abs() < 1.0);
    let frames = all(&media, &file).await.unwrap();
    assert_eq!(frames.times_us, [499_000, 1_499_000]);
}

#[tokio::test]
async fn wherever_the_clock_starts_time_counts_from_the_first_picture() {
    let (media, folder) = (media(), folder());
    clip(&folder, "plain.mp4", 4);
    let shift = "-itsoffset 3600 -i plain.mp4 -c copy -copyts";
    let file = make(&folder, "late.mkv", shift);
    let probe = probed(&media, &file).await;
    assert_eq!(probe.start_us, 3600 * SECOND);
    assert_eq!(slots(whole(&probe)), 4);
    let (frames, plain) = (
        all(&media, &file).await.unwrap(),
        all(&media, &folder.path().join("plain.mp4")).await.unwrap(),
    );
    assert_eq!(frames.times_us, plain.times_us);
    assert!(frames.pixels == plain.pixels);
}

#[tokio::test]
async fn pictures_before_an_edit_are_not_shown() {
    let (media, folder) = (media(), folder());
    let plain = clip(&folder, "plain.mp4", 8);
    // Cut between two key pictures: the container keeps the earlier one and says not to show it.
    let file = make(&folder, "cut.mp4", "-ss 3 -i plain.mp4 -c copy");
    let plain = all(&media, &plain).await.unwrap();
    let frames = all(&media, &file).await.unwrap();
    assert_eq!(frames.slots, [0, 1, 2, 3, 4]);
    for (slot, later) in [(0, 3), (1, 4), (3, 6)] {
        assert!(picture(&frames, slot) == picture(&plain, later), "slot {slot}");
    }
}

#[tokio::test]
async fn a_size_that_changes_on_the_way_changes_nothing() {
    let (media, folder) = (media(), folder());
    for (name, size) in [("one.ts", "128x72"), ("two.ts", "64x36")] {
        let source = format!("-f lavfi -i testsrc2=s={size}:r=25:d=3 -c:v mpeg2video");
        make(&folder, name, &source);
    }
    let file = make(&folder, "both.ts", "-i concat:one.ts|two.ts -c copy");
    let frames = all(&media, &file).await.unwrap();
    assert_eq!(frames.slots, (0..frames.slots.len()).collect::<Vec<_>>());
    assert!(frames.slots.len() >= 5, "{:?}", frames.slots);
}

#[rstest]
#[case::size_zero(0, &[0])]
#[case::size_absurd(100_000, &[0])]
#[case::backwards(SIZE, &[1, 0])]
#[case::twice(SIZE, &[1, 1])]
#[case::past_the_end(SIZE, &[2])]
#[tokio::test]
async fn a_request_that_cannot_be_met_is_refused(#[case] size: u32, #[case] wanted: &[usize]) {
    let (media, folder) = (media(), folder());
    let file = clip(&folder, "a.mp4", 2);
    let probe = probed(&media, &file).await;
    let request =
        FrameRequest { size, window: whole(&probe), slots: wanted, exactness: Exactness::Exact };
    let error = media.frames(&file, &probe, &request).await.unwrap_err();
    assert_eq!(error.reason_code(), "invalid_request");
}

#[tokio::test]
async fn a_meter_counts_what_failed_too() {
    let folder = folder();
    let file = folder.path().join("a.mp4");
    std::fs::write(&file, "not a video").unwrap();
    let media = Media::new(tools(), Limits::default());
    let apart = media.metered();
    media.probe(&file).await.unwrap_err();
    assert!(media.core_ms() > 0);
    assert_eq!(apart.core_ms(), 0);
}
