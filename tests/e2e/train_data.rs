//! What the real program learns from: annotations in the forms that people have, and the tables of earlier nights. What
//! cannot be learnt from is left out, counted and named.

use std::{collections::BTreeSet, fs, path::Path};

use eventide_testkit::{
    Finished, Program, S3Server, bundles,
    footage::{Scene, narrated},
    tools,
};
use object_store::{ObjectStoreExt as _, path::Path as ObjectPath};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    serve::Server,
    trial::{LIMIT, Trial, eventide},
};

/// A folder with a bundle to go on from, `start`, and videos of five seconds in `videos`.
struct Class(TempDir);

impl Class {
    fn new(videos: &[&str]) -> Self {
        let class = Self(tempfile::tempdir().unwrap());
        bundles::tiny(&class.folder().join("start"), 7).unwrap();
        fs::create_dir(class.folder().join("videos")).unwrap();
        let scene = |said: &str| Scene { colour: 0x00aa_5500, length_ms: 2_480, said: said.into() };
        let scenes = [scene("It begins."), scene("It ends.")];
        for name in videos {
            narrated(&tools().unwrap(), &class.folder().join("videos"), name, &scenes).unwrap();
        }
        class
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder().join(name), text).unwrap();
    }

    /// Learns from this data, given as lines of the section `[data]`.
    fn learns(&self, data: &str) -> Finished {
        learn(self.folder(), "\"events\"", 12, data).run(LIMIT).unwrap()
    }

    /// How many tokens were to be written in the steps, each of which is one example.
    fn targets(&self) -> BTreeSet<u64> {
        let text = fs::read_to_string(self.folder().join("run/metrics.ndjson")).unwrap();
        let step = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        text.lines().map(|line| step(line)["tokens"].as_u64().unwrap()).collect()
    }
}

/// The program about to train the bundle `start` of a folder, an example a step.
fn learn(folder: &Path, tasks: &str, steps: u32, data: &str) -> Program {
    let text = format!(
        "[model]\nid = \"learner\"\nstart = \"start\"\nout = \"learner\"\nlicence = \"MIT\"
[data]\ncache = \"cache\"\n{data}
[objective]\ntasks = [{tasks}]
[optimiser]\nsteps = {steps}\nbatch = 1\ndropout = 0.0\ncrop = 0.0
[run]\nfolder = \"run\"\nevery = {steps}\n"
    );
    fs::write(folder.join("train.toml"), text).unwrap();
    eventide().arguments(["train", "train.toml", "--log", "info"]).in_folder(folder)
}

/// Fails unless the line of the log that tells of the examples `what` has all of these counts.
fn assert_counts(finished: &Finished, what: &str, counts: &str) {
    let is_told = |line: &&str| line.contains("accounts=") && line.contains(what);
    let line =
        finished.stderr.lines().find(is_told).unwrap_or_else(|| panic!("{}", finished.stderr));
    for count in counts.split_whitespace() {
        assert!(line.split_whitespace().any(|word| word == count), "no {count} in {line}");
    }
}

fn assert_told(finished: &Finished, texts: &[&str]) {
    for text in texts {
        assert!(finished.stderr.contains(text), "no {text} in {}", finished.stderr);
    }
}

#[test]
fn annotators_of_activity_net_are_all_learnt_from() {
    let class = Class::new(&["a", "b", "c", "stranger"]);
    class.write(
        "val_1.json",
        r#"{"a": {"duration": 4.96, "timestamps": [[0, 2]], "sentences": ["red"]},
            "b": {"duration": 4.96, "timestamps": [[3, 2]], "sentences": ["turned round"]},
            "c": {"duration": 4.96, "timestamps": [[0, 2]], "sentences": ["red"]},
            "gone": {"duration": 9, "timestamps": [[0, 2]], "sentences": ["red"]}}"#,
    );
    class.write(
        "val_2.json",
        r#"{"a": {"duration": 4.96, "timestamps": [[0, 2], [2, 5.5]], "sentences": ["a red wall", "a red wall stays"]},
            "c": {"duration": 4.96, "timestamps": [[1, 9]], "sentences": ["far too long"]}}"#,
    );
    let data = "training = { videos = \"videos\", annotations = [\"val_1.json\", \"val_2.json\"] }";
    let finished = class.learns(data);
    finished.assert_code(0);
    let counts =
        "examples=1 annotated=4 accounts=2 without_file=1 without_annotation=1 silent=0 faulty=2";
    assert_counts(&finished, "training", counts);
    assert_told(
        &finished,
        &[
            "val_1.json`: video `b`: event 0 of annotator 0 starts at 3 and ends at 2",
            "val_2.json`: video `c`: event 0 of annotator 1 is from 1 to 9, the video from 0 to 4.96",
            "there is no file of these videos: gone",
        ],
    );
    assert_eq!(class.targets().len(), 2, "one account is longer than the other");
}

