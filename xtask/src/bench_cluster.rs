//! `cargo xtask bench cluster`: what a cluster costs beside its work, and what a night without changes costs.
//!
//! All processes are real; in place of the media tools stands one that takes as long for a video as its file says.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::{measured, seconds_of};
use crate::bench_eval::record;
use crate::bench_import::watched;
use crate::bench_speech::programs;
use crate::children;
use crate::error::{Error, Result};
use crate::workspace::{Workspace, create_folder, say, write};

/// What encloses our part of the page of benchmarks.
const MARKS: [&str; 2] = ["<!-- bench cluster -->\n", "<!-- end of bench cluster -->\n"];
const EXECUTORS: usize = 4;
/// Bytes of a video for each millisecond that it takes. There is nothing in them: the files are sparse.
const BYTES_A_MS: u64 = 1 << 20;
/// Objects of one folder.
const FOLDER: u64 = 1000;
/// How long executors may take to be there.
const GRACE: Duration = Duration::from_mins(2);

/// How much is done.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Scale {
    /// Shards of the even corpus.
    #[arg(long, default_value_t = 2000)]
    shards: usize,
    /// Milliseconds that each of them takes.
    #[arg(long, default_value_t = 1000)]
    shard_ms: u64,
    /// Videos of the skewed corpus.
    #[arg(long, default_value_t = 1000)]
    skewed: usize,
    /// Shards that an executor works on at once. Its device works on one, the others read and write meanwhile.
    #[arg(long, default_value_t = 2)]
    slots: u32,
    /// Objects of the night without changes.
    #[arg(long, default_value_t = 1_000_000)]
    objects: u64,
}

/// A run on the cluster against its ideal.
struct Row {
    name: &'static str,
    videos: usize,
    shards: f64,
    ideal_s: f64,
    wall_s: f64,
    /// Processor time of all processes.
    cores_s: f64,
}

impl Row {
    /// The ideal time as a part of the time that it took.
    fn share(&self) -> f64 {
        self.ideal_s / self.wall_s
    }

    /// Processor time of all processes for each shard, in milliseconds.
    fn cores_ms(&self) -> f64 {
        self.cores_s * 1000.0 / self.shards
    }

    /// What a shard costs an executor beside its work, in milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "there are few executors")]
    fn overhead_ms(&self) -> f64 {
        (self.wall_s - self.ideal_s) * EXECUTORS as f64 * 1000.0 / self.shards
    }
}

/// A night over many objects.
struct Night {
    name: &'static str,
    wall_s: f64,
    cores_s: f64,
    peak_mb: u64,
}

/// A program that runs until it is dropped.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended by itself
        let _ = self.0.wait();
    }
}

/// Runs the bench with the program built in `profile`, or with one that is there.
pub(crate) fn run(
    workspace: &Workspace,
    profile: &str,
    program: Option<PathBuf>,
    scale: Scale,
) -> Result<()> {
    let folder = workspace.root().join("target/bench/cluster");
    remove(&folder)?;
    let [program, testkit] = programs(workspace, profile, program)?;
    for executor in 0..EXECUTORS {
        make_device(&testkit, &tools_of(&folder, executor))?;
    }
    let bench = Bench { workspace, program, folder: folder.clone() };
    let (even, skewed) = (vec![scale.shard_ms; scale.shards], skewed(scale.skewed));
    let cluster = bench.cluster(scale.slots)?;
    let rows = [
        bench.indexed("even", &even, "shard-videos = 1", &cluster)?,
        bench.indexed("skewed", &skewed, &shards_of(&skewed), &cluster)?,
    ];
    drop(cluster);
    let nights = bench.nights(scale.objects)?;
    remove(&folder)?;
    let table = markdown(&rows, &nights, scale, profile);
    println!("\n{table}");
    record(&workspace.root().join("docs/benchmarks.md"), MARKS, &table)?;
    say("wrote", "docs/benchmarks.md");
    judge(&rows, &nights)
}

