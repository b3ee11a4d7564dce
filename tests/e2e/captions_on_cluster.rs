//! `caption(...)` in SQL with `--cluster`: the same rows, made by others.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use eventide_testkit::poison::{self, POISON};
use eventide_testkit::{Hostile, Program, S3Server, bundles, tools};
use futures::TryStreamExt as _;
use object_store::{ObjectStore as _, path::Path};
use serde_json::Value;

use crate::cluster::{Cluster, times};
use crate::object_store::upload;
use crate::trial::{LIMIT, Trial};

/// One video a shard, so that a query is many tasks.
const ONE_EACH: &str = "[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 1\n";

/// A published night of four talks and a broken file.
fn night() -> Trial {
    let trial = Trial::with_job(ONE_EACH);
    for number in 1..=4 {
        trial.add_narrated(number);
    }
    trial.add_hostile(Hostile::NotVideo);
    trial.indexed();
    trial
}

/// The program about to run statements, here or on a cluster, that may write to `out`.
fn sql(trial: &Trial, cluster: Option<&Cluster>, statements: &str) -> Program {
    let program = trial.program(["sql", "--tables", "lake", "--format", "json", "--write", "out"]);
    let cluster = cluster.map(|cluster| ["--cluster", &*cluster.url]);
    program.arguments(cluster.into_iter().flatten()).arguments([statements])
}

/// What statements print, sorted, so that rows may come in any order.
fn asked(trial: &Trial, cluster: Option<&Cluster>, statements: &str) -> Vec<String> {
    let finished = sql(trial, cluster, statements).run(LIMIT).unwrap();
    finished.assert_code(0);
    let lists = serde_json::Deserializer::from_str(&finished.stdout).into_iter::<Vec<Value>>();
    let mut rows: Vec<_> = lists.flat_map(Result::unwrap).map(|row| row.to_string()).collect();
    rows.sort();
    rows
}

#[test]
fn a_query_has_the_same_rows_on_a_cluster() {
    let trial = night();
    let cluster = Cluster::of(2);
    for (query, count) in [
        ("SELECT * FROM caption(job => 'night.toml')", 9),
        (
            "SELECT start_ms, caption FROM caption('corpus', source => 'speech') WHERE uri LIKE '%talk-2%'",
            2,
        ),
        ("SELECT caption FROM caption(job => 'night.toml') WHERE caption LIKE '%begins%'", 4),
        (
            "SELECT uri FROM caption(job => 'night.toml') WHERE timecode(start_ms) = '00:00:03.000'",
            4,
        ),
        ("SELECT count(*) FROM caption(job => 'night.toml') WHERE uri LIKE 'nowhere%'", 1),
        ("SELECT count(*), count(caption) FROM caption(job => 'night.toml')", 1),
        ("SELECT count(*) FROM caption(job => 'night.toml')", 1),
        (
            "WITH now AS (SELECT * FROM caption(job => 'night.toml')) \
             SELECT now.caption FROM events JOIN now USING (video_id, event_index) \
             WHERE events.caption = now.caption",
            8,
        ),
        (
            "CREATE VIEW now AS SELECT uri, caption FROM caption(job => 'night.toml') WHERE uri LIKE '%talk-3%'; \
             SELECT caption FROM now WHERE caption LIKE '%ends%'",
            1,
        ),
    ] {
        let (here, there) = (asked(&trial, None, query), asked(&trial, Some(&cluster), query));
        assert_eq!(here, there, "{query}");
        assert_eq!(here.len(), count, "{query}");
    }
    // Each of the talks is a shard; each shard is captioned once a query, and by one executor only.
    let said = cluster.said();
    assert_eq!(times(&said, "captioning"), 5 + 1 + 5 + 5 + 5 + 5 + 5 + 1);
    assert!(said[..2].iter().all(|said| said.contains("captioning")), "both executors have work");
}

#[test]
fn a_model_captions_alike_there() {
    let job = "[model]\nbundle = \"bundle\"\n[captioning]\nmax-output-tokens = 20\n[run]\nshard-videos = 1\n";
    let trial = Trial::with_job(job);
    bundles::golden(&trial.folder().join("bundle")).unwrap();
    for number in 1..=2 {
        trial.add_narrated(number);
    }
    trial.indexed();
    let cluster = Cluster::of(2);
    let query = "SELECT * FROM caption(job => 'night.toml')";
    let (here, there) = (asked(&trial, None, query), asked(&trial, Some(&cluster), query));
    assert_eq!(here, there);
    assert!(!here.is_empty());
    let said = cluster.said();
    assert_eq!(times(&said, "captioning"), 2);
    assert!(times(&said, "golden clip said as it should be") >= 1, "{said:?}");
}

