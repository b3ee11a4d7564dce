//! What an operator asks: metrics, the state of a cluster, the runs, and what may be removed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use eventide_testkit::{Hostile, Program, Running, bundles};
use serde_json::Value;

use crate::trial::{LIMIT, Trial, eventide};

/// A process of a cluster with metrics, its own address, and that of its metrics.
pub(crate) fn started(program: &Program, line: &str) -> (Running, String, String) {
    let running = program.clone().arguments(["--metrics", "0"]).start().unwrap();
    let word = |line: String, at: usize| line.split(' ').nth(at).unwrap().to_owned();
    let metrics = word(running.await_line("metrics at ", LIMIT).unwrap(), 2);
    let address = word(running.await_line(line, LIMIT).unwrap(), 3);
    (running, address, metrics)
}

/// What Prometheus would get from `http://host:port/path`.
pub(crate) fn fetched(url: &str) -> String {
    let (address, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("openmetrics-text"), "{head}");
    body.to_owned()
}

/// Ends an executor, and gives the lines of its log.
fn executor_log(executor: Running) -> Vec<Value> {
    executor.terminate().unwrap();
    let finished = executor.wait(LIMIT).unwrap();
    finished.assert_code(0);
    let entries = finished.stderr.lines().filter_map(|line| serde_json::from_str(line).ok());
    entries.collect()
}

fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "no `{line}` in\n{text}");
    }
}

fn json(program: &Program) -> Value {
    let finished = program.run(LIMIT).unwrap();
    finished.assert_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

#[test]
fn a_cluster_tells_what_it_does() {
    let trial = Trial::with_job("[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 1\n");
    for number in 1..=3 {
        trial.add_narrated(number);
    }
    trial.add_hostile(Hostile::NotVideo);
    let scheduler = eventide().arguments(["scheduler", "--listen", "127.0.0.1:0"]);
    let (_scheduler, url, cluster) = started(&scheduler, "scheduler listens at ");
    assert_lines(&fetched(&cluster), &["eventide_executors 0", "eventide_runs_in_progress 0"]);
    let executor = eventide()
        .arguments(["executor", &*url, "--heartbeat", "1s", "--log", "info"])
        .arguments(["--log-format", "json"]);
    let (executor, _, work) = started(&executor, "executor listens at ");
    executor.await_line("Executor registration succeed", LIMIT).unwrap();
    let state = json(&eventide().arguments(["status", "--cluster", &*url, "--format", "json"]));
    assert_eq!(state["cluster"]["executors"][0]["slots"], 1, "{state}");
    trial.index().arguments(["--cluster", &*url]).run(LIMIT).unwrap().assert_code(0);
    let lines = [
        "eventide_videos_total{status=\"captioned\",reason=\"\"} 3",
        "eventide_videos_total{status=\"failed\",reason=\"damaged\"} 1",
        "eventide_events_total 6",
        "eventide_shards_total{ended=\"finished\"} 4",
        "eventide_shards_in_progress 0",
        "eventide_videos_waiting 0",
        "eventide_stage_seconds_count{stage=\"probe\"} 4",
    ];
    assert_lines(&fetched(&work), &lines);
    assert_lines(&fetched(&cluster), &["eventide_executors 1", "eventide_executor_slots 1"]);

    let said = executor_log(executor);
    let captioned = said.iter().find(|entry| entry["message"] == "captioned").unwrap();
    let span = |name: &str| {
        let spans = captioned["spans"].as_array().unwrap();
        spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("{captioned:#}"))
    };
    for (entry, keys) in [(span("shard"), ["run", "shard"]), (span("video"), ["video", "attempt"])]
    {
        assert!(keys.iter().all(|key| !entry[key].is_null()), "{entry:#}");
    }

    let state = json(&eventide().arguments(["status", "--cluster", &*url, "--format", "json"]));
    let executors = state["cluster"]["executors"].as_array().unwrap();
    assert!(executors.is_empty(), "it has left in good order: {state}");
    assert_eq!(state["cluster"]["runs"], Value::Array(Vec::new()), "{state}");
}

