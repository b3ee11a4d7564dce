//! Nights on a cluster whose store fails (T4): the tables are those of a quiet night, or say which video it was.

use eventide_testkit::{Fault, FaultProxy, Gate, Operation, Rule, S3Server, When, bundles, tools};
use object_store::{ObjectStoreExt, path::Path};
use serde_json::Value;
use std::fs;

use crate::cluster::Cluster;
use crate::conservation::{ask, assert_conserved};
use crate::object_store::upload;
use crate::trial::{LIMIT, Trial};

const TALKS: u32 = 5;

/// A corpus in a bucket, and a cluster of two executors that comes to it through a door that fails when told to.
struct Bucket {
    server: S3Server,
    proxy: FaultProxy,
    cluster: Cluster,
    trial: Trial,
}

impl Bucket {
    async fn of_talks() -> Self {
        let server = S3Server::start(&tools().unwrap()).unwrap();
        let proxy = FaultProxy::before(&server).unwrap();
        let cluster = Cluster::with(2, proxy.environment());
        let trial = Trial::of_speech();
        let store = server.store().unwrap();
        for number in 1..=TALKS {
            let talk = trial.add_narrated(number);
            for file in [talk.video, talk.side_car] {
                let name = file.file_name().unwrap().to_string_lossy().into_owned();
                let bytes = fs::read(&file).unwrap();
                store.put(&Path::from(format!("videos/{name}")), bytes.into()).await.unwrap();
            }
        }
        trial.indexed();
        Self { server, proxy, cluster, trial }
    }

    /// A night into tables of this name, and its row.
    fn night(&self, lake: &str) -> Value {
        let (videos, tables) = (self.server.uri("videos"), self.server.uri(lake));
        self.trial.write_job(&format!(
            "[corpus]\nuri = \"{videos}\"\n[tables]\nuri = \"{tables}\"\n\
             [captioning]\nsource = \"speech\"\n[run]\nshard-videos = 1\n"
        ));
        let finished = self.cluster.index(&self.trial).run(LIMIT).unwrap();
        finished.assert_code(0);
        assert_conserved(&self.trial, &tables, self.server.environment());
        serde_json::from_str(&finished.stdout).unwrap()
    }

    /// The rows of `events` and `videos`, as [`Trial::events`] and [`Trial::videos`] give them.
    fn rows(&self, lake: &str) -> (String, String) {
        let lines = |query: &str| {
            let rows = ask(&self.trial, &self.server.uri(lake), self.server.environment(), query);
            let lines = rows.iter().map(|row| row["line"].as_str().unwrap().to_owned() + "\n");
            lines.collect::<String>()
        };
        let name = "regexp_replace(uri, '.*/', '')";
        let events = format!(
            "SELECT concat({name}, ' ', start_ms, '-', end_ms, ' ', caption) AS line FROM events ORDER BY uri, start_ms"
        );
        let videos = format!(
            "SELECT concat({name}, ' ', status, ' ', coalesce(reason_code, '-')) AS line FROM videos ORDER BY uri"
        );
        (lines(&events), lines(&videos))
    }

    /// The rows of a quiet night in one process on local files.
    fn quiet(&self) -> (String, String) {
        (self.trial.events(), self.trial.videos())
    }
}

/// About so many of a thousand requests.
fn some(operation: Operation, path: &str, per_thousand: u64, fault: Fault) -> Rule {
    Rule { operation, path: path.to_owned(), when: When::Seeded { seed: 7, per_thousand }, fault }
}

fn first(operation: Operation, path: &str, count: u64, fault: Fault) -> Rule {
    Rule { operation, path: path.to_owned(), when: When::First(count), fault }
}