/// Where the tools of an executor are.
fn tools_of(folder: &Path, executor: usize) -> PathBuf {
    folder.join(format!("tools-{executor}"))
}

/// Puts a copy of what stands in for the media tools into `tools`: a device of its own.
fn make_device(testkit: &Path, tools: &Path) -> Result<()> {
    create_folder(tools)?;
    let [ffmpeg, ffprobe] = ["ffmpeg", "ffprobe"].map(|tool| tools.join(tool));
    fs::copy(testkit, &ffprobe).map_err(Error::file("copy", testkit))?;
    symlink(&ffprobe, &ffmpeg).map_err(Error::file("link", &ffmpeg))
}

/// A scheduler and its executors.
struct Cluster {
    url: String,
    processes: Vec<Process>,
}

impl Cluster {
    /// Processor time of its processes and their children so far, in seconds.
    fn cores_s(&self) -> Result<f64> {
        self.processes.iter().map(|process| seconds_of(process.0.id())).sum()
    }
}

struct Bench<'a> {
    workspace: &'a Workspace,
    program: PathBuf,
    folder: PathBuf,
}

impl Bench<'_> {
    /// The program, with what stands in for the tools that it wants.
    fn program(&self) -> Command {
        let mut command = self.workspace.command(&self.program);
        command.current_dir(&self.folder).env("EVENTIDE_TOOLS", tools_of(&self.folder, 0));
        command
    }

    fn executor(&self, number: usize, url: &str, slots: u32) -> Result<Process> {
        let slots = slots.to_string();
        let mut command = self.program();
        command
            .args(["executor", url, "--slots", &*slots, "--workers", &*slots, "--log", "error"])
            .env("EVENTIDE_TOOLS", tools_of(&self.folder, number));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Process(child.map_err(Error::file("run in", &self.folder))?))
    }

    fn scheduler(&self) -> Result<(Process, String)> {
        let mut command = self.program();
        command.args(["scheduler", "--listen", "127.0.0.1:0"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Error::file("run in", &self.folder))?;
        let said = child.stdout.take().map(BufReader::new);
        let process = Process(child);
        let line = said.into_iter().flat_map(BufRead::lines).map_while(std::result::Result::ok);
        let mut lines = line.filter(|line| line.contains("listens at "));
        let url = lines.next().and_then(|line| Some(line.rsplit(' ').next()?.to_owned()));
        let url = url.ok_or_else(|| Error::Bench { what: "the scheduler has ended".to_owned() })?;
        Ok((process, url))
    }

    /// A scheduler and executors of so many shards each, when all are there.
    fn cluster(&self, slots: u32) -> Result<Cluster> {
        let (scheduler, url) = self.scheduler()?;
        let mut processes = vec![scheduler];
        for number in 0..EXECUTORS {
            processes.push(self.executor(number, &url, slots)?);
        }
        let deadline = Instant::now() + GRACE;
        while self.executors_there(&url)? < EXECUTORS {
            if Instant::now() > deadline {
                return Err(Error::Bench { what: "executors did not come".to_owned() });
            }
            thread::sleep(Duration::from_millis(200)); // between two looks
        }
        Ok(Cluster { url, processes })
    }

    fn executors_there(&self, url: &str) -> Result<usize> {
        let mut command = self.program();
        let said =
            children::output(command.args(["status", "--cluster", url, "--format", "json"]))?;
        let state: Value = serde_json::from_slice(&said).unwrap_or_default();
        Ok(state["cluster"]["executors"].as_array().map_or(0, Vec::len))
    }

    /// Indexes videos that take so many milliseconds each.
    fn indexed(
        &self,
        name: &'static str,
        times: &[u64],
        run: &str,
        cluster: &Cluster,
    ) -> Result<Row> {
        let corpus = self.folder.join(name);
        create_folder(&corpus)?;
        for (number, ms) in times.iter().enumerate() {
            let path = corpus.join(format!("v-{number:06}.mp4"));
            let made = File::create(&path).and_then(|mut file| {
                writeln!(file, "{ms}")?;
                file.set_len(ms * BYTES_A_MS)
            });
            made.map_err(Error::file("make", &path))?;
        }
        let job = self.job(name, "", run)?;
        say("run", &format!("{} videos on {EXECUTORS} executors ({name})", times.len()));
        let mut command = self.program();
        command
            .args(["--quiet", "index", "--format", "json", "--cluster", &*cluster.url])
            .arg(&job);
        let before = cluster.cores_s()?;
        let (said, wall, client_s) = measured(|| children::output(&mut command))?;
        let cores_s = client_s + cluster.cores_s()? - before;
        let done: Value = serde_json::from_slice(&said).unwrap_or_default();
        if done["empty"].as_u64() != u64::try_from(times.len()).ok() {
            return Err(Error::Bench { what: format!("not all videos were done: {done}") });
        }
        let shards = self.shards_of_run(name, &done)?;
        let ideal_s = seconds(last_end(times));
        Ok(Row { name, videos: times.len(), shards, ideal_s, wall_s: wall.as_secs_f64(), cores_s })
    }

    fn job(&self, name: &str, limits: &str, run: &str) -> Result<PathBuf> {
        let job = self.folder.join(format!("{name}.toml"));
        let text = format!(
            "[corpus]\nuri = \"{name}\"\n[tables]\nuri = \"{name}-lake\"\n[captioning]\nsource = \"speech\"\n\
             [limits]\nlargest-file = \"1 TiB\"\n{limits}\n[run]\n{run}\n"
        );
        write(&job, text)?;
        Ok(job)
    }

    /// How many shards a run had, as its page says it.
    fn shards_of_run(&self, name: &str, run: &Value) -> Result<f64> {
        let path = self.folder.join(format!("{name}-lake/_eventide/timelines"));
        let path = path.join(format!("{}.json", run["run_id"].as_str().unwrap_or_default()));
        let text = fs::read(&path).map_err(Error::file("read", &path))?;
        let timeline: Value = serde_json::from_slice(&text).unwrap_or_default();
        let shards = timeline["shards"].as_array().map_or(0, Vec::len);
        Ok(u32::try_from(shards).map_or(f64::NAN, f64::from))
    }

    /// The first night over so many objects, none of which is looked at, and one in which nothing has changed.
    fn nights(&self, objects: u64) -> Result<Vec<Night>> {
        let name = "many";
        say("make", &format!("{objects} objects"));
        for number in 0..objects {
            let folder = self.folder.join(format!("{name}/{:04}", number / FOLDER));
            if number % FOLDER == 0 {
                create_folder(&folder)?;
            }
            let path = folder.join(format!("v-{number:07}.mp4"));
            let made = File::create(&path).and_then(|file| file.set_len(BYTES_A_MS));
            made.map_err(Error::file("make", &path))?;
        }
        let job = self.job(name, "", "")?;
        let text = fs::read_to_string(&job).map_err(Error::file("read", &job))?;
        // Too large for the job: a row each, and no work.
        write(&job, text.replace("1 TiB", "1 KiB"))?;
        ["the first", "no change"].map(|night| self.night(night, &job)).into_iter().collect()
    }

    fn night(&self, name: &'static str, job: &Path) -> Result<Night> {
        say("run", &format!("a night over many objects ({name})"));
        let mut command = self.program();
        command.args(["--quiet", "index"]).arg(job);
        let (peak_kib, wall, cores_s) = measured(|| watched(command, &self.folder))?;
        let peak_mb = peak_kib * 1024 / 1_000_000;
        Ok(Night { name, wall_s: wall.as_secs_f64(), cores_s, peak_mb })
    }
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Error::file("remove", folder))?;
    }
    Ok(())
}

