//! The night's difference in a search engine, read back by the engine's own client; and side-cars of players.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use eventide_testkit::{Finished, Program, Running, tools};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::trial::{LIMIT, Trial};

/// What the scripts have in common.
const COMMON: &str = "
import json, sys
from elasticsearch import Elasticsearch
engine = Elasticsearch(sys.argv[1])
";

/// The documents of an index, by identifier.
const DOCUMENTS: &str = "
engine.indices.refresh(index=sys.argv[2])
found = engine.search(index=sys.argv[2], size=1000, query={'match_all': {}})
print(json.dumps({hit['_id']: hit['_source'] for hit in found['hits']['hits']}))
";

/// A search engine of one test.
struct Engine {
    _process: Running,
    _folder: TempDir,
    url: String,
}

impl Engine {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        drop(listener);
        let process = Program::new(tools().unwrap().search_engine().unwrap())
            .arguments(["start", "--only", "elasticsearch", "--host", "127.0.0.1"])
            .arguments(["--elasticsearch-port", &*port, "--data-dir"])
            .arguments([folder.path()])
            .start()
            .unwrap();
        process.await_line("press Ctrl-C to stop", LIMIT).unwrap();
        Self { _process: process, _folder: folder, url: format!("http://127.0.0.1:{port}") }
    }

    fn asked(&self, script: &str, arguments: &[&str]) -> Value {
        let arguments = [&[&*self.url], arguments].concat();
        let code = format!("{COMMON}{script}");
        let answer = tools().unwrap().run_search_client(&code, arguments).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Fails unless the index holds the events of the table, and no others.
    fn assert_holds(&self, trial: &Trial) {
        let documents = self.asked(DOCUMENTS, &["events"]);
        let rows = trial.rows("events", "uri,start_ms");
        assert_eq!(documents.as_object().unwrap().len(), rows.len(), "{documents:#}");
        for row in rows {
            let document = &documents[row["event_id"].as_str().unwrap()];
            for name in ["caption", "start_ms", "end_ms", "video_id", "uri", "run_id"] {
                assert_eq!(document[name], row[name], "{name}: {document}");
            }
            assert!(document["link"].as_str().unwrap().contains(".mp4#t="), "{document}");
        }
    }
}

fn export(trial: &Trial, arguments: &[&str]) -> Finished {
    let export = ["export", "--tables", "lake", "--format", "json"];
    trial.program(export).arguments(arguments).run(LIMIT).unwrap()
}

fn receipt(trial: &Trial, arguments: &[&str]) -> Value {
    let finished = export(trial, arguments);
    finished.assert_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

/// Each file of a folder, by name.
fn files(folder: &Path) -> Vec<(String, String)> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
    };
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(entry).collect();
    files.sort();
    files
}

#[test]
fn a_search_engine_gets_the_difference_of_each_night() {
    let (trial, engine) = (Trial::of_speech(), Engine::start());
    let gone = trial.add_narrated(1);
    let changed = trial.add_narrated(2);
    trial.indexed();
    let live = ["--to", "elasticsearch", "--url", &*engine.url, "--out", "exports"];
    let first = receipt(&trial, &live);
    assert_eq!((&first["from_version"], &first["upserts"]), (&Value::Null, &json!(4)));
    engine.assert_holds(&trial);
    let old = receipt(&trial, &["--to", "elasticsearch", "--full", "--out", "old"]);
    let again = receipt(&trial, &live);
    assert_eq!(again["up_to_date"], true, "{again}");

    for file in [&gone.video, &gone.side_car] {
        fs::remove_file(file).unwrap();
    }
    let words = fs::read_to_string(&changed.side_car).unwrap();
    fs::write(&changed.side_car, words.replace('e', "oe")).unwrap();
    trial.add_narrated(3);
    trial.indexed();
    let second = receipt(&trial, &live);
    assert_eq!(second["from_version"], first["to_version"]);
    assert_eq!((&second["upserts"], &second["deletes"]), (&json!(4), &json!(2)), "{second}");
    engine.assert_holds(&trial);

    // What an older export says is no news: neither the file of the night before, nor its difference again. (That
    // it does not bring back what was deleted is not asked of this engine, which forgets deletes at once.)
    let file = trial.folder().join("old").join(old["parts"][0]["name"].as_str().unwrap());
    let load = "
lines = open(sys.argv[2]).read().splitlines()
pairs = zip(map(json.loads, lines[::2]), map(json.loads, lines[1::2]))
known = [pair for pair in pairs if engine.exists(index='events', id=pair[0]['index']['_id'])]
answer = engine.bulk(operations=[line for pair in known for line in pair])
print(json.dumps([item['index']['status'] for item in answer['items']]))
";
    let statuses = engine.asked(load, &[file.to_str().unwrap()]);
    assert_eq!(statuses, json!([409, 409]));
    let version = first["to_version"].to_string();
    let difference = [&live[..4], &["--since", &*version, "--out", "exports"]].concat();
    let twice = receipt(&trial, &difference);
    assert_eq!(twice["sha256"], second["sha256"]);
    engine.assert_holds(&trial);
}

