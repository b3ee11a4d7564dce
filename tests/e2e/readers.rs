//! The tables are what others read: `deltalake`, `duckdb` and `pyarrow` for Python, and our own SQL, see the same rows.

use eventide_testkit::tools;
use serde_json::Value;

use crate::trial::{LIMIT, Trial};

const READ_THREE_WAYS: &str = "
import json, sys, duckdb, pyarrow.dataset
from deltalake import DeltaTable
table = DeltaTable(sys.argv[1])
question = 'SELECT caption, start_ms FROM rows ORDER BY uri, start_ms'
files = table.file_uris()
rows = table.to_pyarrow_table()
by_deltalake = rows.sort_by([('uri', 'ascending'), ('start_ms', 'ascending')]).select(['caption', 'start_ms'])
by_pyarrow = pyarrow.dataset.dataset([f.removeprefix('file://') for f in files]).to_table()
by_pyarrow = by_pyarrow.sort_by([('uri', 'ascending'), ('start_ms', 'ascending')]).select(['caption', 'start_ms'])
by_duckdb = duckdb.sql(f'SELECT caption, start_ms FROM read_parquet({files}) ORDER BY uri, start_ms').fetchall()
print(json.dumps([
    [list(row.values()) for row in by_deltalake.to_pylist()],
    [list(row.values()) for row in by_pyarrow.to_pylist()],
    [list(row) for row in by_duckdb],
]))
";

#[test]
fn others_and_our_own_sql_see_the_same_rows() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.add_narrated(2);
    let gone = trial.add_narrated(3);
    trial.indexed();
    // A second night leaves files in the folder that are no part of the table any more.
    std::fs::remove_file(gone.video).unwrap();
    std::fs::remove_file(gone.side_car).unwrap();
    trial.indexed();

    let question = "SELECT caption, start_ms FROM events ORDER BY uri, start_ms";
    let finished = trial
        .program(["sql", "--tables", "lake", "--format", "json", question])
        .run(LIMIT)
        .unwrap();
    finished.assert_code(0);
    let rows: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap();
    let ours: Vec<Value> =
        rows.iter().map(|row| serde_json::json!([row["caption"], row["start_ms"]])).collect();
    assert_eq!(ours.len(), 4);

    let place = trial.table("events").display().to_string();
    let answer = tools().unwrap().run_python(READ_THREE_WAYS, [&*place]).unwrap();
    let theirs: Vec<Vec<Value>> = serde_json::from_str(&answer).unwrap();
    for (reader, rows) in ["deltalake", "pyarrow", "duckdb"].into_iter().zip(theirs) {
        assert_eq!(rows, ours, "{reader}");
    }
}

#[test]
fn sql_writes_nothing() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.indexed();
    let finished =
        trial.program(["sql", "--tables", "lake", "DROP TABLE events"]).run(LIMIT).unwrap();
    assert_ne!(finished.status.code(), Some(0));
    assert!(trial.events().contains("talk-1 begins."));
}
