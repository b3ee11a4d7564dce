//! The kill matrix (T2): each process of a cluster is killed at each step of a night. The tables are those of a quiet
//! night, a second run finds nothing to do, and no shard is done twice that was not in flight.

use std::fs;
use std::time::{Duration, Instant};

use eventide_testkit::{Finished, Program, Running, bundles};
use rstest::rstest;

use crate::cluster::{Cluster, times};
use crate::conservation::{ask, assert_conserved};
use crate::trial::{LIMIT, Trial, eventide};

const TALKS: u64 = 3;
const LOGS: (&str, &str) = ("EVENTIDE_LOG", "info,eventide=debug");
/// Shards in flight: one an executor.
const IN_FLIGHT: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    Client,
    Scheduler,
    Executor,
}

/// Each step of a night: who says that it begins, and how.
const STEPS: [(&str, Process, &str); 9] = [
    ("list", Process::Client, "listing"),
    ("plan", Process::Client, "plan written"),
    ("decode", Process::Executor, "entered stage=sample"),
    ("encode", Process::Executor, "encoding"),
    ("generate", Process::Executor, "generating"),
    ("part upload", Process::Executor, "writing parts"),
    ("receipt", Process::Executor, "parts written"),
    ("publish between tables", Process::Client, "events published"),
    ("after publish", Process::Client, "run published"),
];

/// A corpus and a model that many nights share, each with tables of its own.
struct Shared {
    of: Trial,
    quiet: String,
}

impl Shared {
    fn new() -> Self {
        let of = Trial::of_speech();
        bundles::golden(&of.folder().join("bundle")).unwrap();
        for number in 1..=TALKS {
            of.add_narrated(u32::try_from(number).unwrap());
        }
        let shared = Self { of, quiet: String::new() };
        let trial = shared.trial();
        trial.indexed();
        Self { quiet: rows(&trial), ..shared }
    }

    /// Empty tables, and the job that fills them.
    fn trial(&self) -> Trial {
        let trial = Trial::of_speech();
        let (corpus, bundle) = (self.of.corpus(), self.of.folder().join("bundle"));
        trial.write_job(&format!(
            "[corpus]\nuri = \"{}\"\n[model]\nbundle = \"{}\"\n[tables]\nuri = \"lake\"\n\
             [captioning]\nmax-output-tokens = 20\n[run]\nshard-videos = 1\n",
            corpus.display(),
            bundle.display(),
        ));
        trial
    }
}

/// All that the tables say of videos and events, but for who worked when.
fn rows(trial: &Trial) -> String {
    let query = "SELECT video_id AS id, concat(status, ' ', event_count) AS line FROM videos UNION ALL \
        SELECT event_id, concat(video_id, ' ', start_ms, '-', end_ms, ' ', caption, ' ', score) FROM events \
        ORDER BY 1, 2";
    let rows = ask(trial, "lake", [], query);
    assert!(rows.len() as u64 > TALKS, "there are videos and events: {rows:?}");
    let lines = rows.iter().map(|row| format!("{} {}\n", row["id"], row["line"]));
    lines.collect::<Vec<_>>().concat()
}

/// The program about to index, which says what it does.
fn index(cluster: &Cluster, trial: &Trial) -> Program {
    cluster.index(trial).environment([LOGS])
}

/// What is to be seen of a night that something was killed in.
struct Cell {
    /// How the client ended, where it was not the one that was killed.
    client: Option<Finished>,
    /// What the executor said that was killed.
    killed: String,
}

/// Kills `victim`, and puts another in its place.
fn kill(victim: Process, cluster: &mut Cluster, client: Running) -> Cell {
    let mut killed = String::new();
    match victim {
        Process::Client => {
            // It may have come to its end meanwhile.
            client.kill().unwrap();
            return Cell { client: None, killed };
        }
        Process::Scheduler => {
            cluster.restart_scheduler();
        }
        Process::Executor => {
            let finished = cluster.executors.remove(0).kill().unwrap();
            assert!(finished.was_killed());
            killed = finished.stderr;
            cluster.add_executor();
        }
    }
    Cell { client: Some(client.wait(LIMIT).unwrap()), killed }
}

