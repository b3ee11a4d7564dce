//! `cargo xtask demo`: the whole way once, on real videos: set-up, corpus, one run of the program, and its tables.

use crate::children;
use crate::corpus;
use crate::error::Result;
use crate::setup::{self, Scope};
use crate::workspace::{Workspace, say};

const JOB: &str = "jobs/demo.toml";
const TABLES: &str = "target/demo/tables";

/// What the demo asks of the tables: what the answer shows, and the question.
const QUESTIONS: [(&str, &str); 4] = [
    (
        "What became of each video",
        "SELECT status, count(*) AS videos, sum(event_count) AS events FROM videos GROUP BY status ORDER BY status",
    ),
    (
        "What is said and seen in the narrated videos, and when",
        "SELECT v.uri, e.start_ms, e.end_ms, e.source, e.caption FROM events e JOIN videos v USING (video_id) \
         WHERE v.uri LIKE '%/narrated/%' ORDER BY v.uri, e.start_ms LIMIT 20",
    ),
    (
        "Which videos could not be indexed, and why",
        "SELECT uri, stage, reason_code, reason FROM videos WHERE status = 'failed' ORDER BY uri",
    ),
    (
        "The balance of the run: every listed object is in one of these columns",
        "SELECT listed, captioned, empty, failed, skipped, unchanged, removed, events FROM runs \
         ORDER BY started_at DESC LIMIT 1",
    ),
];

/// Runs the demo.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    setup::run(workspace, Scope::Demo)?;
    corpus::run(workspace, &workspace.demo().join("corpus"))?;
    say("build", "eventide (the first time takes some minutes)");
    children::run(workspace.cargo().args(["build", "--package", "eventide"]))?;
    say("run", &format!("eventide index {JOB}"));
    eventide(workspace, &["index", JOB])?;
    for (shows, question) in QUESTIONS {
        println!("\n# {shows}\n");
        eventide(workspace, &["sql", "--tables", TABLES, question])?;
    }
    println!("\n{}", next_steps());
    Ok(())
}

fn eventide(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    let mut command = workspace.cargo();
    children::run(command.args(["run", "--quiet", "--package", "eventide", "--"]).args(arguments))
}

fn next_steps() -> String {
    format!(
        "Try next:\n\
         \x20 cargo run -p eventide -- sql --tables {TABLES}          ask questions of your own\n\
         \x20 cargo run -p eventide -- index {JOB}        again: nothing changed, so nothing is done\n\
         \x20 cp some-video.mp4 target/demo/corpus/ and index again   only that one is new\n\
         What the narrators truly said, and when, is in target/demo/truth; the films' credits in target/demo/README.txt."
    )
}
