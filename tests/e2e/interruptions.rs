//! Killed at any moment, run again, and the tables are those of an undisturbed night.

use std::time::Duration;

use crate::trial::{LIMIT, Trial};

/// A corpus of six talks, one a shard, so that a run has something to lose.
fn trial() -> Trial {
    let trial = Trial::with_job("[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 1\n");
    for number in 1..=6 {
        trial.add_narrated(number);
    }
    trial
}

/// The rows of an undisturbed night.
fn undisturbed() -> (String, String) {
    let trial = trial();
    trial.indexed();
    (trial.events(), trial.videos())
}

#[test]
fn killed_after_the_first_receipt_it_goes_on_where_it_was() {
    let trial = trial();
    let program = trial.index().arguments(["--log", "info", "--workers", "1"]);
    let running = program.start().unwrap();
    running.await_line("receipt written", LIMIT).unwrap();
    assert!(running.kill().unwrap().was_killed());
    assert!(!trial.table("runs").join("_delta_log").exists(), "nothing is published yet");

    let plan = trial.planned();
    let adopted = plan["adopted"].as_u64().unwrap();
    assert!((1..=6).contains(&adopted), "{plan:#}");
    let left: u64 = 6 - adopted;

    let run = trial.indexed();
    assert_eq!((&run["listed"], &run["captioned"]), (&6.into(), &6.into()));
    assert_eq!((trial.events(), trial.videos()), undisturbed());
    assert_eq!(trial.rows("runs", "run_id").len(), 1);
    let workers = trial.distinct("videos", "worker");
    assert_eq!(workers, if left == 0 { 1 } else { 2 }, "finished shards are not done again");
}

#[test]
fn killed_at_each_step_of_publishing_it_is_published_once() {
    let expected = undisturbed();
    for step in ["publishing", "events published", "videos published"] {
        let trial = trial();
        let running = trial.index().arguments(["--log", "info"]).start().unwrap();
        running.await_line(step, LIMIT).unwrap();
        running.kill().unwrap();
        trial.indexed();
        assert_eq!((trial.events(), trial.videos()), expected, "killed at `{step}`");
        let runs = trial.rows("runs", "run_id");
        let captioned: u64 = runs.iter().filter_map(|run| run["captioned"].as_u64()).sum();
        assert_eq!(captioned, 6, "killed at `{step}`: {runs:#?}");
    }
}

#[test]
fn asked_to_stop_it_says_how_to_go_on() {
    let trial = trial();
    let running = trial.index().arguments(["--log", "info", "--workers", "1"]).start().unwrap();
    running.await_line("receipt written", LIMIT).unwrap();
    running.interrupt().unwrap();
    let finished = running.wait(Duration::from_secs(30)).unwrap();
    finished.assert_code(130);
    assert!(finished.stderr.contains("run the same command again"), "{}", finished.stderr);
    trial.indexed();
    assert_eq!((trial.events(), trial.videos()), undisturbed());
}
