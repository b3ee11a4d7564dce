//! A long video that several shards hold a stretch of: the rows of an undivided run, whatever happens meanwhile.

use std::fs;
use std::time::Duration;

use eventide_testkit::footage::{Spoken, TestCard, web_vtt};
use eventide_testkit::{bundles, tools};
use serde_json::{Map, Value};

use crate::cluster::{Cluster, times};
use crate::conservation::assert_conserved;
use crate::trial::{LIMIT, Trial};

/// Stretches of each of the long videos.
const STRETCHES: u64 = 5;
/// The shards of a night: the stretches of two long videos, and what is short.
const SHARDS: u64 = 2 * STRETCHES + 1;
/// Short videos that take longer than a part of a run, after the long ones.
const MORE: u64 = 40;

/// A corpus of a long video with words, the same without its middle, and a short one; and a model. Many nights share
/// them, each with tables of its own.
struct Shared {
    of: Trial,
    long_bytes: u64,
}

/// What the tables say, but for who worked when and how long.
type Rows = [Vec<Map<String, Value>>; 3];

impl Shared {
    fn new() -> Self {
        let of = Trial::of_speech();
        bundles::golden(&of.folder().join("bundle")).unwrap();
        let tools = tools().unwrap();
        let card = TestCard {
            width: 160,
            height: 120,
            rate: 5,
            length: Duration::from_secs(100),
            sound: false,
        };
        let long = of.corpus().join("long.mp4");
        card.draw(&tools, &long).unwrap();
        TestCard { length: Duration::from_secs(3), ..card }
            .draw(&tools, &of.corpus().join("short.mp4"))
            .unwrap();
        // Sentences that lie over the bounds of windows.
        let said = |n: u64| Spoken {
            start_ms: n * 7_000,
            end_ms: n * 7_000 + 6_500,
            text: format!("Sentence number {n}."),
        };
        let cues: Vec<_> = (0..14).map(said).collect();
        fs::write(of.corpus().join("long.vtt"), web_vtt(&cues)).unwrap();
        let mut bytes = fs::read(&long).unwrap();
        let length = bytes.len();
        bytes[length * 2 / 5..length * 3 / 5].fill(0);
        fs::write(of.corpus().join("torn.mp4"), bytes).unwrap();
        Self { of, long_bytes: length as u64 }
    }

    /// Empty tables, and the job that fills them, with more to say of its `[run]`.
    fn trial(&self, run: &str) -> Trial {
        let trial = Trial::of_speech();
        trial.write_job(&format!(
            "[corpus]\nuri = \"{}\"\n[model]\nbundle = \"{}\"\n[tables]\nuri = \"lake\"\n\
             [captioning]\nwindow = \"10s\"\noverlap = \"2s\"\nmax-output-tokens = 20\n[run]\n{run}",
            self.of.corpus().display(),
            self.of.folder().join("bundle").display(),
        ));
        trial
    }

    /// Adds more of the short videos.
    fn add_short(&self, videos: u64) {
        let short = self.of.corpus().join("short.mp4");
        for number in 0..videos {
            fs::copy(&short, short.with_file_name(format!("short-{number}.mp4"))).unwrap();
        }
    }

    fn videos(&self) -> usize {
        let files = fs::read_dir(self.of.corpus()).unwrap().map(Result::unwrap);
        files.filter(|file| file.path().extension().is_some_and(|of| of == "mp4")).count()
    }

    /// The rows of a night that splits nothing.
    fn undivided(&self) -> Rows {
        let trial = self.trial("");
        assert_eq!(trial.planned()["shards"], 1);
        trial.indexed();
        rows(&trial)
    }

    /// A night that splits the long videos.
    fn split(&self) -> Trial {
        self.split_and("")
    }

    /// A night that splits the long videos, with more to say of its `[run]`.
    fn split_and(&self, run: &str) -> Trial {
        let most = self.long_bytes.div_ceil(STRETCHES);
        let trial = self.trial(&format!("split-size = \"{most} B\"\n{run}"));
        let plan = trial.planned();
        let wanted = (&self.videos().into(), &SHARDS.into());
        assert_eq!((&plan["videos"], &plan["shards"]), wanted, "{plan:#}");
        trial
    }
}

fn rows(trial: &Trial) -> Rows {
    let tables = [
        ("events", "video_id,window_index,event_index"),
        ("videos", "video_id"),
        ("transcripts", "video_id,sentence_index"),
    ];
    tables.map(|(table, order)| trial.rows(table, order).into_iter().map(comparable).collect())
}

