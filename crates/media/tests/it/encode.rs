//! Drawn pictures to a file, with the real encoder.

use std::{fs, time::Duration};

use eventide_media::encode::{Encode, Error};

use super::{folder, media, tools};

const SECONDS: Encode = Encode {
    width: 64,
    height: 48,
    rate: 8,
    pictures: 24,
    tone: 300,
    deadline: Duration::from_mins(1),
};

#[tokio::test]
async fn drawn_pictures_become_a_video_with_sound() {
    let folder = folder();
    let to = folder.path().join("drawn.mp4");
    let mut drawn = Vec::new();
    SECONDS
        .run(&tools().ffmpeg, &to, |number, rgb| {
            drawn.push(number);
            rgb.fill(u8::try_from(number * 10).unwrap());
        })
        .unwrap();
    assert_eq!(drawn, (0..24).collect::<Vec<_>>());
    let probe = media().probe(&to).await.unwrap().value;
    let video = probe.require_video(&to).unwrap();
    assert_eq!((video.codec.as_str(), video.width, video.height), ("h264", 64, 48));
    assert_eq!(probe.duration_us, 3_000_000);
    assert_eq!(probe.audio.len(), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_encoder_that_is_too_slow_is_killed_and_leaves_nothing() {
    let folder = folder();
    let to = folder.path().join("drawn.mp4");
    let endless = Encode { pictures: u32::MAX, deadline: Duration::from_millis(300), ..SECONDS };
    let error = endless.run(&tools().ffmpeg, &to, |_, rgb| rgb.fill(1)).unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_cannot_be_written_is_told_by_the_encoder() {
    let folder = folder();
    let to = folder.path().join("nowhere/drawn.mp4");
    let error = SECONDS.run(&tools().ffmpeg, &to, |_, rgb| rgb.fill(1)).unwrap_err();
    assert!(
        matches!(&error, Error::Failed { detail, .. } if detail.contains("No such file")),
        "{error}"
    );
}
