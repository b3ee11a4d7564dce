//! A file that kills whoever works on it (T8): five nights with it, and a new version of it.

use std::fs;

use eventide_testkit::poison::{self, POISON};
use serde_json::Value;

use crate::cluster::{Cluster, times};
use crate::conservation::assert_conserved;
use crate::trial::{LIMIT, Trial};

/// Workers that one file may kill, in all the nights of one version.
const DEATHS: usize = 3;

/// A night in which so many executors die, each of which is followed by another.
fn night(cluster: &mut Cluster, trial: &Trial, deaths: usize) -> Value {
    let client = cluster.index(trial).start().unwrap();
    for death in 0..deaths {
        let dead = cluster.executors.remove(0).wait(LIMIT).unwrap();
        assert_eq!(dead.status.code(), None, "death {death} is by a signal: {}", dead.stderr);
        cluster.add_executor();
    }
    let finished = client.wait(LIMIT).unwrap();
    finished.assert_code(0);
    assert_conserved(trial, "lake", []);
    serde_json::from_str(&finished.stdout).unwrap()
}

#[test]
fn five_nights_with_a_file_that_kills_workers() {
    let trial = Trial::of_speech();
    for number in 1..=3 {
        trial.add_narrated(number);
    }
    let file = trial.corpus().join("poison.mp4");
    fs::write(&file, format!("{POISON} you")).unwrap();
    let preload = poison::environment(trial.folder()).unwrap();
    let mut cluster = Cluster::of(0);
    cluster.environment.extend(preload);
    cluster.add_executor();

    let quarantined = "poison.mp4 failed kills_workers\ntalk-1.mp4 captioned -\n\
                       talk-2.mp4 captioned -\ntalk-3.mp4 captioned -\n";
    let first = night(&mut cluster, &trial, DEATHS);
    assert_eq!((&first["captioned"], &first["failed"]), (&3.into(), &1.into()));
    assert_eq!(trial.videos(), quarantined);
    for _ in 2..=5 {
        let next = night(&mut cluster, &trial, 0);
        assert_eq!((&next["unchanged"], &next["planned"]), (&4.into(), &0.into()));
    }
    assert_eq!(trial.videos(), quarantined);

    // Another version, as bad: it has attempts of its own.
    fs::write(&file, format!("{POISON} you, too")).unwrap();
    let again = night(&mut cluster, &trial, DEATHS);
    assert_eq!((&again["planned"], &again["failed"]), (&1.into(), &1.into()));
    assert_eq!(trial.videos(), quarantined);

    fs::copy(trial.corpus().join("talk-1.mp4"), &file).unwrap();
    fs::copy(trial.corpus().join("talk-1.vtt"), file.with_extension("vtt")).unwrap();
    let healed = night(&mut cluster, &trial, 0);
    assert_eq!((&healed["captioned"], &healed["unchanged"]), (&1.into(), &3.into()));
    assert_eq!(trial.videos(), quarantined.replace("failed kills_workers", "captioned -"));
    let said: Vec<_> = cluster.executors.drain(..).map(|executor| executor.take_said()).collect();
    assert_eq!(times(&said, "quarantined"), 1, "by the last one, of the second version");
}
