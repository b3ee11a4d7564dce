//! Subtitles inside containers.

use eventide_schema::TranscriptSource;
use rstest::rstest;

use crate::{folder, make, media, probed};

const SRT: &str = "1\n00:00:01,000 --> 00:00:02,500\n<i>Hello</i>\nthere\n\n\
    2\n00:00:03,000 --> 00:00:03,750\nR&D\n";

#[rstest]
#[case::subrip("a.mkv", "srt")]
#[case::advanced("b.mkv", "ass")]
#[case::webvtt("c.mkv", "webvtt")]
#[case::mp4("a.mp4", "mov_text")]
#[tokio::test]
async fn text_is_read_whatever_the_codec(#[case] name: &str, #[case] codec: &str) {
    let (media, folder) = (media(), folder());
    std::fs::write(folder.path().join("words.srt"), SRT).unwrap();
    let inputs = "-f lavfi -i testsrc2=s=64x64:r=5:d=5 -i words.srt -map 0 -map 1";
    let codecs = format!("-c:v mpeg4 -c:s {codec} -metadata:s:s:0 language=eng");
    let file = make(&folder, name, &format!("{inputs} {codecs}"));
    let probe = probed(&media, &file).await;
    let stream = &probe.subtitles[0];
    assert!(stream.is_text);
    let transcript = media.embedded_cues(&file, &probe, stream.index).await.unwrap().value;
    assert_eq!(transcript.source, TranscriptSource::Embedded);
    assert_eq!(transcript.language.as_deref(), Some("eng"));
    let cues: Vec<_> = transcript
        .cues
        .iter()
        .map(|cue| (cue.span.start_ms(), cue.span.end_ms(), cue.text.as_str()))
        .collect();
    assert_eq!(cues, [(1000, 2500, "Hello there"), (3000, 3750, "R&D")]);
}

#[tokio::test]
async fn times_count_from_the_first_picture() {
    let (media, folder) = (media(), folder());
    std::fs::write(folder.path().join("words.srt"), SRT).unwrap();
    let inputs = "-itsoffset 0.6 -f lavfi -i testsrc2=s=64x64:r=5:d=5 -i words.srt -map 0 -map 1";
    let file = make(&folder, "a.mkv", &format!("{inputs} -c:v mpeg4 -c:s srt -copyts"));
    let probe = probed(&media, &file).await;
    assert_eq!(probe.start_us, 600_000);
    let transcript = media.embedded_cues(&file, &probe, 1).await.unwrap().value;
    assert_eq!(transcript.cues[0].span.start_ms(), 400);
}

/// What a player shows at 0:05 of a side-car is seen at second 3 of pictures that begin at second 2.
#[rstest]
#[case::matroska("a.mkv", 2, 2_000_000)]
#[case::mp4("a.mp4", 2, 2_000_000)]
#[case::transport_stream("a.ts", 2, 2_000_000)]
#[case::together("b.mkv", 0, 0)]
#[tokio::test]
async fn sound_may_come_before_the_first_picture(
    #[case] name: &str,
    #[case] offset: u32,
    #[case] expected: i64,
) {
    let (media, folder) = (media(), folder());
    let pictures = format!("-itsoffset {offset} -f lavfi -i testsrc2=s=64x64:r=5:d=3");
    let file = make(
        &folder,
        name,
        &format!("-f lavfi -i sine=d=5 {pictures} -map 0 -map 1 -c:v mpeg4 -c:a aac -fps_mode vfr"),
    );
    let lead_us = probed(&media, &file).await.lead_us;
    // An encoder's first samples come up to 50 ms before the sound itself.
    assert!((expected..expected + 50_000).contains(&lead_us), "{lead_us}");
}

#[rstest]
#[case::the_video(0, "no subtitle stream")]
#[case::pictures_of_text(1, "hdmv_pgs_subtitle")]
#[case::nothing(9, "no subtitle stream")]
#[tokio::test]
async fn what_is_not_text_is_refused(#[case] index: u32, #[case] because: &str) {
    let (media, folder) = (media(), folder());
    std::fs::write(folder.path().join("words.sup"), SUP).unwrap();
    let inputs = "-f lavfi -i testsrc2=s=64x64:r=5:d=1 -i words.sup -map 0 -map 1";
    let file = make(&folder, "a.mkv", &format!("{inputs} -c:v mpeg4 -c:s copy"));
    let probe = probed(&media, &file).await;
    let error = media.embedded_cues(&file, &probe, index).await.unwrap_err();
    assert_eq!(error.reason_code(), "unsupported_subtitles");
    assert!(error.to_string().contains(because), "{error}");
}

/// Subtitles as a disc has them: one screen of 64x64 with nothing on it, and its end.
const SUP: &[u8] = b"PG\0\0\0\x09\0\0\0\0\x16\0\x0b\0\x40\0\x40\x10\0\0\x80\0\0\0\
    PG\0\0\0\x09\0\0\0\0\x80\0\0";