#[test]
fn a_subset_of_youcook2_is_chosen() {
    let class = Class::new(&["a", "b"]);
    class.write(
        "youcookii.json",
        r#"{"database": {
            "a": {"duration": 4.96, "subset": "training", "recipe_type": "113",
                  "annotations": [{"segment": [0, 2], "id": 0, "sentence": "spread butter"}]},
            "b": {"duration": 4.96, "subset": "validation", "recipe_type": "113",
                  "annotations": [{"segment": [2, 4], "id": 0, "sentence": "place cheese"}]},
            "c": {"duration": 4.96, "subset": "training", "recipe_type": "113",
                  "annotations": [{"segment": [2, 4], "id": 0, "sentence": "wait"}]}}}"#,
    );
    let source = |subset: &str| {
        format!(
            "{{ videos = \"videos\", annotations = \"youcookii.json\", form = \"youcook2\", subset = \"{subset}\" }}"
        )
    };
    let both = |training: &str| {
        format!("training = {}\nvalidation = {}", source(training), source("validation"))
    };
    let refused = class.learns(&both("train"));
    refused.assert_code(2);
    let because = "has no video of the subset `train`: there are `training`, `validation`";
    assert_told(&refused, &[because]);

    let finished = class.learns(&both("training"));
    finished.assert_code(0);
    assert_counts(
        &finished,
        "training",
        "examples=1 annotated=2 other_subset=1 accounts=1 without_file=1",
    );
    assert_counts(&finished, "validation", "examples=1 annotated=1 other_subset=2 accounts=1");
    assert_told(&finished, &["there is no file of these videos: c"]);
}

