//! `cargo xtask bench decode`: what it takes to see a hundred frames of a long film, by codec.
//!
//! A whole run of `eventide index` with exact and with key frames, beside one `ffmpeg` that decodes every picture down to one a
//! second, as the reference program does, and beside `PyAV` that seeks to as many frames, on one thread, without a sandbox. Processor
//! time is that of the whole process tree.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::{decode_all, index, job, measured};
use crate::bench_eval::record;
use crate::bench_speech::programs;
use crate::children;
use crate::corpus;
use crate::error::{Error, Result};
use crate::parts;
use crate::python;
use crate::setup::{self, Scope};
use crate::workspace::{Workspace, create_folder, say};

/// What encloses our part of the page of benchmarks.
const MARKS: [&str; 2] = ["<!-- bench decode -->\n", "<!-- end of bench decode -->\n"];
/// Seconds of footage that are encoded; the film repeats them.
const SCENE_SECONDS: u32 = 30;
/// Codec, file, encoder.
const FILMS: [(&str, &str, &str); 4] = [
    ("H.264", "h264.mp4", "-c:v libx264 -preset veryfast"),
    ("HEVC", "hevc.mp4", "-c:v libx265 -preset ultrafast -x265-params bframes=3:log-level=none"),
    ("VP9", "vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -row-mt 1 -b:v 3M"),
    ("AV1", "av1.mp4", "-c:v libsvtav1 -preset 10"),
];
const PEER: &str = include_str!("bench_decode.py");

