//! Every slot of every golden clip: the bytes and the times of the reference program.

use std::path::Path;

use eventide_media::{Exactness, FrameRequest, slots};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{media, picture, probed, whole};

const FRAMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/golden/frames");

#[derive(Deserialize)]
struct Golden {
    clips: Vec<Clip>,
}

#[derive(Deserialize)]
struct Clip {
    file: String,
    pictures: usize,
    slots: usize,
    times: Vec<f64>,
    frames: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    slot: usize,
    time: f64,
    sha256: String,
}

fn clips() -> Vec<Clip> {
    let text = std::fs::read_to_string(Path::new(FRAMES).join("frames.json")).expect("golden");
    let golden: Golden = serde_json::from_str(&text).expect("golden");
    assert_eq!(golden.clips.len(), 5);
    golden.clips
}

/// Milliseconds, which is what the golden times are exact to.
fn millis(seconds: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a few seconds")]
    let millis = (seconds * 1000.0).round() as i64;
    millis
}

#[tokio::test]
async fn every_slot_of_every_clip() {
    let media = media();
    for clip in clips() {
        let file = Path::new(FRAMES).join(&clip.file);
        let probe = probed(&media, &file).await;
        let window = whole(&probe);
        assert_eq!(slots(window), clip.slots, "{}", clip.file);
        let wanted: Vec<_> = (0..clip.slots).collect();
        let request =
            FrameRequest { size: 224, window, slots: &wanted, exactness: Exactness::Exact };
        let measured = media.frames(&file, &probe, &request).await.unwrap();
        assert!(measured.core_ms > 0);
        let frames = measured.value;
        assert_eq!((&frames.slots, frames.missing), (&wanted, 0), "{}", clip.file);
        for (i, golden) in clip.frames.iter().enumerate() {
            let place = format!("{} slot {}", clip.file, golden.slot);
            let hash = format!("{:x}", Sha256::digest(picture(&frames, i)));
            assert_eq!(hash, golden.sha256, "{place}");
            let first = clip.times[0];
            assert_eq!(frames.times_us[i] / 1000, millis(golden.time - first), "{place}");
        }
    }
}

#[tokio::test]
async fn some_slots_are_the_same_as_among_all() {
    let media = media();
    for clip in clips().into_iter().filter(|clip| clip.slots > 3) {
        let file = Path::new(FRAMES).join(&clip.file);
        let probe = probed(&media, &file).await;
        let wanted = [1, 3];
        let request = FrameRequest {
            size: 224,
            window: whole(&probe),
            slots: &wanted,
            exactness: Exactness::Exact,
        };
        let frames = media.frames(&file, &probe, &request).await.unwrap().value;
        for (i, &slot) in wanted.iter().enumerate() {
            let hash = format!("{:x}", Sha256::digest(picture(&frames, i)));
            assert_eq!(hash, clip.frames[slot].sha256, "{} slot {slot}", clip.file);
        }
    }
}

#[tokio::test]
async fn pictures_are_counted_as_the_container_lists_them() {
    let media = media();
    for clip in clips() {
        let probe = probed(&media, &Path::new(FRAMES).join(&clip.file)).await;
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let expected = clip.pictures as f64 * 1e6 / probe.duration_us as f64;
        let fps = probe.video.unwrap().fps;
        assert!((fps - expected).abs() < 1e-6, "{}: {fps}", clip.file);
        assert_eq!(probe.start_us / 1000, millis(clip.times[0]), "{}", clip.file);
    }
}
