//! `cargo xtask demo`: the whole way once: set-up, a corpus of real videos whose speech is heard, synthetic ones that the
//! demo's model captions, a run of the program over each, and its tables.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::bench_speech::errors;
use crate::children;
use crate::corpus;
use crate::error::{Error, Result};
use crate::setup::{self, Scope};
use crate::workspace::{Workspace, say};

const JOB: &str = "jobs/demo.toml";
const TABLES: &str = "target/demo/tables";
/// The same for synthetic videos: they are captioned by the model that `cargo xtask demo-model` has made.
const SYNTHETIC_JOB: &str = "jobs/demo-synthetic.toml";
const SYNTHETIC_TABLES: &str = "target/demo/synthetic-tables";
/// What they are, for `eventide synth`: of a split and a seed that nothing was learnt from.
const SYNTHETIC: [&str; 12] = [
    "--videos",
    "8",
    "--seed",
    "2026",
    "--split",
    "test",
    "--shortest",
    "20s",
    "--longest",
    "28s",
    "--crowd",
    "2",
];

/// What the demo asks of the tables: what the answer shows, and the question.
const QUESTIONS: [(&str, &str); 5] = [
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
        "Where the words come from",
        "SELECT v.uri, t.source, t.language, count(*) AS sentences, round(avg(t.confidence), 2) AS confidence \
         FROM transcripts t JOIN videos v USING (video_id) GROUP BY 1, 2, 3 ORDER BY 1",
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

/// How far a sentence may lie from where the narrator truly said it.
const TOLERANCE_MS: i64 = 300;
/// Words of a sentence that may be misheard.
const MISHEARD: usize = 1;

/// Runs the demo, and fails where the tables do not hold what the corpus says.
pub(crate) fn run(workspace: &Workspace, program: Option<PathBuf>) -> Result<()> {
    setup::run(workspace, Scope::Demo)?;
    corpus::run(workspace, &workspace.demo().join("corpus"))?;
    let build = || {
        say("build", "eventide (the first time takes some minutes)");
        workspace.build("eventide", "dev")
    };
    let program = program.map_or_else(build, Ok)?;
    recogniser(workspace)?;
    let eventide = |arguments: &[&str]| {
        let mut command = workspace.command(&program);
        command.args(arguments);
        command
    };
    say("run", &format!("eventide index {JOB}"));
    children::run(&mut eventide(&["index", JOB]))?;
    for (shows, question) in QUESTIONS {
        println!("\n# {shows}\n");
        children::run(&mut eventide(&["sql", "--tables", TABLES, question]))?;
    }
    let ask = |question: &str| {
        let asked = ["sql", "--tables", TABLES, "--format", "json", question];
        let said = children::output(&mut eventide(&asked))?;
        serde_json::from_slice(&said)
            .map_err(|source| Error::Answer { program: "eventide sql", source })
    };
    let faults = faults(&workspace.demo().join("truth"), &ask)?;
    if !faults.is_empty() {
        return Err(Error::Demo { faults: faults.join("; ") });
    }
    println!(
        "\nChecked: every narrated sentence is heard, within {TOLERANCE_MS} ms of where it is said and with no more than \
         {MISHEARD} wrong word; the broken files have their reasons, the run balances."
    );
    synthetic(workspace, &eventide)?;
    println!("\n{}", next_steps());
    Ok(())
}

/// Captions synthetic videos by the demo's model, and shows its events beside the truth.
fn synthetic(workspace: &Workspace, eventide: &dyn Fn(&[&str]) -> Command) -> Result<()> {
    let folder = workspace.demo().join("synthetic");
    let made = folder.display().to_string();
    children::run(eventide(&["--quiet", "synth", "--out", &made]).args(SYNTHETIC))?;
    say("run", &format!("eventide index {SYNTHETIC_JOB}"));
    children::run(&mut eventide(&["index", SYNTHETIC_JOB]))?;
    let question = "SELECT uri, start_ms, end_ms, caption FROM events ORDER BY uri, start_ms";
    let asked = ["sql", "--tables", SYNTHETIC_TABLES, "--format", "json", question];
    let said = children::output(&mut eventide(&asked))?;
    let events: Vec<Value> = serde_json::from_slice(&said)
        .map_err(|source| Error::Answer { program: "eventide sql", source })?;
    let path = folder.join("truth.json");
    let text = fs::read(&path).map_err(Error::file("read", &path))?;
    let truth: Value = serde_json::from_slice(&text)
        .map_err(|source| Error::Answer { program: "eventide synth", source })?;
    println!(
        "\n# What the model of the demo sees in videos that are new to it, and what is true of them\n"
    );
    print!("{}", beside(&truth, &events));
    if events.is_empty() {
        return Err(Error::Demo { faults: "the model has found no event".to_owned() });
    }
    Ok(())
}

/// For each video what is true of it, and below each event what was found that shares most of its time.
fn beside(truth: &Value, events: &[Value]) -> String {
    let mut text = String::new();
    for (name, video) in truth.as_object().into_iter().flatten() {
        let _ = writeln!(text, "{name}");
        let found: Vec<(f64, f64, &str)> =
            events.iter().filter_map(|event| found(event, name)).collect();
        let spans = video["timestamps"].as_array().into_iter().flatten();
        for (span, sentence) in spans.zip(video["sentences"].as_array().into_iter().flatten()) {
            let [from, to] = [0, 1].map(|bound| span[bound].as_f64().unwrap_or_default());
            let sentence = sentence.as_str().unwrap_or_default();
            let _ = writeln!(text, "  true   {from:5.1} to {to:5.1} s  {sentence}");
            let overlap = |&(start, end, _): &(f64, f64, &str)| end.min(to) - start.max(from);
            let nearest = found.iter().max_by(|a, b| overlap(a).total_cmp(&overlap(b)));
            if let Some((start, end, caption)) = nearest.filter(|nearest| overlap(nearest) > 0.0) {
                let _ = writeln!(text, "  found  {start:5.1} to {end:5.1} s  {caption}");
            }
        }
        let _ = writeln!(text, "  in all {} found\n", found.len());
    }
    text
}

/// Start and end in seconds, and the caption, of an event of the video called `name`.
fn found<'a>(event: &'a Value, name: &str) -> Option<(f64, f64, &'a str)> {
    let uri = event["uri"].as_str()?;
    let seconds = |bound: &str| Some(event[bound].as_f64()? / 1000.0);
    let is_it = uri.ends_with(&format!("/{name}.mp4"));
    is_it.then_some((seconds("start_ms")?, seconds("end_ms")?, event["caption"].as_str()?))
}

