//! Processes of different builds: each that comes is refused by name, and what runs is not disturbed.

use std::path::{Path, PathBuf};

use eventide_testkit::{Program, tools};

use crate::cluster::{Cluster, scheduler_of, times};
use crate::trial::{LIMIT, Trial, eventide, run};

/// Copies the program and has the copy say that it was made of other sources.
const COPY: &str = "
import os, sys
program, copy, ours, theirs = sys.argv[1:]
with open(program, 'rb') as file:
    data = file.read()
assert ours.encode() in data, 'the program does not hold its build'
with open(copy, 'wb') as file:
    file.write(data.replace(ours.encode(), theirs.encode()))
os.chmod(copy, 0o755)
";

/// Another build of the program.
struct Other {
    program: PathBuf,
    build: String,
    /// The build of the program under test.
    ours: String,
}

impl Other {
    fn build(folder: &Path) -> Self {
        let said = run(["--version"]).stdout;
        let ours = said.trim().trim_start_matches("eventide ").to_owned();
        let (version, sources) = ours.split_once('+').unwrap();
        assert_eq!(sources.len(), 16, "{said}");
        let build = format!("{version}+0123456789abcdef");
        let program = folder.join("another-build");
        let copy = program.display().to_string();
        let tools = tools().unwrap();
        tools.run_python(COPY, [env!("CARGO_BIN_EXE_eventide"), &copy, &ours, &build]).unwrap();
        Self { program, build, ours }
    }

    fn program(&self) -> Program {
        Program::new(&self.program)
    }
}

#[test]
fn a_process_of_another_build_is_refused_by_name_and_disturbs_nobody() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    let other = Other::build(trial.folder());
    let cluster = Cluster::of(1);
    let url = &*cluster.url;
    for arguments in [
        vec!["executor", url],
        vec!["index", "night.toml", "--cluster", url],
        vec!["status", "--cluster", url],
    ] {
        let program = other.program().arguments(&arguments).in_folder(trial.folder());
        let finished = program.run(LIMIT).unwrap();
        finished.assert_code(2);
        for said in [&*other.build, &*other.ours, "same build of eventide"] {
            assert!(finished.stderr.contains(said), "{arguments:?}: {said}: {}", finished.stderr);
        }
    }
    assert_eq!(cluster.indexed(&trial)["captioned"], 1);
    let said = cluster.said();
    assert_eq!(times(&said, "turned away a caller of another build"), 3, "{said:#?}");
}

#[test]
fn an_executor_whose_scheduler_is_replaced_by_another_build_takes_no_work_and_ends() {
    let trial = Trial::of_speech();
    let other = Other::build(trial.folder());
    let mut cluster = Cluster::of(1);
    let address = cluster.url.trim_start_matches("http://").to_owned();
    cluster.scheduler.crash().unwrap();
    (cluster.scheduler, _) = scheduler_of(&other.program(), &address, &cluster.environment);
    let executor = cluster.executors.remove(0);
    let finished = executor.wait(LIMIT).unwrap(); // by its own decision; its supervisor starts another
    finished.assert_code(0);
    cluster.scheduler.await_line("turned away a caller of another build", LIMIT).unwrap();
    let there = eventide().arguments(["executor", &*cluster.url]).run(LIMIT).unwrap();
    there.assert_code(2);
    assert!(there.stderr.contains(&other.build), "{}", there.stderr);
}
