//! A job that cannot be done is refused before anything is written: exit code 2 and one clear message.

use std::fs;

use crate::trial::{LIMIT, Trial};

/// Runs `index`, which must refuse with these words, and leave nothing behind.
fn check_refused(trial: &Trial, words: &[&str]) {
    let finished = trial.index().run(LIMIT).unwrap();
    finished.assert_code(2);
    let said = finished.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {}", finished.stderr);
    }
    assert_eq!(finished.stdout, "");
    assert!(!trial.lake().exists(), "something was written");
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest() {
    let trial = Trial::with_job("[captioning]\nsource = \"speech\"\nbeam = 4\n");
    check_refused(&trial, &["unknown field `beam`", "did you mean `beams`?", "night.toml"]);
}

#[test]
fn a_wrong_unit_is_shown() {
    check_refused(&Trial::with_job("[limits]\nmemory = \"2 GiX\"\n"), &["night.toml", "memory = "]);
}

#[test]
fn a_missing_bundle_is_named() {
    let trial = Trial::with_job("[model]\nbundle = \"no-such-bundle\"\n");
    check_refused(&trial, &["no-such-bundle/bundle.json"]);
}

#[test]
fn a_missing_corpus_is_named() {
    let trial = Trial::of_speech();
    fs::remove_dir(trial.corpus()).unwrap();
    check_refused(&trial, &["corpus"]);
}

#[test]
fn a_store_that_does_not_answer_is_named() {
    let trial = Trial::of_speech();
    trial.write_job("[corpus]\nuri = \"s3://videos/here\"\n[tables]\nuri = \"lake\"\n[captioning]\nsource = \"speech\"\n");
    // Port 9 of loopback: nobody listens there.
    let program = trial.index().environment([
        ("AWS_ENDPOINT", "http://127.0.0.1:9"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "nobody"),
        ("AWS_SECRET_ACCESS_KEY", "not-to-be-shown"),
    ]);
    let finished = program.run(LIMIT).unwrap();
    finished.assert_code(2);
    assert!(finished.stderr.contains("s3://videos/here"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("not-to-be-shown"), "{}", finished.stderr);
    assert!(!trial.lake().exists(), "something was written");
}

#[test]
fn an_empty_corpus_does_not_empty_the_tables() {
    let trial = Trial::of_speech();
    let talk = trial.add_narrated(1);
    trial.indexed();
    fs::remove_file(talk.video).unwrap();
    fs::remove_file(talk.side_car).unwrap();
    let finished = trial.index().run(LIMIT).unwrap();
    finished.assert_code(2);
    assert!(finished.stderr.contains("allow-empty"), "{}", finished.stderr);
    assert!(trial.events().contains("talk-1 begins."));
}

#[test]
fn tables_that_cannot_be_written_are_found_before_any_work() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    // Nobody, not even root, makes a folder there.
    let arguments = ["--tables", "/proc/no-such-folder", "--log", "info"];
    let finished = trial.index().arguments(arguments).run(LIMIT).unwrap();
    finished.assert_code(2);
    assert!(finished.stderr.contains("cannot write to the tables"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("receipt written"), "{}", finished.stderr);
}

#[test]
fn a_broken_tool_is_found_before_any_work() {
    use std::os::unix::fs::PermissionsExt;

    let trial = Trial::of_speech();
    trial.add_narrated(1);
    let tools = trial.folder().join("tools");
    fs::create_dir(&tools).unwrap();
    for name in ["ffmpeg", "ffprobe"] {
        fs::write(tools.join(name), "#!/bin/sh\nexit 3\n").unwrap();
        fs::set_permissions(tools.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let finished = trial.index().arguments(["--tools", "tools"]).run(LIMIT).unwrap();
    finished.assert_code(2);
    assert!(finished.stderr.contains("ffmpeg"), "{}", finished.stderr);
    assert!(!trial.lake().exists(), "something was written");
}

#[test]
fn check_and_plan_write_nothing() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    for command in ["check", "plan"] {
        let finished =
            trial.program([command, "night.toml", "--format", "json"]).run(LIMIT).unwrap();
        finished.assert_code(0);
        let said: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
        let names = said.as_object().unwrap_or_else(|| panic!("no object: {said}"));
        let is_plain =
            |name: &String| !name.contains(|c: char| c.is_whitespace() || c.is_uppercase());
        assert!(names.keys().all(is_plain), "{said}");
        assert!(!trial.lake().exists(), "{command} wrote something");
    }
}
