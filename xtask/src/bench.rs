//! `cargo xtask bench night`: how much video an hour of a core indexes, and where the time goes.
//!
//! Runs the real program over the demo's corpus, once for what is said and once with a model of random weights, and
//! beside them what the reference program does to see the same frames: one `ffmpeg` that decodes every picture of each
//! video. All in one go on one machine; processor time is that of the whole process tree.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::children;
use crate::corpus;
use crate::error::{Error, Result};
use crate::setup::{self, Scope};
use crate::workspace::{Workspace, create_folder, say, write};

/// The stages whose times the program logs, in order.
const STAGES: [&str; 6] =
    ["fetch_ms", "probe_ms", "words_ms", "sample_ms", "encode_ms", "generate_ms"];
/// Units in which the kernel counts processor time, a second.
const TICKS: f64 = 100.0;

/// What one way of indexing the corpus took.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    pub(crate) video_hours: f64,
    wall_seconds: f64,
    pub(crate) core_seconds: f64,
    video_hours_per_core_hour: f64,
    /// Wall seconds of each stage over all videos; stages of different videos overlap.
    stage_seconds: Vec<(&'static str, f64)>,
}

/// Runs the bench with the program built in `profile`.
pub(crate) fn night(workspace: &Workspace, profile: &str) -> Result<()> {
    setup::run(workspace, Scope::Demo)?;
    let corpus_folder = workspace.demo().join("corpus");
    corpus::run(workspace, &corpus_folder)?;
    let folder = workspace.root().join("target/bench/night");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
    }
    create_folder(&folder)?;
    say("build", &format!("eventide and eventide-testkit ({profile})"));
    let bundle = folder.join("bundle");
    let program = workspace.build("eventide", profile)?;
    let testkit = workspace.build("eventide-testkit", profile)?;
    children::run(workspace.command(&testkit).args(["seeded-bundle", "--out"]).arg(&bundle))?;
    let run = |name, corpus: &Path, captioning| {
        index(workspace.command(&program), &folder, name, &job(corpus, &bundle, captioning))
    };
    let (speech, model) = ("source = \"speech\"", "max-output-tokens = 64");
    let tools = workspace.tools();
    let said = run("speech", &corpus_folder, speech)?;
    let seen = run("tiny model", &corpus_folder, model)?;
    let peer = decode_all("ffmpeg fps=1", &tools, &corpus_folder, seen.video_hours)?;
    let rows = [said, seen, peer];
    let json = serde_json::to_vec_pretty(&rows).unwrap_or_default();
    write(&folder.join("night.json"), json)?;
    let table = markdown(&rows, profile);
    write(&folder.join("night.md"), &table)?;
    println!("\n{table}");
    say("wrote", "target/bench/night/night.json and night.md");
    Ok(())
}

/// A job over a corpus with a bundle of random weights.
pub(crate) fn job(corpus: &Path, bundle: &Path, captioning: &str) -> String {
    format!(
        "[corpus]\nuri = \"{}\"\n[tables]\nuri = \"lake\"\n[model]\nbundle = \"{}\"\n[captioning]\n{captioning}\n",
        corpus.display(),
        bundle.display()
    )
}

/// Indexes the corpus into new tables.
pub(crate) fn index(mut program: Command, folder: &Path, name: &str, job: &str) -> Result<Row> {
    let place = folder.join(name.replace(' ', "-"));
    create_folder(&place)?;
    let job_file = place.join("job.toml");
    write(&job_file, job)?;
    say("run", &format!("eventide index ({name})"));
    program
        .arg("index")
        .arg(&job_file)
        .args(["--allow-untrained", "--format", "json", "--log", "warn,eventide_pipeline=info"])
        .args(["--log-format", "json"]);
    let log = place.join("log");
    program.stderr(fs::File::create(&log).map_err(Error::file("create", &log))?);
    program.stdout(Stdio::piped()).stdin(Stdio::null());
    let (output, wall, cores) = measured(|| {
        let child = program.spawn().and_then(std::process::Child::wait_with_output);
        child.map_err(Error::file("run", &job_file))
    })?;
    if !output.status.success() {
        return Err(Error::Bench {
            what: format!("`eventide index` failed; see {}", log.display()),
        });
    }
    let run: Value = serde_json::from_slice(&output.stdout).map_err(|error| Error::Bench {
        what: format!("`eventide index` printed no run: {error}"),
    })?;
    let log = fs::read_to_string(&log).map_err(Error::file("read", &log))?;
    let video_hours = run["video_ms"].as_f64().unwrap_or(0.0) / 3_600_000.0;
    Ok(row(name, video_hours, wall, cores, stage_seconds(&log)))
}

