//! Soak (T12): night after night over a corpus that changes, while processes are killed at random. After each night the
//! tables say exactly what lies in the corpus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use eventide_testkit::{Running, scrambled};

use crate::cluster::Cluster;
use crate::conservation::assert_conserved;
use crate::trial::{LIMIT, Trial};

/// How long it goes on, unless `EVENTIDE_SOAK_SECONDS` says otherwise, as `cargo xtask bench soak` does.
const SECONDS: u64 = 15;
/// From so many seconds on, each kind of process must have been killed.
const LONG_SECONDS: u64 = 300;
/// Nights in which nobody happens to be killed.
const QUIET_NIGHTS: u64 = 5;
/// Most videos of the corpus.
const VIDEOS: u64 = 12;
/// Most kills in a night.
const KILLS: u64 = 3;
/// The longest wait before a kill.
const WAIT_MS: u64 = 1500;

/// Numbers that are as good as random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 += 1;
        (scrambled(self.0) >> 32) % bound
    }
}

/// A corpus that changes, and what is in it: for each name the version.
struct Corpus {
    trial: Trial,
    videos: BTreeMap<String, u64>,
}

impl Corpus {
    fn new() -> Self {
        let trial = Trial::with_job(
            "[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 2\nallow-empty = true\n",
        );
        let talk = trial.add_narrated(1);
        fs::rename(talk.video, trial.folder().join("talk.mp4")).unwrap();
        fs::remove_file(talk.side_car).unwrap();
        Self { trial, videos: BTreeMap::new() }
    }

    /// Adds, replaces or removes a video.
    fn change(&mut self, dice: &mut Dice) {
        let name = format!("video-{}", dice.below(VIDEOS));
        let video = self.trial.corpus().join(&name).with_extension("mp4");
        let words = video.with_extension("vtt");
        if self.videos.contains_key(&name) && dice.below(3) == 0 {
            self.videos.remove(&name);
            fs::remove_file(words).unwrap();
            fs::remove_file(video).unwrap();
            return;
        }
        let version = self.videos.entry(name.clone()).or_default();
        *version += 1;
        // Each version has another length, lest two within a second look alike.
        let dots = ".".repeat(usize::try_from(*version).unwrap());
        let text = format!("WEBVTT\n\n00:00.000 --> 00:02.000\n{name} version {version}{dots}\n");
        fs::write(words, text).unwrap();
        if !video.exists() {
            fs::copy(self.trial.folder().join("talk.mp4"), video).unwrap();
        }
    }

    /// The rows of `events` that it should have, as [`Trial::events`] gives them.
    fn events(&self) -> String {
        self.videos.iter().fold(String::new(), |mut rows, (name, version)| {
            let dots = ".".repeat(usize::try_from(*version).unwrap());
            let _ = writeln!(rows, "{name}.mp4 0-2000 {name} version {version}{dots}");
            rows
        })
    }
}

/// What happened.
#[derive(Debug, Default)]
struct Toll {
    nights: u64,
    clients: u64,
    schedulers: u64,
    executors: u64,
    /// Runs that gave up, and were run again.
    ended: u64,
}

impl Toll {
    fn kills(&self) -> u64 {
        self.clients + self.schedulers + self.executors
    }
}

/// A night in which up to [`KILLS`] processes are killed.
fn night(cluster: &mut Cluster, trial: &Trial, dice: &mut Dice, toll: &mut Toll) {
    let mut client = cluster.index(trial).start().unwrap();
    for _ in 0..dice.below(KILLS + 1) {
        thread::sleep(Duration::from_millis(dice.below(WAIT_MS))); // the moment is what is random
        match dice.below(3) {
            0 => {
                // It may have come to its end meanwhile.
                toll.clients += u64::from(client.kill().unwrap().was_killed());
                client = cluster.index(trial).start().unwrap();
            }
            1 => {
                cluster.restart_scheduler();
                toll.schedulers += 1;
            }
            _ => {
                let victim = usize::try_from(dice.below(2)).unwrap();
                let killed = cluster.executors.remove(victim).kill().unwrap();
                toll.executors += u64::from(killed.was_killed());
                cluster.add_executor();
            }
        }
    }
    if !client.wait(LIMIT).unwrap().status.success() {
        toll.ended += 1;
        cluster.indexed(trial);
    }
    toll.nights += 1;
}

/// Resident memory in kilobytes.
fn resident(process: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.process())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Fails unless the tables, after all these nights, are those of one quiet night over the corpus as it is now.
fn assert_is_like_new(corpus: &Corpus) {
    let lake = corpus.trial.lake();
    let worn = (corpus.trial.events(), corpus.trial.videos());
    fs::rename(&lake, corpus.trial.folder().join("worn")).unwrap();
    corpus.trial.indexed();
    assert_eq!((corpus.trial.events(), corpus.trial.videos()), worn, "against one quiet night");
    assert_conserved(&corpus.trial, "lake", []);
}

#[test]
fn nights_of_a_corpus_that_changes_while_processes_are_killed() {
    let seconds = std::env::var("EVENTIDE_SOAK_SECONDS").map_or(SECONDS, |s| s.parse().unwrap());
    let (mut dice, mut corpus, mut toll) = (Dice(12), Corpus::new(), Toll::default());
    let mut cluster = Cluster::of(2);
    let started = Instant::now();
    while toll.kills() == 0 || started.elapsed() < Duration::from_secs(seconds) {
        assert!(toll.nights < QUIET_NIGHTS || toll.kills() > 0, "nobody was killed: {toll:?}");
        for _ in 0..6 {
            corpus.change(&mut dice);
        }
        night(&mut cluster, &corpus.trial, &mut dice, &mut toll);
        assert_eq!(corpus.trial.events(), corpus.events(), "{toll:?}");
        assert_conserved(&corpus.trial, "lake", []);
    }
    assert!(toll.kills() > 0, "nobody was killed: {toll:?}");
    if seconds >= LONG_SECONDS {
        let kinds = [toll.clients, toll.schedulers, toll.executors];
        assert!(kinds.iter().all(|kills| *kills > 0), "a kind of process lived on: {toll:?}");
    }
    assert_is_like_new(&corpus);
    let memory: Vec<_> =
        cluster.executors.iter().chain([&cluster.scheduler]).map(resident).collect();
    println!(
        "{} nights in {:.0?}; killed: {} clients, {} schedulers, {} executors; {} runs gave up and were run again; \
         tables like those of one quiet night; resident kB of executors and scheduler: {memory:?}",
        toll.nights,
        started.elapsed(),
        toll.clients,
        toll.schedulers,
        toll.executors,
        toll.ended,
    );
}