#[test]
fn who_has_not_the_token_gets_no_captions() {
    let trial = night();
    let token = || ("EVENTIDE_CLUSTER_TOKEN", "correct horse battery staple".to_owned());
    let cluster = Cluster::with(2, vec![token()]);
    let query = "SELECT uri, caption FROM caption(job => 'night.toml') ORDER BY uri, caption";
    let refused = sql(&trial, Some(&cluster), query).run(LIMIT).unwrap();
    refused.assert_code(1);
    assert!(refused.stderr.contains("asks for the token"), "{}", refused.stderr);
    let there = sql(&trial, Some(&cluster), query).environment([token()]).run(LIMIT).unwrap();
    there.assert_code(0);
    assert_eq!(there.stdout, sql(&trial, None, query).run(LIMIT).unwrap().stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_of_a_query_travel_by_their_places_in_a_bucket() {
    let server = S3Server::start(&tools().unwrap()).unwrap();
    let store = server.store().unwrap();
    let trial = Trial::of_speech();
    for number in 1..=3 {
        trial.add_narrated(number);
    }
    upload(&store, &trial.corpus(), "videos").await;
    let (videos, lake) = (server.uri("videos"), server.uri("lake"));
    let job = format!("[corpus]\nuri = \"{videos}\"\n[tables]\nuri = \"{lake}\"\n{ONE_EACH}");
    trial.write_job(&job);
    trial.index().environment(server.environment()).run(LIMIT).unwrap().assert_code(0);
    let told = [("EVENTIDE_LOG", "debug".to_owned())];
    let cluster = Cluster::with(2, server.environment().into_iter().chain(told).collect());
    let query = "SELECT uri, caption FROM caption(job => 'night.toml') ORDER BY uri, caption";
    let asked = |cluster: &[&str]| {
        let program = trial.program(["sql", "--tables", &*lake, "--format", "json"]);
        let program = program.arguments(cluster).arguments([query]);
        let finished = program.environment(server.environment()).run(LIMIT).unwrap();
        finished.assert_code(0);
        finished.stdout
    };
    let here = asked(&[]);
    assert_eq!(here.matches("begins").count(), 3, "{here}");
    assert_eq!(asked(&["--cluster", &*cluster.url]), here);
    let said = cluster.said();
    assert_eq!((times(&said, "plan written"), times(&said, "captioning")), (1, 3));
    let plans = Path::from("lake/_eventide/plans");
    let left: Vec<_> = store.list(Some(&plans)).try_collect().await.unwrap();
    assert!(left.is_empty(), "who asked has removed the plan: {left:?}");
}

#[test]
fn what_is_asked_can_be_kept() {
    let trial = night();
    let cluster = Cluster::of(2);
    let keep = |name: &str| {
        format!(
            "COPY (SELECT uri, caption FROM caption(job => 'night.toml')) TO 'out/{name}.csv' STORED AS CSV; \
             CREATE EXTERNAL TABLE {name} (uri VARCHAR, caption VARCHAR) STORED AS PARQUET LOCATION 'out/{name}/'; \
             INSERT INTO {name} SELECT uri, caption FROM caption(job => 'night.toml'); \
             SELECT * FROM {name}"
        )
    };
    let here = asked(&trial, None, &keep("here"));
    let there = asked(&trial, Some(&cluster), &keep("there"));
    assert_eq!(here, there);
    assert_eq!(here.len(), 9 + 2, "the rows, and how many each statement wrote");
    let lines = |name: &str| {
        let text = fs::read_to_string(trial.folder().join(format!("out/{name}.csv"))).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines("here"), lines("there"));
    assert_eq!(lines("here").len(), 1 + 9);
}

#[test]
fn what_would_not_be_sound_is_refused() {
    let trial = night();
    for (statement, because) in [
        ("COPY (SELECT 1) TO 'lake/x.csv' STORED AS CSV", "writes only below"),
        ("INSERT OVERWRITE events SELECT * FROM events", "would lose rows"),
        ("CREATE VIEW events AS SELECT 1", "is a published table"),
    ] {
        let finished = sql(&trial, None, statement).run(LIMIT).unwrap();
        finished.assert_code(1);
        assert!(finished.stderr.contains(because), "{statement}: {}", finished.stderr);
    }
}

#[test]
fn a_query_that_is_stopped_stops_the_cluster() {
    let trial = Trial::of_speech();
    let talk = trial.add_narrated(1);
    for number in 0..60 {
        let copy = trial.corpus().join(format!("copy-{number}.mp4"));
        fs::copy(&talk.video, &copy).unwrap();
        fs::copy(&talk.side_car, copy.with_extension("vtt")).unwrap();
    }
    trial.program(["index", "night.toml", "--quiet"]).run(LIMIT).unwrap().assert_code(0);
    let cluster = Cluster::of(1);
    let query = "SELECT count(*) FROM caption(job => 'night.toml')";
    let client = sql(&trial, Some(&cluster), query).start().unwrap();
    cluster.executors[0].await_line("captioning", LIMIT).unwrap();
    client.interrupt().unwrap();
    client.wait(LIMIT).unwrap().assert_code(130);
    let busy = || {
        let status = ["status", "--cluster", &*cluster.url, "--format", "json"];
        let finished = trial.program(status).run(LIMIT).unwrap();
        finished.assert_code(0);
        let told: Value = serde_json::from_str(&finished.stdout).unwrap();
        !told["cluster"]["runs"].as_array().unwrap().is_empty()
    };
    let since = Instant::now();
    while busy() {
        assert!(since.elapsed() < Duration::from_secs(30), "the query goes on");
    }
    // The executor is free again, and had not done all of it.
    let one = "SELECT caption FROM caption(job => 'night.toml') WHERE uri LIKE '%talk-1%'";
    assert_eq!(asked(&trial, Some(&cluster), one).len(), 2);
}

#[test]
fn a_file_that_kills_executors_is_a_failure_of_the_query_and_not_its_end() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.indexed();
    fs::write(trial.corpus().join("poison.mp4"), format!("{POISON} you")).unwrap();
    let mut cluster = Cluster::of(0);
    cluster.environment.extend(poison::environment(trial.folder()).unwrap());
    cluster.add_executor();
    let keep = "COPY (SELECT regexp_replace(uri, '.*/', ''), status, reason_code FROM caption(job => 'night.toml') \
        ORDER BY uri, event_index) TO 'out/kept.csv' STORED AS CSV OPTIONS (format.has_header false)";
    let client = sql(&trial, Some(&cluster), keep).start().unwrap();
    let mut said = Vec::new();
    for death in 0..3 {
        let dead = cluster.executors.remove(0).wait(LIMIT).unwrap();
        assert_eq!(dead.status.code(), None, "death {death} is by a signal: {}", dead.stderr);
        said.push(dead.stderr);
        cluster.add_executor();
    }
    client.wait(LIMIT).unwrap().assert_code(0);
    let kept = fs::read_to_string(trial.folder().join("out/kept.csv")).unwrap();
    let expected =
        "poison.mp4,failed,kills_workers\ntalk-1.mp4,captioned,\ntalk-1.mp4,captioned,\n";
    assert_eq!(kept, expected);
    said.extend(cluster.said());
    assert_eq!(times(&said, "quarantined"), 1, "by the fourth");
    let within =
        |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path());
    let marks = within(trial.lake().join("_eventide/attempts")).flat_map(within).flat_map(within);
    let left: Vec<_> = marks.collect();
    assert!(left.is_empty(), "the marks went with the shard: {left:?}");
}

#[test]
fn a_query_outlives_an_executor() {
    let trial = night();
    let mut cluster = Cluster::of(2);
    let query = "SELECT uri, caption FROM caption(job => 'night.toml')";
    let client = sql(&trial, Some(&cluster), query).start().unwrap();
    let doomed = cluster.executors.remove(0);
    doomed.await_line("captioning", LIMIT).unwrap();
    assert!(doomed.kill().unwrap().was_killed());
    let finished = client.wait(LIMIT).unwrap();
    finished.assert_code(0);
    let rows: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap();
    let mut rows: Vec<_> = rows.iter().map(Value::to_string).collect();
    rows.sort();
    assert_eq!(rows, asked(&trial, None, query));
}