/// Decodes every picture of every video down to one a second, as the reference program does.
pub(crate) fn decode_all(name: &str, tools: &Path, corpus: &Path, video_hours: f64) -> Result<Row> {
    say("run", &format!("{name}: the reference program's way to its frames"));
    let ((), wall, cores) = measured(|| {
        for video in videos(corpus)? {
            let filter = "fps=1,scale=-2:224,crop=min(iw\\,224):224";
            let mut command = Command::new(tools.join("ffmpeg"));
            command.args(["-nostdin", "-v", "quiet", "-i"]).arg(&video);
            command.args(["-map", "0:v:0", "-vf", filter, "-f", "null", "-"]);
            // What cannot be decoded fails quickly here as it does in the program under test.
            let _ = command.status().map_err(Error::file("run", &video))?;
        }
        Ok(())
    })?;
    Ok(row(name, video_hours, wall, cores, Vec::new()))
}

/// The files of the corpus that are not subtitles or words about it.
fn videos(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let path = entry.map_err(Error::file("list", folder))?.path();
        if path.is_dir() {
            found.extend(videos(&path)?);
        } else if !["vtt", "srt", "json", "txt"]
            .iter()
            .any(|end| path.extension().is_some_and(|extension| extension == *end))
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn row(
    name: &str,
    video_hours: f64,
    wall: Duration,
    core_seconds: f64,
    stage_seconds: Vec<(&'static str, f64)>,
) -> Row {
    Row {
        name: name.to_owned(),
        video_hours,
        wall_seconds: wall.as_secs_f64(),
        core_seconds,
        video_hours_per_core_hour: video_hours / (core_seconds / 3600.0).max(f64::EPSILON),
        stage_seconds,
    }
}

/// Does some work, and says how long it took and how much processor time its children used.
pub(crate) fn measured<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration, f64)> {
    let (started, before) = (Instant::now(), children_seconds()?);
    let done = work()?;
    Ok((done, started.elapsed(), children_seconds()? - before))
}

/// Processor time of a process that runs, with that of its children that have ended, in seconds.
pub(crate) fn seconds_of(process: u32) -> Result<f64> {
    let path = PathBuf::from(format!("/proc/{process}/stat"));
    let stat = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    Ok((ticks(&stat, 11) + children_ticks(&stat)) / TICKS)
}

/// Processor time of all children that have ended, their children included, in seconds.
fn children_seconds() -> Result<f64> {
    let path = Path::new("/proc/self/stat");
    let stat = fs::read_to_string(path).map_err(Error::file("read", path))?;
    Ok(children_ticks(&stat) / TICKS)
}

/// Fields 16 and 17 of `/proc/self/stat`.
fn children_ticks(stat: &str) -> f64 {
    ticks(stat, 13)
}

/// Two fields of `/proc/self/stat`, as many after the second, which is a name in parentheses that may hold anything.
fn ticks(stat: &str, after: usize) -> f64 {
    let rest = stat.rsplit_once(')').map_or(stat, |(_, rest)| rest);
    rest.split_whitespace().skip(after).take(2).filter_map(|field| field.parse::<f64>().ok()).sum()
}

/// Seconds of each stage over all videos of a log of JSON lines.
pub(crate) fn stage_seconds(log: &str) -> Vec<(&'static str, f64)> {
    let lines: Vec<Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    STAGES
        .into_iter()
        .map(|stage| {
            let milliseconds: f64 = lines.iter().filter_map(|line| line[stage].as_f64()).sum();
            (stage.trim_end_matches("_ms"), milliseconds / 1000.0)
        })
        .collect()
}

fn markdown(rows: &[Row], profile: &str) -> String {
    let mut text = format!(
        "| `{profile}` profile | video-hours | wall s | core s | video-hours a core-hour | stages, wall s |\n\
         |---|---|---|---|---|---|\n"
    );
    for row in rows {
        let stages: Vec<_> = row
            .stage_seconds
            .iter()
            .map(|(stage, seconds)| format!("{stage} {seconds:.1}"))
            .collect();
        let _ = writeln!(
            text,
            "| {} | {:.3} | {:.1} | {:.1} | {:.1} | {} |",
            row.name,
            row.video_hours,
            row.wall_seconds,
            row.core_seconds,
            row.video_hours_per_core_hour,
            stages.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_children_is_read_past_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 300 45 20 0 1 0";
        assert!((children_ticks(stat) - 345.0).abs() < f64::EPSILON);
    }

    #[test]
    fn stages_are_summed_over_videos() {
        let log = "{\"sample_ms\":1500,\"probe_ms\":500}\nnot json\n{\"sample_ms\":500}\n";
        let stages = stage_seconds(log);
        assert!(
            stages.contains(&("sample", 2.0)) && stages.contains(&("probe", 0.5)),
            "{stages:?}"
        );
    }
}