/// Milliseconds of so many videos: most take a few hundred, some a hundred times longer than others. Always the same.
fn skewed(videos: usize) -> Vec<u64> {
    let mut state = 7u64;
    let mut one = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let uniform = f64::from(u32::try_from(state >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        // A Pareto tail, from 100 ms to 30 s.
        let ms = 100.0 / (1.0 - uniform).max(1e-9).powf(1.0 / 1.3);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "100 to 30,000"
        )]
        let ms = ms.min(30_000.0) as u64;
        ms
    };
    (0..videos).map(|_| one()).collect()
}

/// Settings by which there are some fifty shards an executor.
fn shards_of(times: &[u64]) -> String {
    let bytes = times.iter().sum::<u64>() * BYTES_A_MS / (50 * EXECUTORS as u64);
    format!("shard-size = \"{bytes} B\"\nshard-videos = 1000")
}

/// When the last of the executors ends, in milliseconds, where the longest video goes first to whoever is free.
fn last_end(times: &[u64]) -> u64 {
    let mut times = times.to_vec();
    times.sort_unstable_by(|a, b| b.cmp(a));
    let mut busy = [0; EXECUTORS];
    for time in times {
        if let Some(free) = busy.iter_mut().min() {
            *free += time;
        }
    }
    busy.into_iter().max().unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "for a person to read")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn markdown(rows: &[Row], nights: &[Night], scale: Scale, profile: &str) -> String {
    let mut text = format!(
        "| {EXECUTORS} executors of {} slots, `{profile}` profile | videos | shards | ideal s | wall s | of the ideal | overhead, ms a shard | core ms a shard |\n\
         |---|---|---|---|---|---|---|---|\n",
        scale.slots
    );
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.1} | {:.1} | {:.1} % | {:.1} | {:.1} |",
            row.name,
            row.videos,
            row.shards,
            row.ideal_s,
            row.wall_s,
            row.share() * 100.0,
            row.overhead_ms(),
            row.cores_ms()
        );
    }
    let _ = write!(
        text,
        "\n| a night over {} objects | wall s | core s | peak memory, MB |\n|---|---|---|---|\n",
        scale.objects
    );
    for night in nights {
        let Night { name, wall_s, cores_s, peak_mb } = night;
        let _ = writeln!(text, "| {name} | {wall_s:.1} | {cores_s:.1} | {peak_mb} |");
    }
    text
}

