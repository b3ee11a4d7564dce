//! One video captioned by hand: what a person tries first. The model is the golden one, which writes events whatever
//! it sees, so that every form has something to print.

use std::fs;

use eventide_testkit::{Finished, Hostile, bundles, tools};
use rstest::rstest;
use serde_json::Value;

use crate::trial::{LIMIT, Trial};

/// A video of five seconds with words beside it, and the golden bundle.
fn trial() -> Trial {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    bundles::golden(&trial.folder().join("bundle")).unwrap();
    trial
}

fn caption(trial: &Trial, arguments: &[&str]) -> Finished {
    let all = ["caption", "corpus/talk-1.mp4"].into_iter().chain(arguments.iter().copied());
    trial.program(all).run(LIMIT).unwrap()
}

fn json(trial: &Trial, arguments: &[&str]) -> Value {
    let arguments: Vec<_> = arguments.iter().copied().chain(["--format", "json"]).collect();
    let finished = caption(trial, &arguments);
    finished.assert_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

const MODEL: [&str; 2] = ["--bundle", "bundle"];

#[test]
fn events_are_those_of_an_index() {
    let trial = trial();
    let found = json(&trial, &MODEL);
    assert_eq!(
        (&found["status"], &found["transcript_source"]),
        (&"captioned".into(), &"sidecar".into())
    );
    assert_eq!(found["frames_used"], 5);
    trial.write_job(
        "[corpus]\nuri = \"corpus\"\n[tables]\nuri = \"lake\"\n[model]\nbundle = \"bundle\"\n",
    );
    trial.indexed();
    let rows = trial.rows("events", "start_ms,end_ms,event_index");
    let events = found["events"].as_array().unwrap();
    assert!(!events.is_empty());
    assert_eq!(events.len(), rows.len());
    for (event, row) in events.iter().zip(&rows) {
        for key in ["start_ms", "end_ms", "caption"] {
            assert_eq!(event[key], row[key], "{event:#} {row:#}");
        }
    }
}

#[test]
fn a_paragraph_has_the_captions_and_no_times() {
    let trial = trial();
    let events = json(&trial, &MODEL);
    let captions: Vec<_> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["caption"].as_str().unwrap())
        .collect();
    let finished = caption(&trial, &[MODEL[0], MODEL[1], "--as", "paragraph"]);
    finished.assert_code(0);
    assert_eq!(finished.stdout.trim_end(), captions.join(" "));
    let found = json(&trial, &[MODEL[0], MODEL[1], "--as", "paragraph"]);
    let paragraph = &found["paragraphs"][0];
    assert_eq!((&paragraph["start_ms"], &paragraph["end_ms"]), (&0.into(), &found["duration_ms"]));
}

#[test]
fn each_clip_is_captioned_by_itself() {
    let trial = trial();
    fs::write(trial.folder().join("bounds.json"), "[[0, 2], [3.0, 5.0]]").unwrap();
    let asked = [MODEL[0], MODEL[1], "--as", "clips"];
    let listed = json(&trial, &[&asked[..], &["--clips", "bounds.json"]].concat());
    let clips = listed["clips"].as_array().unwrap();
    assert_eq!(clips.len(), 2);
    assert_eq!((&clips[1]["start_ms"], &clips[1]["end_ms"]), (&3000.into(), &5000.into()));
    let caption = |clip: &Value| clip["caption"].as_str().unwrap().to_owned();
    assert!(clips.iter().all(|clip| !caption(clip).is_empty()), "{listed:#}");
    assert!(clips.iter().all(|clip| !caption(clip).contains("<time")), "{listed:#}");
    // Slots 0 to 2 for the first, 3 and 4 for the second: the last second is included.
    assert_eq!(listed["frames_used"], 5);
    let alone = json(&trial, &[&asked[..], &["--clip", "0:03-0:05"]].concat());
    assert_eq!(alone["clips"][0], clips[1], "a clip does not depend on the others");

    let spoken = json(
        &trial,
        &[
            "--source", "speech", "--as", "clips", "--clip", "0-2", "--clip", "2.2-2.8", "--clip",
            "3-5",
        ],
    );
    let said: Vec<_> = spoken["clips"].as_array().unwrap().iter().map(caption).collect();
    assert_eq!(said, ["talk-1 begins.", "", "talk-1 ends."]);
}