#[test]
fn the_runs_are_listed_newest_first() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    let first = trial.indexed();
    let second = trial.indexed();
    let runs = |more: &[&str]| {
        let arguments = ["runs", "--tables", "lake", "--format", "json"];
        json(&trial.program(arguments.iter().chain(more).copied()))
    };
    let ids = |runs: &Value| {
        let runs = runs.as_array().unwrap();
        runs.iter().map(|run| run["run_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&runs(&[])), [second["run_id"].clone(), first["run_id"].clone()]);
    assert_eq!(ids(&runs(&["--limit", "1"])), [second["run_id"].clone()]);
    assert_eq!(ids(&runs(&["--job", "another"])), Vec::<Value>::new());
    let text = trial.program(["runs", "--tables", "lake"]).run(LIMIT).unwrap().stdout;
    assert!(text.contains("core-s/h") && text.lines().count() == 3, "{text}");
    let state = json(&trial.program(["status", "--tables", "lake", "--format", "json"]));
    assert_eq!(state["unpublished"], Value::Array(Vec::new()), "{state}");
}

fn files(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_vacuum_tells_before_it_removes_and_takes_only_old_orphans() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.indexed();
    let events = trial.table("events");
    let part = files(&events).into_iter().find(|name| name.starts_with("part-")).unwrap();
    let eight_days_ago = SystemTime::now() - Duration::from_hours(8 * 24);
    for entry in fs::read_dir(&events).unwrap().chain(fs::read_dir(trial.table("videos")).unwrap())
    {
        File::open(entry.unwrap().path()).unwrap().set_modified(eight_days_ago).unwrap();
    }
    for (name, old) in [("part-killed-old.parquet", true), ("part-killed-young.parquet", false)] {
        fs::copy(events.join(&part), events.join(name)).unwrap();
        if old {
            File::open(events.join(name)).unwrap().set_modified(eight_days_ago).unwrap();
        }
    }
    let half_written = trial.lake().join("_eventide/receipts/run/shard.json#1");
    fs::create_dir_all(half_written.parent().unwrap()).unwrap();
    fs::write(&half_written, "{").unwrap();
    File::open(&half_written).unwrap().set_modified(eight_days_ago).unwrap();
    let (before, rows) = (files(&events), trial.events());
    let vacuum = |more: &[&str]| {
        let arguments = ["vacuum", "--tables", "lake"];
        let program = trial.program(arguments.iter().chain(more).copied());
        let finished = program.run(LIMIT).unwrap();
        finished.assert_code(0);
        finished.stdout
    };
    let told = vacuum(&[]);
    assert!(
        told.contains("part-killed-old.parquet")
            && told.contains("would remove 1 part")
            && told.contains("1 fragment of"),
        "{told}"
    );
    assert_eq!(files(&events), before, "it only told");
    let told = vacuum(&["--delete"]);
    assert!(told.contains("removed 1 part"), "{told}");
    assert!(!half_written.exists());
    let mut left = before;
    left.remove("part-killed-old.parquet");
    assert_eq!(files(&events), left);
    assert_eq!(trial.events(), rows);
    assert_eq!(vacuum(&["--delete"]).trim(), "nothing to remove");
    let young =
        trial.program(["vacuum", "--tables", "lake", "--older-than", "1s"]).run(LIMIT).unwrap();
    young.assert_code(2);
}

/// The receipts that lie beside the tables.
fn receipts(trial: &Trial) -> Vec<Value> {
    let runs = fs::read_dir(trial.lake().join("_eventide/receipts")).unwrap();
    let files = runs.flat_map(|run| fs::read_dir(run.unwrap().path()).unwrap());
    let paths = files.map(|file| file.unwrap().path());
    let whole = paths.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    whole.map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}

/// What a page's table has in the columns after the first, in the row of this name.
fn row_of(page: &str, name: &str) -> Vec<f64> {
    let begin = format!("<tr><td>{name}</td>");
    let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no `{name}` in {page}"));
    let (row, _) = rest.split_once("</tr>").unwrap();
    let cells = row.split("<td>").filter_map(|cell| cell.strip_suffix("</td>"));
    cells.map(|cell| cell.trim().parse().unwrap()).collect()
}

#[test]
fn a_report_tells_what_a_video_hour_costs() {
    let trial = Trial::with_job(
        "[model]\nbundle = \"bundle\"\n[captioning]\nmax-output-tokens = 20\n[run]\nshard-videos = 1\n",
    );
    bundles::golden(&trial.folder().join("bundle")).unwrap();
    for number in 1..=3 {
        trial.add_narrated(number);
    }
    // Receipts go when their run is published.
    let index = trial.index().arguments(["--log", "info", "--workers", "1"]).start().unwrap();
    index.await_line("receipt written", LIMIT).unwrap();
    assert!(index.kill().unwrap().was_killed());
    let receipts = receipts(&trial);
    assert!(!receipts.is_empty());
    trial.indexed();

    let videos = trial.rows("videos", "uri");
    for receipt in &receipts {
        let id = &receipt["items"][0]["video_id"];
        let video = videos.iter().find(|video| video["video_id"] == *id).unwrap();
        let costs =
            [("video_ms", "duration_ms"), ("core_ms", "core_ms"), ("device_ms", "device_ms")];
        for (counted, told) in costs {
            assert_eq!(receipt["counts"][counted], video[told], "{counted}: {receipt:#}");
        }
    }
    let sum =
        |column: &str| videos.iter().map(|video| video[column].as_f64().unwrap()).sum::<f64>();
    trial
        .program(["report", "--tables", "lake", "--out", "night.html"])
        .run(LIMIT)
        .unwrap()
        .assert_code(0);
    let page = fs::read_to_string(trial.folder().join("night.html")).unwrap();
    let hours = sum("duration_ms") / 3_600_000.0;
    for (name, column) in [("cores", "core_ms"), ("devices", "device_ms")] {
        let spent = sum(column) / 1000.0;
        assert!(spent > 0.0, "{name}");
        let told = row_of(&page, name);
        let rounded = |told: f64, exact: f64| (told - exact).abs() < 0.051;
        assert!(
            told.len() == 2 && rounded(told[0], spent) && rounded(told[1], spent / hours),
            "{name}: {told:?}, and not {spent}, {} a video-hour",
            spent / hours
        );
    }
}

#[test]
fn a_report_shows_who_worked_what_was_slow_and_what_failed() {
    let trial = Trial::with_job("[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 1\n");
    trial.add_narrated(1);
    trial.add_hostile(Hostile::NotVideo);
    let run = trial.indexed();
    let report = |more: &[&str]| {
        let arguments = ["report", "--tables", "lake"];
        trial.program(arguments.iter().chain(more).copied()).run(LIMIT).unwrap()
    };
    let written = report(&["--out", "night.html"]);
    written.assert_code(0);
    let page = fs::read_to_string(trial.folder().join("night.html")).unwrap();
    let worker = trial.rows("videos", "uri")[0]["worker"].as_str().unwrap().to_owned();
    for told in [run["run_id"].as_str().unwrap(), "talk-1.mp4", "damaged", "<svg", &worker] {
        assert!(page.contains(told), "no `{told}` in {page}");
    }
    assert_eq!(page.matches("<rect ").count(), 2, "a bar a shard: {page}");
    let other = report(&["no-such-run"]);
    other.assert_code(2);
    assert!(other.stderr.contains("eventide runs"), "{}", other.stderr);
}
