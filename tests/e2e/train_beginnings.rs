//! What a model in training begins with: T5's vocabulary, or a checkpoint that others have released.

use std::{
    fs,
    path::{Path, PathBuf},
};

use eventide_testkit::{bundles, tools};
use rstest::rstest;
use serde_json::Value;

use crate::{
    train::{DRAWN, LONG, SIZES, metrics, train},
    trial::run,
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/golden/vid2seq-tiny");

fn golden(name: &str) -> PathBuf {
    Path::new(GOLDEN).join(name)
}

/// A training file for events that goes on from the bundle `start`, with more lines for its model.
fn training_file(folder: &Path, more: &str, steps: u32) {
    let text = format!(
        "[model]\nid = \"told\"\nout = \"told\"\nlicence = \"Apache-2.0\"\nstart = \"start\"\n{more}
[data]\ntraining = {DRAWN}\ncache = \"cache\"
[objective]\ntasks = [\"events\"]
[optimiser]\nsteps = {steps}\nbatch = 4\nlearning-rate = 2e-3\nwarm-up = 3\ncrop = 0.0
[run]\nfolder = \"runs/told\"\nevery = 50\n"
    );
    fs::write(folder.join("told.toml"), text).unwrap();
}

/// Lines that name a tokenizer for a new model of at most so many pieces.
fn of_tokenizer(path: &Path, pieces: u32) -> String {
    let sizes = SIZES.replace("pieces = 120", &format!("pieces = {pieces}"));
    format!("tokenizer = \"{}\"\n{sizes}", path.display())
}

#[test]
fn a_new_model_has_the_vocabulary_of_t5() {
    let folder = tempfile::tempdir().unwrap();
    bundles::tiny(&folder.path().join("start"), 7).unwrap();
    let t5 = tools().unwrap().t5_tokenizer().unwrap();
    // Relative to the training file, as all its paths.
    fs::create_dir(folder.path().join("t5")).unwrap();
    fs::copy(&t5, folder.path().join("t5/spiece.model")).unwrap();
    training_file(folder.path(), &of_tokenizer(Path::new("t5/spiece.model"), 32_000), 3);
    train(folder.path(), "told").run(LONG).unwrap().assert_code(0);

    let bundle = folder.path().join("told");
    assert!(fs::read(bundle.join("tokenizer.model")).unwrap() == fs::read(&t5).unwrap());
    let verified = run(["model", "verify", bundle.to_str().unwrap(), "--format", "json"]);
    verified.assert_code(0);
    let inspected = run(["model", "inspect", bundle.to_str().unwrap(), "--format", "json"]);
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
    // T5's pieces, its sentinels, and the time tokens of the training file.
    assert_eq!(inspected["manifest"]["t5"]["vocab_size"], 32_000 + 100 + 20);
    assert_eq!(inspected["manifest"]["time_tokens"]["first_id"], 32_100);
}

#[rstest]
#[case::too_large(
    || of_tokenizer(&tools().unwrap().t5_tokenizer().unwrap(), 31_999),
    "has 32000 pieces, and `model.sizes.pieces` says at most 31999"
)]
#[case::another_file(
    || of_tokenizer(&golden("cases.json"), 200),
    "cannot be the tokenizer of a new model"
)]
#[case::not_there(|| of_tokenizer(Path::new("gone.model"), 200), "gone.model`")]
#[case::no_new_model(
    || "tokenizer = \"spiece.model\"\n".to_owned(),
    "`model.tokenizer` is for a new model"
)]
fn a_tokenizer_that_does_not_fit_is_refused(#[case] more: fn() -> String, #[case] because: &str) {
    let folder = tempfile::tempdir().unwrap();
    bundles::tiny(&folder.path().join("start"), 7).unwrap();
    training_file(folder.path(), &more(), 3);
    let refused = train(folder.path(), "told").run(LONG).unwrap();
    refused.assert_code(2);
    assert!(refused.stderr.contains(because), "{}", refused.stderr);
    assert!(!folder.path().join("runs").exists(), "something was learnt");
}

#[test]
fn an_imported_checkpoint_is_fine_tuned() {
    let folder = tempfile::tempdir().unwrap();
    let start = folder.path().join("start").display().to_string();
    let files = ["checkpoint.pth", "clip.pt", "spiece.model"].map(golden);
    let [vid2seq, clip, tokenizer] = files.map(|path| path.display().to_string());
    run([
        "model",
        "import",
        "--out",
        &start,
        "--temporal-heads",
        "4",
        "--vid2seq",
        &vid2seq,
        "--clip",
        &clip,
        "--tokenizer",
        &tokenizer,
    ])
    .assert_code(0);
    training_file(folder.path(), "", 40);
    train(folder.path(), "told").run(LONG).unwrap().assert_code(0);

    let metrics = metrics(folder.path(), "told");
    let mean = |steps: &[Value]| {
        let losses = steps.iter().map(|metric| metric["loss"].as_f64().unwrap());
        losses.sum::<f64>() / 5.0
    };
    let (first, last) = (mean(&metrics[..5]), mean(&metrics[35..]));
    assert!(last < 0.8 * first, "{first} to {last}");

    let weights = |bundle: &str| fs::read(folder.path().join(bundle).join("model.safetensors"));
    assert_ne!(weights("start").unwrap(), weights("told").unwrap());
    let bundle = folder.path().join("told");
    assert!(
        fs::read(bundle.join("tokenizer.model")).unwrap()
            == fs::read(golden("spiece.model")).unwrap()
    );
    run(["model", "verify", bundle.to_str().unwrap()]).assert_code(0);
}
