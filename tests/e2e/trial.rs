//! A trial: a corpus, a job and tables in a folder of their own, and the program to run on them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use eventide_testkit::footage::{Narrated, Scene, narrated};
use eventide_testkit::{Finished, Hostile, Program, Tools, tools};
use serde_json::Value;
use tempfile::TempDir;

/// Far more than any command of a trial takes, also on a machine that does much else.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);

/// Prints the rows of a Delta table as a JSON list, read by another program's reader than ours.
const READ_ROWS: &str = "
import json, sys
from deltalake import DeltaTable
table = DeltaTable(sys.argv[1]).to_pyarrow_table()
order = [(name, 'ascending') for name in sys.argv[2].split(',')]
print(json.dumps(table.sort_by(order).to_pylist(), default=str))
";

/// Prints what a Delta table's change data feed says from a version on, likewise.
const READ_CHANGES: &str = "
import json, sys, pyarrow
from deltalake import DeltaTable
feed = DeltaTable(sys.argv[1]).load_cdf(starting_version=int(sys.argv[2]))
print(json.dumps(pyarrow.table(feed.read_all()).to_pylist(), default=str))
";

/// A corpus, a job and tables.
#[derive(Debug)]
pub(crate) struct Trial {
    folder: TempDir,
    tools: Tools,
}

impl Trial {
    /// An empty corpus, and a job that makes events of what is said; it needs no model.
    pub(crate) fn of_speech() -> Self {
        Self::with_job("[captioning]\nsource = \"speech\"\n")
    }

    /// An empty corpus, and a job with these sections beside `[corpus]` and `[tables]`.
    pub(crate) fn with_job(sections: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("corpus")).unwrap();
        let job = format!("[corpus]\nuri = \"corpus\"\n\n[tables]\nuri = \"lake\"\n\n{sections}");
        fs::write(folder.path().join("night.toml"), job).unwrap();
        Self { folder, tools: tools().unwrap() }
    }

    /// The folder of the trial.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of the tables, which is there only after a run.
    pub(crate) fn lake(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    /// Writes another job under the same name.
    pub(crate) fn write_job(&self, text: &str) {
        fs::write(self.folder.path().join("night.toml"), text).unwrap();
    }

    /// The folder of the corpus.
    pub(crate) fn corpus(&self) -> PathBuf {
        self.folder.path().join("corpus")
    }

    /// The folder of a table.
    pub(crate) fn table(&self, name: &str) -> PathBuf {
        self.folder.path().join("lake").join(name)
    }

    /// Adds a video of three scenes that says who it is: `STEM begins.`, silence, `STEM ends.`
    pub(crate) fn add_narrated(&self, number: u32) -> Narrated {
        let stem = format!("talk-{number}");
        let scene = |length_ms, said: String| Scene {
            colour: number * 0x01_2345 % 0x100_0000,
            length_ms,
            said,
        };
        let scenes = [
            scene(2_000, format!("{stem} begins.")),
            scene(1_000, String::new()),
            scene(2_000, format!("{stem} ends.")),
        ];
        narrated(&self.tools, &self.corpus(), &stem, &scenes).unwrap()
    }

    /// Adds a bad video.
    pub(crate) fn add_hostile(&self, kind: Hostile) -> PathBuf {
        kind.make(&self.tools, &self.corpus()).unwrap()
    }

    /// The program with these arguments, in the folder of the trial.
    pub(crate) fn program<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Program {
        eventide().arguments(arguments).in_folder(self.folder.path())
    }

    /// The program about to index the corpus.
    pub(crate) fn index(&self) -> Program {
        self.program(["index", "night.toml", "--format", "json"])
    }

    /// Indexes the corpus, which must succeed, and gives the row of the run.
    pub(crate) fn indexed(&self) -> Value {
        let finished = self.index().run(LIMIT).unwrap();
        finished.assert_code(0);
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", finished.stdout))
    }

    /// What the program says that it would do.
    pub(crate) fn planned(&self) -> Value {
        let finished = self.program(["plan", "night.toml", "--format", "json"]).run(LIMIT).unwrap();
        finished.assert_code(0);
        serde_json::from_str(&finished.stdout).unwrap()
    }

    /// How many different values a column of text has.
    pub(crate) fn distinct(&self, table: &str, column: &str) -> usize {
        let rows = self.rows(table, column);
        let values: std::collections::BTreeSet<_> =
            rows.iter().filter_map(|row| row[column].as_str()).collect();
        values.len()
    }

    /// The change data feed of a table from one version on, as `deltalake` for Python reads it.
    pub(crate) fn changes(&self, table: &str, version: u64) -> Vec<Value> {
        let place = self.table(table).display().to_string();
        let version = version.to_string();
        let answer = self.tools.run_python(READ_CHANGES, [&*place, &*version]).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// The rows of a table in the order of these columns, as `deltalake` for Python reads them.
    pub(crate) fn rows(&self, table: &str, order: &str) -> Vec<Value> {
        let place = self.table(table).display().to_string();
        let answer = self.tools.run_python(READ_ROWS, [&*place, order]).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// The rows of `events` as lines `FILE START-END CAPTION`, in order.
    pub(crate) fn events(&self) -> String {
        self.rows("events", "uri,start_ms").iter().fold(String::new(), |mut text, row| {
            let (start, end) = (&row["start_ms"], &row["end_ms"]);
            let caption = row["caption"].as_str().unwrap_or_default();
            let _ = writeln!(text, "{} {start}-{end} {caption}", file_name(row));
            text
        })
    }

    /// The rows of `videos` as lines `FILE STATUS REASON`, in order.
    pub(crate) fn videos(&self) -> String {
        self.rows("videos", "uri").iter().fold(String::new(), |mut text, row| {
            let status = row["status"].as_str().unwrap_or_default();
            let reason = row["reason_code"].as_str().unwrap_or("-");
            let _ = writeln!(text, "{} {status} {reason}", file_name(row));
            text
        })
    }
}

/// The program under test.
pub(crate) fn eventide() -> Program {
    Program::new(env!("CARGO_BIN_EXE_eventide"))
}

/// Runs the program with these arguments.
pub(crate) fn run<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Finished {
    eventide().arguments(arguments).run(LIMIT).unwrap()
}

fn file_name(row: &Value) -> String {
    let uri = row["uri"].as_str().unwrap_or_default();
    Path::new(uri).file_name().unwrap_or_default().to_string_lossy().into_owned()
}
