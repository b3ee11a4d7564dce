//! `cargo xtask results`: the claims of the Vid2Seq paper (arXiv 2302.14115, section 4.2), asked of small models.
//!
//! Each row trains a model with one thing changed, some times with other seeds, and scores it on videos of the test
//! split. The models go on from the vision encoder that `jobs/train/vision.toml` makes. What is trained is kept, so that
//! a call that was interrupted goes on. The figures are kept in `docs/results.json`, of which `docs/results.md` is made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::children;
use crate::error::{Error, Result};
use crate::setup::{self, Scope};
use crate::workspace::{Workspace, create_folder, say, write};

mod claims;
mod page;

use claims::{Bounds, CLAIMS, Claim, Variant};
use page::{Answer, Conditions, Record, Row, page};

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

/// Scores of one model.
#[derive(Debug, Clone, Copy)]
struct Scores {
    soda_c: f64,
    cider: f64,
    f1: f64,
}

/// Where the page and the figures that it is made of lie.
const PAGE: &str = "docs/results.md";
const RECORD: &str = "docs/results.json";

/// The names of the claims that can be asked.
pub(crate) fn names() -> Vec<&'static str> {
    CLAIMS.iter().map(|claim| claim.name).collect()
}

/// Trains and scores the rows of the claims of these names, of all if there is none, and writes their figures among
/// those of the others.
pub(crate) fn run(
    workspace: &Workspace,
    claims: &[String],
    effort: Effort,
    program: Option<PathBuf>,
) -> Result<()> {
    setup::run(workspace, Scope::Test)?;
    let build = || {
        say("build", "eventide");
        workspace.build("eventide", "dev")
    };
    let program = program.map_or_else(build, Ok)?;
    let folder = workspace.root().join("target/results");
    let lab = Lab { workspace, program, folder, effort };
    create_folder(&lab.folder)?;
    lab.vision()?;
    let wanted = |claim: &&Claim| claims.is_empty() || claims.iter().any(|name| name == claim.name);
    for claim in CLAIMS.iter().filter(wanted) {
        let answer = lab.answer(claim)?;
        // Read anew each time: another call may have asked another claim meanwhile.
        let mut record = Record::read(&workspace.root().join(RECORD))?;
        record.put(answer);
        write(&workspace.root().join(RECORD), record.json()?)?;
        render(workspace)?;
    }
    Ok(())
}

/// Writes the page out of the figures.
pub(crate) fn render(workspace: &Workspace) -> Result<()> {
    let record = Record::read(&workspace.root().join(RECORD))?;
    write(&workspace.root().join(PAGE), page(&record))?;
    say("wrote", PAGE);
    Ok(())
}

struct Lab<'a> {
    workspace: &'a Workspace,
    program: PathBuf,
    folder: PathBuf,
    effort: Effort,
}

impl Lab<'_> {
    /// The rows of a claim, computed now or before.
    fn answer(&self, claim: &Claim) -> Result<Answer> {
        let Effort { pre_training, fine_tuning, videos, tested, .. } = self.effort;
        let seeds = if claim.main { self.effort.seeds } else { self.effort.other_seeds };
        let row = |(name, variant): &(&str, Variant)| {
            let scores = (1..=seeds).map(|seed| self.scores(variant, seed));
            Ok(Row::new(name, &scores.collect::<Result<Vec<_>>>()?))
        };
        let rows = claim.rows.iter().map(row).collect::<Result<_>>()?;
        let conditions = Conditions { seeds, pre_training, fine_tuning, videos, tested };
        Ok(Answer { claim: claim.name.to_owned(), conditions, rows })
    }

    /// A name for the files of a variant under the conditions of this call.
    fn name(&self, variant: &Variant, seed: u64) -> String {
        let Effort { pre_training, fine_tuning, videos, tested, .. } = self.effort;
        format!("{}-{seed}-{pre_training}-{fine_tuning}-{videos}-{tested}", variant.name())
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
        let name = self.name(variant, seed);
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
        let name = format!("pre-{}", self.name(&own, seed));
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

fn read(said: &[u8]) -> Result<Scores> {
    let wrong = |source| Error::Answer { program: "eventide train", source };
    let said: Value = serde_json::from_slice(said).map_err(wrong)?;
    let scores: BTreeMap<String, f64> =
        serde_json::from_value(said["validation"].clone()).map_err(wrong)?;
    let score = |name: &str| scores.get(name).copied().unwrap_or(f64::NAN);
    Ok(Scores { soda_c: score("soda_c"), cider: score("cider"), f1: score("f1") })
}
