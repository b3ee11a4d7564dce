//! The same night over many workers: a scheduler, executors and a client as processes, any of which may die.

use std::fs;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use eventide_testkit::{Finished, Hostile, Program, Running, S3Server, bundles, tools};
use futures::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use rstest::rstest;
use serde_json::Value;

use crate::conservation::ask;
use crate::heard;
use crate::operations::fetched;
use crate::trial::{LIMIT, Trial, eventide};

/// One video a shard, so that a run has many parts to lose.
const ONE_EACH: &str = "[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 1\n";

/// What the processes of a cluster log, unless a test wants it otherwise.
const TOLD: [(&str, &str); 1] = [("EVENTIDE_LOG", "info")];

/// A scheduler and executors that work for it, on ports that nobody had.
pub(crate) struct Cluster {
    pub(crate) url: String,
    pub(crate) scheduler: Running,
    pub(crate) executors: Vec<Running>,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// How long an executor that is told to stop may take.
    pub(crate) grace: &'static str,
    check_every: u32,
}

impl Cluster {
    /// A cluster of so many executors, all of them registered.
    pub(crate) fn of(executors: usize) -> Self {
        Self::with(executors, Vec::new())
    }

    pub(crate) fn with(executors: usize, environment: Vec<(&'static str, String)>) -> Self {
        let (scheduler, url) = scheduler("127.0.0.1:0", &environment);
        let grace = "3m"; // also on a machine that does much else
        let mut cluster =
            Self { url, scheduler, executors: Vec::new(), environment, grace, check_every: 64 };
        for _ in 0..executors {
            cluster.add_executor();
        }
        cluster
    }

    pub(crate) fn add_executor(&mut self) {
        self.add_executor_with(["--workers", "1"]);
    }

    pub(crate) fn add_executor_with<'a>(&mut self, arguments: impl IntoIterator<Item = &'a str>) {
        let executor = eventide()
            .arguments(["executor", &*self.url, "--heartbeat", "1s", "--grace", self.grace])
            .arguments(arguments)
            .arguments(["--check-every", &*self.check_every.to_string()])
            .environment(TOLD)
            .environment(self.environment.clone())
            .start()
            .unwrap();
        executor.await_line("Executor registration succeed", LIMIT).unwrap();
        self.executors.push(executor);
    }

    /// Kills the scheduler and starts another in its place.
    pub(crate) fn restart_scheduler(&mut self) {
        let address = self.url.trim_start_matches("http://");
        self.scheduler.crash().unwrap();
        (self.scheduler, _) = scheduler(address, &self.environment);
    }

    /// The program about to index the trial's corpus here.
    pub(crate) fn index(&self, trial: &Trial) -> Program {
        let program = trial.index().arguments(["--cluster", &*self.url]);
        program.environment(self.environment.clone())
    }

    /// Indexes the trial's corpus, which must succeed, and gives the row of the run.
    pub(crate) fn indexed(&self, trial: &Trial) -> Value {
        run_of(&self.index(trial).run(LIMIT).unwrap())
    }

    /// Ends the executors, then the scheduler, and gives what each said.
    pub(crate) fn said(self) -> Vec<String> {
        let end = |process: Running| {
            process.terminate().unwrap();
            let finished = process.wait(LIMIT).unwrap();
            finished.assert_code(0);
            finished.stdout + &finished.stderr
        };
        self.executors.into_iter().chain([self.scheduler]).map(end).collect()
    }
}