fn comparable(row: Value) -> Map<String, Value> {
    let Value::Object(mut row) = row else { panic!("{row} is no row") };
    let mut left_out = vec!["run_id", "indexed_at", "worker", "core_ms", "device_ms", "wall_ms"];
    if row.get("status").is_some_and(|status| status == "failed") {
        // How much was looked at beside what failed is left to chance.
        left_out.extend(["frames_used", "frames_missing"]);
    }
    row.retain(|name, _| !left_out.contains(&name.as_str()));
    row
}

/// Fails unless these are the rows of a corpus whose torn video failed, and the tables add up.
fn assert_rows(trial: &Trial, undivided: &Rows) {
    assert_same(trial, undivided);
    let runs = trial.rows("runs", "run_id");
    assert_eq!(runs.len(), 1, "{runs:#?}");
    let counts = ["listed", "captioned", "failed"].map(|name| runs[0][name].as_u64().unwrap());
    assert_eq!(counts, [3, 2, 1]);
}

fn assert_same(trial: &Trial, undivided: &Rows) {
    let [events, videos, transcripts] = rows(trial);
    assert_eq!(videos, undivided[1]);
    assert_eq!(events, undivided[0]);
    assert_eq!(transcripts, undivided[2]);
    assert_conserved(trial, "lake", []);
}

#[test]
fn rows_are_those_of_an_undivided_run() {
    let shared = Shared::new();
    let undivided = shared.undivided();
    let trial = shared.split();
    trial.indexed();
    assert_rows(&trial, &undivided);
    let video = |name: &str| {
        let of = |row: &&Map<String, Value>| row["uri"].as_str().unwrap().ends_with(name);
        undivided[1].iter().find(of).unwrap()
    };
    assert_eq!(video("long.mp4")["windows"], 13);
    let windows =
        undivided[0].iter().filter(|row| row["video_id"] == video("long.mp4")["video_id"]);
    let last = windows.clone().filter_map(|row| row["window_index"].as_u64()).max();
    assert!(last > Some(9), "there are events in the last stretch: {last:?}");
    assert_eq!(video("torn.mp4")["reason_code"], "no_frames");
    let plan = trial.planned();
    assert_eq!((&plan["unchanged"], &plan["retried"]), (&2.into(), &1.into()), "{plan:#}");
}

#[test]
fn a_part_of_a_run_holds_all_stretches_of_a_video_or_none() {
    let shared = Shared::new();
    shared.add_short(MORE);
    let undivided = shared.undivided();
    let trial = shared.split_and("publish-every = \"1s\"\n");
    trial.index().arguments(["--workers", "1"]).run(LIMIT).unwrap().assert_code(0);
    assert_same(&trial, &undivided);
    let runs = trial.rows("runs", "run_id,part");
    assert!(runs.len() > 1, "nothing was published before the end: {runs:#?}");
    let sum = |name: &str| runs.iter().filter_map(|run| run[name].as_u64()).sum::<u64>();
    assert_eq!(["captioned", "failed"].map(sum), [2 + MORE, 1]);
}

#[test]
fn a_run_that_was_cut_off_does_the_stretches_that_are_missing() {
    let shared = Shared::new();
    let undivided = shared.undivided();
    let trial = shared.split();
    let index = || trial.index().arguments(["--log", "info", "--workers", "1"]);
    let running = index().start().unwrap();
    running.await_line("receipt written", LIMIT).unwrap();
    assert!(running.kill().unwrap().was_killed());
    let left = trial.planned()["shards"].as_u64().unwrap();
    assert!((1..SHARDS).contains(&left), "{left} shards are left");
    let finished = index().run(LIMIT).unwrap();
    finished.assert_code(0);
    let begun = times(&[finished.stderr], "shard begun");
    assert_eq!(begun as u64, left, "a stretch with a receipt is not done again");
    assert_rows(&trial, &undivided);
}

#[test]
fn stretches_go_to_the_executors_that_live() {
    let shared = Shared::new();
    let undivided = shared.undivided();
    let trial = shared.split();
    let mut cluster = Cluster::of(2);
    let client = cluster.index(&trial).start().unwrap();
    cluster.executors[0].await_line("receipt written", LIMIT).unwrap();
    let killed = cluster.executors.remove(0).kill().unwrap();
    client.wait(LIMIT).unwrap().assert_code(0);
    assert_rows(&trial, &undivided);
    let mut said = cluster.said();
    said.push(killed.stderr);
    let begun = times(&said, "shard begun") as u64;
    assert!((SHARDS..=SHARDS + 1).contains(&begun), "{begun} shards were begun of {SHARDS}");
}
