//! The model of the demo, as it lies in the repository: the real program shows it videos that nothing was learnt from.

use std::{fs, path::Path};

use serde_json::Value;

use crate::trial::run;

/// The least that it must be worth: on 200 videos of this kind it is worth more (`docs/demo-model.md`).
const F1: f64 = 0.6;
const SODA_C: f64 = 0.35;

#[test]
fn the_model_of_the_demo_captions_videos_that_are_new_to_it() {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../jobs/demo-model");
    let bundle = bundle.canonicalize().unwrap();
    let verified = run(["model", "verify", bundle.to_str().unwrap(), "--format", "json"]);
    verified.assert_code(0);
    let verified: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!(verified["golden"], true, "{verified}");

    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("synth");
    let few = [
        "--videos",
        "12",
        "--seed",
        "9",
        "--split",
        "test",
        "--shortest",
        "20s",
        "--longest",
        "28s",
        "--crowd",
        "2",
    ];
    run(["synth", "--out", made.to_str().unwrap()].into_iter().chain(few)).assert_code(0);
    let job = folder.path().join("job.toml");
    let tables = folder.path().join("tables");
    let text = format!(
        "[corpus]\nuri = {:?}\ntranscripts = [\"sidecar\"]\n[model]\nbundle = {bundle:?}\n[tables]\nuri = {tables:?}\n",
        made.join("videos")
    );
    fs::write(&job, text).unwrap();
    run(["index", job.to_str().unwrap()]).assert_code(0);

    let truth = made.join("truth.json");
    let scored = run([
        "eval",
        "--format",
        "json",
        "--unpredicted",
        "empty",
        "--predictions",
        tables.to_str().unwrap(),
        "--references",
        truth.to_str().unwrap(),
    ]);
    scored.assert_code(0);
    let scored: Value = serde_json::from_str(&scored.stdout).unwrap();
    let figures = &scored["figures"];
    assert_eq!(scored["videos"], 12, "{scored}");
    assert!(figures["mean_of_f1"].as_f64().unwrap() > F1, "{figures}");
    assert!(figures["soda_c_native"].as_f64().unwrap() > SODA_C, "{figures}");
}
