//! Replace one, remove one, add one: exactly those rows change, and the change data feed says so.

use std::{collections::BTreeMap, fs, time::Duration};

use eventide_testkit::{footage, tools};
use serde_json::Value;

use crate::trial::{LIMIT, Trial};

/// Each row of a table by its key.
fn by_key(trial: &Trial, table: &str, key: &str) -> BTreeMap<String, Value> {
    let rows = trial.rows(table, key);
    rows.into_iter().map(|row| (row[key].as_str().unwrap_or_default().to_owned(), row)).collect()
}

/// The keys of rows that are not the same in both.
fn changed(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> usize {
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).count()
}

#[test]
fn exactly_the_rows_of_what_changed_change() {
    let trial = Trial::of_speech();
    let replaced = trial.add_narrated(1);
    let removed = trial.add_narrated(2);
    trial.add_narrated(3);
    trial.indexed();
    let events = by_key(&trial, "events", "event_id");
    let videos = by_key(&trial, "videos", "video_id");

    let other =
        footage::TestCard { length: Duration::from_secs(3), ..footage::TestCard::default() };
    other.draw(&tools().unwrap(), &replaced.video).unwrap();
    let new_words = "WEBVTT\n\n00:00:00.500 --> 00:00:01.500\nSomething else.\n";
    fs::write(&replaced.side_car, new_words).unwrap();
    fs::remove_file(removed.video).unwrap();
    fs::remove_file(removed.side_car).unwrap();
    trial.add_narrated(4);
    let run = trial.indexed();
    assert_eq!(
        (&run["listed"], &run["captioned"], &run["unchanged"], &run["removed"]),
        (&3.into(), &2.into(), &1.into(), &1.into())
    );
    assert_eq!(
        trial.events(),
        "talk-1.mp4 500-1500 Something else.\n\
         talk-3.mp4 0-2000 talk-3 begins.\n\
         talk-3.mp4 3000-5000 talk-3 ends.\n\
         talk-4.mp4 0-2000 talk-4 begins.\n\
         talk-4.mp4 3000-5000 talk-4 ends.\n"
    );
    // talk-1: two rows before, one now (one overwritten, one gone); talk-2: two gone; talk-4: two new.
    assert_eq!(changed(&events, &by_key(&trial, "events", "event_id")), 2 + 2 + 2);
    let now = by_key(&trial, "videos", "video_id");
    assert_eq!(changed(&videos, &now), 3);
    let lengths: Vec<_> = now.values().map(|row| row["duration_ms"].as_u64().unwrap()).collect();
    assert_eq!(lengths.iter().filter(|&&length| length == 3_000).count(), 1, "{lengths:?}");

    let version = run["events_version"].as_u64().unwrap();
    let feed = trial.changes("events", version);
    let count = |kind: &str| feed.iter().filter(|row| row["_change_type"] == kind).count();
    assert_eq!((count("delete"), count("insert")), (4, 3), "{feed:#?}");
    assert!(feed.iter().all(|row| !row["uri"].as_str().unwrap_or_default().contains("talk-3")));
}

#[test]
fn a_night_without_a_change_decodes_nothing_and_changes_no_version() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.indexed();
    let finished = trial.index().arguments(["--log", "debug"]).run(LIMIT).unwrap();
    finished.assert_code(0);
    let run: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(
        (&run["unchanged"], &run["planned"], &run["core_ms"]),
        (&1.into(), &0.into(), &0.into())
    );
    assert!(run["events_version"].is_null() && run["videos_version"].is_null(), "{run:#}");
}

#[test]
fn a_video_that_fails_is_tried_as_often_as_the_job_says_and_a_new_version_starts_anew() {
    let trial = Trial::with_job("[captioning]\nsource = \"speech\"\n[limits]\nattempts = 2\n");
    trial.add_narrated(1);
    let bad = trial.corpus().join("bad.mp4");
    fs::write(&bad, "no video at all, but long enough to look at").unwrap();
    let attempts = || trial.rows("videos", "uri")[0]["attempts"].as_u64().unwrap();

    assert_eq!(trial.indexed()["failed"], 1);
    assert_eq!(attempts(), 1);
    assert_eq!(trial.indexed()["failed"], 1);
    assert_eq!(attempts(), 2);
    let third = trial.indexed();
    assert_eq!((&third["failed"], &third["unchanged"]), (&0.into(), &2.into()), "left alone");
    fs::write(&bad, "another version that is no video either").unwrap();
    assert_eq!(trial.indexed()["failed"], 1);
    assert_eq!(attempts(), 1);
}

#[test]
fn a_side_car_that_changes_alone_makes_its_video_new() {
    let trial = Trial::of_speech();
    let talk = trial.add_narrated(1);
    trial.indexed();
    fs::write(&talk.side_car, "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nCorrected.\n").unwrap();
    let run = trial.indexed();
    assert_eq!((&run["captioned"], &run["unchanged"]), (&1.into(), &0.into()));
    assert_eq!(trial.events(), "talk-1.mp4 1000-2000 Corrected.\n");
}
