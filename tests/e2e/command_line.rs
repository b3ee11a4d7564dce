//! What a person meets first: versions, misspelt words, jobs that are not there.

use crate::trial::run;

#[test]
fn says_its_version() {
    let finished = run(["--version"]);
    finished.assert_code(0);
    assert!(finished.stdout.starts_with("eventide "), "{}", finished.stdout);
}

#[test]
fn a_misspelt_command_is_refused_with_the_right_one() {
    let finished = run(["idnex"]);
    finished.assert_code(2);
    assert!(finished.stderr.contains("index"), "{}", finished.stderr);
    assert_eq!(finished.stdout, "");
}

#[test]
fn a_job_that_is_not_there_is_named() {
    let finished = run(["index", "no-such-job.toml"]);
    assert_ne!(finished.status.code(), Some(0));
    assert!(finished.stderr.contains("no-such-job.toml"), "{}", finished.stderr);
}
