//! Sound for recognisers.

use std::time::Duration;

use eventide_media::{Error, SAMPLE_RATE};
use rstest::rstest;
use tokio::sync::mpsc;

use crate::{folder, make, media};

const PICTURES: &str = "-f lavfi -i testsrc2=s=64x64:r=5:d=6";

/// All samples of the sound of a file, read slowly: one piece at a time.
async fn heard(path: &std::path::Path) -> Result<Vec<f32>, Error> {
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
    sent.map(|_| samples)
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

#[tokio::test]
async fn sound_that_breaks_off_is_heard_so_far() {
    let folder = folder();
    let tone = "-f lavfi -i sine=frequency=440:duration=6";
    let path = make(&folder, "a.mkv", &format!("{PICTURES} {tone} -c:v libx264 -c:a aac"));
    let bytes = std::fs::read(&path).expect("the file is there");
    std::fs::write(&path, &bytes[..bytes.len() * 2 / 3]).expect("it can be cut");
    let samples = heard(&path).await.expect("there is sound");
    assert!(samples.len() > 16_000 && loudness(&samples, 0) > 0.02);
}

#[tokio::test]
async fn a_film_without_sound_has_none() {
    let folder = folder();
    let path = make(&folder, "a.mkv", &format!("{PICTURES} -c:v libx264"));
    let error = heard(&path).await.expect_err("there is no sound");
    assert_eq!(error.reason_code(), "no_sound");
}