#[test]
fn subtitles_are_web_vtt_that_another_program_reads() {
    let trial = trial();
    let finished = caption(&trial, &["--source", "speech", "--format", "vtt"]);
    finished.assert_code(0);
    let expected = "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\ntalk-1 begins.\n\n\
                    00:00:03.000 --> 00:00:05.000\ntalk-1 ends.\n";
    assert_eq!(finished.stdout, expected);
    fs::write(trial.folder().join("told.vtt"), &finished.stdout).unwrap();
    let ffprobe = tools().unwrap().ffprobe().unwrap();
    let read = std::process::Command::new(ffprobe)
        .args(["-v", "error", "-show_entries", "packet=pts_time,duration_time", "-of", "csv=p=0"])
        .arg(trial.folder().join("told.vtt"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&read.stdout), "0.000000,2.000000\n3.000000,2.000000\n");
}

#[test]
fn words_come_from_the_file_that_is_named() {
    let trial = trial();
    fs::write(
        trial.folder().join("other.srt"),
        "1\n00:00:01,000 --> 00:00:02,000\nSalt & <pepper>\n",
    )
    .unwrap();
    let finished =
        caption(&trial, &["--source", "speech", "--transcript", "other.srt", "--format", "vtt"]);
    finished.assert_code(0);
    assert!(finished.stdout.contains("Salt &amp;"), "{}", finished.stdout);
}

#[rstest]
#[case::no_bundle(&[], 2, "--bundle")]
#[case::no_clips(&["--bundle", "bundle", "--as", "clips"], 2, "--clip")]
#[case::clips_for_nothing(&["--bundle", "bundle", "--clip", "0-1"], 2, "--as clips")]
#[case::clip_backwards(&["--bundle", "bundle", "--as", "clips", "--clip", "2-1"], 2, "ends before it starts")]
#[case::clip_outside(&["--bundle", "bundle", "--as", "clips", "--clip", "7-9"], 1, "is not inside the video of 5 s")]
#[case::bounds_not_there(&["--bundle", "bundle", "--as", "clips", "--clips", "gone.json"], 2, "gone.json")]
#[case::bundle_not_there(&["--bundle", "gone"], 2, "gone/bundle.json")]
#[case::no_transcript_format(&["--source", "speech", "--transcript", "words.doc"], 2, "is no transcript")]
#[case::transcript_not_there(&["--source", "speech", "--transcript", "gone.vtt"], 1, "gone.vtt")]
fn what_cannot_be_done_is_said(
    #[case] arguments: &[&str],
    #[case] code: i32,
    #[case] because: &str,
) {
    let finished = caption(&trial(), arguments);
    finished.assert_code(code);
    assert!(finished.stderr.contains(because), "{}", finished.stderr);
    assert_eq!(finished.stdout, "");
}

#[test]
fn random_weights_are_refused_unless_told() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    bundles::tiny(&trial.folder().join("bundle"), 7).unwrap();
    let finished = caption(&trial, &MODEL);
    finished.assert_code(2);
    assert!(finished.stderr.contains("--allow-untrained"), "{}", finished.stderr);
    caption(&trial, &[MODEL[0], MODEL[1], "--allow-untrained"]).assert_code(0);
}

#[rstest]
#[case::not_there(None, 2, "gone.mp4")]
#[case::no_video(Some(Hostile::NotVideo), 1, "probe: ")]
#[case::empty(Some(Hostile::Empty), 1, "fetch: empty_file")]
fn a_video_that_is_none_is_named(
    #[case] kind: Option<Hostile>,
    #[case] code: i32,
    #[case] because: &str,
) {
    let trial = Trial::of_speech();
    let file = kind.map_or("gone.mp4".to_owned(), Hostile::file_name);
    if let Some(kind) = kind {
        trial.add_hostile(kind);
    }
    let file = format!("corpus/{file}");
    let finished = trial.program(["caption", &file, "--source", "speech"]).run(LIMIT).unwrap();
    finished.assert_code(code);
    assert!(finished.stderr.contains(because), "{}", finished.stderr);
    assert!(finished.stderr.contains(&file), "{}", finished.stderr);
}
