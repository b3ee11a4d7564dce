//! Synthetic videos, made by the real program.

use std::{fs, path::Path};

use serde_json::Value;

use crate::trial::run;

fn synth(folder: &Path, seed: &str, videos: &str) -> eventide_testkit::Finished {
    let folder = folder.to_str().unwrap();
    let lengths = ["--shortest", "10s", "--longest", "12s", "--format", "json"];
    run(["synth", "--out", folder, "--seed", seed, "--videos", videos].into_iter().chain(lengths))
}

#[test]
fn a_data_set_is_made_grows_and_is_not_mixed_with_another() {
    let folder = tempfile::tempdir().unwrap();
    for (videos, kept) in [("1", 0), ("2", 1)] {
        let finished = synth(folder.path(), "5", videos);
        finished.assert_code(0);
        let summary: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(summary["kept"], kept, "{summary}");
    }
    let truth = fs::read(folder.path().join("truth.json")).unwrap();
    let truth: Value = serde_json::from_slice(&truth).unwrap();
    for (name, video) in truth.as_object().unwrap() {
        assert!(folder.path().join(format!("videos/{name}.mp4")).is_file());
        assert_eq!(
            video["timestamps"].as_array().unwrap().len(),
            video["sentences"].as_array().unwrap().len()
        );
    }

    let refused = synth(folder.path(), "6", "2");
    refused.assert_code(2);
    assert!(refused.stderr.contains("name another folder"), "{}", refused.stderr);
}
