//! Sound for recognisers.

use std::{process::Command, time::Duration};

use eventide_media::{Error, SAMPLE_RATE};
use rstest::rstest;
use tokio::sync::mpsc;

use crate::{folder, make, media, probed, tools};

const PICTURES: &str = "-f lavfi -i testsrc2=s=64x64:r=5:d=6";

/// All samples of the sound of a file that is whole, read slowly: one piece at a time.
async fn heard(path: &std::path::Path) -> Result<Vec<f32>, Error> {
    let (samples, damage) = listened(path).await?;
    assert!(damage.is_none(), "{damage:?}");
    Ok(samples)
}

/// The samples of the sound of a file, and what is wrong with it.
async fn listened(path: &std::path::Path) -> Result<(Vec<f32>, Option<Error>), Error> {
    let media = media();
    let probe = media.probe(path).await?.value;
    let index = probe.audio.first().map_or(99, |stream| stream.index);
    let (sender, mut pieces) = mpsc::channel(1);
    let wall = Duration::from_mins(1);
    let sending = media.sound(path, &probe, index, wall, sender);
    let receiving = async {
        let mut samples = Vec::new();
        while let Some(piece) = pieces.recv().await {
            samples.extend(piece);
        }
        samples
    };
    let (sent, samples) = tokio::join!(sending, receiving);
    sent.map(|damage| (samples, damage.value))
}

/// How loud a second is.
fn loudness(samples: &[f32], second: usize) -> f32 {
    let rate = usize::try_from(SAMPLE_RATE).unwrap_or_default();
    let part = &samples[second * rate..(second + 1) * rate];
    part.iter().map(|sample| sample.abs()).sum::<f32>()
        / f32::from(u16::try_from(rate).unwrap_or(1))
}

#[rstest]
#[case::mono_8_khz("-ac 1 -ar 8000")]
#[case::stereo_48_khz("-ac 2 -ar 48000")]
#[case::surround("-ac 6 -ar 48000")]
#[tokio::test]
async fn any_sound_becomes_one_channel(#[case] form: &str) {
    let folder = folder();
    let tone = "-f lavfi -i sine=frequency=440:duration=6";
    let path = make(&folder, "a.mkv", &format!("{PICTURES} {tone} -c:v libx264 {form} -c:a aac"));
    let samples = heard(&path).await.expect("there is sound");
    let length = samples.len().abs_diff(6 * 16_000);
    assert!(length < 1600, "{} samples", samples.len());
    assert!((1..5).all(|second| loudness(&samples, second) > 0.02));
}

#[tokio::test]
async fn silence_stands_where_the_sound_begins_late() {
    let folder = folder();
    let tone = "-itsoffset 3 -f lavfi -i sine=frequency=440:duration=2";
    let path = make(&folder, "a.mkv", &format!("{PICTURES} {tone} -c:v libx264 -c:a aac"));
    let samples = heard(&path).await.expect("there is sound");
    assert!(loudness(&samples, 1) < 1e-3, "before");
    assert!(loudness(&samples, 3) > 0.02, "while it lasts");
}

/// Sound that is cut off or spoilt from two thirds of the file on.
#[rstest]
#[case::matroska_cut("a.mkv", "-c:v libx264 -c:a aac", false, "it breaks off at ")]
#[case::mp4_cut("a.mp4", "-c:v libx264 -c:a aac -movflags faststart", false, "it breaks off at ")]
#[case::mp3_cut("a.mp3", "-vn -c:a libmp3lame", false, "it breaks off at ")]
#[case::flac_cut("a.flac", "-vn -c:a flac", false, "it breaks off at ")]
#[case::mp4_spoilt(
    "a.mp4",
    "-c:v libx264 -c:a aac -movflags faststart",
    true,
    " pieces of it cannot be decoded"
)]
#[case::mp3_spoilt("a.mp3", "-vn -c:a libmp3lame", true, "it breaks off at ")]
#[case::matroska_spoilt("a.mkv", "-c:v libx264 -c:a flac", true, "it breaks off at ")]
#[tokio::test]
async fn what_is_left_of_damaged_sound_is_heard_and_the_damage_told(
    #[case] name: &str,
    #[case] form: &str,
    #[case] spoilt: bool,
    #[case] because: &str,
) {
    let folder = folder();
    let noise = "-f lavfi -i anoisesrc=d=20:a=0.3";
    let pictures = "-f lavfi -i testsrc2=s=64x64:r=5:d=20";
    let path = make(&folder, name, &format!("{pictures} {noise} {form}"));
    let mut bytes = std::fs::read(&path).expect("the file is there");
    let (half, end) = (bytes.len() / 2, bytes.len() * 9 / 10);
    if spoilt {
        let mut seed = 1_u64;
        for byte in &mut bytes[half..end] {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = seed.to_le_bytes()[7];
        }
    } else {
        bytes.truncate(bytes.len() * 2 / 3);
    }
    std::fs::write(&path, &bytes).expect("it can be written");
    let (samples, damage) = listened(&path).await.expect("there is sound");
    assert!(samples.len() > 8 * 16_000 && loudness(&samples, 5) > 0.02, "{}", samples.len());
    let damage = damage.expect("it is damaged");
    assert_eq!(damage.reason_code(), "damaged_sound");
    assert!(damage.to_string().contains(because), "{damage}");
}

/// A file that is sound alone and was written to a pipe does not say how long it is.
#[rstest]
#[case::matroska("a.mkv", "-c:a libopus -f matroska")]
#[case::flac("a.flac", "-c:a flac -f flac")]
#[tokio::test]
async fn sound_of_unknown_length_is_heard_to_its_end(#[case] name: &str, #[case] form: &str) {
    let folder = folder();
    let path = folder.path().join(name);
    let arguments = format!("-v error -f lavfi -i sine=frequency=440:duration=6 {form} pipe:1");
    let written = Command::new(tools().ffmpeg).args(arguments.split(' ')).output();
    std::fs::write(&path, written.expect("ffmpeg starts").stdout).expect("it can be written");
    assert_eq!(probed(&media(), &path).await.duration_us, 0);
    let samples = heard(&path).await.expect("there is sound");
    assert!(samples.len().abs_diff(6 * 16_000) < 1600, "{} samples", samples.len());
    assert!((1..5).all(|second| loudness(&samples, second) > 0.02));
}

/// The clock of a transport stream does not begin at 0.
#[tokio::test]
async fn sound_alone_is_heard_from_its_first_sample_to_its_last() {
    let folder = folder();
    let path = make(&folder, "a.ts", "-f lavfi -i sine=frequency=440:duration=6 -c:a mp2");
    assert!(probed(&media(), &path).await.start_us > 1_000_000);
    let samples = heard(&path).await.expect("there is sound");
    assert!(samples.len().abs_diff(6 * 16_000) < 1600, "{} samples", samples.len());
    assert!(
        (0..6).all(
            |second| samples.len() < (second + 1) * 16_000 || loudness(&samples, second) > 0.02
        )
    );
}

#[tokio::test]
async fn a_film_without_sound_has_none() {
    let folder = folder();
    let path = make(&folder, "a.mkv", &format!("{PICTURES} -c:v libx264"));
    let error = heard(&path).await.expect_err("there is no sound");
    assert_eq!(error.reason_code(), "no_sound");
}