/// What a cluster is to hold: 95 % of the ideal time, 10 ms a shard, five minutes and 1 GB for a night without changes.
fn judge(rows: &[Row], nights: &[Night]) -> Result<()> {
    let missed = |what: String| Err(Error::Bench { what });
    for row in rows {
        if row.share() < 0.95 {
            return missed(format!("{}: {:.1} % of the ideal", row.name, row.share() * 100.0));
        }
    }
    let even = &rows[0];
    if even.overhead_ms() > 10.0 {
        return missed(format!("a shard costs {:.1} ms beside its work", even.overhead_ms()));
    }
    match nights.iter().find(|night| night.name == "no change") {
        Some(night) if night.wall_s > 300.0 || night.peak_mb > 1000 => {
            missed(format!("a night without changes: {:.0} s, {} MB", night.wall_s, night.peak_mb))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ideal_is_the_longest_first() {
        assert_eq!(last_end(&[10; 8]), 20);
        assert_eq!(last_end(&[10, 50, 10, 10, 10]), 50);
    }

    #[test]
    fn overhead_is_what_the_executors_lose() {
        let row =
            Row { name: "r", videos: 8, shards: 8.0, ideal_s: 20.0, wall_s: 21.0, cores_s: 4.0 };
        assert!((row.cores_ms() - 500.0).abs() < 1e-9);
        assert!((row.overhead_ms() - 500.0).abs() < 1e-9);
        assert!((row.share() - 20.0 / 21.0).abs() < 1e-9);
    }
}
