//! `cargo xtask demo-model`: trains the model of the demo, scores it on videos of the test split, and puts it into `jobs`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::children;
use crate::error::{Error, Result};
use crate::setup::{self, Scope};
use crate::workspace::{Draft, Workspace, copy, create_folder, say, write};

/// The steps, in order: each has a training file and a run in the folder of its name, and writes the bundle beside it.
const STEPS: [(&str, &str); 4] = [
    ("vision", "vision"),
    ("pre-train", "pre-trained"),
    ("fine-tune", "fine-tuned"),
    ("refine", "refined"),
];
/// Where the bundle lies for good.
const BUNDLE: &str = "jobs/demo-model";
/// The page that says how good it is, and the folder of its pictures.
const PAGE: &str = "docs/demo-model.md";
const CURVES: &str = "docs/demo-model";

/// The videos that it is scored on, as `eventide synth` takes them.
const TESTED: [&str; 12] = [
    "--videos",
    "200",
    "--seed",
    "3",
    "--split",
    "test",
    "--shortest",
    "20s",
    "--longest",
    "28s",
    "--crowd",
    "2",
];
/// What it is scored with: what it is given, as a person says it and as a job does.
const GIVEN: [(&str, &str); 2] = [("video and speech", "[\"sidecar\"]"), ("video only", "[]")];
/// The figures of the page, by their names in reports.
const FIGURES: [&str; 5] = ["soda_c", "meteor", "cider", "mean_of_f1", "recall"];

/// Trains, or goes on with what was interrupted; scores; puts the bundle and the page in their places.
pub(crate) fn run(workspace: &Workspace, program: Option<PathBuf>) -> Result<()> {
    setup::run(workspace, Scope::Test)?;
    let build = || {
        say("build", "eventide");
        workspace.build("eventide", "dev")
    };
    let program = program.map_or_else(build, Ok)?;
    let root = workspace.root();
    let trained = root.join("target/train");
    for (step, bundle) in STEPS {
        if !trained.join(bundle).exists() {
            let mut command = workspace.command(&program);
            children::run(command.args(["train", &format!("jobs/train/{step}.toml")]))?;
        }
    }
    let bundle = trained.join(STEPS[3].1);
    let rows = scores(workspace, &program, &bundle)?;
    place(&bundle, &root.join(BUNDLE))?;
    create_folder(&root.join(CURVES))?;
    for (step, _) in STEPS {
        let curve = trained.join("runs").join(step).join("curve.png");
        copy(&curve, &root.join(CURVES).join(format!("{step}.png")))?;
    }
    let page = page(&rows);
    println!("\n{page}");
    write(&root.join(PAGE), &page)?;
    say("wrote", &format!("{BUNDLE} and {PAGE}"));
    Ok(())
}

