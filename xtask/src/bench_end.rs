//! `cargo xtask bench end`: from videos to events, by `eventide index` and by a straightforward program in Python
//! (`tests/reference/vid2seq.py`: ffmpeg, `PyTorch`, transformers, one video after the other) with the same weights.
//!
//! Both read the same videos and subtitles, as whole processes from start to end, taking turns; the events that they find are
//! compared. Processor time and memory are those of the whole process tree. Before each of our runs but the first the plan is asked
//! what the run will take, which it learns from the runs before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bench::{measured, stage_seconds};
use crate::bench_eval::record;
use crate::bench_speech::programs;
use crate::children;
use crate::error::{Error, Result};
use crate::parts;
use crate::python;
use crate::setup::{self, Scope};
use crate::workspace::{Workspace, create_folder, say, write};

const SCRIPT: &str = "tests/reference/vid2seq.py";
/// What encloses our part of the page of benchmarks.
const MARKS: [&str; 2] = ["<!-- bench end -->\n", "<!-- end of bench end -->\n"];
/// How often the memory of a tree of processes is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// No run takes longer.
const LONGEST: Duration = Duration::from_hours(2);
/// How far times may be apart in milliseconds: ours are rounded outwards, theirs to the nearest.
const TIME_TOLERANCE_MS: i64 = 1;
/// How far mean log probabilities may be apart.
const SCORE_TOLERANCE: f64 = 1e-3;
/// How far a forecast may be from what a run takes.
const FORECAST_TOLERANCE: f64 = 0.2;

/// How much is done, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Scale {
    /// Drawn videos of some 24 seconds.
    #[arg(long, default_value_t = 60)]
    videos: u32,
    /// Length of the 1080p film in minutes; none is drawn for 0.
    #[arg(long, default_value_t = 5)]
    film_minutes: u32,
    /// How often each side runs; odd, so that one run is in the middle.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// A bundle of random weights in the sizes of the released ones, in place of the demo's, which is trained. Its captions mean
    /// nothing.
    #[arg(long)]
    released: bool,
    /// An interpreter that has `PyTorch` and transformers; else they are installed.
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
}

/// An event as both sides tell it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Event {
    start_ms: i64,
    end_ms: i64,
    caption: String,
    score: f64,
}

/// Events by the name of their video.
type Events = BTreeMap<String, Vec<Event>>;

/// What the reference says of a video.
#[derive(Debug, Deserialize)]
struct Told {
    events: Vec<Event>,
    seconds: BTreeMap<String, f64>,
}

/// What a run took.
#[derive(Debug, Clone, Serialize)]
struct Took {
    wall_seconds: f64,
    core_seconds: f64,
    peak_kib: u64,
    /// Wall seconds of each stage over all videos; those of ours overlap.
    stages: Vec<(String, f64)>,
}

/// What the plan foretold of a run in media core-seconds, and what it took.
#[derive(Debug, Clone, Copy, Serialize)]
struct Forecast {
    foretold: f64,
    took: f64,
}

/// A corpus, by both sides.
#[derive(Debug, Serialize)]
struct Part {
    name: String,
    videos: usize,
    ours: Vec<Took>,
    theirs: Vec<Took>,
    forecasts: Vec<Forecast>,
    agreement: String,
}

/// Runs the bench with the program built in `profile`, or with one that is there.
pub(crate) fn run(
    workspace: &Workspace,
    profile: &str,
    program: Option<PathBuf>,
    scale: Scale,
) -> Result<()> {
    setup::run(workspace, Scope::Test)?;
    let lock = workspace.lock()?;
    let python = match &scale.python {
        Some(python) => python.clone(),
        None => python::environment(workspace, &parts::TRANSFORMERS)?,
    };
    let pieces = python::environment(workspace, &parts::SENTENCEPIECE)?;
    drop(lock);
    let pieces = packages(&pieces)?;
    let [program, testkit] = programs(workspace, profile, program)?;
    let folder = workspace.root().join("target/bench/end");
    create_folder(&folder)?;
    let bench = Bench { workspace, program, testkit, python, pieces, folder, scale };
    let bundle = bench.bundle()?;
    let mut parts = vec![bench.part(&bundle, "drawn", &bench.drawn()?)?];
    if bench.scale.film_minutes > 0 {
        parts.push(bench.part(&bundle, "film", &bench.film()?)?);
    }
    let json = serde_json::to_vec_pretty(&parts).unwrap_or_default();
    write(&bench.folder.join("end.json"), json)?;
    let table = markdown(profile, &parts);
    println!("\n{table}");
    if !bench.scale.released {
        record(&workspace.root().join("docs/benchmarks.md"), MARKS, &table)?;
        say("wrote", "docs/benchmarks.md");
    }
    judge(&parts)
}

