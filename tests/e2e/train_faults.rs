//! Training that goes wrong: a full disk, a killed program, a loss that is no number. Whatever it is, the last checkpoint
//! stays, and going on from it gives the weights of a run that nothing befell.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use eventide_testkit::{Finished, Program, bundles};
use tempfile::TempDir;

use crate::train::{DRAWN, LONG, metrics, train};

const STEPS: u64 = 90;
/// Steps between two checkpoints.
const EVERY: u64 = 30;

/// A folder with a training file that goes on from a small bundle.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        bundles::tiny(&desk.path().join("tiny"), 7).unwrap();
        desk.write_file("1e-3");
        desk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write_file(&self, learning_rate: &str) {
        let text = format!(
            "[model]\nid = \"told\"\nout = \"told\"\nlicence = \"Apache-2.0\"\nstart = \"tiny\"
[data]\ntraining = {DRAWN}\ncache = \"cache\"
[objective]\ntasks = [\"events\"]
[optimiser]\nsteps = {STEPS}\nbatch = 2\nlearning-rate = {learning_rate}\nwarm-up = 5
[run]\nfolder = \"runs/told\"\nevery = {EVERY}\n"
        );
        fs::write(self.path().join("told.toml"), text).unwrap();
    }

    fn run(&self) -> Finished {
        train(self.path(), "told").run(LONG).unwrap()
    }

    /// Runs until the first checkpoint is due and a person stops it.
    fn run_to_first_checkpoint(&self) {
        let running = train(self.path(), "told").start().unwrap();
        running.await_line("learning", LONG).unwrap();
        running.interrupt().unwrap();
        running.wait(LONG).unwrap().assert_code(130);
    }

    /// Runs with files of at most so many blocks of 512 bytes: what is written beyond is refused, as on a full disk.
    fn run_with_blocks(&self, blocks: u64) -> Finished {
        // The signal is ignored, so that the system says no instead of ending the program.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        Program::new("/bin/sh")
            .arguments(["-c", &script, env!("CARGO_BIN_EXE_eventide"), "train", "told.toml"])
            .in_folder(self.path())
            .run(LONG)
            .unwrap()
    }

    fn history(&self) -> PathBuf {
        self.path().join("runs/told/metrics.ndjson")
    }

    /// What the checkpoint holds, file by file.
    fn checkpoint(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(self.path().join("runs/told/last")).unwrap();
        let paths = files.map(|file| file.unwrap().path());
        paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// The weights of the bundle that was made.
    fn weights(&self) -> Vec<u8> {
        fs::read(self.path().join("told/model.safetensors")).unwrap()
    }

    /// Fails unless the history tells of each step once, in order, and nothing else lies in the folder of the run.
    fn check_folder(&self) {
        let metrics = metrics(self.path(), "told");
        let steps: Vec<u64> = metrics.iter().map(|m| m["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, (1..=STEPS).collect::<Vec<_>>());
        let entries = fs::read_dir(self.path().join("runs/told")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let whole = ["best.safetensors", "curve.png", "last", "metrics.ndjson", "metrics.parquet"];
        assert_eq!(names, whole);
    }
}

/// Fails unless the program said that this file could not be written, and what to do.
fn refused(finished: &Finished, file: &str) {
    finished.assert_code(1);
    for said in ["cannot write `", file, "File too large", "run the same command again"] {
        assert!(finished.stderr.contains(said), "{}", finished.stderr);
    }
}

#[test]
fn a_full_disk_costs_no_checkpoint_and_no_bit_of_the_weights() {
    let desk = Desk::new();
    desk.run_to_first_checkpoint();
    let checkpoint = desk.checkpoint();

    // Full in the middle of a line of the history.
    let blocks = fs::metadata(desk.history()).unwrap().len() / 512 + 1;
    refused(&desk.run_with_blocks(blocks), "metrics.ndjson`");
    assert_eq!(fs::metadata(desk.history()).unwrap().len(), 512 * blocks);
    assert_eq!(desk.checkpoint(), checkpoint);

    // Full in the middle of the next checkpoint.
    refused(&desk.run_with_blocks(128), "weights.safetensors`");
    assert_eq!(desk.checkpoint(), checkpoint);
    assert_eq!(metrics(desk.path(), "told").len() as u64, 2 * EVERY);
    assert!(!desk.path().join("told").exists(), "a bundle of half a run");

    // Too full for the history to be written anew.
    refused(&desk.run_with_blocks(1), "metrics.ndjson`");
    assert_eq!(metrics(desk.path(), "told").len() as u64, 2 * EVERY);

    desk.run().assert_code(0);
    desk.check_folder();
    let undisturbed = Desk::new();
    undisturbed.run().assert_code(0);
    assert!(desk.weights() == undisturbed.weights(), "not the weights of an undisturbed run");
}

#[test]
fn a_killed_run_goes_on_from_its_checkpoint() {
    let desk = Desk::new();
    for line in ["step=30", "step=60", "step=90"] {
        let running = train(desk.path(), "told").start().unwrap();
        running.await_line(line, LONG).unwrap();
        assert!(running.kill().unwrap().was_killed());
    }
    desk.run().assert_code(0);
    desk.check_folder();
    let undisturbed = Desk::new();
    undisturbed.run().assert_code(0);
    assert!(desk.weights() == undisturbed.weights(), "not the weights of an undisturbed run");
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_and_leaves_the_checkpoint() {
    let desk = Desk::new();
    desk.run_to_first_checkpoint();
    let checkpoint = desk.checkpoint();
    let best = fs::read(desk.path().join("runs/told/best.safetensors")).unwrap();
    desk.write_file("1e30");
    let finished = desk.run();
    finished.assert_code(1);
    for said in ["the loss of step", "lower the learning rate", "the last checkpoint is whole"] {
        assert!(finished.stderr.contains(said), "{}", finished.stderr);
    }
    assert_eq!(desk.checkpoint(), checkpoint);
    assert!(fs::read(desk.path().join("runs/told/best.safetensors")).unwrap() == best);
    assert!(!desk.path().join("told").exists(), "a bundle of half a run");

    desk.write_file("1e-3");
    desk.run().assert_code(0);
    desk.check_folder();
}

#[test]
fn a_run_that_is_stopped_before_its_first_checkpoint_says_so() {
    let desk = Desk::new();
    let running = train(desk.path(), "told").start().unwrap();
    running.await_line("prepared", LONG).unwrap();
    running.interrupt().unwrap();
    let finished = running.wait(LONG).unwrap();
    finished.assert_code(130);
    assert!(finished.stderr.contains("interrupted after "), "{}", finished.stderr);
}