/// Each kind of fault by name, and the rules that make it.
fn faults() -> Vec<(&'static str, Vec<Rule>)> {
    use Operation::{Delete, Get, Head, List, Put};

    let refused = |status| Fault::Refused { status };
    let refusals = vec![
        some(Get, "", 120, refused(503)),
        some(Put, "", 120, refused(500)),
        some(List, "", 120, refused(500)),
        first(Head, "", 2, refused(503)),
        first(Delete, "", 2, refused(503)),
    ];
    let reset = Fault::Reset { after: 40 };
    let short = Fault::ShortRead { after: 30 };
    vec![
        ("refusals", refusals),
        (
            "resets",
            vec![
                first(Get, ".mp4", 2, reset.clone()),
                first(Get, "_eventide/", 2, reset.clone()),
                some(Get, "", 40, reset),
            ],
        ),
        ("short-reads", vec![first(Get, ".mp4", 3, short.clone())]),
        (
            "short-documents",
            vec![
                first(Get, "_eventide/plans", 1, short.clone()), // by the scheduler, as it plans
                first(Get, ".shards", 1, short.clone()),
                first(Get, "_eventide/receipts", 1, short),
            ],
        ),
        (
            "lost-answers",
            vec![
                some(Put, "", 150, Fault::LostAnswer),
                some(Put, "", 300, Fault::DoneAndRefused { status: 500 }),
            ],
        ),
        (
            "lost-commits",
            vec![
                first(Put, "_eventide/receipts", 2, Fault::LostAnswer),
                first(Put, "events/_delta_log", 1, Fault::LostAnswer),
                first(Put, "videos/_delta_log", 1, Fault::DoneAndRefused { status: 500 }),
                first(Put, "_eventide/turns", 1, Fault::LostAnswer),
                first(Put, "_eventide/runs", 1, Fault::DoneAndRefused { status: 503 }),
                first(Put, "_eventide/attempts", 1, Fault::LostAnswer),
            ],
        ),
        (
            "precondition",
            vec![
                first(Put, "_eventide/receipts", 2, refused(412)),
                first(Put, "_eventide/runs", 1, refused(412)),
                first(Put, "events/_delta_log/00000000000000000001", 1, refused(412)),
            ],
        ),
        (
            "credentials",
            vec![first(Get, ".mp4", 2, refused(401)), first(Put, "part-", 1, refused(400))],
        ),
        (
            "credentials-of-documents",
            vec![
                first(Put, "_eventide/plans", 1, refused(401)),
                first(Get, "_eventide/plans", 2, refused(401)), // by the scheduler and an executor
                first(Put, "_eventide/attempts", 1, refused(401)),
                first(Put, "_eventide/receipts", 2, refused(401)),
                first(Get, "_eventide/receipts", 1, refused(401)),
            ],
        ),
        (
            "credentials-of-tables",
            vec![
                first(List, "_delta_log", 1, refused(401)),
                first(Get, "_delta_log", 1, refused(401)),
                first(Put, "events/_delta_log", 1, refused(401)),
                first(Put, "videos/_delta_log/00000000000000000001", 1, refused(401)),
            ],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_those_of_a_quiet_night_whatever_the_store_does() {
    let bucket = Bucket::of_talks().await;
    for (name, rules) in faults() {
        let started = std::time::Instant::now();
        bucket.proxy.fail_by(rules);
        let run = bucket.night(name);
        let struck = bucket.proxy.struck();
        bucket.proxy.fail_by([]);
        assert!(struck.iter().all(|count| *count > 0), "{name}: {struck:?}");
        assert_eq!((&run["captioned"], &run["failed"]), (&TALKS.into(), &0.into()), "{name}");
        assert_eq!(bucket.rows(name), bucket.quiet(), "{name}");
        println!("{name}: {struck:?} struck, {:.1?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_ran_out_as_a_model_is_fetched_cost_a_moment() {
    let server = S3Server::start(&tools().unwrap()).unwrap();
    let proxy = FaultProxy::before(&server).unwrap();
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    bundles::golden(&trial.folder().join("bundle")).unwrap();
    upload(&server.store().unwrap(), &trial.folder().join("bundle"), "bundle").await;
    trial.write_job(&format!(
        "[corpus]\nuri = \"corpus\"\n[model]\nbundle = \"{}\"\n[tables]\nuri = \"lake\"\n\
         [captioning]\nmax-output-tokens = 20\n",
        server.uri("bundle"),
    ));
    let cache = ("XDG_CACHE_HOME", trial.folder().join("cache").display().to_string());
    let environment = proxy.environment().into_iter().chain([cache]).collect();
    let cluster = Cluster::with(1, environment);
    proxy.fail_by([
        first(Operation::Get, "bundle.json", 1, Fault::Refused { status: 401 }), // by the client
        first(Operation::Get, ".onnx", 4, Fault::Refused { status: 401 }),
    ]);
    let run = cluster.indexed(&trial);
    assert_eq!((&run["planned"], &run["failed"]), (&1.into(), &0.into()));
    assert_eq!(proxy.struck(), [1, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_says_of_one_video_is_the_row_of_that_video() {
    let bucket = Bucket::of_talks().await;
    let (listed, read) = (Gate::closed(), Gate::closed());
    let held = |gate: &Gate| Fault::Held(gate.clone());
    bucket.proxy.fail_by([
        first(Operation::Head, "talk-1.mp4", 1, held(&listed)),
        first(Operation::Get, "talk-2.mp4", 1, held(&read)),
        some(Operation::Head, "talk-3.mp4", 1000, Fault::Refused { status: 403 }),
        some(Operation::Get, "talk-4.mp4", 1000, Fault::ShortRead { after: 10 }),
    ]);
    let store = bucket.server.store().unwrap();
    let other = fs::read(bucket.trial.corpus().join("talk-5.mp4")).unwrap();
    let changed = [other, b"another version".to_vec()].concat();
    let change = tokio::spawn(async move {
        for (gate, talk) in [(listed, "talk-1"), (read, "talk-2")] {
            tokio::time::timeout(LIMIT, gate.arrivals(1)).await.unwrap();
            let path = Path::from(format!("videos/{talk}.mp4"));
            store.put(&path, changed.clone().into()).await.unwrap();
            gate.open();
        }
    });
    let run = bucket.night("rows");
    change.await.unwrap();
    assert_eq!((&run["captioned"], &run["failed"]), (&1.into(), &4.into()));
    let videos = "talk-1.mp4 failed changed\ntalk-2.mp4 failed changed\ntalk-3.mp4 failed forbidden\n\
                  talk-4.mp4 failed short_read\ntalk-5.mp4 captioned -\n";
    assert_eq!(bucket.rows("rows").1, videos);

    bucket.proxy.fail_by([]);
    let again = bucket.night("rows");
    let counts = ["captioned", "failed", "unchanged"].map(|column| again[column].as_u64());
    assert_eq!(counts, [Some(4), Some(0), Some(1)], "the next night takes what changed");
    assert_eq!(bucket.rows("rows").0.lines().count(), bucket.quiet().0.lines().count());
}