/// The folder of the packages of an environment.
fn packages(interpreter: &Path) -> Result<PathBuf> {
    let tell = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let said = children::output(Command::new(interpreter).args(["-c", tell]))?;
    Ok(PathBuf::from(String::from_utf8_lossy(&said).trim()))
}

/// What the bench works with.
struct Bench<'a> {
    workspace: &'a Workspace,
    program: PathBuf,
    testkit: PathBuf,
    python: PathBuf,
    /// The folder of the packages that the interpreter may lack.
    pieces: PathBuf,
    folder: PathBuf,
    scale: Scale,
}

impl Bench<'_> {
    /// The bundle that both sides read.
    fn bundle(&self) -> Result<PathBuf> {
        if !self.scale.released {
            return Ok(self.workspace.root().join("jobs/demo-model"));
        }
        let bundle = self.folder.join("released");
        if !bundle.exists() {
            say("draw", "a checkpoint of 593 million random weights");
            let mut draw = self.workspace.command(&self.testkit);
            children::run(draw.args(["released", "--size", "base", "--out"]).arg(&self.folder))?;
            let import = "model import --vid2seq vid2seq.pth --clip clip.pt --tokenizer spiece.model --out released";
            let mut make = self.workspace.command(&self.program);
            children::output(make.args(import.split(' ')).current_dir(&self.folder))?;
        }
        Ok(bundle)
    }

    /// Videos of the kind that the demo's model knows, two thirds of them with subtitles.
    fn drawn(&self) -> Result<PathBuf> {
        let folder = self.folder.join(format!("drawn-{}", self.scale.videos));
        let mut draw = self.workspace.command(&self.program);
        draw.args(["synth", "--seed", "8", "--split", "test", "--crowd", "2"]);
        draw.args(["--shortest", "20s", "--longest", "28s", "--out"]).arg(&folder);
        children::output(draw.args(["--videos", &self.scale.videos.to_string()]))?;
        Ok(folder.join("videos"))
    }

    fn film(&self) -> Result<PathBuf> {
        let minutes = self.scale.film_minutes.to_string();
        let folder = self.folder.join(format!("film-{minutes}"));
        let film = folder.join("film.mp4");
        if !film.exists() {
            create_folder(&folder)?;
            say("draw", &format!("a 1080p film of {minutes} minutes"));
            let mut draw = self.workspace.command(&self.testkit);
            children::run(draw.args(["film", "--minutes", &minutes, "--out"]).arg(&film))?;
        }
        Ok(folder)
    }

    /// Both sides over a corpus, in turns.
    fn part(&self, bundle: &Path, name: &str, corpus: &Path) -> Result<Part> {
        let place = self.folder.join(format!("run-{name}"));
        if place.exists() {
            fs::remove_dir_all(&place).map_err(Error::file("remove", &place))?;
        }
        create_folder(&place)?;
        let job = place.join("job.toml");
        write(&job, job_file(corpus, bundle))?;
        let (mut ours, mut theirs, mut forecasts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut our_events, mut their_events) = (Events::new(), Events::new());
        for turn in 0..self.scale.runs.max(1) {
            let (took, events) = self.theirs(bundle, corpus, &place)?;
            theirs.push(took);
            their_events = events;
            renew(corpus)?;
            let foretold = if turn == 0 { None } else { Some(self.plan(&job)?) };
            let (took, cores) = self.index(&job, &place)?;
            ours.push(took);
            forecasts.extend(foretold.map(|foretold| Forecast { foretold, took: cores }));
            our_events = self.events(&place)?;
        }
        let videos = their_events.len();
        let agreement = agreement(&our_events, &their_events);
        if !self.scale.released && our_events_differ(&our_events, &their_events) {
            return Err(Error::Bench { what: format!("{name}: {agreement}") });
        }
        Ok(Part { name: name.to_owned(), videos, ours, theirs, forecasts, agreement })
    }

    /// The reference over a corpus.
    fn theirs(&self, bundle: &Path, corpus: &Path, place: &Path) -> Result<(Took, Events)> {
        say("run", &format!("{SCRIPT} on {}", corpus.display()));
        let out = place.join("theirs.json");
        let mut command = self.workspace.command(&self.python);
        let mut path = vec![self.workspace.tools()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let path = std::env::join_paths(path).unwrap_or_default();
        command.env("PATH", path).env("PYTHONPATH", &self.pieces).env("HF_HUB_OFFLINE", "1");
        command.arg(SCRIPT).args([bundle, corpus, &out]);
        let mut took = watched(command, &place.join("theirs.log"))?;
        let told = fs::read(&out).map_err(Error::file("read", &out))?;
        let told: BTreeMap<String, Told> = serde_json::from_slice(&told)
            .map_err(|source| Error::Answer { program: SCRIPT, source })?;
        let mut stages = BTreeMap::new();
        for (stage, seconds) in told.values().flat_map(|video| &video.seconds) {
            *stages.entry(stage.clone()).or_insert(0.0) += seconds;
        }
        took.stages = stages.into_iter().collect();
        Ok((took, told.into_iter().map(|(name, video)| (name, video.events)).collect()))
    }

    /// `eventide index`, and the core-seconds of its media children as the run tells them.
    fn index(&self, job: &Path, place: &Path) -> Result<(Took, f64)> {
        say("run", "eventide index");
        let mut command = self.workspace.command(&self.program);
        command.arg("index").arg(job).args(["--allow-untrained", "--format", "json"]);
        command.args(["--log", "warn,eventide_pipeline=info", "--log-format", "json"]);
        let (out, log) = (place.join("ours.json"), place.join("ours.log"));
        command.stdout(File::create(&out).map_err(Error::file("create", &out))?);
        let mut took = watched(command, &log)?;
        let said = fs::read_to_string(&log).map_err(Error::file("read", &log))?;
        let stages = stage_seconds(&said).into_iter();
        took.stages = stages.map(|(stage, seconds)| (stage.to_owned(), seconds)).collect();
        let run = fs::read(&out).map_err(Error::file("read", &out))?;
        Ok((took, number(&json(&run)?, "core_ms")? / 1000.0))
    }

    /// The core-seconds that the plan foretells.
    fn plan(&self, job: &Path) -> Result<f64> {
        let mut command = self.workspace.command(&self.program);
        let said = children::output(command.arg("plan").arg(job).args([
            "--allow-untrained",
            "--format",
            "json",
        ]))?;
        number(&json(&said)?, "core_seconds")
    }

    /// What our tables tell.
    fn events(&self, place: &Path) -> Result<Events> {
        #[derive(Deserialize)]
        struct Row {
            uri: String,
            #[serde(flatten)]
            event: Event,
        }
        let mut command = self.workspace.command(&self.program);
        command.args(["sql", "--format", "json", "--tables"]).arg(place.join("lake"));
        command.arg("SELECT uri, start_ms, end_ms, caption, score FROM events");
        let rows: Vec<Row> = serde_json::from_slice(&children::output(&mut command)?)
            .map_err(|source| Error::Answer { program: "eventide sql", source })?;
        let mut events = Events::new();
        for Row { uri, event } in rows {
            let name = uri.rsplit('/').next().unwrap_or_default().to_owned();
            events.entry(name).or_default().push(event);
        }
        Ok(events)
    }
}