/// The speech bundle that the job names: Whisper base, out of the weights that the set-up has brought.
fn recogniser(workspace: &Workspace) -> Result<()> {
    let place = workspace.demo().join("whisper-base");
    if place.exists() {
        return Ok(());
    }
    let testkit = workspace.build("eventide-testkit", "dev")?;
    say("make", "the speech bundle of Whisper base");
    let mut make = workspace.command(&testkit);
    children::run(make.args(["whisper", "--size", "base", "--out"]).arg(&place))
}

/// What of the tables is not as the corpus was made.
fn faults(truths: &Path, ask: &dyn Fn(&str) -> Result<Vec<Value>>) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let events = ask("SELECT uri, start_ms, end_ms, caption FROM events")?;
    for entry in fs::read_dir(truths).map_err(Error::file("list", truths))? {
        let path = entry.map_err(Error::file("list", truths))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read(&path).map_err(Error::file("read", &path))?;
        let truth: Value = serde_json::from_slice(&text)
            .map_err(|source| Error::Answer { program: "the corpus", source })?;
        faults.extend(unsaid(&truth, &events));
    }
    let videos = ask("SELECT uri, status, reason_code FROM videos")?;
    for (name, reason) in [("sound-only", "no_video_stream"), ("cut-short", "damaged")] {
        let there = videos.iter().any(|video| {
            video["uri"].as_str().is_some_and(|uri| uri.contains(name))
                && video["status"] == "failed"
                && video["reason_code"] == reason
        });
        if !there {
            faults.push(format!("`{name}` is not a failure for `{reason}`"));
        }
    }
    let unbalanced =
        "SELECT run_id FROM runs WHERE listed <> captioned + empty + failed + skipped + unchanged";
    if !ask(unbalanced)?.is_empty() {
        faults.push("a run does not balance".to_owned());
    }
    Ok(faults)
}

/// The sentences of a narrated video that no event says at their time.
fn unsaid(truth: &Value, events: &[Value]) -> Vec<String> {
    let video = truth["video"].as_str().unwrap_or_default();
    let near = |event: &Value, said: &Value, bound: &str| {
        let (event, said) = (event[bound].as_i64(), said[bound].as_i64());
        event.zip(said).is_some_and(|(event, said)| (event - said).abs() <= TOLERANCE_MS)
    };
    let is_there = |said: &Value| {
        events.iter().any(|event| {
            event["uri"].as_str().is_some_and(|uri| uri.ends_with(video))
                && sounds_like(event["caption"].as_str(), said["text"].as_str())
                && near(event, said, "start_ms")
                && near(event, said, "end_ms")
        })
    };
    let said = truth["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    said.iter()
        .filter(|said| !is_there(said))
        .map(|said| format!("`{video}` lacks {}", said["text"]))
        .collect()
}

/// Whether two sentences have the same words, but for what may be misheard.
fn sounds_like(heard: Option<&str>, said: Option<&str>) -> bool {
    heard.zip(said).is_some_and(|(heard, said)| errors(heard, said) <= MISHEARD)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_shown_below_the_truth_whose_time_it_shares() {
        let truth =
            json!({"v": {"timestamps": [[1.0, 5.0], [8.0, 9.0]], "sentences": ["One.", "Two."]}});
        let event = |start: u32, caption: &str| json!({"uri": "file:///c/v.mp4", "start_ms": start, "end_ms": start + 2000, "caption": caption});
        let text =
            beside(&truth, &[event(500, "Early."), event(2000, "Right."), event(5500, "Between.")]);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let expected = [
            "v",
            "true     1.0 to   5.0 s  One.",
            "found    2.0 to   4.0 s  Right.",
            "true     8.0 to   9.0 s  Two.",
            "in all 3 found",
            "",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_sentence_counts_where_and_when_it_was_said() {
        assert!(sounds_like(Some("He runs across the metal"), Some("He runs across the meadow.")));
        assert!(!sounds_like(Some("He runs the metal"), Some("He runs across the meadow.")));
        let truth = json!({"video": "narrated/a.mp4", "events": [{"text": "Hi.", "start_ms": 1000, "end_ms": 2000}]});
        let event = |uri: &str, start_ms: i64| json!({"uri": uri, "caption": "Hi.", "start_ms": start_ms, "end_ms": 2000});
        assert!(unsaid(&truth, &[event("file:///narrated/a.mp4", 1250)]).is_empty());
        assert_eq!(unsaid(&truth, &[event("file:///narrated/a.mp4", 1400)]).len(), 1, "too late");
        assert_eq!(unsaid(&truth, &[event("file:///narrated/b.mp4", 1000)]).len(), 1, "elsewhere");
    }
}
