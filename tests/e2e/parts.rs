//! Nights that are published in parts while they go on (`run.publish-every`): killed between two parts, within one,
//! and again, they end in the tables of a night that is published at once.

use std::fs;

use eventide_testkit::{Program, Running};

use crate::cluster::{Cluster, times};
use crate::conservation::{assert_conserved, assert_conserved_so_far};
use crate::trial::{LIMIT, Trial};

/// Videos, each a shard: enough for several parts, also where the shards of a killed client go on in the cluster
/// and leave less to the next one.
const VIDEOS: usize = 50;
const AT_ONCE: &str = "[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 1\n";

/// A corpus of so many talks, published as the job's last lines say.
fn trial(rule: &str) -> Trial {
    let trial = Trial::with_job(&format!("{AT_ONCE}{rule}"));
    let talk = trial.add_narrated(1);
    for number in 1..VIDEOS {
        let copy = trial.corpus().join(format!("copy-{number}.mp4"));
        fs::copy(&talk.video, &copy).unwrap();
        fs::copy(&talk.side_car, copy.with_extension("vtt")).unwrap();
    }
    trial
}

fn in_parts() -> Trial {
    trial("publish-every = \"1s\"\n")
}

/// The rows of a quiet night that is published at once.
fn at_once() -> (String, String) {
    let trial = trial("");
    trial.indexed();
    assert_eq!(trial.rows("runs", "run_id").len(), 1);
    rows(&trial)
}

fn rows(trial: &Trial) -> (String, String) {
    (trial.events(), trial.videos())
}

/// Starts a night, waits until it says something, kills it, and looks at what readers see then.
fn killed_at(program: &Program, trial: &Trial, says: &str) -> usize {
    let running = program.start().unwrap();
    running.await_line(says, LIMIT).unwrap();
    assert!(running.kill().unwrap().was_killed());
    if !trial.table("runs").join("_delta_log").exists() {
        return 0;
    }
    assert_conserved_so_far(trial, "lake", [])
}

/// Fails unless the run is complete, in more than one part, and each video was published once.
fn assert_complete(trial: &Trial, expected: &(String, String)) {
    assert_eq!(&rows(trial), expected);
    assert_conserved(trial, "lake", []);
    let runs = trial.rows("runs", "run_id,part");
    let captioned: u64 = runs.iter().filter_map(|run| run["captioned"].as_u64()).sum();
    assert_eq!(captioned, VIDEOS as u64, "{runs:#?}");
    let parts = runs.iter().filter(|run| !run["part"].is_null()).count();
    assert!(parts >= 1 && runs.len() == parts + 1, "one run, and its parts: {runs:#?}");
    let one = trial.program(["runs", "--tables", "lake", "--format", "json"]).run(LIMIT).unwrap();
    one.assert_code(0);
    let told: Vec<serde_json::Value> = serde_json::from_str(&one.stdout).unwrap();
    assert_eq!((told.len(), &told[0]["captioned"]), (1, &VIDEOS.into()), "as one run: {told:#?}");
    let again = trial.planned();
    assert_eq!((&again["unchanged"], &again["videos"]), (&VIDEOS.into(), &0.into()));
    for folder in ["receipts", "runs"] {
        let left = fs::read_dir(trial.lake().join("_eventide").join(folder));
        let runs =
            left.into_iter().flatten().flat_map(|run| fs::read_dir(run.unwrap().path()).unwrap());
        assert_eq!(runs.count(), 0, "{folder} are gone with the run");
    }
}

#[test]
fn killed_within_a_part_and_between_two_it_is_completed() {
    let expected = at_once();
    for step in ["publishing", "events published", "videos published"] {
        let trial = in_parts();
        let index = || trial.index().arguments(["--log", "info", "--workers", "1"]);
        killed_at(&index(), &trial, step);
        let seen = killed_at(&index(), &trial, "part published");
        assert!((1..=VIDEOS).contains(&seen), "{seen} videos are to be seen after `{step}`");
        trial.indexed();
        assert_complete(&trial, &expected);
        println!("killed at `{step}`, then between two parts with {seen} videos published");
    }
}

#[test]
fn whoever_of_a_cluster_is_killed_between_two_parts_the_run_is_completed() {
    let expected = at_once();
    let trial = in_parts();
    let mut cluster = Cluster::of(2);
    let logs = [("EVENTIDE_LOG", "info")];
    let seen = killed_at(&cluster.index(&trial).environment(logs), &trial, "part published");
    assert!((1..VIDEOS).contains(&seen), "{seen}");

    let client = cluster.index(&trial).environment(logs).start().unwrap();
    client.await_line("part published", LIMIT).unwrap();
    cluster.restart_scheduler();
    let doomed = cluster.executors.remove(0).kill().unwrap();
    cluster.add_executor();
    let finished = client.wait(LIMIT).unwrap();
    finished.assert_code(0);
    assert_complete(&trial, &expected);
    let mut said: Vec<_> = cluster.executors.iter().map(Running::take_said).collect();
    said.push(doomed.stderr);
    // In flight: two with the client, two with the scheduler, one with the executor.
    let begun = times(&said, "shard begun");
    assert!((VIDEOS..=VIDEOS + 5).contains(&begun), "{begun} shards were begun of {VIDEOS}");
    println!("{seen} videos after the first part; {begun} shards begun of {VIDEOS}");
}