fn job_file(corpus: &Path, bundle: &Path) -> String {
    let (corpus, bundle) = (corpus.display().to_string(), bundle.display().to_string());
    format!(
        "[corpus]\nuri = {corpus:?}\ntranscripts = [\"sidecar\"]\n[model]\nbundle = {bundle:?}\ndevice = \"cpu\"\n\
         [captioning]\nsource = \"vid2seq\"\n[tables]\nuri = \"lake\"\n"
    )
}

fn json(said: &[u8]) -> Result<Value> {
    serde_json::from_slice(said).map_err(|source| Error::Answer { program: "eventide", source })
}

fn number(answer: &Value, name: &str) -> Result<f64> {
    let lacking = || Error::Bench { what: format!("`eventide` told no `{name}`") };
    answer[name].as_f64().ok_or_else(lacking)
}

/// Makes every file of a folder look written anew, so that all of them are due again.
fn renew(folder: &Path) -> Result<()> {
    let times = FileTimes::new().set_modified(SystemTime::now());
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let path = entry.map_err(Error::file("list", folder))?.path();
        let file = File::options().write(true).open(&path).map_err(Error::file("open", &path))?;
        file.set_times(times).map_err(Error::file("touch", &path))?;
    }
    Ok(())
}

/// Runs a program to its end, with what it complains of in `log`.
fn watched(mut command: Command, log: &Path) -> Result<Took> {
    command.stdin(Stdio::null()).stderr(File::create(log).map_err(Error::file("create", log))?);
    let (peak_kib, wall, core_seconds) = measured(|| {
        let mut child = command.spawn().map_err(Error::file("run with", log))?;
        let (mut peak, deadline) = (0, Instant::now() + LONGEST);
        loop {
            peak = peak.max(memory_of(child.id()));
            if let Some(ended) = child.try_wait().map_err(Error::file("wait with", log))? {
                let what = || format!("a program ended with {ended}; see `{}`", log.display());
                return if ended.success() { Ok(peak) } else { Err(Error::Bench { what: what() }) };
            }
            if Instant::now() > deadline {
                let _ = child.kill(); // it may have ended just now
                let what = format!("a program did not end within {} s", LONGEST.as_secs());
                return Err(Error::Bench { what });
            }
            thread::sleep(LOOK);
        }
    })?;
    Ok(Took { wall_seconds: wall.as_secs_f64(), core_seconds, peak_kib, stages: Vec::new() })
}

