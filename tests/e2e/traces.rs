//! Spans at a collector: a small one that listens on this machine and keeps what it is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::trial::{LIMIT, Trial};

/// A span: its name, its trace and its attributes as text.
#[derive(Debug)]
struct Span {
    name: String,
    trace: String,
    attributes: BTreeMap<String, String>,
}

/// A collector, by its address, and what it gets.
fn collector() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, documents) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).unwrap() > 2 {
                assert!(line.ends_with("\r\n"), "{line}");
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            // Kept before it is answered: who got an answer may end, and the test then counts.
            if sender.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        }
    });
    (address, documents)
}

/// The spans that were sent so far, as the protocol has them.
fn spans(documents: &Receiver<Value>) -> Vec<Span> {
    let mut spans = Vec::new();
    for document in documents.try_iter() {
        let resource = &document["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][2]["key"], "service.version", "{resource}");
        for span in resource["scopeSpans"][0]["spans"].as_array().unwrap() {
            let text = |name: &str| span[name].as_str().unwrap().to_owned();
            assert!(text("startTimeUnixNano") <= text("endTimeUnixNano"), "{span}");
            assert_eq!(text("spanId").len(), 16, "{span}");
            let attribute = |entry: &Value| {
                let value = entry["value"].as_object().unwrap().values().next().unwrap();
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (entry["key"].as_str().unwrap().to_owned(), value)
            };
            let attributes = span["attributes"].as_array().unwrap().iter().map(attribute).collect();
            spans.push(Span { name: text("name"), trace: text("traceId"), attributes });
        }
    }
    spans
}

/// Fails unless the spans are those of a run of two talks.
fn assert_run(spans: &[Span], run_id: &str) {
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    assert_eq!(named("shard").len(), 2, "{spans:#?}");
    let videos = named("video");
    let ids: BTreeSet<_> = videos.iter().map(|span| &span.attributes["video"]).collect();
    assert_eq!((videos.len(), ids.len()), (2, 2), "{spans:#?}");
    for video in videos {
        let has = |name: &str| !video.attributes[name].is_empty();
        assert!(["shard", "video"].into_iter().all(has), "{video:#?}");
        assert_eq!((&*video.attributes["run"], &*video.attributes["attempt"]), (run_id, "1"));
    }
    let of_run = |name: &str| named(name).iter().all(|span| span.trace == run_id.replace('-', ""));
    assert!(["run", "publish", "shard", "video"].into_iter().all(of_run), "{spans:#?}");
    assert_eq!((named("run").len(), named("publish").len()), (1, 1), "{spans:#?}");
}

fn night() -> Trial {
    let trial = Trial::with_job("[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 1\n");
    trial.add_narrated(1);
    trial.add_narrated(2);
    trial
}

#[test]
fn a_run_is_a_trace() {
    let trial = night();
    let (address, documents) = collector();
    let finished = trial.index().arguments(["--otlp", &*address]).run(LIMIT).unwrap();
    finished.assert_code(0);
    let run: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_run(&spans(&documents), run["run_id"].as_str().unwrap());
}

#[test]
fn a_run_is_one_trace_on_a_cluster_too() {
    let trial = night();
    let (address, documents) = collector();
    let cluster = Cluster::with(2, vec![("OTEL_EXPORTER_OTLP_ENDPOINT", address)]);
    let run = cluster.indexed(&trial);
    cluster.said(); // processes that end send their last spans
    assert_run(&spans(&documents), run["run_id"].as_str().unwrap());
}

#[test]
fn a_collector_that_is_not_there_stops_nothing() {
    let trial = night();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let finished =
        trial.index().arguments(["--otlp", &*format!("http://{gone}")]).run(LIMIT).unwrap();
    finished.assert_code(0);
    assert!(finished.stderr.contains("takes no traces now"), "{}", finished.stderr);
    let refused = trial.index().arguments(["--otlp", "https://agent:4318"]).run(LIMIT).unwrap();
    refused.assert_code(2);
    assert!(refused.stderr.contains("plain HTTP only"), "{}", refused.stderr);
}
