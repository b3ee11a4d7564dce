//! `cargo xtask bench sql`: ten questions about ten million events, by `eventide sql` and by `DuckDB` on the same files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::bench_eval::record;
use crate::children;
use crate::error::{Error, Result};
use crate::setup::{self, Scope};
use crate::workspace::{Workspace, create_folder, say, write};

const SCRIPT: &str = include_str!("bench_sql.py");

/// How often each question is timed, after once that is not.
const RUNS: usize = 5;
/// How many times as long as `DuckDB` ours may take, over all questions.
const GOAL_RATIO: f64 = 1.5;
/// What encloses our part of the page of benchmarks.
const MARKS: [&str; 2] = ["<!-- bench sql -->\n", "<!-- end of bench sql -->\n"];

/// What is asked, in SQL that both understand; one value of a row must not depend on the order of sums.
const QUESTIONS: [(&str, &str); 10] = [
    ("count all", "SELECT count(*) AS n FROM events"),
    (
        "count by day",
        "SELECT CAST(indexed_at AS DATE) AS day, count(*) AS n FROM events GROUP BY 1 ORDER BY 1",
    ),
    (
        "events of a video",
        "SELECT start_ms, caption FROM events WHERE video_id = (SELECT max(video_id) FROM videos \
         WHERE uri LIKE '%42.mp4') ORDER BY start_ms, event_id",
    ),
    ("one event", "SELECT start_ms, caption FROM events WHERE event_id = 'EVENT'"),
    (
        "overlap join",
        "SELECT count(*) AS n FROM events a JOIN events b ON a.video_id = b.video_id AND a.start_ms < b.end_ms AND \
         b.start_ms < a.end_ms AND a.event_index < b.event_index WHERE a.source = 'speech'",
    ),
    (
        "top captions",
        "SELECT caption, count(*) AS n FROM events GROUP BY 1 ORDER BY n DESC, caption LIMIT 10",
    ),
    ("distinct captions", "SELECT count(DISTINCT caption) AS n FROM events"),
    ("text filter", "SELECT count(*) AS n FROM events WHERE caption LIKE '%garlic%pan%'"),
    (
        "filter and group",
        "SELECT language, source, count(*) AS n, min(start_ms) AS first, max(end_ms - start_ms) AS longest FROM events \
         WHERE score > -1.0 AND start_ms >= 60000 GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    (
        "best of each video",
        "SELECT count(*) AS videos, max(n) AS most FROM (SELECT video_id, count(*) AS n, max(score) AS best FROM events GROUP BY 1) \
         WHERE best > -0.015625",
    ),
];

/// The values of a row as text, by their names.
type Columns = BTreeMap<String, String>;

/// What `DuckDB` took and said.
#[derive(Deserialize)]
struct Answer {
    seconds: Vec<f64>,
    rows: Vec<Columns>,
}

/// Medians of a question.
struct Row {
    name: &'static str,
    our_seconds: f64,
    their_seconds: f64,
}

/// Runs the bench with the program built in `profile`, or the one that is given.
pub(crate) fn run(
    workspace: &Workspace,
    profile: &str,
    program: Option<PathBuf>,
    events: u64,
) -> Result<()> {
    setup::run(workspace, Scope::Test)?;
    let (program, testkit) = match program {
        Some(program) => (program.clone(), program.with_file_name("eventide-testkit")),
        None => {
            (workspace.build("eventide", profile)?, workspace.build("eventide-testkit", profile)?)
        }
    };
    let folder = workspace.root().join("target/bench/sql");
    let tables = folder.join(format!("lake-{events}"));
    if !tables.join("runs").exists() {
        create_folder(&folder)?;
        say("make", &format!("{events} events"));
        let mut make = workspace.command(&testkit);
        children::run(make.args(["lake", "--events", &events.to_string(), "--out"]).arg(&tables))?;
    }
    say("run", "eventide optimize");
    children::run(workspace.command(&program).args(["optimize", "--tables"]).arg(&tables))?;
    let questions = questions(&mut workspace.command(&program), &tables)?;
    say("run", &format!("ten questions, {RUNS} times, DuckDB"));
    let theirs = theirs(workspace, &tables, &questions)?;
    say("run", &format!("ten questions, {RUNS} times, eventide sql"));
    let ours = ours(&mut workspace.command(&program), &folder, &tables, &questions)?;
    let mut rows = Vec::new();
    for (((name, _), question), (their, seconds)) in
        QUESTIONS.iter().zip(&questions).zip(theirs.into_iter().zip(ours))
    {
        compare(name, &asked(&mut workspace.command(&program), &tables, question)?, &their.rows)?;
        let (our_seconds, their_seconds) = (median(seconds), median(their.seconds));
        rows.push(Row { name, our_seconds, their_seconds });
    }
    let ratio = ratio(&rows);
    let table = markdown(profile, events, &rows, ratio);
    println!("\n{table}");
    record(&workspace.root().join("docs/benchmarks.md"), MARKS, &table)?;
    say("wrote", "docs/benchmarks.md");
    if ratio <= GOAL_RATIO {
        return Ok(());
    }
    Err(Error::Bench {
        what: format!("too slow: the goal is {GOAL_RATIO} times as long as DuckDB"),
    })
}