/// The memory in KiB that a process and all below it hold now. What they share is counted for each.
fn memory_of(process: u32) -> u64 {
    let status = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("status")).ok()?;
        Some((field(&text, "Pid:")?, field(&text, "PPid:")?, field(&text, "VmRSS:").unwrap_or(0)))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(status);
    of_tree(u64::from(process), &processes.collect::<Vec<_>>())
}

/// The sum over a process and its descendants, of processes with their parents and their memory.
fn of_tree(root: u64, processes: &[(u64, u64, u64)]) -> u64 {
    let (mut tree, mut grows) = (BTreeSet::from([root]), true);
    while grows {
        let children = processes.iter().filter(|(_, parent, _)| tree.contains(parent));
        let children: Vec<u64> = children.map(|&(process, ..)| process).collect();
        let before = tree.len();
        tree.extend(children);
        grows = tree.len() > before;
    }
    processes.iter().filter(|(process, ..)| tree.contains(process)).map(|(.., kib)| kib).sum()
}

/// The number of a line of `/proc/PID/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn sorted(events: Option<&Vec<Event>>) -> Vec<Event> {
    let mut events = events.cloned().unwrap_or_default();
    let key = |event: &Event| (event.caption.clone(), event.start_ms, event.end_ms);
    events.sort_by_key(key);
    events
}

fn is_same(ours: &Event, theirs: &Event) -> bool {
    let near = |a: i64, b: i64| (a - b).abs() <= TIME_TOLERANCE_MS;
    ours.caption == theirs.caption
        && near(ours.start_ms, theirs.start_ms)
        && near(ours.end_ms, theirs.end_ms)
        && (ours.score - theirs.score).abs() <= SCORE_TOLERANCE
}

/// The videos of which both sides say the same.
fn same<'a>(ours: &'a Events, theirs: &'a Events) -> impl Iterator<Item = &'a String> {
    theirs.keys().filter(|name| {
        let (ours, theirs) = (sorted(ours.get(*name)), sorted(theirs.get(*name)));
        ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|(our, their)| is_same(our, their))
    })
}

fn our_events_differ(ours: &Events, theirs: &Events) -> bool {
    same(ours, theirs).count() < theirs.len() || ours.keys().any(|name| !theirs.contains_key(name))
}

