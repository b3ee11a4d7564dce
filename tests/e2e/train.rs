//! A model trained by the real program from nothing: a vision encoder, speech, events; interrupted and gone on with.

use std::{fs, path::Path, time::Duration};

use eventide_testkit::Program;
use serde_json::Value;

use crate::trial::{Trial, eventide, run};

pub(crate) const LONG: Duration = Duration::from_mins(5);

pub(crate) const SIZES: &str = "
[model.sizes]
picture = 32
patch = 8
vision-width = 32
vision-layers = 1
feature = 32
frames = 12
temporal-layers = 1
width = 32
encoder-layers = 1
decoder-layers = 1
heads = 2
pieces = 120
time-tokens = 20
output-tokens = 48
";

pub(crate) const DRAWN: &str = "{ drawn = 6, seed = 7, shortest = 20, longest = 24 }";

/// A training file in `folder` for one stage.
fn training_file(folder: &Path, name: &str, start: Option<&str>, tasks: &str, steps: u32) {
    let start = start.map(|start| format!("start = \"{start}\"\n")).unwrap_or_default();
    let sizes = if start.is_empty() { SIZES } else { "" };
    // Files teach to see; what is seen in them is known to one who learnt from pictures that were only drawn.
    let training = match start.as_str() {
        "" => "\"videos\"",
        _ if tasks.contains("speech") => "{ tables = \"lake\" }",
        _ => DRAWN,
    };
    let text = format!(
        "[model]\nid = \"{name}\"\nout = \"{name}\"\nlicence = \"Apache-2.0\"\n{start}{sizes}
[data]\ntraining = {training}\nvalidation = \"videos\"\ncache = \"cache\"
[objective]\ntasks = [{tasks}]
[optimiser]\nsteps = {steps}\nbatch = 4\nlearning-rate = 2e-3\nwarm-up = 5
[run]\nfolder = \"runs/{name}\"\nevery = 5\n"
    );
    fs::write(folder.join(format!("{name}.toml")), text).unwrap();
}

pub(crate) fn train(folder: &Path, name: &str) -> Program {
    let file = folder.join(format!("{name}.toml"));
    eventide().arguments(["train", file.to_str().unwrap(), "--format", "json", "--log", "info"])
}

pub(crate) fn metrics(folder: &Path, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("runs").join(name).join("metrics.ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_model_is_trained_from_nothing_and_an_interrupted_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let videos = folder.path().join("videos");
    let lengths = ["--videos", "6", "--seed", "7", "--shortest", "20s", "--longest", "24s"];
    run(["synth", "--out", videos.to_str().unwrap()].into_iter().chain(lengths)).assert_code(0);

    training_file(folder.path(), "seeing", None, "\"vision\"", 10);
    let finished = train(folder.path(), "seeing").run(LONG).unwrap();
    finished.assert_code(0);
    let made: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(made["steps"], 10);

    training_file(folder.path(), "telling", Some("seeing"), "\"events\", \"denoising\"", 200);
    let running = train(folder.path(), "telling").start().unwrap();
    running.await_line("learning", LONG).unwrap();
    running.interrupt().unwrap();
    running.wait(LONG).unwrap().assert_code(130);
    let before = metrics(folder.path(), "telling").len();
    assert!((5..200).contains(&before), "{before} steps before the interruption");
    assert!(!folder.path().join("telling").exists(), "no bundle of half a run");

    train(folder.path(), "telling").run(LONG).unwrap().assert_code(0);
    let metrics = metrics(folder.path(), "telling");
    let steps: Vec<u64> = metrics.iter().map(|metric| metric["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=200).collect::<Vec<_>>(), "each step once");
    let loss = |range: std::ops::Range<usize>| {
        let losses = metrics[range].iter().map(|metric| metric["loss"].as_f64().unwrap());
        losses.sum::<f64>() / 20.0
    };
    assert!(loss(180..200) < 0.8 * loss(0..20), "{} to {}", loss(0..20), loss(180..200));

    let bundle = folder.path().join("telling");
    let bundle = bundle.to_str().unwrap();
    let inspected = run(["model", "inspect", bundle, "--format", "json"]);
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(inspected["manifest"]["trained"], true);
    assert!(inspected["manifest"]["metrics"]["validation/f1"].is_number(), "{inspected}");
    let verified = run(["model", "verify", bundle, "--format", "json"]);
    verified.assert_code(0);
    let verified: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!(verified["golden"], true);

    let record = folder.path().join("runs/telling");
    for (name, beginning) in [("curve.png", &b"\x89PNG"[..]), ("metrics.parquet", b"PAR1")] {
        assert!(fs::read(record.join(name)).unwrap().starts_with(beginning), "{name}");
    }

    let again = train(folder.path(), "telling").run(LONG).unwrap();
    again.assert_code(2);
    assert!(again.stderr.contains("is already there"), "{}", again.stderr);
}

/// What was said in the videos of a lake is what a model is pre-trained on.
#[test]
fn a_lake_is_training_data() {
    let trial = Trial::of_speech();
    let folder = trial.folder();
    let videos = folder.join("videos");
    let few = ["--videos", "4", "--seed", "7", "--shortest", "20s", "--longest", "24s"];
    run(["synth", "--out", videos.to_str().unwrap()].into_iter().chain(few)).assert_code(0);
    for file in fs::read_dir(videos.join("videos")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), trial.corpus().join(file.file_name())).unwrap();
    }
    let events = trial.indexed()["events"].as_u64().unwrap();
    assert!(events > 0, "nobody speaks");

    training_file(folder, "seeing", None, "\"vision\"", 5);
    train(folder, "seeing").run(LONG).unwrap().assert_code(0);
    training_file(folder, "speaking", Some("seeing"), "\"speech\"", 5);
    let finished = train(folder, "speaking").run(LONG).unwrap();
    finished.assert_code(0);
    let learnt = finished.stderr.lines().find(|line| line.contains("training")).unwrap();
    assert!(learnt.contains("examples=4") && learnt.contains("without_file=0"), "{learnt}");
    assert!(folder.join("speaking").is_dir(), "no bundle");

    let gone = trial.lake().join("nothing");
    let file = folder.join("speaking.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("tables = \"lake\"", "tables = \"lake/nothing\"");
    fs::write(&file, text.replace("out = \"speaking\"", "out = \"again\"")).unwrap();
    let refused = train(folder, "speaking").run(LONG).unwrap();
    refused.assert_code(2);
    assert!(refused.stderr.contains(gone.to_str().unwrap()), "{}", refused.stderr);
}

#[test]
fn a_training_file_that_contradicts_itself_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    training_file(folder.path(), "both", None, "\"vision\", \"events\"", 10);
    let refused = train(folder.path(), "both").run(LONG).unwrap();
    refused.assert_code(2);
    assert!(refused.stderr.contains("`vision` is learnt by itself"), "{}", refused.stderr);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is written");

    training_file(folder.path(), "blind", None, "\"events\"", 10);
    let refused = train(folder.path(), "blind").run(LONG).unwrap();
    refused.assert_code(2);
    assert!(refused.stderr.contains("needs a vision encoder"), "{}", refused.stderr);
}
