//! `cargo xtask results`: the claims of the Vid2Seq paper (arXiv 2302.14115, section 4.2), asked of small models.
//!
//! Each row trains a model with one thing changed, some times with other seeds, and scores it on videos of the test
//! split. The models go on from the vision encoder that `jobs/train/vision.toml` makes. What is trained is kept, so that
//! a call that was interrupted goes on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::children;
use crate::error::{Error, Result};
use crate::setup::{self, Scope};
use crate::workspace::{Workspace, create_folder, say, write};

/// How much is done for a row.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Effort {
    /// Models of each main row, each with a seed of its own.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Models of each other row.
    #[arg(long, default_value_t = 1)]
    other_seeds: u64,
    /// Steps of pre-training.
    #[arg(long, default_value_t = 150)]
    pre_training: u32,
    /// Steps of fine-tuning.
    #[arg(long, default_value_t = 500)]
    fine_tuning: u32,
    /// Videos that are learnt from.
    #[arg(long, default_value_t = 3000)]
    videos: u32,
    /// Videos of the test split that models are scored on.
    #[arg(long, default_value_t = 200)]
    tested: u32,
}

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Variant {
    /// Tasks of pre-training; empty for none.
    pre_training: &'static [&'static str],
    /// Whether pre-training sees single sentences in place of whole videos.
    clips: bool,
    video: bool,
    speech: bool,
    time_tokens: u32,
    /// Share of the training videos that is fine-tuned on.
    share: f64,
    beams: u32,
    bounds: Bounds,
}

/// Where events begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bounds {
    /// Where the model says.
    Model,
    /// Each sentence of the transcript is an event, of which the model only says what happens.
    Transcript,
}

const BOTH: &[&str] = &["speech", "denoising"];
/// What the rows are compared with.
const USUAL: Variant = Variant {
    pre_training: BOTH,
    clips: false,
    video: true,
    speech: true,
    time_tokens: 100,
    share: 1.0,
    beams: 1,
    bounds: Bounds::Model,
};
const NEW: Variant = Variant { pre_training: &[], ..USUAL };

/// A claim, what the paper says of it, and the rows that it is asked by.
struct Claim {
    title: &'static str,
    /// Whether its rows are main rows.
    main: bool,
    rows: &'static [(&'static str, Variant)],
}

const CLAIMS: &[Claim] = &[
    Claim {
        title: "Pre-training on narrated videos",
        main: true,
        rows: &[
            ("none", NEW),
            ("generative objective", Variant { pre_training: &["speech"], ..USUAL }),
            ("generative and denoising", USUAL),
            (
                "both, on single sentences in place of whole videos",
                Variant { clips: true, ..USUAL },
            ),
        ],
    },
    Claim {
        title: "What the model is given",
        main: true,
        rows: &[
            ("video and speech", USUAL),
            ("video only", Variant { speech: false, ..USUAL }),
            ("speech only", Variant { video: false, ..USUAL }),
        ],
    },
    Claim {
        title: "Time tokens",
        main: false,
        rows: &[
            ("25", Variant { time_tokens: 25, ..USUAL }),
            ("50", Variant { time_tokens: 50, ..USUAL }),
            ("100", USUAL),
            ("200", Variant { time_tokens: 200, ..USUAL }),
        ],
    },
    Claim {
        title: "Few-shot: share of the training videos, pre-trained or not",
        main: false,
        rows: &[
            ("1 %, pre-trained", Variant { share: 0.01, ..USUAL }),
            ("1 %, new", Variant { share: 0.01, ..NEW }),
            ("10 %, pre-trained", Variant { share: 0.1, ..USUAL }),
            ("10 %, new", Variant { share: 0.1, ..NEW }),
            ("50 %, pre-trained", Variant { share: 0.5, ..USUAL }),
            ("50 %, new", Variant { share: 0.5, ..NEW }),
            ("100 %, pre-trained", USUAL),
            ("100 %, new", NEW),
        ],
    },
    Claim {
        title: "Decoding",
        main: false,
        rows: &[("greedy", USUAL), ("4 beams", Variant { beams: 4, ..USUAL })],
    },
    Claim {
        title: "Where events begin and end",
        main: false,
        rows: &[
            ("told by the model, in one stage", USUAL),
            (
                "sentences of the transcript, each captioned by itself",
                Variant { bounds: Bounds::Transcript, ..USUAL },
            ),
        ],
    },
];

