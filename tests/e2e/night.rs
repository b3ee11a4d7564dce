//! A night over files: what is said becomes rows, what is broken becomes a reason, and nothing is done twice.

use std::{fs, process::Command};

use eventide_testkit::Hostile;
use serde_json::Value;

use crate::trial::Trial;

/// Fails unless every listed video is in one column of the run.
fn assert_balanced(run: &Value) {
    let count = |name: &str| run[name].as_u64().unwrap_or_else(|| panic!("no {name} in {run:#}"));
    let columns = ["captioned", "empty", "failed", "skipped", "unchanged"];
    assert_eq!(columns.into_iter().map(count).sum::<u64>(), count("listed"), "{run:#}");
}

#[test]
fn what_is_said_becomes_events_at_its_times() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.add_narrated(2);
    let run = trial.indexed();
    assert_balanced(&run);
    assert_eq!(
        (&run["listed"], &run["captioned"], &run["events"]),
        (&2.into(), &2.into(), &4.into())
    );
    assert_eq!(
        trial.events(),
        "talk-1.mp4 0-2000 talk-1 begins.\n\
         talk-1.mp4 3000-5000 talk-1 ends.\n\
         talk-2.mp4 0-2000 talk-2 begins.\n\
         talk-2.mp4 3000-5000 talk-2 ends.\n"
    );
}

#[test]
fn a_broken_video_costs_a_reason_and_nothing_else() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.add_hostile(Hostile::NotVideo);
    trial.add_hostile(Hostile::CutBeforeIndex);
    let run = trial.indexed();
    assert_balanced(&run);
    assert_eq!(
        (&run["listed"], &run["captioned"], &run["failed"]),
        (&3.into(), &1.into(), &2.into())
    );
    let videos = trial.videos();
    assert!(videos.contains("talk-1.mp4 captioned -\n"), "{videos}");
    for line in videos.lines().filter(|line| !line.starts_with("talk-1")) {
        assert!(line.contains(" failed ") && !line.ends_with('-'), "{line}");
    }
}

#[test]
fn the_second_night_does_only_what_is_new_and_forgets_what_is_gone() {
    let trial = Trial::of_speech();
    let first = trial.add_narrated(1);
    trial.add_narrated(2);
    trial.indexed();

    let again = trial.indexed();
    assert_balanced(&again);
    assert_eq!((&again["unchanged"], &again["planned"]), (&2.into(), &0.into()));

    fs::remove_file(first.video).unwrap();
    fs::remove_file(first.side_car).unwrap();
    trial.add_narrated(3);
    let third = trial.indexed();
    assert_balanced(&third);
    assert_eq!(
        (&third["captioned"], &third["unchanged"], &third["removed"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(
        trial.events(),
        "talk-2.mp4 0-2000 talk-2 begins.\n\
         talk-2.mp4 3000-5000 talk-2 ends.\n\
         talk-3.mp4 0-2000 talk-3 begins.\n\
         talk-3.mp4 3000-5000 talk-3 ends.\n"
    );
}

/// Fails unless the words of a video come from its SubRip file, whose like in WebVTT is `vtt`.
fn check_next_side_car(vtt: &str, remark: &str) {
    let trial = Trial::of_speech();
    let talk = trial.add_narrated(1);
    fs::write(&talk.side_car, vtt).unwrap();
    let srt = "1\n00:00:01,000 --> 00:00:02,000\nThe other says this.\n";
    fs::write(talk.side_car.with_extension("srt"), srt).unwrap();
    trial.indexed();
    assert_eq!(trial.events(), "talk-1.mp4 1000-2000 The other says this.\n");
    assert_eq!(trial.videos(), format!("talk-1.mp4 captioned {remark}\n"));
}

#[test]
fn a_damaged_side_car_does_not_hide_a_good_one() {
    check_next_side_car("no subtitles at all", "damaged_subtitles");
}

#[test]
fn a_side_car_without_words_does_not_hide_one_with_words() {
    check_next_side_car("WEBVTT\n", "-");
}

#[test]
fn times_of_a_side_car_count_from_the_start_of_the_sound_before_the_first_picture() {
    let trial = Trial::of_speech();
    let made = Command::new(eventide_testkit::tools().unwrap().ffmpeg().unwrap())
        .args("-nostdin -v error -f lavfi -i sine=d=7 -itsoffset 2 -f lavfi -i".split(' '))
        .args("testsrc2=s=64x64:r=5:d=5 -map 0 -map 1 -c:v mpeg4 -fps_mode vfr late.mp4".split(' '))
        .current_dir(trial.corpus())
        .status();
    assert!(made.unwrap().success());
    let vtt = "WEBVTT\n\n00:03.000 --> 00:04.000\nOne second of pictures in.\n";
    fs::write(trial.corpus().join("late.vtt"), vtt).unwrap();
    trial.indexed();
    assert_eq!(trial.events(), "late.mp4 1000-2000 One second of pictures in.\n");
}