/// How much is done.
#[derive(Debug, clap::Args)]
pub(crate) struct Scale {
    /// Length of each film in minutes.
    #[arg(long, default_value_t = 10)]
    minutes: u32,
    /// How often each side runs; odd, so that one run is in the middle.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// Median core-seconds of each side.
struct Row {
    codec: &'static str,
    exact: f64,
    keys: f64,
    whole: f64,
    peer_exact: f64,
    peer_keys: f64,
}

/// Runs the bench with the program built in `profile`, or with one that is there.
pub(crate) fn run(
    workspace: &Workspace,
    profile: &str,
    program: Option<PathBuf>,
    scale: &Scale,
) -> Result<()> {
    setup::run(workspace, Scope::Test)?;
    let footage = workspace.demo().join("corpus");
    corpus::run(workspace, &footage)?;
    let footage = footage.join("films/big-buck-bunny-trailer.mp4");
    let python = {
        let _held = workspace.lock()?;
        python::environment(workspace, &parts::FASTER_WHISPER)? // which reads sound through PyAV
    };
    if program.is_none() {
        workspace.build("eventide-decoder", profile)?;
    }
    let [program, testkit] = programs(workspace, profile, program)?;
    if !program.with_file_name("eventide-decoder").exists() {
        return Err(Error::Bench {
            what: "`eventide-decoder` is not beside the program".to_owned(),
        });
    }
    let folder = workspace.root().join("target/bench/decode");
    create_folder(&folder)?;
    let bundle = folder.join("bundle");
    if !bundle.exists() {
        let mut make = workspace.command(&testkit);
        children::run(make.args(["seeded-bundle", "--out"]).arg(&bundle))?;
    }
    let mut rows = Vec::new();
    for (codec, file, encoder) in FILMS {
        let place = folder.join(format!("{}-{file}", scale.minutes));
        let film = place.join(file);
        if !film.exists() {
            create_folder(&place)?;
            say("encode", &format!("a film of {} minutes in {codec}", scale.minutes));
            draw(&workspace.tools().join("ffmpeg"), &footage, encoder, scale.minutes, &film)?;
        }
        let ours = |frames: &str| {
            let captioning = format!("frames = \"{frames}\"\nmax-output-tokens = 8");
            let job = job(&place, &bundle, &captioning);
            let runs = folder.join("runs");
            if runs.exists() {
                fs::remove_dir_all(&runs).map_err(Error::file("remove", &runs))?;
            }
            index(workspace.command(&program), &runs, codec, &job).map(|row| row.core_seconds)
        };
        let theirs = || decode_all(codec, &workspace.tools(), &place, 0.0).map(|r| r.core_seconds);
        rows.push(Row {
            codec,
            exact: median(scale.runs, || ours("exact"))?,
            keys: median(scale.runs, || ours("keyframe"))?,
            whole: median(scale.runs, theirs)?,
            peer_exact: median(scale.runs, || seek(&python, &film, "exact"))?,
            peer_keys: median(scale.runs, || seek(&python, &film, "keyframe"))?,
        });
    }
    let table = markdown(profile, scale, &rows);
    println!("\n{table}");
    record(&workspace.root().join("docs/benchmarks.md"), MARKS, &table)?;
    say("wrote", "docs/benchmarks.md");
    Ok(())
}

/// Encodes a stretch of the footage at 1920 x 1080 and repeats it.
fn draw(ffmpeg: &Path, footage: &Path, encoder: &str, minutes: u32, film: &Path) -> Result<()> {
    let name = film.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let scene = film.with_file_name(format!(".scene-{name}"));
    let mut encode = Command::new(ffmpeg);
    encode.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(footage);
    encode.args(["-t", &SCENE_SECONDS.to_string(), "-an", "-vf", "scale=1920:1080"]);
    children::run(encode.args(encoder.split_whitespace()).arg(&scene))?;
    let again = (minutes * 60 / SCENE_SECONDS).saturating_sub(1).to_string();
    let draft = film.with_file_name(format!(".draft-{name}"));
    let mut repeat = Command::new(ffmpeg);
    repeat.args(["-nostdin", "-v", "error", "-y", "-stream_loop", &again, "-i"]).arg(&scene);
    children::run(repeat.args(["-c", "copy"]).arg(&draft))?;
    fs::remove_file(&scene).map_err(Error::file("remove", &scene))?;
    fs::rename(&draft, film).map_err(Error::file("rename", &draft))
}

/// Brings frames of a film with `PyAV`; core-seconds.
fn seek(python: &Path, film: &Path, mode: &str) -> Result<f64> {
    say("run", &format!("PyAV ({mode})"));
    let (said, _, cores) =
        measured(|| children::output(Command::new(python).args(["-c", PEER]).arg(film).arg(mode)))?;
    if said.trim_ascii() != b"100" {
        let said = String::from_utf8_lossy(&said);
        return Err(Error::Bench { what: format!("PyAV brought `{said}` frames") });
    }
    Ok(cores)
}

/// The middle of some runs.
fn median(runs: usize, mut work: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut seconds = (0..runs.max(1)).map(|_| work()).collect::<Result<Vec<_>>>()?;
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

fn markdown(profile: &str, scale: &Scale, rows: &[Row]) -> String {
    let Scale { minutes, runs } = scale;
    let mut text = format!(
        "| 1080p, {minutes} minutes, `{profile}` profile, core s, medians of {runs} | exact frames | key frames | \
         `ffmpeg` fps=1 | PyAV, exact | PyAV, key | exact: less than `ffmpeg` | less than PyAV | key frames: less than `ffmpeg` | \
         less than PyAV |\n|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        let Row { codec, exact, keys, whole, peer_exact, peer_keys } = row;
        let _ = writeln!(
            text,
            "| {codec} | {exact:.1} | {keys:.1} | {whole:.1} | {peer_exact:.1} | {peer_keys:.1} | {:.1}x | {:.1}x | {:.1}x | {:.1}x |",
            whole / exact,
            peer_exact / exact,
            whole / keys,
            peer_keys / keys
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_run_counts() {
        let mut seconds = [3.0, 1.0, 2.0].into_iter();
        let middle = median(3, || Ok(seconds.next().unwrap_or_default())).unwrap();
        assert!((middle - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn ratios_say_how_many_times_less_ours_takes() {
        let row = Row {
            codec: "H.264",
            exact: 2.0,
            keys: 1.0,
            whole: 10.0,
            peer_exact: 3.0,
            peer_keys: 0.5,
        };
        let table = markdown("fast", &Scale { minutes: 10, runs: 3 }, &[row]);
        assert!(
            table.ends_with("| 2.0 | 1.0 | 10.0 | 3.0 | 0.5 | 5.0x | 1.5x | 10.0x | 0.5x |\n"),
            "{table}"
        );
    }
}
