//! `eventide optimize`: other files, the same rows, for our own SQL and for other readers.

use eventide_testkit::tools;
use serde_json::{Value, json};

use crate::trial::{LIMIT, Trial};

/// What `deltalake` and `DuckDB` say of the newest version, and what the version that is named has, from its own files.
const READ: &str = "
import json, sys, duckdb
from deltalake import DeltaTable
question = 'SELECT caption, start_ms FROM rows ORDER BY uri, start_ms'
newest, then = DeltaTable(sys.argv[1]), DeltaTable(sys.argv[1], version=int(sys.argv[2]))
rows = newest.to_pyarrow_table()
answers = [duckdb.sql(question).fetchall()]
for table in (newest, then):
    answers.append(duckdb.sql(question.replace('rows', f'read_parquet({table.file_uris()})')).fetchall())
filters = duckdb.sql(f\"\"\"SELECT path_in_schema FROM parquet_metadata({newest.file_uris()})
    WHERE bloom_filter_offset IS NOT NULL ORDER BY 1\"\"\").fetchall()
print(json.dumps([answers, [name for name, in filters]]))
";

#[test]
fn the_rows_are_the_same_for_every_reader() {
    let trial = Trial::with_job("[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 1\n");
    for number in 1..=3 {
        trial.add_narrated(number);
    }
    let version = trial.indexed()["events_version"].as_u64().unwrap();
    let (events, videos) = (trial.events(), trial.videos());
    let optimize = || -> Value {
        let program = trial.program(["optimize", "--tables", "lake", "--format", "json"]);
        let finished = program.run(LIMIT).unwrap();
        finished.assert_code(0);
        serde_json::from_str(&finished.stdout).unwrap()
    };
    let told = optimize();
    let of_events = &told["tables"][0];
    let files = [&of_events["files_before"], &of_events["files_after"], &of_events["rows"]];
    assert_eq!(files, [&json!(3), &json!(1), &json!(6)], "{told}");
    assert_eq!((trial.events(), trial.videos()), (events.clone(), videos));
    assert!(trial.changes("events", version + 1).is_empty(), "no row has changed");

    let place = trial.table("events").display().to_string();
    let answer = tools().unwrap().run_python(READ, [&*place, &*version.to_string()]).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let rows = answer[0].as_array().unwrap();
    assert_eq!(rows[0].as_array().unwrap().len(), 6);
    assert!(rows.iter().all(|found| found == &rows[0]), "{answer}");
    assert_eq!(answer[1], json!(["event_id", "video_id"]));

    let again = optimize();
    assert!(again["tables"][0]["version"].is_null(), "nothing is left to be done: {again}");
    let count = "SELECT count(*) FROM events";
    let finished = trial.program(["sql", "--tables", "lake", "--format", "csv", count]).run(LIMIT);
    assert!(finished.unwrap().stdout.ends_with("\n6\n"));
    trial.add_narrated(4);
    trial.indexed();
    assert_eq!(trial.events().lines().count(), 8);
}

#[test]
fn without_tables_it_says_so() {
    let trial = Trial::of_speech();
    let finished = trial.program(["optimize", "--tables", "lake"]).run(LIMIT).unwrap();
    finished.assert_code(2);
    assert!(finished.stderr.contains("no tables"), "{}", finished.stderr);
}