/// Copies the files of a bundle, whole or not at all.
fn place(from: &Path, to: &Path) -> Result<()> {
    let draft = Draft::start(to)?;
    copy_tree(from, draft.folder())?;
    draft.finish()
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    create_folder(to)?;
    for entry in fs::read_dir(from).map_err(Error::file("list", from))? {
        let entry = entry.map_err(Error::file("list", from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() { copy_tree(&from, &to)? } else { copy(&from, &to)? }
    }
    Ok(())
}

/// The whole way over the test videos, once for each thing that the model is given: the figures of each.
fn scores(
    workspace: &Workspace,
    program: &Path,
    bundle: &Path,
) -> Result<Vec<(&'static str, Value)>> {
    let folder = workspace.root().join("target/train/test");
    let synth = folder.join("synth");
    let mut make = workspace.command(program);
    children::run(make.args(["synth", "--out"]).arg(&synth).args(TESTED))?;
    let score = |(given, transcripts): (&'static str, &str)| {
        let tables = folder.join(given.replace(' ', "-"));
        if tables.exists() {
            fs::remove_dir_all(&tables).map_err(Error::file("remove", &tables))?;
        }
        let job = folder.join(format!("{}.toml", given.replace(' ', "-")));
        write(&job, job_file(&synth, bundle, &tables, transcripts))?;
        children::run(workspace.command(program).arg("index").arg(&job))?;
        let mut eval = workspace.command(program);
        eval.args(["eval", "--format", "json", "--unpredicted", "empty", "--predictions"]);
        eval.arg(&tables).arg("--references").arg(synth.join("truth.json"));
        eval.args(["--meteor-jar"]).arg(workspace.tools().join("meteor/meteor-1.5.jar"));
        let said = children::output(&mut eval)?;
        let said: Value = serde_json::from_slice(&said)
            .map_err(|source| Error::Answer { program: "eventide eval", source })?;
        Ok((given, said))
    };
    GIVEN.into_iter().map(score).collect()
}

fn job_file(synth: &Path, bundle: &Path, tables: &Path, transcripts: &str) -> String {
    let (videos, bundle, tables) =
        (synth.join("videos").display().to_string(), bundle.display(), tables.display());
    format!(
        "[corpus]\nuri = {videos:?}\ntranscripts = {transcripts}\n[model]\nbundle = \"{bundle}\"\ndevice = \"cpu\"\n\
         [tables]\nuri = \"{tables}\"\n"
    )
}

/// The page, in Markdown.
fn page(rows: &[(&str, Value)]) -> String {
    let head = FIGURES.map(|name| format!(" {name} |")).concat();
    let line = "---|".repeat(FIGURES.len() + 1);
    let figure = |said: &Value, name: &str| {
        let found = said["figures"][name].as_f64();
        found.map_or_else(|| " – |".to_owned(), |found| format!(" {found:.3} |"))
    };
    let row = |(given, said): &(&str, Value)| {
        let figures = FIGURES.map(|name| figure(said, name)).concat();
        format!("| {given} |{figures}\n")
    };
    let rows: String = rows.iter().map(row).collect();
    format!("{HEAD}| given |{head}\n|{line}\n{rows}\n{TAIL}")
}

const HEAD: &str = "\
# The model of the demo

Written by `cargo xtask demo-model`, which trains it anew from `jobs/train/vision.toml`, `pre-train.toml`, `fine-tune.toml` and `refine.toml` (seed 1)
where `target/train` does not hold it, scores it, and puts it into `jobs/demo-model` (Apache-2.0).

It knows the videos of `eventide synth` with up to two shapes on stage, of 20 to 28 seconds, and nothing else. A small vision encoder is
trained first, on pictures and what is to be seen in them, as CLIP was; it is frozen then, its features are whitened and kept. The captioning
network is pre-trained on what narrators say, and fine-tuned on events: first those of 10,000 videos, then those of 40,000.

Scores on 200 videos of the test split, some of whose combinations of colour, shape and action were never learnt from: encoded by FFmpeg,
indexed by `eventide index`, scored by `eventide eval`. SODA_c and METEOR are the published ones; mean_of_f1 and recall are means over tIoU
0.3, 0.5, 0.7 and 0.9.

";

const TAIL: &str = "\
What was learnt when (losses, and scores on the validation split):

![vision](demo-model/vision.png)
![pre-training](demo-model/pre-train.png)
![fine-tuning](demo-model/fine-tune.png)
![fine-tuning with more videos](demo-model/refine.png)
";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_has_a_row_of_figures_for_each_input() {
        let said = json!({"figures": {"soda_c": 0.4567, "mean_of_f1": 0.7}});
        let page = page(&[("video only", said)]);
        assert!(page.contains("| video only | 0.457 | – | – | 0.700 | – |\n"), "{page}");
        assert!(page.contains("| given | soda_c | meteor | cider | mean_of_f1 | recall |\n|---|---|---|---|---|---|\n"), "{page}");
    }

    #[test]
    fn a_bundle_is_copied_with_its_folders() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("golden")).unwrap();
        fs::write(from.join("golden/clip"), "1").unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(to.join("old"), "0").unwrap();
        place(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("golden/clip")).unwrap(), "1");
        assert!(!to.join("old").exists());
    }
}