#[rstest]
#[case::client(Process::Client)]
#[case::scheduler(Process::Scheduler)]
#[case::executor(Process::Executor)]
fn whoever_is_killed_at_whatever_step(#[case] victim: Process) {
    let shared = Shared::new();
    let mut cluster = Cluster::with(2, vec![(LOGS.0, LOGS.1.to_owned())]);
    for (step, who, says) in STEPS {
        let begun = Instant::now();
        let trial = shared.trial();
        for executor in &cluster.executors {
            let _ = executor.take_said();
        }
        let client = index(&cluster, &trial).start().unwrap();
        let teller = if who == Process::Client { &client } else { &cluster.executors[0] };
        teller.await_line(says, LIMIT).unwrap();
        let cell = kill(victim, &mut cluster, client);
        if cell.client.as_ref().is_none_or(|client| !client.status.success()) {
            cluster.indexed(&trial);
        }
        assert_eq!(rows(&trial), shared.quiet, "{victim:?} killed at {step}");
        assert_conserved(&trial, "lake", []);
        let again = trial.planned();
        assert_eq!((&again["unchanged"], &again["videos"]), (&TALKS.into(), &0.into()), "{step}");
        let mut said: Vec<_> = cluster.executors.iter().map(Running::take_said).collect();
        said.push(cell.killed);
        let shards = usize::try_from(TALKS).unwrap();
        let done = times(&said, "shard begun");
        assert!((shards..=shards + IN_FLIGHT).contains(&done), "{step}: {done} of {shards} shards");
        println!("{victim:?} at {step}: {done} shards begun of {shards}, {:.1?}", begun.elapsed());
    }
}

/// Which of two has said something, and which has not.
fn busy_and_idle([one, other]: [Running; 2], says: &str) -> (Running, Running) {
    let started = Instant::now();
    let soon = Duration::from_millis(50);
    while started.elapsed() < LIMIT {
        if one.await_line(says, soon).is_ok() {
            return (one, other);
        }
        if other.await_line(says, soon).is_ok() {
            return (other, one);
        }
    }
    panic!("neither says `{says}`");
}

/// With the settings that it is delivered with, and an executor that has nothing else to do.
#[test]
fn recovery_from_an_executors_death_starts_within_half_a_minute() {
    let trial = Trial::with_job("[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 20\n");
    let talk = trial.add_narrated(1);
    for number in 0..19 {
        let copy = trial.corpus().join(format!("copy-{number}.mp4"));
        fs::copy(&talk.video, &copy).unwrap();
        fs::copy(&talk.side_car, copy.with_extension("vtt")).unwrap();
    }
    let start = |arguments: &[&str]| {
        let program = eventide().arguments(arguments).environment([("EVENTIDE_LOG", "info")]);
        program.start().unwrap()
    };
    let scheduler = start(&["scheduler", "--listen", "127.0.0.1:0"]);
    let line = scheduler.await_line("scheduler listens at ", LIMIT).unwrap();
    let url = line.rsplit(' ').next().unwrap();
    let executors = [(); 2].map(|()| {
        let executor = start(&["executor", url]);
        executor.await_line("Executor registration succeed", LIMIT).unwrap();
        executor
    });
    let client = trial.index().arguments(["--cluster", url]).start().unwrap();
    let (doomed, other) = busy_and_idle(executors, "shard begun");
    assert!(doomed.kill().unwrap().was_killed());
    let killed = Instant::now();
    other.await_line("shard begun", Duration::from_secs(30)).unwrap();
    println!("the shard of the dead executor was begun again after {:.1?}", killed.elapsed());
    client.wait(LIMIT).unwrap().assert_code(0);
    assert_conserved(&trial, "lake", []);
}

/// T7.
#[test]
fn a_night_whose_executors_are_all_dead_ends_in_time_and_the_next_goes_on() {
    let sections = "[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 1\n[cluster]\nexecutors-grace = \"3s\"\n";
    let trial = Trial::with_job(sections);
    for number in 1..=4 {
        trial.add_narrated(number);
    }
    let mut cluster = Cluster::of(2);
    let client = cluster.index(&trial).start().unwrap();
    cluster.executors[0].await_line("receipt written", LIMIT).unwrap();
    let killed = cluster.executors.drain(..).map(|doomed| doomed.kill().unwrap().stderr);
    let mut said: Vec<_> = killed.collect();
    let finished = client.wait(Duration::from_mins(1)).unwrap();
    if !finished.status.success() {
        finished.assert_code(1);
        assert!(finished.stderr.contains("no executor works for"), "{}", finished.stderr);
        cluster.add_executor();
        cluster.indexed(&trial);
    }
    assert_conserved(&trial, "lake", []);
    said.extend(cluster.executors.iter().map(Running::take_said));
    let done = times(&said, "shard begun");
    assert!((4..=4 + IN_FLIGHT).contains(&done), "{done} shards were begun of 4");
}