/// Scores of one model.
#[derive(Debug, Clone, Copy)]
struct Scores {
    soda_c: f64,
    cider: f64,
    f1: f64,
}

/// Trains and scores all rows, and writes the page.
pub(crate) fn run(workspace: &Workspace, effort: Effort, program: Option<PathBuf>) -> Result<()> {
    setup::run(workspace, Scope::Test)?;
    let build = || {
        say("build", "eventide");
        workspace.build("eventide", "dev")
    };
    let program = program.map_or_else(build, Ok)?;
    let root = workspace.root();
    let lab = Lab { workspace, program, folder: root.join("target/results"), effort };
    create_folder(&lab.folder)?;
    lab.vision()?;
    let mut page = format!("{}{}\n", HEAD, lab.conditions());
    for claim in CLAIMS {
        let mut rows = Vec::new();
        let seeds = if claim.main { effort.seeds } else { effort.other_seeds };
        for (name, variant) in claim.rows {
            let scores = (1..=seeds).map(|seed| lab.scores(variant, seed));
            rows.push((*name, scores.collect::<Result<Vec<_>>>()?));
        }
        let table = markdown(claim.title, &rows);
        println!("{table}");
        page.push_str(&table);
        page.push_str(&plot(&rows));
    }
    write(&root.join("docs/results.md"), &page)?;
    say("wrote", "docs/results.md");
    Ok(())
}

const HEAD: &str = "\
# The paper's claims, in small

Written by `cargo xtask results`. Models of 1.4 million values learn from synthetic videos (`eventide synth`) and are scored on videos of the
test split, some of whose combinations of colour, shape and action were never learnt from. SODA_c is computed with METEOR's relative
(`soda_c_native`), F1 is the mean over tIoU 0.3, 0.5, 0.7 and 0.9. Figures are means over seeds, with the lowest and the highest.

";

struct Lab<'a> {
    workspace: &'a Workspace,
    program: PathBuf,
    folder: PathBuf,
    effort: Effort,
}