#[test]
fn ids_of_vitt_get_the_names_of_its_videos() {
    let class = Class::new(&["a", "b"]);
    let tags = [
        r#"{"id": "FmTp", "annotations": [{"timestamp": 260, "tag": "Opening"}, {"timestamp": 2000, "tag": "Technique"}]}"#,
        r#"{"id": "AAAA", "annotations": [{"timestamp": 0, "tag": "Opening"}]}"#,
        r#"{"id": "FmTp", "annotations": [{"timestamp": 0, "tag": "Intro"}]}"#,
        r#"{"id": "GnUq", "annotations": [{"timestamp": 0, "tag": "Intro"}, {"timestamp": 9000, "tag": "Too late"}]}"#,
    ];
    class.write("vitt.json", &tags.join("\n"));
    class.write("names.json", r#"{"FmTp": "a", "GnUq": "b"}"#);
    let data = "training = { videos = \"videos\", annotations = \"vitt.json\", form = \"vitt\", names = \"names.json\" }";
    let finished = class.learns(data);
    finished.assert_code(0);
    assert_counts(
        &finished,
        "training",
        "examples=1 annotated=2 accounts=2 nameless=1 without_file=0 faulty=1",
    );
    assert_told(
        &finished,
        &[
            "no name is known for these ids: AAAA",
            "video `b`: event 0 of annotator 0 is from 0 to 9",
        ],
    );
    assert_eq!(class.targets().len(), 2, "one annotator has more to tell");
}

#[test]
fn chapters_last_until_the_next_or_the_end() {
    let class = Class::new(&["a", "b"]);
    class.write(
        "chapters.json",
        r#"{"a": {"duration": 4.96, "title": "t", "chapters": {"2": "Tips", "0": "Needs"}},
            "b": {"duration": 4.96, "chapters": [{"time": 0, "label": "Intro"}, {"time": 9, "label": "Too late"}]}}"#,
    );
    let of = |file: &str| {
        format!(
            "training = {{ videos = \"videos\", annotations = \"{file}\", form = \"vidchapters\" }}"
        )
    };
    let finished = class.learns(&of("chapters.json"));
    finished.assert_code(0);
    assert_counts(&finished, "training", "examples=1 annotated=2 accounts=1 faulty=1");
    assert_told(&finished, &["video `b`: event 0 of annotator 0 is from 0 to 9"]);

    class.write("late.json", r#"{"a": {"duration": 4.96, "chapters": {"9": "Too late"}}}"#);
    fs::remove_dir_all(class.folder().join("learner")).unwrap();
    let refused = class.learns(&of("late.json"));
    refused.assert_code(2);
    let because = "video `a`: event 0 of annotator 0 starts at 9 and ends at 4.96";
    assert_told(&refused, &[because, "there is no example to train on"]);
}

/// Of two videos of a lake one is marked: an event gets another caption and other bounds, the others are wrong. What is
/// learnt is what is learnt of a file of annotations that says just that.
#[test]
fn what_people_have_marked_is_learnt() {
    let trial = Trial::with_job("[model]\nbundle = \"start\"\n");
    bundles::golden(&trial.folder().join("start")).unwrap();
    let talks = [1, 2].map(|number| trial.add_narrated(number));
    trial.indexed();
    let events = trial.rows("events", "start_ms,event_id");
    let of_talk = |event: &&Value| event["uri"].as_str().unwrap().ends_with("talk-1.mp4");
    let marked: Vec<_> = events.iter().filter(of_talk).collect();
    let server = Server::start_with(&trial, "", &["--feedback"]);
    for event in &marked {
        server.mark(&json!({ "event_id": event["event_id"], "verdict": "wrong" }));
    }
    let edit = json!({
        "event_id": marked[0]["event_id"], "verdict": "edited", "caption": "two dogs play",
        "start_ms": 500, "end_ms": 3000,
    });
    server.mark(&edit);
    server.stop();

    let learns = |source: &str| {
        for made in ["learner", "run"] {
            drop(fs::remove_dir_all(trial.folder().join(made)));
        }
        let data = format!("training = {source}");
        let finished = learn(trial.folder(), "\"events\"", 4, &data).run(LIMIT).unwrap();
        finished.assert_code(0);
        let metrics = fs::read_to_string(trial.folder().join("run/metrics.ndjson")).unwrap();
        let step = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        let steps =
            metrics.lines().map(step).map(|step| (step["tokens"].as_u64(), step["loss"].as_f64()));
        (finished, steps.collect::<Vec<_>>())
    };
    let (finished, of_marks) = learns("{ tables = \"lake\", feedback = \"marked\" }");
    let counts = "examples=1 annotated=1 accounts=1 without_mark=1 faulty=0";
    assert_counts(&finished, "training", counts);
    let told = format!("marks events={} left_out=0 videos=1", marked.len());
    assert_told(&finished, &[&told]);

    let videos = trial.folder().join("videos");
    fs::create_dir(&videos).unwrap();
    for file in [&talks[0].video, &talks[0].side_car] {
        fs::copy(file, videos.join(file.file_name().unwrap())).unwrap();
    }
    let duration = trial.rows("videos", "uri")[0]["duration_ms"].as_f64().unwrap() / 1000.0;
    let said = json!({ "talk-1": {
        "duration": duration, "timestamps": [[0.5, 3.0]], "sentences": ["two dogs play"],
    } });
    fs::write(trial.folder().join("said.json"), said.to_string()).unwrap();
    let (_, of_file) = learns("{ videos = \"videos\", annotations = \"said.json\" }");
    assert_eq!(of_marks.len(), 4);
    for ((tokens, loss), (expected_tokens, expected)) in of_marks.iter().zip(&of_file) {
        assert_eq!(tokens, expected_tokens);
        let apart = (loss.unwrap() - expected.unwrap()).abs();
        assert!(apart < 1e-4, "{of_marks:?}, and not {of_file:?}");
    }

    let (finished, of_all) = learns("{ tables = \"lake\", feedback = \"all\" }");
    assert_counts(&finished, "training", "examples=2 annotated=2 accounts=2 without_mark=0");
    assert_ne!(of_all, of_marks);
}

/// The tables of an earlier program: no `transcripts`, and no column that tells of them.
const WITHOUT_TRANSCRIPTS: &str = "
import shutil, sys
from deltalake import DeltaTable, write_deltalake
runs = sys.argv[1] + '/runs'
rows = DeltaTable(runs).to_pyarrow_table().drop_columns(['transcripts_version'])
write_deltalake(runs, rows, mode='overwrite', schema_mode='overwrite')
shutil.rmtree(sys.argv[1] + '/transcripts')
";

/// Learns from the tables of a trial.
fn learns_from_lake(trial: &Trial, tasks: &str) -> Finished {
    learn(trial.folder(), tasks, 4, "training = { tables = \"lake\" }").run(LIMIT).unwrap()
}

#[test]
fn a_captioned_lake_has_words_to_learn_from() {
    let trial = Trial::with_job("[model]\nbundle = \"start\"\n");
    bundles::golden(&trial.folder().join("start")).unwrap();
    let narrated = [1, 2].map(|number| trial.add_narrated(number));
    assert!(trial.indexed()["events"].as_u64().unwrap() >= 2);

    let finished = learns_from_lake(&trial, "\"events\", \"denoising\"");
    finished.assert_code(0);
    assert_counts(&finished, "training", "examples=2 annotated=2 accounts=2 silent=0");

    fs::remove_dir_all(trial.folder().join("learner")).unwrap();
    fs::remove_dir_all(trial.folder().join("run")).unwrap();
    fs::remove_file(&narrated[0].video).unwrap();
    let spoken = learns_from_lake(&trial, "\"speech\"");
    spoken.assert_code(0);
    assert_counts(&spoken, "training", "examples=1 annotated=2 without_file=1 silent=0");
    assert_told(&spoken, &["there is no file of these videos: file://", "talk-1.mp4"]);
}

#[test]
fn a_lake_of_an_earlier_program_tells_what_is_said_by_its_events() {
    let trial = Trial::of_speech();
    bundles::tiny(&trial.folder().join("start"), 7).unwrap();
    trial.add_narrated(1);
    trial.indexed();
    let lake = trial.lake().display().to_string();
    tools().unwrap().run_python(WITHOUT_TRANSCRIPTS, [&*lake]).unwrap();

    let refused = learns_from_lake(&trial, "\"events\"");
    refused.assert_code(2);
    assert_told(&refused, &["of none of the 1 videos of `data.training` is it told what happens"]);
    let finished = learns_from_lake(&trial, "\"speech\"");
    finished.assert_code(0);
    assert_counts(&finished, "training", "examples=1 accounts=0 silent=0");
}

/// A lake in a bucket, of videos in a bucket, one of which is replaced after the night: it is left out and named.
#[tokio::test(flavor = "multi_thread")]
async fn videos_in_a_bucket_are_brought_here() {
    let server = S3Server::start(&tools().unwrap()).unwrap();
    let store = server.store().unwrap();
    let trial = Trial::of_speech();
    bundles::tiny(&trial.folder().join("start"), 7).unwrap();
    for number in [1, 2] {
        let narrated = trial.add_narrated(number);
        for file in [&narrated.video, &narrated.side_car] {
            let name = file.file_name().unwrap().to_string_lossy();
            let to = ObjectPath::from(format!("videos/{name}"));
            store.put(&to, fs::read(file).unwrap().into()).await.unwrap();
        }
    }
    let (videos, lake) = (server.uri("videos"), server.uri("lake"));
    trial.write_job(&format!(
        "[corpus]\nuri = \"{videos}\"\n[tables]\nuri = \"{lake}\"\n[captioning]\nsource = \"speech\"\n"
    ));
    let at_home = |program: Program| program.environment(server.environment());
    at_home(trial.index()).run(LIMIT).unwrap().assert_code(0);
    store.put(&ObjectPath::from("videos/talk-2.mp4"), vec![0; 100].into()).await.unwrap();

    let data = format!("training = {{ tables = \"{lake}\" }}");
    let learns = || at_home(learn(trial.folder(), "\"speech\"", 4, &data)).run(LIMIT).unwrap();
    let finished = learns();
    finished.assert_code(0);
    assert_counts(&finished, "training", "examples=2 annotated=2 silent=0 without_file=0");
    let changed = format!("cannot have the video `{videos}/talk-2.mp4`: ");
    assert_told(&finished, &[&changed, "was replaced after it was listed", "kept=0"]);

    for made in ["learner", "run"] {
        fs::remove_dir_all(trial.folder().join(made)).unwrap();
    }
    store.delete(&ObjectPath::from("videos/talk-1.mp4")).await.unwrap();
    let again = learns();
    again.assert_code(0);
    assert_told(&again, &["kept=1"]);
}
