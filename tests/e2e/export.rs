//! The night's difference in a search engine, read back by the engine's own client; and side-cars of players.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use eventide_testkit::footage::{Scene, narrated};
use eventide_testkit::{
    Fault, FaultProxy, Finished, Gate, Operation, Program, Rule, Running, S3Server, When, lake,
    tools,
};
use object_store::ObjectStoreExt;
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
    address: SocketAddr,
    url: String,
}

impl Engine {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let port = address.port().to_string();
        drop(listener);
        let process = Program::new(tools().unwrap().search_engine().unwrap())
            .arguments(["start", "--only", "elasticsearch", "--host", "127.0.0.1"])
            .arguments(["--elasticsearch-port", &*port, "--data-dir"])
            .arguments([folder.path()])
            .start()
            .unwrap();
        process.await_line("press Ctrl-C to stop", LIMIT).unwrap();
        Self { _process: process, _folder: folder, address, url: format!("http://{address}") }
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
    let is_file = |entry: &std::io::Result<fs::DirEntry>| entry.as_ref().unwrap().path().is_file();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().filter(is_file).map(entry).collect();
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

/// The upload with this number, of a path with this in it, waits at a gate.
fn held(path: &str, number: u64, gate: &Gate) -> Rule {
    let (operation, path) = (Operation::Put, path.to_owned());
    Rule { operation, path, when: When::Nth(number), fault: Fault::Held(gate.clone()) }
}

/// Counts uploads of a path with this in it.
fn counted(path: &str) -> Rule {
    let gate = Gate::closed();
    gate.open();
    let (operation, path) = (Operation::Put, path.to_owned());
    Rule { operation, path, when: When::Always, fault: Fault::Held(gate) }
}

/// Kills an export while its upload with this number, of a path with this in it, is under way.
async fn kill_at(program: &Program, proxy: &FaultProxy, path: &str, number: u64) {
    let gate = Gate::closed();
    proxy.fail_by([held(path, number, &gate)]);
    let running = program.start().unwrap();
    tokio::time::timeout(LIMIT, gate.arrivals(1)).await.unwrap();
    assert!(running.kill().unwrap().was_killed());
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_was_killed_sends_only_what_had_not_arrived() {
    let (trial, engine) = (Trial::of_speech(), Engine::start());
    tokio::task::block_in_place(|| lake::make(&trial.lake(), 1000)).unwrap();
    let proxy = FaultProxy::before_http(engine.address).unwrap();
    let url = proxy.url();
    let load =
        ["--to", "elasticsearch", "--url", &*url, "--out", "exports", "--part-size", "64KiB"];
    let export = trial.program(["export", "--tables", "lake", "--format", "json"]).arguments(load);
    // The first upload makes the index.
    kill_at(&export, &proxy, "", 5).await;
    proxy.fail_by([counted("")]);
    let receipt = receipt(&trial, &load);
    let parts = receipt["parts"].as_array().unwrap().len() as u64;
    let struck = proxy.struck()[0];
    assert!(parts > 5, "{receipt}");
    // Three had arrived, one may have; besides, it is looked for what has gone.
    assert_eq!(struck, parts - 3 + 2, "{parts} parts");
    assert_eq!(receipt["upserts"], 1000);
    let count = "
engine.indices.refresh(index='events')
print(engine.count(index='events')['count'])
";
    assert_eq!(engine.asked(count, &[]), json!(1000));
    let receipts = trial.folder().join("exports/receipts/elasticsearch");
    let series = receipts.join(receipt["series"].as_str().unwrap());
    assert_eq!(files(&series).len(), 1, "the receipt");
    let version = &receipt["to_version"];
    let progress = files(&series.join(format!("full-{version}.progress")));
    assert!(progress.is_empty(), "no sign of progress is left: {progress:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_were_cut_off_by_a_kill_are_completed_in_a_bucket() {
    let server = S3Server::start(&tools().unwrap()).unwrap();
    let proxy = FaultProxy::before(&server).unwrap();
    let trial = Trial::of_speech();
    tokio::task::block_in_place(|| lake::make(&trial.lake(), 1000)).unwrap();
    let out = server.uri("exports");
    let export = |target: &str| {
        trial
            .program(["export", "--tables", "lake", "--format", "json", "--to", target])
            .arguments(["--part-size", "64KiB", "--out", &out])
            .environment(proxy.environment())
    };
    let answer = |target: &str| -> Value {
        let finished = export(target).run(LIMIT).unwrap();
        finished.assert_code(0);
        serde_json::from_str(&finished.stdout).unwrap()
    };
    kill_at(&export("quickwit"), &proxy, "/part-", 4).await;
    proxy.fail_by([counted("/part-")]);
    let receipt = answer("quickwit");
    let parts = receipt["parts"].as_array().unwrap();
    let again = proxy.struck()[0];
    let (least, most) = (parts.len() as u64 - 4, parts.len() as u64 - 3);
    assert!((least..=most).contains(&again), "{again} of {} parts", parts.len());
    let store = server.store().unwrap();
    let mut lines = 0;
    for part in parts {
        let path = format!("exports/{}", part["name"].as_str().unwrap());
        let bytes = store.get(&path.into()).await.unwrap().bytes().await.unwrap();
        assert_eq!(part["bytes"], bytes.len());
        lines += String::from_utf8_lossy(&bytes).lines().count();
    }
    assert_eq!(lines, 1000);

    kill_at(&export("webvtt-chapters"), &proxy, "webvtt-chapters/", 7).await;
    proxy.fail_by([]);
    let receipt = answer("webvtt-chapters");
    assert_eq!(receipt["upserts"], 10);
    let videos = trial.rows("videos", "uri");
    for video in videos {
        let id = video["video_id"].as_str().unwrap();
        let path = format!("exports/webvtt-chapters/{id}.chapters.vtt");
        let text = store.get(&path.into()).await.unwrap().bytes().await.unwrap();
        assert!(text.starts_with(b"WEBVTT\n"));
    }
    assert_eq!(answer("webvtt-chapters")["up_to_date"], true);
}

#[test]
fn two_engines_are_loaded_from_one_folder() {
    let (trial, first, second) = (Trial::of_speech(), Engine::start(), Engine::start());
    trial.add_narrated(1);
    trial.indexed();
    let load = |engine: &Engine, index: &str| {
        let to = ["--to", "elasticsearch", "--url", &*engine.url, "--out", "exports", "--index"];
        receipt(&trial, &[&to[..], &[index]].concat())
    };
    for engine in [&first, &second] {
        assert_eq!(load(engine, "events")["upserts"], 2);
        engine.assert_holds(&trial);
        assert_eq!(load(engine, "events")["up_to_date"], true);
    }
    assert_eq!(load(&second, "others")["upserts"], 2);
    let files = receipt(&trial, &["--to", "elasticsearch", "--out", "exports"]);
    assert_eq!(files["upserts"], 2, "files are yet another destination");
}

#[test]
fn everything_anew_removes_what_has_gone() {
    let (trial, engine) = (Trial::of_speech(), Engine::start());
    let gone = trial.add_narrated(1);
    trial.add_narrated(2);
    trial.indexed();
    let full = ["--to", "elasticsearch", "--url", &*engine.url, "--full"];
    assert_eq!(receipt(&trial, &full)["upserts"], 4);
    for file in [&gone.video, &gone.side_car] {
        fs::remove_file(file).unwrap();
    }
    trial.indexed();
    let second = receipt(&trial, &full);
    assert_eq!((&second["upserts"], &second["deletes"]), (&json!(2), &json!(2)), "{second}");
    engine.assert_holds(&trial);

    // A lake that was made anew begins again with its versions: those of the index would win.
    fs::remove_dir_all(trial.lake()).unwrap();
    trial.indexed();
    let refused = export(&trial, &full);
    refused.assert_code(2);
    assert!(refused.stderr.contains("events of other tables"), "{}", refused.stderr);
    assert_eq!(receipt(&trial, &[&full[..], &["--index", "anew"]].concat())["upserts"], 2);
}

#[test]
fn an_index_that_others_made_is_taken_over() {
    let (trial, engine) = (Trial::of_speech(), Engine::start());
    trial.add_narrated(1);
    trial.indexed();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/search/elasticsearch.json");
    let make = "
mapping = json.load(open(sys.argv[2]))
mapping['mappings']['_meta'] = {'owner': 'us'}
engine.indices.create(index='events', **mapping)
print(1)
";
    engine.asked(make, &[schema]);
    receipt(&trial, &["--to", "elasticsearch", "--url", &*engine.url]);
    engine.assert_holds(&trial);
    let meta = "print(json.dumps(engine.indices.get_mapping(index='events')['events']['mappings']['_meta']))";
    let meta = engine.asked(meta, &[]);
    assert_eq!(meta["owner"], "us");
    assert!(meta["eventide"]["table_id"].is_string(), "{meta}");
}

/// A talk of which each sentence is another event.
const SENTENCES: [&str; 4] = [
    "A man is chopping garlic with a knife.",
    "A dog runs along the beach.",
    "Two people play guitar on a stage.",
    "Someone pours tea into a cup.",
];

#[test]
fn an_engine_finds_captions_that_mean_alike() {
    let (trial, engine) = (Trial::of_speech(), Engine::start());
    let scenes = SENTENCES.map(|said| Scene { colour: 7, length_ms: 2_000, said: said.to_owned() });
    narrated(&tools().unwrap(), &trial.corpus(), "talk", &scenes).unwrap();
    trial.indexed();
    let encoder = tools().unwrap().text_encoder().unwrap();
    let told = |arguments: &[&str]| {
        let finished = trial.program(["model"]).arguments(arguments).run(LIMIT).unwrap();
        finished.assert_code(0);
        finished.stdout
    };
    let import = ["import", "--text-encoder", encoder.to_str().unwrap(), "--licence", "Apache-2.0"];
    told(&[&import[..], &["--out", "minilm"]].concat());
    assert!(told(&["inspect", "minilm"]).contains("6 layers of 384"));
    assert!(told(&["verify", "minilm"]).contains("all vectors as expected"));

    let load = ["--to", "elasticsearch", "--url", &*engine.url, "--out", "exports"];
    assert_eq!(receipt(&trial, &load)["upserts"], 4);
    let with_vectors = [&load[..], &["--index", "vectors", "--embeddings", "minilm"]].concat();
    let receipt = receipt(&trial, &with_vectors);
    assert_eq!((&receipt["from_version"], &receipt["upserts"]), (&Value::Null, &json!(4)));
    assert!(receipt["embeddings"].is_string(), "{receipt}");
    let nearest = "
found = []
engine.indices.refresh(index='vectors')
for line in sys.argv[2].splitlines():
    knn = {'field': 'embedding', 'query_vector': json.loads(line), 'k': 1, 'num_candidates': 10}
    found.append(engine.search(index='vectors', knn=knn)['hits']['hits'][0]['_source']['caption'])
print(json.dumps(found))
";
    let questions = [
        "cutting vegetables in the kitchen",
        "an animal outdoors",
        "musicians at a concert",
        "a hot drink",
    ];
    let vectors = told(&[&["embed", "minilm"], &questions[..]].concat());
    assert_eq!(engine.asked(nearest, &[&vectors]), json!(SENTENCES));
}

#[test]
fn vectors_are_those_of_the_published_model() {
    let trial = Trial::of_speech();
    let encoder = tools().unwrap().text_encoder().unwrap();
    let model = |arguments: &[&str]| {
        let finished = trial.program(["model"]).arguments(arguments).run(LIMIT).unwrap();
        finished.assert_code(0);
        finished.stdout
    };
    model(&["import", "--text-encoder", encoder.to_str().unwrap(), "--out", "minilm"]);
    let texts = [SENTENCES[0], "Unbelievably, two dogs play!"];
    let lines = model(&["embed", "minilm", texts[0], texts[1]]);
    // As NumPy computes them from the same weights, by the formulas of BERT.
    let expected = [
        [-0.03904, -0.00611, -0.04139, 0.03474, -0.0952, -0.08115],
        [0.02048, -0.07207, 0.05001, 0.0188, -0.10711, -0.00773],
    ];
    for (line, expected) in lines.lines().zip(expected) {
        let found: Vec<f64> = serde_json::from_str(line).unwrap();
        assert_eq!(found.len(), 384);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{found} and not {expected}");
        }
    }
}

/// Loads exported files into three engines, and prints which events each of them holds, and finds by a word.
const ENGINES: &str = "
import json, sys, glob, os, duckdb, duckdb_extension_fts, tantivy
parts, word = json.loads(sys.argv[1]), sys.argv[2]
place = os.path.dirname(duckdb_extension_fts.__file__)
duck = duckdb.connect()
duck.execute(f\"LOAD '{glob.glob(place + '/extensions/*/fts.duckdb_extension')[0]}'\")
duck.execute('CREATE TABLE events (event_id TEXT PRIMARY KEY, caption TEXT, generation BIGINT)')
fields = tantivy.SchemaBuilder()
fields.add_text_field('event_id', stored=True, tokenizer_name='raw')
fields.add_text_field('caption', stored=True, tokenizer_name='en_stem')
index = tantivy.Index(fields.build())
writer = index.writer()
for part in parts:
    read = {'ndjson': 'read_json_auto', 'csv': 'read_csv', 'parquet': 'read_parquet'}[part.rsplit('.')[-1]]
    rows = duck.execute(f\"SELECT event_id, caption, generation, deleted FROM {read}('{part}')\").fetchall()
    for event, caption, generation, deleted in rows:
        duck.execute('DELETE FROM events WHERE event_id = ?', [event])
        writer.delete_documents('event_id', event)
        if not deleted:
            duck.execute('INSERT INTO events VALUES (?, ?, ?)', [event, caption, generation])
            writer.add_document(tantivy.Document(event_id=event, caption=caption))
writer.commit()
index.reload()
duck.execute(\"PRAGMA create_fts_index('events', 'event_id', 'caption')\")
searcher = index.searcher()
def found(query):
    hits = searcher.search(query, 100000).hits
    return sorted(searcher.doc(at)['event_id'][0] for _, at in hits)
held = sorted(event for event, in duck.execute('SELECT event_id FROM events').fetchall())
matching = duck.execute('SELECT event_id FROM events WHERE fts_main_events.match_bm25(event_id, ?) IS NOT NULL', [word])
by_word = sorted(event for event, in matching.fetchall())
print(json.dumps([held, found(tantivy.Query.all_query()), by_word, found(index.parse_query(word, ['caption']))]))
";

/// The identifiers that a statement gives, sorted.
fn ids(trial: &Trial, statement: &str) -> Value {
    let sql = ["sql", "--tables", "lake", "--format", "json", statement];
    let cache = [("XDG_CACHE_HOME", trial.folder().join("cache"))];
    let finished = trial.program(sql).environment(cache).run(LIMIT).unwrap();
    finished.assert_code(0);
    let rows: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap_or_default();
    rows.iter().map(|row| row["event_id"].clone()).collect()
}

/// The files of a receipt, whole.
fn parts(trial: &Trial, receipt: &Value, out: &str) -> Vec<String> {
    let name = |part: &Value| {
        trial.folder().join(out).join(part["name"].as_str().unwrap()).display().to_string()
    };
    receipt["parts"].as_array().unwrap().iter().map(name).collect()
}

#[test]
fn other_engines_hold_and_find_what_the_tables_have() {
    let trial = Trial::of_speech();
    let gone = trial.add_narrated(1);
    let changed = trial.add_narrated(2);
    trial.add_narrated(3);
    trial.indexed();
    let targets = ["ndjson", "csv", "parquet", "quickwit"];
    let export = |target: &str| receipt(&trial, &["--to", target, "--out", "exports"]);
    let first = targets.map(export);
    for file in [&gone.video, &gone.side_car] {
        fs::remove_file(file).unwrap();
    }
    let words = fs::read_to_string(&changed.side_car).unwrap();
    fs::write(&changed.side_car, words.replace("begins", "garlic")).unwrap();
    trial.indexed();
    let held = ids(&trial, "SELECT event_id FROM events ORDER BY event_id");
    let matching = "SELECT event_id FROM events WHERE matches(caption, 'garlic') ORDER BY event_id";
    let matching = ids(&trial, matching);
    assert_eq!((held.as_array().unwrap().len(), matching.as_array().unwrap().len()), (4, 1));
    for (target, first) in targets.into_iter().zip(first) {
        let files = [first, export(target)].map(|receipt| parts(&trial, &receipt, "exports"));
        let files = serde_json::to_string(&files.concat()).unwrap();
        let answer = tools().unwrap().run_search_engines(ENGINES, [&*files, "garlic"]).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer, json!([held, held, matching, matching]), "{target}");
    }
}

/// The columns of the table of events in Groonga, and the index of their captions.
const GROONGA: &str = "table_create Events TABLE_HASH_KEY ShortText
column_create Events caption COLUMN_SCALAR Text
column_create Events generation COLUMN_SCALAR Int64
table_create Terms TABLE_PAT_KEY ShortText --default_tokenizer TokenBigram --normalizer NormalizerAuto
column_create Terms caption COLUMN_INDEX|WITH_POSITION Events caption
";

#[test]
fn groonga_holds_and_finds_what_the_tables_have() {
    let trial = Trial::of_speech();
    let gone = trial.add_narrated(1);
    trial.add_narrated(2);
    trial.indexed();
    let export = || receipt(&trial, &["--to", "meilisearch", "--out", "exports"]);
    let first = export();
    for file in [&gone.video, &gone.side_car] {
        fs::remove_file(file).unwrap();
    }
    trial.add_narrated(3);
    trial.indexed();
    let mut commands = GROONGA.to_owned();
    for file in [first, export()].iter().flat_map(|receipt| parts(&trial, receipt, "exports")) {
        let text = fs::read_to_string(&file).unwrap();
        if file.contains("/delete-") {
            let ids: Vec<String> = serde_json::from_str(&text).unwrap();
            commands.extend(ids.iter().map(|id| format!("delete Events --key {id}\n")));
            continue;
        }
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let row = json!([{
                "_key": row["event_id"], "caption": row["caption"], "generation": row["generation"]
            }]);
            commands.extend(["load --table Events\n", &row.to_string(), "\n"]);
        }
    }
    let select = "select Events --output_columns _key --sort_keys _key --limit -1";
    commands.extend([select, "\n", select, " --match_columns caption --query begins\n"]);
    let file = trial.folder().join("commands.grn");
    fs::write(&file, commands).unwrap();
    let said = tools().unwrap().run_groonga(trial.folder(), &file).unwrap();
    let keys = |line: &str| -> Value {
        let answer: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        answer[1][0].as_array().unwrap()[2..].iter().map(|row| row[0].clone()).collect()
    };
    let answers: Vec<_> = said.lines().rev().take(2).map(keys).collect();
    let matching = "SELECT event_id FROM events WHERE matches(caption, 'begins') ORDER BY event_id";
    assert_eq!(answers[0], ids(&trial, matching));
    assert_eq!(answers[1], ids(&trial, "SELECT event_id FROM events ORDER BY event_id"));
}
