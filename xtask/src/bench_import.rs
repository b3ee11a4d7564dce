//! `cargo xtask bench import`: a checkpoint of full size becomes bundles, in how much time and memory.
//!
//! The weights are random and of the layout and sizes of the released ones, so that no download is needed. What is
//! written, some 6 GB, goes away again.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::measured;
use crate::children;
use crate::error::{Error, Result};
use crate::setup::{self, Scope};
use crate::workspace::{Workspace, create_folder, say};

/// Memory that an import may take, in KiB: 4 GB.
const MOST_MEMORY: u64 = 4_000_000_000 / 1024;
/// How often the memory of a running program is looked at. The kernel keeps its peak.
const LOOK: Duration = Duration::from_millis(20);

/// What is run on the checkpoint and then on the bundle, in this order.
const STEPS: [(&str, &[&str]); 7] = [
    (
        "import",
        &[
            "import",
            "--vid2seq",
            "vid2seq.pth",
            "--clip",
            "clip.pt",
            "--tokenizer",
            "spiece.model",
            "--out",
            "full",
        ],
    ),
    ("inspect", &["inspect", "full"]),
    ("verify", &["verify", "full"]),
    (
        "run, 8 tokens",
        &["run", "full", "--inputs", "full/golden/clip.safetensors", "--max-output-tokens", "8"],
    ),
    ("quantize to fp16", &["quantize", "full", "--precision", "fp16", "--out", "half"]),
    ("quantize to int8", &["quantize", "full", "--precision", "int8", "--out", "int8"]),
    ("verify int8", &["verify", "int8"]),
];

/// What a step took.
struct Row {
    name: &'static str,
    wall: Duration,
    core_seconds: f64,
    peak_kib: u64,
}

/// Runs the bench with the program built in `profile`.
pub(crate) fn run(workspace: &Workspace, profile: &str) -> Result<()> {
    setup::run(workspace, Scope::Test)?;
    let folder = workspace.root().join("target/bench/import");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
    }
    create_folder(&folder)?;
    let measured = steps(workspace, profile, &folder);
    fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
    let rows = measured?;
    println!("\n{}", markdown(&rows, profile));
    match rows.iter().find(|row| row.name == "import" && row.peak_kib > MOST_MEMORY) {
        Some(row) => Err(Error::Bench {
            what: format!(
                "the import took {} KiB of memory, more than {MOST_MEMORY}",
                row.peak_kib
            ),
        }),
        None => Ok(()),
    }
}

fn steps(workspace: &Workspace, profile: &str, folder: &Path) -> Result<Vec<Row>> {
    say("build", &format!("eventide and eventide-testkit ({profile})"));
    let program = workspace.build("eventide", profile)?;
    let testkit = workspace.build("eventide-testkit", profile)?;
    say("draw", "a checkpoint of 593 million random weights");
    let mut draw = workspace.command(&testkit);
    children::run(draw.args(["released", "--size", "base", "--out"]).arg(folder))?;
    let mut rows = Vec::new();
    for (name, arguments) in STEPS {
        say("run", &format!("eventide model {}", arguments.join(" ")));
        let mut command = workspace.command(&program);
        command.arg("model").args(arguments).current_dir(folder);
        let (peak_kib, wall, core_seconds) = measured(|| watched(command, folder))?;
        rows.push(Row { name, wall, core_seconds, peak_kib });
    }
    Ok(rows)
}

/// Runs a program to its end. The answer is the most memory that it held, in KiB.
pub(crate) fn watched(mut command: Command, folder: &Path) -> Result<u64> {
    let mut child = command.stdin(Stdio::null()).spawn().map_err(Error::file("run in", folder))?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let deadline = Instant::now() + Duration::from_hours(1);
    loop {
        if let Ok(status) = fs::read_to_string(&status) {
            peak = peak.max(high_water(&status).unwrap_or(0));
        }
        if let Some(ended) = child.try_wait().map_err(Error::file("wait in", folder))? {
            return if ended.success() {
                Ok(peak)
            } else {
                Err(Error::Bench { what: format!("`eventide` ended with {ended}") })
            };
        }
        if Instant::now() > deadline {
            let _ = child.kill(); // it may have ended just now
            return Err(Error::Bench { what: "`eventide` did not end within an hour".to_owned() });
        }
        thread::sleep(LOOK);
    }
}

/// The line `VmHWM` of `/proc/PID/status`.
fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn markdown(rows: &[Row], profile: &str) -> String {
    let mut text =
        format!("| `{profile}` profile | wall s | core s | peak memory, MB |\n|---|---|---|---|\n");
    for row in rows {
        let megabytes = row.peak_kib * 1024 / 1_000_000;
        let (wall, cores) = (row.wall.as_secs_f64(), row.core_seconds);
        let _ = writeln!(text, "| {} | {wall:.1} | {cores:.1} | {megabytes} |", row.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_its_line() {
        let status = "Name:\ta\nVmPeak:\t 9000 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 12 kB\n";
        assert_eq!(high_water(status), Some(1234));
        assert_eq!(high_water("Name:\ta\n"), None);
    }
}