impl Lab<'_> {
    fn conditions(&self) -> String {
        let Effort { seeds, other_seeds, pre_training, fine_tuning, videos, tested } = self.effort;
        format!(
            "{seeds} seeds for each row of the first two tables, {other_seeds} for the others; {pre_training} steps of pre-training, {fine_tuning} of fine-tuning, 16 videos each; {videos} videos to learn from, \
             {tested} to test on, of 20 to 28 seconds.\n"
        )
    }

    /// The vision encoder that all models go on from.
    fn vision(&self) -> Result<()> {
        let bundle = self.workspace.root().join("target/train/vision");
        if bundle.exists() {
            Ok(())
        } else {
            self.train(Path::new("jobs/train/vision.toml")).map(|_| ())
        }
    }

    /// The scores of a variant, computed now or before.
    fn scores(&self, variant: &Variant, seed: u64) -> Result<Scores> {
        let name = format!("{}-{seed}", variant.name());
        let result = self.folder.join(format!("{name}.json"));
        if let Ok(kept) = std::fs::read(&result) {
            return read(&kept);
        }
        let start = self.start(variant, seed)?;
        let file = self.folder.join(format!("{name}.toml"));
        write(&file, self.training_file(&name, &start, variant, seed, Stage::FineTuning))?;
        say("train", &name);
        let said = self.train(&file)?;
        let scores = read(&said)?;
        write(&result, said)?;
        Ok(scores)
    }

    /// The bundle that fine-tuning goes on from, pre-trained now or before.
    fn start(&self, variant: &Variant, seed: u64) -> Result<String> {
        if variant.pre_training.is_empty() {
            return Ok("../train/vision".to_owned());
        }
        // What only fine-tuning does otherwise shares its pre-training.
        let own = Variant {
            video: true,
            speech: true,
            share: 1.0,
            beams: 1,
            bounds: Bounds::Model,
            ..*variant
        };
        let name = format!("pre-{}-{seed}", own.name());
        if !self.folder.join(&name).exists() {
            let file = self.folder.join(format!("{name}.toml"));
            let start = "../train/vision";
            write(&file, self.training_file(&name, start, &own, seed, Stage::PreTraining))?;
            say("train", &name);
            self.train(&file)?;
        }
        Ok(name)
    }

    fn training_file(
        &self,
        name: &str,
        start: &str,
        variant: &Variant,
        seed: u64,
        stage: Stage,
    ) -> String {
        let Effort { pre_training, fine_tuning, videos, tested, .. } = self.effort;
        let (steps, tasks, share) = match stage {
            Stage::PreTraining => (pre_training, variant.pre_training, 1.0),
            Stage::FineTuning => (fine_tuning, &["events"][..], variant.share),
        };
        let Variant { clips, video, speech, time_tokens, beams, .. } = *variant;
        let scored = variant.bounds == Bounds::Transcript && stage == Stage::FineTuning;
        let bounds = if scored { "bounds = \"transcript\"\n" } else { "" };
        let clips = clips && stage == Stage::PreTraining;
        // A new model is as large as that of `jobs/train`, but for its time tokens.
        let sizes = if start.ends_with("vision") { sizes(time_tokens) } else { String::new() };
        format!(
            "[model]\nid = \"{name}\"\nstart = \"{start}\"\nout = \"{name}\"\nlicence = \"Apache-2.0\"\n{sizes}
[data]\ntraining = {{ drawn = {videos}, seed = 1, shortest = 20, longest = 28, crowd = 2 }}
validation = {{ drawn = {tested}, seed = 3, split = \"test\", shortest = 20, longest = 28, crowd = 2 }}
cache = \"../train/cache\"\nshare = {share:?}\nclips = {clips}
[objective]\ntasks = {tasks:?}\nvideo = {video}\nspeech = {speech}
[optimiser]\nsteps = {steps}\nbatch = 16\nlearning-rate = 2e-3\nwarm-up = 50\nbeta-2 = 0.98\ndropout = 0.0\ncrop = 0.2\nseed = {seed}
[run]\nfolder = \"runs/{name}\"\nevery = {steps}\nbeams = {beams}\n{bounds}"
        )
    }

    /// Carries out a training file. What it says at its end, as JSON.
    fn train(&self, file: &Path) -> Result<Vec<u8>> {
        let mut command = self.workspace.command(&self.program);
        command.args(["--quiet", "train", "--format", "json"]).arg(file);
        children::output(&mut command)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    PreTraining,
    FineTuning,
}

fn sizes(time_tokens: u32) -> String {
    format!(
        "[model.sizes]\npicture = 72\npatch = 12\nvision-width = 96\nvision-layers = 3\nfeature = 128\nframes = 20\n\
         temporal-layers = 2\nwidth = 128\nencoder-layers = 2\ndecoder-layers = 2\nheads = 4\npieces = 300\n\
         time-tokens = {time_tokens}\noutput-tokens = 256\n"
    )
}

impl Variant {
    /// A name for its files, different for each.
    fn name(&self) -> String {
        let Self { pre_training, clips, video, speech, time_tokens, share, beams, .. } = self;
        let bounds = (self.bounds == Bounds::Transcript, "bounds");
        let flags = [(*clips, "clips"), (!video, "blind"), (!speech, "deaf"), bounds];
        let flags = flags.iter().filter(|(set, _)| *set).flat_map(|(_, flag)| ["-", flag]);
        let flags: String = flags.collect();
        let tasks = if pre_training.is_empty() { "new".to_owned() } else { pre_training.join("-") };
        let share = (share * 100.0).round();
        format!("{tasks}{flags}-{time_tokens}-{share}-{beams}")
    }
}

fn read(said: &[u8]) -> Result<Scores> {
    let wrong = |source| Error::Answer { program: "eventide train", source };
    let said: Value = serde_json::from_slice(said).map_err(wrong)?;
    let scores: BTreeMap<String, f64> =
        serde_json::from_value(said["validation"].clone()).map_err(wrong)?;
    let score = |name: &str| scores.get(name).copied().unwrap_or(f64::NAN);
    Ok(Scores { soda_c: score("soda_c"), cider: score("cider"), f1: score("f1") })
}

fn markdown(title: &str, rows: &[(&str, Vec<Scores>)]) -> String {
    let mut table = format!("## {title}\n\n| | SODA_c | CIDEr | F1 |\n|---|---|---|---|\n");
    for (name, scores) in rows {
        let cell = |value: fn(&Scores) -> f64| spread(scores.iter().map(value));
        let (soda_c, cider, f1) = (cell(|s| s.soda_c), cell(|s| s.cider), cell(|s| s.f1));
        let _ = writeln!(table, "| {name} | {soda_c} | {cider} | {f1} |");
    }
    table + "\n"
}

/// A bar for the mean `SODA_c` of each row, in the plot language that viewers of Markdown draw (Mermaid).
fn plot(rows: &[(&str, Vec<Scores>)]) -> String {
    let names: Vec<&str> = rows.iter().map(|(name, _)| *name).collect();
    let soda = |scores: &[Scores]| mean(&scores.iter().map(|s| s.soda_c).collect::<Vec<_>>());
    let bars: Vec<String> = rows.iter().map(|(_, scores)| format!("{:.3}", soda(scores))).collect();
    let bars = bars.join(", ");
    format!(
        "```mermaid\nxychart-beta horizontal\n    x-axis {names:?}\n    y-axis \"SODA_c\" 0 --> 0.5\n    bar [{bars}]\n```\n\n"
    )
}

fn mean(values: &[f64]) -> f64 {
    let count = u32::try_from(values.len()).map_or(1.0, f64::from).max(1.0);
    values.iter().sum::<f64>() / count
}

/// The mean, and the lowest and highest where there are several.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let values: Vec<f64> = values.collect();
    let mean = mean(&values);
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if values.len() < 2 {
        format!("{mean:.3}")
    } else {
        format!("{mean:.3} ({low:.3} to {high:.3})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn different_variants_have_different_files() {
        let mut names: BTreeMap<String, Variant> = BTreeMap::new();
        for (_, variant) in CLAIMS.iter().flat_map(|claim| claim.rows) {
            let other = names.insert(variant.name(), *variant);
            assert!(other.is_none_or(|other| other == *variant), "{}", variant.name());
        }
        assert!(names.len() > 12, "{names:?}");
    }

    #[test]
    fn a_row_shows_its_spread() {
        let scores = |f1| Scores { soda_c: 0.5, cider: 1.0, f1 };
        let table =
            markdown("T", &[("a", vec![scores(0.2), scores(0.4)]), ("b", vec![scores(0.1)])]);
        assert!(
            table.contains(
                "| a | 0.500 (0.500 to 0.500) | 1.000 (1.000 to 1.000) | 0.300 (0.200 to 0.400) |"
            ),
            "{table}"
        );
        assert!(table.ends_with("| b | 0.500 | 1.000 | 0.100 |\n\n"), "{table}");
    }

    #[test]
    fn a_plot_has_a_bar_for_each_row() {
        let scores = |soda_c| Scores { soda_c, cider: 1.0, f1: 0.5 };
        let plot = plot(&[("a", vec![scores(0.2), scores(0.4)]), ("b, c", vec![scores(0.1)])]);
        assert!(plot.contains("x-axis [\"a\", \"b, c\"]"), "{plot}");
        assert!(plot.contains("bar [0.300, 0.100]"), "{plot}");
    }
}