pub(crate) fn scheduler(listen: &str, environment: &[(&'static str, String)]) -> (Running, String) {
    scheduler_of(&eventide(), listen, environment)
}

/// A scheduler of some build of the program.
pub(crate) fn scheduler_of(
    program: &Program,
    listen: &str,
    environment: &[(&'static str, String)],
) -> (Running, String) {
    let running = program
        .clone()
        .arguments(["scheduler", "--listen", listen, "--executor-timeout", "4s"])
        .arguments(["--metrics", "0"])
        .environment(TOLD)
        .environment(environment.to_vec())
        .start()
        .unwrap();
    let line = running.await_line("scheduler listens at ", LIMIT).unwrap();
    let url = line.rsplit(' ').next().unwrap().to_owned();
    (running, url)
}

fn run_of(finished: &Finished) -> Value {
    finished.assert_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

/// A corpus of so many talks, one a shard.
fn talks(count: u32) -> Trial {
    let trial = Trial::with_job(ONE_EACH);
    for number in 1..=count {
        trial.add_narrated(number);
    }
    trial
}

#[test]
fn speech_is_heard_alike_on_a_cluster() {
    let (here, there) = (heard::trial(), heard::trial());
    let cluster = Cluster::of(1);
    here.indexed();
    cluster.indexed(&there);
    assert_eq!(rows(&here), rows(&there));
    let said = |trial: &Trial| {
        let mut said = trial.rows("transcripts", "sentence_index,start_ms,text");
        for row in &mut said {
            let row = row.as_object_mut().unwrap();
            row.retain(|name, _| !["video_id", "uri", "source_version"].contains(&name.as_str()));
            row.retain(|name, _| !["run_id", "indexed_at"].contains(&name.as_str()));
        }
        said
    };
    assert_eq!(said(&here), said(&there));
    assert!(said(&here).iter().any(|row| row["source"] == "asr"));
}

/// The rows of `events` and `videos`.
fn rows(trial: &Trial) -> (String, String) {
    (trial.events(), trial.videos())
}

/// The rows of an undisturbed night of six talks in one process.
fn undisturbed() -> &'static (String, String) {
    static ROWS: OnceLock<(String, String)> = OnceLock::new();
    ROWS.get_or_init(|| {
        let trial = talks(6);
        trial.indexed();
        rows(&trial)
    })
}

/// How often something was said.
pub(crate) fn times(said: &[String], what: &str) -> usize {
    said.iter().map(|text| text.matches(what).count()).sum()
}

/// Fails unless the tables hold six talks as one process would have left them, in one run.
fn assert_undisturbed(trial: &Trial) {
    assert_eq!(&rows(trial), undisturbed());
    let runs = trial.rows("runs", "run_id");
    let captioned: u64 = runs.iter().filter_map(|run| run["captioned"].as_u64()).sum();
    assert_eq!(captioned, 6, "{runs:#?}");
    // What a process was writing as it was killed has another ending.
    let note = |entry: &io::Result<fs::DirEntry>| {
        entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "json")
    };
    let kept = fs::read_dir(trial.lake().join("_eventide/submissions"));
    let left = kept.map_or(0, |entries| entries.filter(note).count());
    assert_eq!(left, 0, "nobody runs the job any more");
}

#[rstest]
#[case::one_executor(1)]
#[case::two_executors(2)]
#[case::four_executors(4)]
fn rows_are_those_of_one_process(#[case] executors: usize) {
    let here = talks(5);
    let there = talks(5);
    for trial in [&here, &there] {
        trial.add_hostile(Hostile::NotVideo);
    }
    let cluster = Cluster::of(executors);
    let (run, other) = (here.indexed(), cluster.indexed(&there));
    for column in ["listed", "captioned", "failed", "events", "video_ms", "params_digest"] {
        assert_eq!(run[column], other[column], "{column}");
    }
    assert_eq!(rows(&here), rows(&there));
    assert_eq!(there.distinct("videos", "worker"), executors);

    let again = cluster.indexed(&there);
    assert_eq!(
        (&again["unchanged"], &again["planned"]),
        (&5.into(), &1.into()),
        "the bad one is tried again"
    );
}

#[test]
fn a_model_is_loaded_once_and_says_the_same_there() {
    let job = "[model]\nbundle = \"bundle\"\n[captioning]\nmax-output-tokens = 20\n[run]\nshard-videos = 1\n";
    let trials = [(); 2].map(|()| Trial::with_job(job));
    for trial in &trials {
        bundles::golden(&trial.folder().join("bundle")).unwrap();
        for number in 1..=4 {
            trial.add_narrated(number);
        }
    }
    let cluster = Cluster::of(1);
    trials[0].indexed();
    let run = cluster.indexed(&trials[1]);
    assert_eq!((&run["planned"], &run["failed"]), (&4.into(), &0.into()));
    assert_eq!(rows(&trials[0]), rows(&trials[1]));
    let said = cluster.said();
    assert_eq!((times(&said, "model loaded"), times(&said, "shard begun")), (1, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_in_a_bucket_and_no_secret_in_any_log() {
    let server = S3Server::start(&tools().unwrap()).unwrap();
    let store = server.store().unwrap();
    let trial = Trial::of_speech();
    for number in 1..=3 {
        let talk = trial.add_narrated(number);
        for file in [talk.video, talk.side_car] {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let bytes = fs::read(&file).unwrap();
            store.put(&Path::from(format!("videos/{name}")), bytes.into()).await.unwrap();
        }
    }
    let (videos, lake) = (server.uri("videos"), server.uri("lake"));
    let job = format!("[corpus]\nuri = \"{videos}\"\n[tables]\nuri = \"{lake}\"\n{ONE_EACH}");
    trial.write_job(&job);
    let environment = server.environment();
    let secret = environment.iter().find(|(name, _)| *name == "AWS_SECRET_ACCESS_KEY");
    let secret = secret.unwrap().1.clone();
    let traced = [("EVENTIDE_LOG", "trace".to_owned())];
    let cluster = Cluster::with(2, environment.iter().cloned().chain(traced).collect());
    let client = cluster.index(&trial).start().unwrap();
    client.await_line("handed to the cluster", LIMIT).unwrap();
    client.suspend().unwrap(); // it publishes, and documents of the run go then
    cluster.executors[0].await_line("receipt written", LIMIT).unwrap();
    let mut objects = read_all(&store, "lake").await;
    client.resume().unwrap();
    let client = client.wait(LIMIT).unwrap();
    let run = run_of(&client);
    assert_eq!((&run["captioned"], &run["events"]), (&3.into(), &6.into()));
    objects.extend(read_all(&store, "lake").await);
    let mut written = vec![client.stdout, client.stderr];
    written.extend(cluster.said());
    for table in ["events", "videos", "runs"] {
        let rows = ask(&trial, &lake, environment.clone(), &format!("SELECT * FROM {table}"));
        assert!(!rows.is_empty());
        written.push(format!("{rows:?}"));
    }
    for kind in ["plans/", "submissions/", "receipts/", "_delta_log/", "part-"] {
        assert!(objects.iter().any(|(path, _)| path.contains(kind)), "{kind}");
    }
    written.extend(objects.into_iter().map(|(_, text)| text));
    assert_eq!(times(&written, &secret), 0, "the key of the store was written down");
}

/// The objects below a prefix with what is in them, but for those that go meanwhile.
async fn read_all(store: &impl ObjectStore, prefix: &str) -> Vec<(String, String)> {
    let listed: Vec<_> = store.list(Some(&Path::from(prefix))).try_collect().await.unwrap();
    let mut objects = Vec::new();
    for object in listed {
        if let Ok(found) = store.get(&object.location).await {
            let bytes = found.bytes().await.unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            objects.push((object.location.to_string(), text));
        }
    }
    objects
}

#[test]
fn a_killed_executor_costs_at_most_its_shard() {
    let trial = talks(6);
    let mut cluster = Cluster::of(2);
    let client = cluster.index(&trial).start().unwrap();
    let doomed = cluster.executors.remove(0);
    doomed.await_line("receipt written", LIMIT).unwrap();
    let killed = doomed.kill().unwrap();
    assert!(killed.was_killed());
    run_of(&client.wait(LIMIT).unwrap());
    assert_undisturbed(&trial);
    let mut said = cluster.said();
    said.push(killed.stderr);
    let begun = times(&said, "shard begun");
    assert!((6..=7).contains(&begun), "{begun} shards were begun of six");
}

#[test]
fn all_executors_killed_at_once_new_ones_go_on() {
    let trial = talks(6);
    let mut cluster = Cluster::of(2);
    let client = cluster.index(&trial).start().unwrap();
    cluster.executors[0].await_line("receipt written", LIMIT).unwrap();
    let killed: Vec<_> = cluster.executors.drain(..).map(|doomed| doomed.kill().unwrap()).collect();
    cluster.add_executor();
    run_of(&client.wait(LIMIT).unwrap());
    assert_undisturbed(&trial);
    let mut said = cluster.said();
    said.extend(killed.into_iter().map(|killed| killed.stderr));
    let begun = times(&said, "shard begun");
    assert!((6..=8).contains(&begun), "{begun} shards were begun of six");
}

#[test]
fn a_killed_scheduler_is_given_the_run_again() {
    let trial = talks(6);
    let mut cluster = Cluster::of(1);
    let client = cluster.index(&trial).start().unwrap();
    cluster.executors[0].await_line("receipt written", LIMIT).unwrap();
    cluster.restart_scheduler();
    let finished = client.wait(LIMIT).unwrap();
    assert!(finished.stderr.contains("handing it in again"), "{}", finished.stderr);
    run_of(&finished);
    assert_undisturbed(&trial);
}

#[test]
fn a_scheduler_that_is_away_for_a_moment_is_handed_the_run_all_the_same() {
    let trial = talks(2);
    let mut cluster = Cluster::of(1);
    let address = cluster.url.trim_start_matches("http://").to_owned();
    cluster.scheduler.crash().unwrap();
    let client = cluster.index(&trial).environment(TOLD).start().unwrap();
    client.await_line("cannot hand the work in now", LIMIT).unwrap();
    (cluster.scheduler, _) = scheduler(&address, &cluster.environment);
    run_of(&client.wait(LIMIT).unwrap());
    let begun = times(&cluster.said(), "shard begun");
    assert_eq!(begun, 2, "it was handed in once");
}

#[test]
fn a_killed_client_is_followed_by_the_next() {
    let trial = talks(6);
    let cluster = Cluster::of(1);
    let client = cluster.index(&trial).start().unwrap();
    cluster.executors[0].await_line("receipt written", LIMIT).unwrap();
    assert!(client.kill().unwrap().was_killed());
    assert_gone_on_with(&trial, cluster);
}

/// Fails unless nothing of a run of six talks is published, and the next client ends it with what was done of it.
fn assert_gone_on_with(trial: &Trial, cluster: Cluster) {
    assert!(!trial.table("runs").join("_delta_log").exists(), "nothing is published yet");
    let run = cluster.indexed(trial);
    assert_eq!((&run["listed"], &run["captioned"]), (&6.into(), &6.into()));
    assert_undisturbed(trial);
    let begun = times(&cluster.said(), "shard begun");
    assert!((6..=7).contains(&begun), "{begun} shards were begun of six");
}

/// One shard of many videos, which takes a worker a while.
fn a_long_shard() -> Trial {
    let trial = Trial::of_speech();
    add_copies(&trial, 60);
    trial
}

/// A talk and so many copies of it.
fn add_copies(trial: &Trial, count: u32) {
    let talk = trial.add_narrated(1);
    for number in 0..count {
        let copy = trial.corpus().join(format!("copy-{number}.mp4"));
        fs::copy(&talk.video, &copy).unwrap();
        fs::copy(&talk.side_car, copy.with_extension("vtt")).unwrap();
    }
}

#[test]
fn a_stopped_client_stops_the_work() {
    let trial = a_long_shard();
    let cluster = Cluster::of(1);
    let client = cluster.index(&trial).start().unwrap();
    cluster.executors[0].await_line("shard begun", LIMIT).unwrap();
    client.interrupt().unwrap();
    let finished = client.wait(Duration::from_secs(30)).unwrap();
    finished.assert_code(130);
    assert!(finished.stderr.contains("run the same command again"), "{}", finished.stderr);
    cluster.executors[0].await_line("shard stopped", Duration::from_secs(10)).unwrap();
    let run = cluster.indexed(&trial);
    assert_eq!((&run["captioned"], &run["failed"]), (&61.into(), &0.into()));
}

#[test]
fn a_job_is_cancelled_by_its_name() {
    let trial = a_long_shard();
    let cluster = Cluster::of(1);
    let client = cluster.index(&trial).start().unwrap();
    cluster.executors[0].await_line("shard begun", LIMIT).unwrap();
    let cancel = || trial.program(["cancel", "night.toml", "--cluster", &*cluster.url]).run(LIMIT);
    let finished = cancel().unwrap();
    finished.assert_code(0);
    assert!(finished.stdout.contains("stopped `night`"), "{}", finished.stdout);
    cluster.executors[0].await_line("shard stopped", Duration::from_secs(10)).unwrap();
    let client = client.wait(LIMIT).unwrap();
    client.assert_code(1);
    assert!(client.stderr.contains("cancelled"), "{}", client.stderr);
    let again = cancel().unwrap();
    assert!(again.stdout.contains("is not running"), "{}", again.stdout);
}

#[test]
fn a_cancelled_job_stops_on_every_executor() {
    let trial = Trial::with_job("[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 60\n");
    add_copies(&trial, 119);
    let cluster = Cluster::of(2);
    let client = cluster.index(&trial).start().unwrap();
    for executor in &cluster.executors {
        executor.await_line("shard begun", LIMIT).unwrap();
    }
    let cancel = trial.program(["cancel", "night.toml", "--cluster", &*cluster.url]);
    cancel.run(LIMIT).unwrap().assert_code(0);
    for executor in &cluster.executors {
        executor.await_line("shard stopped", Duration::from_secs(10)).unwrap();
    }
    client.wait(LIMIT).unwrap().assert_code(1);
    let said = cluster.said();
    assert_eq!((times(&said, "shard begun"), times(&said, "receipt written")), (2, 0));
}

#[test]
fn a_client_that_is_told_twice_to_stop_leaves_the_job_running_for_the_next() {
    let trial = talks(6);
    let cluster = Cluster::of(1);
    let client = cluster.index(&trial).start().unwrap();
    cluster.executors[0].await_line("receipt written", LIMIT).unwrap();
    cluster.scheduler.suspend().unwrap(); // so that it cannot be stopped meanwhile
    client.interrupt().unwrap();
    client.await_line("stopping `night` on its cluster", LIMIT).unwrap();
    client.interrupt().unwrap();
    let finished = client.wait(Duration::from_secs(10)).unwrap();
    cluster.scheduler.resume().unwrap();
    finished.assert_code(130);
    for said in ["the cluster may still be at work", "take it over", "eventide cancel"] {
        assert!(finished.stderr.contains(said), "{said}: {}", finished.stderr);
    }
    assert_gone_on_with(&trial, cluster);
}

#[test]
fn an_executor_that_is_told_to_stop_finishes_its_shard() {
    let trial = a_long_shard();
    let mut cluster = Cluster::of(1);
    let client = cluster.index(&trial).start().unwrap();
    let leaving = cluster.executors.remove(0);
    leaving.await_line("shard begun", LIMIT).unwrap();
    leaving.terminate().unwrap();
    let finished = leaving.wait(LIMIT).unwrap();
    finished.assert_code(0);
    assert!(finished.stderr.contains("receipt written"), "{}", finished.stderr);
    cluster.add_executor();
    let run = run_of(&client.wait(LIMIT).unwrap());
    assert_eq!((&run["captioned"], &run["failed"]), (&61.into(), &0.into()));
    assert_eq!(times(&cluster.said(), "shard begun"), 0, "the receipt was taken over");
}

#[test]
fn without_a_scheduler_it_says_where_it_looked() {
    let trial = talks(1);
    let finished = trial.index().arguments(["--cluster", "http://127.0.0.1:1"]).run(LIMIT).unwrap();
    finished.assert_code(1);
    assert!(finished.stderr.contains("http://127.0.0.1:1"), "{}", finished.stderr);
    let finished = trial.index().arguments(["--cluster", "127.0.0.1"]).run(LIMIT).unwrap();
    finished.assert_code(2);
    assert!(finished.stderr.contains("http://host:port"), "{}", finished.stderr);
}

#[test]
fn a_scheduler_that_never_gets_an_executor_is_given_up() {
    let trial = Trial::with_job(&format!("{ONE_EACH}[cluster]\nexecutors-grace = \"3s\"\n"));
    trial.add_narrated(1);
    let cluster = Cluster::of(0);
    let finished = cluster.index(&trial).run(LIMIT).unwrap();
    finished.assert_code(1);
    for said in ["no executor works for the scheduler", "for 4s", "`cluster.executors-grace`"] {
        assert!(finished.stderr.contains(said), "{said}: {}", finished.stderr);
    }
    assert!(!trial.table("runs").join("_delta_log").exists(), "nothing was published");
    let left = fs::read_dir(trial.lake().join("_eventide/submissions")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "it is not left running");
}

#[test]
fn an_executor_that_comes_in_time_is_enough() {
    let trial = talks(1);
    let mut cluster = Cluster::of(0);
    let client = cluster.index(&trial).start().unwrap();
    client.await_line("no executor works for the scheduler", LIMIT).unwrap();
    cluster.add_executor();
    let run = run_of(&client.wait(LIMIT).unwrap());
    assert_eq!(run["captioned"], 1);
}

#[test]
fn a_shard_beyond_its_deadline_is_tried_by_others_and_then_ends_the_run() {
    let trial =
        Trial::with_job("[captioning]\nsource = \"speech\"\n[cluster]\nshard-deadline = \"1s\"\n");
    add_copies(&trial, 120);
    let cluster = Cluster::of(2);
    let finished = cluster.index(&trial).run(LIMIT).unwrap();
    finished.assert_code(1);
    assert!(finished.stderr.contains("longer than its deadline of 1s on"), "{}", finished.stderr);
    let said = cluster.said();
    let by_each = [0, 1].map(|executor| said[executor].matches("shard given up").count());
    assert_eq!(by_each, [2, 2], "four attempts in all, in turns");
}

#[test]
fn an_executor_that_hangs_is_taken_over_and_changes_nothing_when_it_wakes() {
    let job = "[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 10\n";
    let trials = [(); 2].map(|()| Trial::with_job(job));
    for trial in &trials {
        add_copies(trial, 29);
    }
    let [here, there] = trials;
    here.indexed();
    let mut cluster = Cluster::of(2);
    let client = cluster.index(&there).start().unwrap();
    let zombie = cluster.executors.remove(0);
    zombie.await_line("shard begun", LIMIT).unwrap();
    zombie.suspend().unwrap();
    let run = run_of(&client.wait(LIMIT).unwrap());
    assert_eq!((&run["captioned"], &run["failed"]), (&30.into(), &0.into()));
    zombie.resume().unwrap();
    // It may have been told to stop while it could not hear. If not, it finishes its shard, too late, and stops now.
    zombie.terminate().unwrap();
    zombie.wait(LIMIT).unwrap().assert_code(0);
    assert_eq!(rows(&here), rows(&there));
    let again = cluster.indexed(&there);
    assert_eq!((&again["unchanged"], &again["planned"]), (&30.into(), &0.into()));
    assert_eq!(rows(&here), rows(&there));
}

#[test]
fn what_a_killed_executor_left_on_disk_goes_with_the_next() {
    let mut cluster = Cluster::of(0);
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().to_str().unwrap().to_owned();
    cluster.environment.push(("TMPDIR", folder));
    let folders = || {
        let entries = fs::read_dir(temporary.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.starts_with("eventide-"))
            .collect::<std::collections::BTreeSet<_>>()
    };
    cluster.add_executor();
    let first = folders();
    assert_eq!(first.len(), 2, "for copies of videos, and between stages: {first:?}");
    assert!(cluster.executors.remove(0).kill().unwrap().was_killed());
    assert_eq!(folders(), first);
    cluster.add_executor();
    let second = folders();
    assert!(second.len() == 2 && second.is_disjoint(&first), "{first:?} {second:?}");
    cluster.said();
    assert!(folders().is_empty(), "{:?}", folders());
}

const TOKEN: &str = "zebra-quartz-0123456789";

#[test]
fn who_has_not_the_token_is_refused() {
    let trial = talks(1);
    let with = |token: &str| vec![("EVENTIDE_CLUSTER_TOKEN", token.to_owned())];
    let cluster = Cluster::with(1, with(TOKEN));
    let executor = || eventide().arguments(["executor", &*cluster.url]);
    let stranger = trial.index().arguments(["--cluster", &*cluster.url]);
    for stranger in [executor(), stranger] {
        for environment in [Vec::new(), with("another token, as long")] {
            let finished = stranger.clone().environment(environment).run(LIMIT).unwrap();
            finished.assert_code(2);
            let said = finished.stderr;
            assert!(said.contains("asks for the token"), "{said}");
            assert!(said.contains("EVENTIDE_CLUSTER_TOKEN"), "{said}");
        }
    }
    assert_eq!(cluster.indexed(&trial)["captioned"], 1, "the others are not disturbed");
    let said = cluster.said();
    assert_eq!(times(&said, "turned away a caller"), 4, "only strangers");
}

#[test]
fn an_executor_with_a_token_works_for_nobody_without() {
    let trial = talks(1);
    let cluster = Cluster::of(0);
    let file = trial.folder().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let token = [("EVENTIDE_CLUSTER_TOKEN_FILE", file)];
    let executor = eventide().arguments(["executor", &*cluster.url]).environment(token);
    let finished = executor.run(LIMIT).unwrap();
    finished.assert_code(2);
    assert!(finished.stderr.contains("asks for none"), "{}", finished.stderr);
}

#[test]
fn the_token_is_nowhere_to_be_read() {
    let trial = talks(2);
    let token = ("EVENTIDE_CLUSTER_TOKEN", TOKEN.to_owned());
    let cluster = Cluster::with(1, vec![token, ("EVENTIDE_LOG", "trace".to_owned())]);
    let client = cluster.index(&trial).run(LIMIT).unwrap();
    run_of(&client);
    let mut written = vec![client.stdout, client.stderr];
    written.extend(cluster.said());
    let mut files = 0;
    let mut folders = vec![trial.lake()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files += 1;
                written.push(String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
            }
        }
    }
    assert!(files > 10, "plans, receipts, rows and logs: {files}");
    assert!(times(&written, "zebra-quartz") == 0, "the token was written down");
}

const WITH_MODEL: &str = "[model]\nbundle = \"bundle\"\n[captioning]\nmax-output-tokens = 20\n[run]\nshard-videos = 1\n\
    [cluster]\nexecutors-grace = \"3s\"\n";

#[test]
fn a_device_that_says_something_else_leaves_the_cluster() {
    let trial = Trial::with_job(WITH_MODEL);
    bundles::unfaithful(&trial.folder().join("bundle")).unwrap();
    trial.add_narrated(1);
    let mut cluster = Cluster::of(1);
    let client = cluster.index(&trial).start().unwrap();
    let finished = cluster.executors.remove(0).wait(LIMIT).unwrap();
    finished.assert_code(1);
    for said in ["device `cpu` of", "token 0 of the greedy sequence", "eventide model verify"] {
        assert!(finished.stderr.contains(said), "{said}: {}", finished.stderr);
    }
    assert_eq!(finished.stderr.matches("shard begun").count(), 0, "{}", finished.stderr);
    let client = client.wait(LIMIT).unwrap();
    client.assert_code(1);
    assert!(client.stderr.contains("no executor works for"), "{}", client.stderr);
    // Its own counters ended with it.
    let metrics = cluster.scheduler.await_line("metrics at ", LIMIT).unwrap();
    let told = fetched(metrics.rsplit(' ').next().unwrap());
    assert!(told.contains("eventide_executors_left_total{reason=\"device_unfit\"} 1"), "{told}");
    assert!(!trial.table("runs").join("_delta_log").exists(), "nothing was published");
}

#[test]
fn a_device_is_asked_again_after_so_many_shards() {
    let trial = Trial::with_job(WITH_MODEL);
    bundles::golden(&trial.folder().join("bundle")).unwrap();
    for number in 1..=5 {
        trial.add_narrated(number);
    }
    let mut cluster = Cluster::of(0);
    cluster.check_every = 2;
    cluster.add_executor();
    cluster.indexed(&trial);
    assert_eq!(times(&cluster.said(), "golden clip said as it should be"), 3, "before 1, 3, 5");
}

/// A talk a shard, captioned by a model or by what is said.
fn four_talks(with_model: bool) -> Trial {
    let trial = Trial::with_job(if with_model { WITH_MODEL } else { ONE_EACH });
    if with_model {
        bundles::golden(&trial.folder().join("bundle")).unwrap();
    }
    for number in 1..=4 {
        trial.add_narrated(number);
    }
    trial
}

#[rstest]
#[case::fetch_and_decode(false, "shard begun")]
#[case::encode_and_generate(true, "sampled")]
#[case::part_upload(false, "writing parts")]
#[case::receipt(false, "parts written")]
fn an_executor_killed_at_any_step_costs_at_most_its_shard(
    #[case] with_model: bool,
    #[case] step: &str,
) {
    let (here, there) = (four_talks(with_model), four_talks(with_model));
    here.indexed();
    let mut cluster = Cluster::with(2, vec![("EVENTIDE_LOG", "info,eventide=debug".to_owned())]);
    let client = cluster.index(&there).start().unwrap();
    let doomed = cluster.executors.remove(0);
    doomed.await_line(step, LIMIT).unwrap();
    let killed = doomed.kill().unwrap();
    assert!(killed.was_killed());
    let run = run_of(&client.wait(LIMIT).unwrap());
    assert_eq!((&run["listed"], &run["failed"]), (&4.into(), &0.into()));
    assert_eq!(rows(&here), rows(&there));
    let mut said = cluster.said();
    said.push(killed.stderr);
    let begun = times(&said, "shard begun");
    assert!((4..=5).contains(&begun), "{begun} shards were begun of four");
}

#[test]
fn an_executor_that_is_told_to_stop_as_it_starts_stops() {
    let cluster = Cluster::of(0);
    let executor = eventide()
        .arguments(["executor", &*cluster.url, "--grace", "1h"])
        .environment(TOLD)
        .start()
        .unwrap();
    executor.await_line("executor listens at ", LIMIT).unwrap();
    executor.terminate().unwrap();
    executor.wait(LIMIT).unwrap().assert_code(0);
}

#[rstest]
#[case::handed_in("handed to the cluster")]
#[case::before_the_tables("publishing")]
#[case::between_the_tables("events published")]
#[case::after_all("run published")]
fn a_client_killed_at_any_step_is_followed_by_the_next(#[case] step: &str) {
    let trial = talks(6);
    let cluster = Cluster::of(1);
    let client = cluster.index(&trial).environment(TOLD).start().unwrap();
    client.await_line(step, LIMIT).unwrap();
    client.kill().unwrap();
    cluster.indexed(&trial);
    assert_undisturbed(&trial);
    let begun = times(&cluster.said(), "shard begun");
    assert!((6..=7).contains(&begun), "{begun} shards were begun of six");
}

#[test]
fn a_video_that_kills_workers_is_quarantined_and_the_night_is_green() {
    let trial = Trial::of_speech();
    for number in 1..=3 {
        trial.add_narrated(number);
    }
    let mut cluster = Cluster::of(0);
    let client = cluster.index(&trial).start().unwrap();
    client.await_line("no executor works for the scheduler", LIMIT).unwrap();
    let own = trial.lake().join("_eventide");
    let run = fs::read_dir(own.join("plans")).unwrap().next().unwrap().unwrap();
    let plans = fs::read_dir(run.path()).unwrap().map(|entry| entry.unwrap().path());
    let shards = plans.into_iter().find(|path| path.extension().unwrap() == "shards").unwrap();
    let shard: Value = serde_json::from_slice(&fs::read(shards).unwrap()).unwrap();
    let poison = shard["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["video"]["uri"].as_str().unwrap().ends_with("talk-2.mp4"));
    let poison = poison.unwrap()["video"]["video_id"].as_str().unwrap();
    // What three workers leave that died at it, the first one with other videos in hand.
    let marks =
        own.join("attempts").join(run.file_name()).join(shard["shard_id"].as_str().unwrap());
    fs::create_dir_all(&marks).unwrap();
    for mark in ["0001", "0002", "0003", &format!("0002-{poison}"), &format!("0003-{poison}")] {
        let text = "{\"format_version\": 1, \"worker\": \"dead\"}";
        fs::write(marks.join(format!("{mark}.json")), text).unwrap();
    }
    cluster.add_executor();
    let run = run_of(&client.wait(LIMIT).unwrap());
    assert_eq!((&run["captioned"], &run["failed"]), (&2.into(), &1.into()));
    let videos =
        "talk-1.mp4 captioned -\ntalk-2.mp4 failed kills_workers\ntalk-3.mp4 captioned -\n";
    assert_eq!(trial.videos(), videos);
    let left = fs::read_dir(&marks).map_or(0, Iterator::count);
    assert_eq!(left, 0, "the marks went with the shard");
    let said = cluster.said();
    assert_eq!((times(&said, "going on video by video"), times(&said, "quarantined")), (1, 1));
}

#[test]
fn a_run_beyond_its_deadline_is_stopped_and_gone_on_with() {
    let trial = talks(1);
    let job = fs::read_to_string(trial.folder().join("night.toml")).unwrap();
    trial.write_job(&format!("{job}deadline = \"2s\"\n"));
    let mut cluster = Cluster::of(0); // which never gets anything done
    let finished = cluster.index(&trial).run(LIMIT).unwrap();
    finished.assert_code(1);
    assert!(finished.stderr.contains("`night` is not done within 2s"), "{}", finished.stderr);
    trial.write_job(&job);
    cluster.add_executor();
    assert_eq!(cluster.indexed(&trial)["captioned"], 1);
    let said = cluster.said();
    assert_eq!((times(&said, "shard begun"), times(&said, "going on video by video")), (1, 0));
}
