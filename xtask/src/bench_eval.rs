//! `cargo xtask bench eval`: `eventide eval` beside the Python programs whose figures it gives, on the same files.
//!
//! Both score made-up predictions in one go on one machine, as whole processes from start to end, and must agree. The
//! Python side is `pycocoevalcap` (CIDEr, BLEU, ROUGE-L, Stanford's tokeniser) under the protocol of densevid; it does
//! not compute SODA or any METEOR, and ours does. METEOR's own program is left out: it would be the same on both sides.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::bench::measured;
use crate::children;
use crate::error::{Error, Result};
use crate::parts;
use crate::python;
use crate::setup::{self, Scope};
use crate::workspace::{Workspace, create_folder, say, write};

const SCRIPT: &str = include_str!("bench_eval.py");

/// Videos that are scored.
const VIDEOS: u64 = 5000;
/// How long ours is to take at most.
const GOAL_SECONDS: f64 = 5.0;
/// How much faster ours is to be.
const GOAL_RATIO: f64 = 20.0;
/// How often each is timed.
const RUNS: usize = 3;
/// How far figures may be apart.
const TOLERANCE: f64 = 1e-4;
/// What encloses our part of the page of benchmarks.
const MARKS: [&str; 2] = ["<!-- bench eval -->\n", "<!-- end of bench eval -->\n"];

/// Runs the bench with the program built in `profile`.
pub(crate) fn run(workspace: &Workspace, profile: &str) -> Result<()> {
    setup::run(workspace, Scope::Test)?;
    let lock = workspace.lock()?;
    let python = python::environment(workspace, &parts::COCO_CAPTIONS)?;
    drop(lock);
    say("build", &format!("eventide ({profile})"));
    let program = workspace.build("eventide", profile)?;
    let folder = workspace.root().join("target/bench/eval");
    let files = made_up(&folder)?;

    let ours = || eval(workspace.command(&program), &folder, &files);
    let (our_figures, our) = timed("`eventide eval`", ours)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(workspace.tools()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(path).unwrap_or_default();
    let theirs = || {
        let mut command = Command::new(&python);
        children::output(command.env("PATH", &path).args(["-c", SCRIPT]).args(&files))
    };
    let (their_figures, their) = timed("`pycocoevalcap` 1.2, no SODA, no METEOR", theirs)?;
    compare(&our_figures, &their_figures)?;

    let ratio = their.wall_seconds / our.wall_seconds;
    let table = markdown(profile, &[&our, &their], ratio);
    println!("\n{table}");
    record(&workspace.root().join("docs/benchmarks.md"), MARKS, &table)?;
    say("wrote", "docs/benchmarks.md");
    if ratio >= GOAL_RATIO && our.wall_seconds <= GOAL_SECONDS {
        return Ok(());
    }
    let goal = format!("{GOAL_RATIO} times faster, and {VIDEOS} videos in {GOAL_SECONDS} s");
    Err(Error::Bench { what: format!("too slow, or the machine is too busy: the goal is {goal}") })
}

/// What one way of scoring took, medians.
struct Row {
    name: &'static str,
    wall_seconds: f64,
    core_seconds: f64,
}

/// Scores by our program, which prints its report; the figures are those that it writes for later gates.
fn eval(mut program: Command, folder: &Path, files: &[PathBuf]) -> Result<Vec<u8>> {
    let figures = folder.join("figures.json");
    program.args(["eval", "--quiet", "--write-baseline"]).arg(&figures);
    program.arg("--predictions").arg(&files[0]).arg("--references").args(&files[1..]);
    children::output(&mut program)?;
    fs::read(&figures).map_err(Error::file("read", &figures))
}

/// Does it some times; gives the last answer, and what it took.
fn timed(name: &'static str, work: impl Fn() -> Result<Vec<u8>>) -> Result<(Value, Row)> {
    say("run", &format!("{name}, {RUNS} times"));
    let (mut wall_seconds, mut core_seconds, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (found, wall, cores) = measured(&work)?;
        answer = found;
        wall_seconds.push(wall.as_secs_f64());
        core_seconds.push(cores);
    }
    let answer = serde_json::from_slice(&answer)
        .map_err(|error| Error::Bench { what: format!("{name} printed no figures: {error}") })?;
    let median = |mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[RUNS / 2]
    };
    let (wall_seconds, core_seconds) = (median(wall_seconds), median(core_seconds));
    Ok((answer, Row { name, wall_seconds, core_seconds }))
}

/// Every figure of theirs must be ours.
fn compare(ours: &Value, theirs: &Value) -> Result<()> {
    for (name, expected) in theirs.as_object().into_iter().flatten() {
        let found = ours["figures"][name].as_f64().unwrap_or(f64::NAN);
        let difference = (found - expected.as_f64().unwrap_or(f64::NAN)).abs();
        let agree = difference < TOLERANCE;
        if !agree {
            let what = format!("{name} is {found} by ours and {expected} by theirs");
            return Err(Error::Bench { what });
        }
    }
    say("ready", &format!("both agree on {} figures", theirs.as_object().map_or(0, Map::len)));
    Ok(())
}