fn agreement(ours: &Events, theirs: &Events) -> String {
    let (equal, videos) = (same(ours, theirs).count(), theirs.len());
    let events: usize = theirs.values().map(Vec::len).sum();
    format!("{equal} of {videos} videos have the same of {events} events")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn wall(runs: &[Took]) -> f64 {
    median(runs.iter().map(|took| took.wall_seconds))
}

#[expect(clippy::cast_precision_loss, reason = "for a person to read")]
fn markdown(profile: &str, parts: &[Part]) -> String {
    let mut text = format!(
        "| `{profile}` profile, medians | wall s | least and most | videos an hour | ratio | core s | peak memory, MB | stages, wall s |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for part in parts {
        let theirs = wall(&part.theirs);
        for (name, runs) in [("Python", &part.theirs), ("`eventide index`", &part.ours)] {
            let seconds = wall(runs);
            let least = runs.iter().map(|took| took.wall_seconds).fold(f64::INFINITY, f64::min);
            let most = runs.iter().map(|took| took.wall_seconds).fold(0.0, f64::max);
            let hourly = part.videos as f64 * 3600.0 / seconds;
            let cores = median(runs.iter().map(|took| took.core_seconds));
            let peak = runs.iter().map(|took| took.peak_kib).max().unwrap_or(0) * 1024 / 1_000_000;
            let stages = runs.last().into_iter().flat_map(|took| &took.stages);
            let stages: Vec<_> = stages.map(|(stage, took)| format!("{stage} {took:.1}")).collect();
            let _ = writeln!(
                text,
                "| {}, {name} | {seconds:.1} | {least:.1} to {most:.1} | {hourly:.0} | {:.2} | {cores:.1} | {peak} | {} |",
                part.name,
                theirs / seconds,
                stages.join(", ")
            );
        }
    }
    text.push('\n');
    for part in parts {
        let forecasts = part.forecasts.iter();
        let forecasts =
            forecasts.map(|Forecast { foretold, took }| format!("{foretold:.1} for {took:.1}"));
        let _ = writeln!(
            text,
            "{}: {}. Core-seconds of media foretold for those taken: {}.",
            part.name,
            part.agreement,
            forecasts.collect::<Vec<_>>().join(", ")
        );
    }
    text
}

/// What was foretold is to be near what it took.
fn judge(parts: &[Part]) -> Result<()> {
    let is_far = |forecast: &&Forecast| {
        (forecast.foretold - forecast.took).abs() > FORECAST_TOLERANCE * forecast.took
    };
    match parts.iter().flat_map(|part| &part.forecasts).find(is_far) {
        None => Ok(()),
        Some(Forecast { foretold, took }) => {
            let what = format!("{foretold:.1} core-seconds were foretold, and it took {took:.1}");
            Err(Error::Bench { what })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(start_ms: i64, caption: &str, score: f64) -> Event {
        Event { start_ms, end_ms: start_ms + 1000, caption: caption.to_owned(), score }
    }

    fn events(of: &[(&str, &[Event])]) -> Events {
        of.iter().map(|(name, events)| ((*name).to_owned(), events.to_vec())).collect()
    }

    #[test]
    fn events_agree_in_words_times_and_scores_whatever_their_order() {
        let theirs = events(&[("a", &[event(5, "B.", -0.5), event(1, "A.", -0.1)]), ("b", &[])]);
        let near = events(&[("a", &[event(0, "A.", -0.1), event(5, "B.", -0.5001)])]);
        assert!(!our_events_differ(&near, &theirs), "a video without events has no row in ours");
        for far in [event(3, "A.", -0.1), event(1, "C.", -0.1), event(1, "A.", -0.2)] {
            let ours = events(&[("a", &[far, event(5, "B.", -0.5)])]);
            assert!(our_events_differ(&ours, &theirs));
        }
        assert!(our_events_differ(&events(&[("a", &theirs["a"]), ("c", &[])]), &theirs));
    }

    #[test]
    fn memory_is_that_of_all_below_a_process() {
        let processes = [(4, 3, 8), (1, 0, 1), (2, 1, 2), (3, 2, 4), (9, 1, 100)];
        assert_eq!(of_tree(2, &processes), 14);
    }

    #[test]
    fn a_forecast_that_is_far_off_is_told() {
        let part = |foretold| Part {
            name: "drawn".to_owned(),
            videos: 1,
            ours: Vec::new(),
            theirs: Vec::new(),
            forecasts: vec![Forecast { foretold, took: 10.0 }],
            agreement: String::new(),
        };
        assert!(judge(&[part(8.5)]).is_ok());
        assert!(judge(&[part(12.5)]).is_err());
    }
}