/// The questions, with an event that is there.
fn questions(program: &mut Command, tables: &Path) -> Result<Vec<String>> {
    let rows = asked(program, tables, "SELECT max(event_id) AS event FROM events")?;
    let event = rows.first().and_then(|row| row.get("event")).cloned().unwrap_or_default();
    Ok(QUESTIONS.iter().map(|(_, question)| question.replace("EVENT", &event)).collect())
}

/// The rows of one question, each value as text.
fn asked(program: &mut Command, tables: &Path, question: &str) -> Result<Vec<Columns>> {
    program.args(["sql", "--format", "json", "--tables"]).arg(tables).arg(question);
    let rows: Vec<BTreeMap<String, Value>> = serde_json::from_slice(&children::output(program)?)
        .map_err(|error| Error::Bench { what: format!("`{question}` gave no rows: {error}") })?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let values = |row: BTreeMap<String, Value>| -> Columns {
        row.into_iter().map(|(name, value)| (name, text(&value))).collect()
    };
    Ok(rows.into_iter().map(values).collect())
}

/// What `DuckDB` takes for the questions, and its answers.
fn theirs(workspace: &Workspace, tables: &Path, questions: &[String]) -> Result<Vec<Answer>> {
    let mut command = Command::new(workspace.tools().join("python"));
    command.args(["-c", SCRIPT]).arg(tables);
    command.arg(serde_json::to_string(questions).unwrap_or_default()).arg(RUNS.to_string());
    serde_json::from_slice(&children::output(&mut command)?)
        .map_err(|error| Error::Bench { what: format!("DuckDB printed no answers: {error}") })
}

/// What ours takes for each question: all of them in one process, each first once untimed.
fn ours(
    program: &mut Command,
    folder: &Path,
    tables: &Path,
    questions: &[String],
) -> Result<Vec<Vec<f64>>> {
    let statements = questions.iter().fold(String::new(), |mut text, question| {
        for _ in 0..=RUNS {
            let _ = writeln!(text, "{question};");
        }
        text
    });
    let (file, log) = (folder.join("questions.sql"), folder.join("timing"));
    write(&file, statements)?;
    program.args(["sql", "--timing", "--format", "json", "--tables"]).arg(tables);
    program.arg("--file").arg(&file);
    program.stderr(fs::File::create(&log).map_err(Error::file("create", &log))?);
    program.stdout(std::process::Stdio::null()).stdin(std::process::Stdio::null());
    let status = program.status().map_err(Error::file("run", &file))?;
    let said = fs::read_to_string(&log).map_err(Error::file("read", &log))?;
    let took = |line: &str| line.strip_prefix("took ")?.strip_suffix(" s")?.parse::<f64>().ok();
    let seconds: Vec<f64> = said.lines().filter_map(took).collect();
    if !status.success() || seconds.len() != questions.len() * (RUNS + 1) {
        return Err(Error::Bench { what: format!("`eventide sql` ended with {status}: {said}") });
    }
    Ok(seconds.chunks(RUNS + 1).map(|seconds| seconds[1..].to_vec()).collect())
}

/// Both must say the same.
fn compare(name: &str, ours: &[Columns], theirs: &[Columns]) -> Result<()> {
    if ours == theirs {
        return Ok(());
    }
    let first = |rows: &[Columns]| format!("{:?} of {}", rows.first(), rows.len());
    let what = format!("{name}: ours says {}, DuckDB {}", first(ours), first(theirs));
    Err(Error::Bench { what })
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How many times as long as theirs ours takes for all questions together.
fn ratio(rows: &[Row]) -> f64 {
    let sum = |seconds: fn(&Row) -> f64| rows.iter().map(seconds).sum::<f64>();
    sum(|row| row.our_seconds) / sum(|row| row.their_seconds)
}

fn markdown(profile: &str, events: u64, rows: &[Row], ratio: f64) -> String {
    let mut text = format!(
        "| {events} events, `{profile}` profile, medians of {RUNS} runs | `eventide sql`, s | DuckDB 1.5.5, s | ratio |\n|---|---|---|---|\n"
    );
    for Row { name, our_seconds, their_seconds } in rows {
        let each = our_seconds / their_seconds;
        let _ = writeln!(text, "| {name} | {our_seconds:.3} | {their_seconds:.3} | {each:.2} |");
    }
    let _ = writeln!(
        text,
        "\nAll ten together: {ratio:.2} times as long as DuckDB, with the same answers."
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_differ_are_named() {
        let rows = |text: &str| vec![Columns::from([("n".to_owned(), text.to_owned())])];
        compare("count", &rows("7"), &rows("7")).unwrap();
        let error = compare("count", &rows("7"), &rows("8")).unwrap_err().to_string();
        assert!(error.contains("count"), "{error}");
    }

    #[test]
    fn the_page_has_a_place_for_the_figures() {
        let workspace = Workspace::locate().unwrap();
        let page = fs::read_to_string(workspace.root().join("docs/benchmarks.md")).unwrap();
        assert!(MARKS.iter().all(|mark| page.matches(mark).count() == 1));
    }

    #[test]
    fn medians_make_the_ratio() {
        let row = |our_seconds, their_seconds| Row { name: "count", our_seconds, their_seconds };
        assert!((ratio(&[row(1.0, 2.0), row(5.0, 2.0)]) - 1.5).abs() < 1e-9);
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
    }
}