fn markdown(profile: &str, rows: &[&Row], ratio: f64) -> String {
    let mut text = format!(
        "| {VIDEOS} videos, `{profile}` profile, medians of {RUNS} runs | wall s | core s |\n|---|---|---|\n"
    );
    for Row { name, wall_seconds, core_seconds } in rows {
        let _ = writeln!(text, "| {name} | {wall_seconds:.2} | {core_seconds:.2} |");
    }
    let _ =
        writeln!(text, "\nOurs is {ratio:.0} times faster, and gives the same figures to 1e-4.");
    text
}

/// Puts a table in its place on a page: between two marks.
pub(crate) fn record(page: &Path, [start, end]: [&str; 2], table: &str) -> Result<()> {
    let text = fs::read_to_string(page).map_err(Error::file("read", page))?;
    let place = text.find(start).map(|at| at + start.len());
    let place = place.and_then(|from| Some(from..from + text[from..].find(end)?));
    let place = place.ok_or_else(|| Error::Bench {
        what: format!("`{}` has no place for the figures", page.display()),
    })?;
    let mut text = text;
    text.replace_range(place, table);
    write(page, text)
}

/// Files of predictions and of two reference sets, always the same.
fn made_up(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut random = Random(VIDEOS);
    let mut files = [Map::new(), Map::new(), Map::new()];
    for video in 0..VIDEOS {
        let events = events(&mut random);
        let predictions: Vec<Value> = events
            .iter()
            .map(|event| event.blurred(&mut random, 6, 3))
            .map(|Event { start, end, words }| {
                json!({"sentence": words.join(" ") + ".", "timestamp": [start, end]})
            })
            .collect();
        let name = format!("v_{video:05}");
        files[0].insert(name.clone(), Value::from(predictions));
        for (file, blur) in files[1..].iter_mut().zip([0, 4]) {
            let events: Vec<Event> =
                events.iter().map(|event| event.blurred(&mut random, blur, blur)).collect();
            file.insert(name.clone(), references(&events));
        }
    }
    let [predictions, first, second] = files.map(Value::Object);
    create_folder(folder)?;
    let files =
        [("predictions", json!({ "results": predictions })), ("first", first), ("second", second)];
    files
        .into_iter()
        .map(|(name, content)| {
            let path = folder.join(format!("{name}.json"));
            write(&path, content.to_string())?;
            Ok(path)
        })
        .collect()
}

fn references(events: &[Event]) -> Value {
    let spans: Vec<_> = events.iter().map(|event| [event.start, event.end]).collect();
    let sentences: Vec<_> = events.iter().map(|event| event.words.join(" ") + ".").collect();
    let duration = events.iter().map(|event| event.end).fold(0.0, f64::max);
    json!({"duration": duration, "timestamps": spans, "sentences": sentences})
}

struct Event {
    start: f64,
    end: f64,
    words: Vec<String>,
}

/// Four events one after the other.
fn events(random: &mut Random) -> Vec<Event> {
    let mut at = 0;
    (0..4)
        .map(|_| {
            let (start, words) = (at, 7 + random.below(9));
            at += 10 + random.below(40);
            let words = (0..words).map(|_| word(random)).collect();
            Event { start: seconds(start), end: seconds(at), words }
        })
        .collect()
}

impl Event {
    /// The same, up to `shift` seconds off, with one word in `share` replaced; 0 for neither.
    fn blurred(&self, random: &mut Random, shift: u64, share: u64) -> Self {
        let mut off = || seconds(random.below(shift.max(1)));
        let start = self.start + off();
        let end = (self.end - off()).max(start + 1.0);
        let replaced = |kept: &String| {
            if share > 0 && random.below(share) == 0 { word(random) } else { kept.clone() }
        };
        Self { start, end, words: self.words.iter().map(replaced).collect() }
    }
}

/// Some words are far more frequent than others, as in any language.
fn word(random: &mut Random) -> String {
    const SYLLABLES: [&str; 12] =
        ["ba", "cor", "den", "fi", "gal", "hum", "ka", "lor", "mi", "nes", "pol", "ta"];
    let rank = random.below(30) * random.below(30) + random.below(3);
    let mut left = rank;
    let mut word = String::from(SYLLABLES[usize::try_from(rank % 11).unwrap_or(0)]);
    while left > 0 {
        word += SYLLABLES[usize::try_from(left % 12).unwrap_or(0)];
        left /= 12;
    }
    word
}

fn seconds(whole: u64) -> f64 {
    u32::try_from(whole).map_or(0.0, f64::from)
}

/// `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014): the same numbers on every machine.
struct Random(u64);

impl Random {
    /// Less than `limit`, which is small.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_differ_are_named() {
        let ours = json!({"figures": {"cider": 0.5}});
        compare(&ours, &json!({"cider": 0.50001})).unwrap();
        let error = compare(&ours, &json!({"cider": 0.51})).unwrap_err().to_string();
        assert!(error.contains("cider"), "{error}");
        compare(&ours, &json!({"rouge_l": 0.5})).unwrap_err();
    }

    #[test]
    fn the_page_has_a_place_for_the_figures() {
        let workspace = Workspace::locate().unwrap();
        let page = fs::read_to_string(workspace.root().join("docs/benchmarks.md")).unwrap();
        assert!(MARKS.iter().all(|mark| page.matches(mark).count() == 1));
    }
}