#[test]
fn what_an_engine_refuses_is_told_and_no_receipt_says_otherwise() {
    let (trial, engine) = (Trial::of_speech(), Engine::start());
    trial.add_narrated(1);
    trial.indexed();
    let strict = "
properties = {'event_id': {'type': 'keyword'}}
engine.indices.create(index='events', mappings={'dynamic': 'strict', 'properties': properties})
print(1)
";
    engine.asked(strict, &[]);
    let live = ["--to", "elasticsearch", "--url", &*engine.url, "--out", "exports"];
    let refused = export(&trial, &live);
    refused.assert_code(1);
    assert!(refused.stderr.contains("refused 2 documents"), "{}", refused.stderr);
    assert!(refused.stderr.contains("strict_dynamic_mapping_exception"), "{}", refused.stderr);
    engine.asked("engine.indices.delete(index='events')\nprint(1)", &[]);
    assert_eq!(receipt(&trial, &live)["upserts"], 2);
    engine.assert_holds(&trial);
}

#[test]
fn an_export_that_cannot_begin_says_why() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.indexed();
    for (arguments, code, because) in [
        (&["--to", "vespa", "--url", "http://127.0.0.1:1"][..], 2, "not loaded over the network"),
        (&["--to", "opensearch", "--url", "http://a:b@c"], 2, "EVENTIDE_SEARCH_AUTHORIZATION"),
        (&["--to", "ndjson", "--out", "x", "--since", "99"], 2, "newer than the tables"),
        (&["--to", "ndjson"], 2, "--out"),
        (&["--to", "solr", "--out", "x"], 2, "json-ld"),
        (&["--to", "ndjson", "--out", "x", "--tables", "nothing"], 2, "cannot be used multiple"),
    ] {
        let finished = export(&trial, arguments);
        assert!(finished.stderr.contains(because), "{because}: {}", finished.stderr);
        finished.assert_code(code);
    }
    assert!(!trial.folder().join("x").exists());
}

#[test]
fn a_player_gets_files_of_the_videos_that_changed() {
    let trial = Trial::of_speech();
    let gone = trial.add_narrated(1);
    trial.add_narrated(2);
    trial.indexed();
    let chapters = ["--to", "webvtt-chapters", "--out", "site"];
    assert_eq!(receipt(&trial, &chapters)["upserts"], 2);
    let folder = trial.folder().join("site/webvtt-chapters");
    let before = files(&folder);
    let captions: Vec<_> = trial.rows("events", "uri,start_ms");
    for row in &captions {
        let caption = row["caption"].as_str().unwrap();
        assert!(before.iter().any(|(_, text)| text.contains(caption)), "{caption}");
    }
    for file in [&gone.video, &gone.side_car] {
        fs::remove_file(file).unwrap();
    }
    trial.indexed();
    let second = receipt(&trial, &chapters);
    assert_eq!((&second["upserts"], &second["deletes"]), (&json!(0), &json!(1)));
    let after = files(&folder);
    assert_eq!(after.len(), 1);
    assert!(before.contains(&after[0]));
    let moments = receipt(&trial, &["--to", "json-ld", "--out", "site"]);
    assert_eq!(moments["upserts"], 1);
    let (_, text) = &files(&trial.folder().join("site/json-ld"))[0];
    let object: Value = serde_json::from_str(text).unwrap();
    assert_eq!(object["hasPart"].as_array().unwrap().len(), 2, "{object:#}");
}
