//! Who gets on how fast: what the client of a cluster says, and what `eventide status` shows meanwhile.

use std::fs;
use std::time::Instant;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::trial::{LIMIT, Trial};

/// Talks of a run, each a shard: enough that it is at work while it is looked at.
const TALKS: u32 = 24;

fn night() -> Trial {
    let trial = Trial::with_job("[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 1\n");
    let talk = trial.add_narrated(1);
    for number in 2..=TALKS {
        let copy = trial.corpus().join(format!("copy-{number}.mp4"));
        fs::copy(&talk.video, &copy).unwrap();
        fs::copy(&talk.side_car, copy.with_extension("vtt")).unwrap();
    }
    trial
}

fn sum(list: &Value, name: &str) -> u64 {
    list.as_array().unwrap().iter().map(|entry| entry[name].as_u64().unwrap()).sum()
}

#[test]
fn each_executor_has_its_rate() {
    let trial = night();
    let cluster = Cluster::of(2);
    let client = cluster.index(&trial).start().unwrap();
    for executor in &cluster.executors {
        executor.await_line("receipt written", LIMIT).unwrap();
    }
    // Nothing is published while the client stands still.
    client.suspend().unwrap();
    let status = |form| {
        let asked = ["status", "--cluster", &*cluster.url, "--tables", "lake", "--format", form];
        let finished = trial.program(asked).run(LIMIT).unwrap();
        finished.assert_code(0);
        finished.stdout
    };
    // The scheduler hears a little later of what is finished.
    let since = Instant::now();
    let told = loop {
        let told: Value = serde_json::from_str(&status("json")).unwrap();
        if sum(&told["cluster"]["executors"], "finished") >= 2 || since.elapsed() > LIMIT {
            break told;
        }
    };
    let run = &told["unpublished"][0];
    assert_eq!(run["workers"].as_array().unwrap().len(), 2, "{told:#}");
    assert_eq!(sum(&run["workers"], "shards"), run["shards"].as_u64().unwrap(), "{told:#}");
    assert!(sum(&told["cluster"]["executors"], "finished") >= 2, "{told:#}");
    assert!(sum(&told["cluster"]["executors"], "finished_over_ms") > 0, "{told:#}");
    let text = status("text");
    assert!(text.contains("finished  an hour") && text.contains("worker"), "{text}");

    client.resume().unwrap();
    let finished = client.wait(LIMIT).unwrap();
    finished.assert_code(0);
    let lines: Vec<_> = finished.stderr.lines().filter(|line| line.contains(" videos, ")).collect();
    let mut rates: Vec<_> = lines.iter().filter(|line| line.contains("an hour;")).collect();
    rates.dedup();
    let shards = |line: &str| -> u64 {
        let (before, _) = line.split_once(" shards, ").unwrap();
        before.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let last: u64 = rates.iter().rev().take(2).map(|line| shards(line)).sum();
    assert_eq!(last, u64::from(TALKS), "{}", finished.stderr);
}
