//! `cargo xtask bench model`: the parts of the model beside `PyTorch`, transformers and `CTranslate2` with the same weights, on one
//! thread: pictures encoded, and sequences generated for windows of words.
//!
//! The weights are random and of the layout and sizes of the released ones, so that no download is needed. Each side loads
//! once, works once unseen and then by the clock; what the sides answer is compared. The limits of one core are measured in
//! the same run.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::bench_eval::record;
use crate::bench_speech::programs;
use crate::children;
use crate::error::{Error, Result};
use crate::parts;
use crate::python;
use crate::setup::{self, Scope};
use crate::workspace::{Workspace, create_folder, say, write};

const SCRIPT: &str = include_str!("bench_model.py");
/// What encloses our part of the page of benchmarks.
const MARKS: [&str; 2] = ["<!-- bench model -->\n", "<!-- end of bench model -->\n"];
/// How often each is timed, after once that is not.
const RUNS: usize = 3;
/// Pictures of a run, as the script makes them.
const PICTURES: f64 = 16.0;
/// Windows of a run, likewise, and the tokens that are generated for each of them.
const WINDOWS: f64 = 16.0;
const TOKENS: f64 = 64.0;
/// Operations of one picture: the products with the weights of 24 layers for 257 tokens, and those of attention.
const PICTURE_FLOPS: f64 = 24.0 * 257.0 * (2.0 * 12.0 * 1024.0 * 1024.0 + 4.0 * 257.0 * 1024.0);
/// Bytes of the decoder's weights, all of which a step reads: 12 layers of attention to itself and the query and output of
/// that to the memory, the wide layers, and the table of tokens.
const DECODER_BYTES: f64 =
    4.0 * (12.0 * (6.0 * 768.0 * 768.0 + 2.0 * 768.0 * 3072.0) + 32_200.0 * 768.0);
/// How far features may be apart, of the largest.
const FEATURE_TOLERANCE: f64 = 1e-3;
/// How far the sums of log probabilities may be apart.
const SUM_TOLERANCE: f64 = 1e-2;

/// What a side took and said.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Answer {
    seconds: Vec<f64>,
    #[serde(default)]
    search_seconds: Vec<f64>,
    #[serde(default, skip_serializing)]
    features: Vec<Vec<f64>>,
    #[serde(default, skip_serializing)]
    rows: Vec<Sequence>,
}

/// A sequence that was generated, and as far as it is known the sum of its log probabilities.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
struct Sequence {
    tokens: Vec<i64>,
    sum: Option<f64>,
    #[serde(default)]
    log_probabilities: Vec<f64>,
}

/// What one core can do.
#[derive(Debug, Serialize, Deserialize)]
struct Limits {
    flops: f64,
    bytes: f64,
}

/// A side by its name, beside the one that it is compared with.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    answer: Answer,
    agreement: String,
}

/// Runs the bench with the program built in `profile`, or with one that is there.
pub(crate) fn run(workspace: &Workspace, profile: &str, program: Option<PathBuf>) -> Result<()> {
    setup::run(workspace, Scope::Test)?;
    let lock = workspace.lock()?;
    let python = python::environment(workspace, &parts::TRANSFORMERS)?;
    drop(lock);
    let [program, testkit] = programs(workspace, profile, program)?;
    let folder = workspace.root().join("target/bench/model");
    create_folder(&folder)?;
    let bench = Bench { workspace, program, testkit, python, folder };
    bench.make()?;
    let limits: Limits = bench.theirs("limits", &[])?;
    let (encoded, generated, mixed) = (bench.encoded()?, bench.generated()?, bench.mixed()?);
    let all = serde_json::json!({
        "limits": limits, "encode": encoded, "generate": generated, "mixed": mixed,
    });
    write(&bench.folder.join("model.json"), all.to_string())?;
    let table = markdown(profile, &limits, &encoded, &generated) + &mixed_markdown(&mixed);
    println!("\n{table}");
    record(&workspace.root().join("docs/benchmarks.md"), MARKS, &table)?;
    say("wrote", "docs/benchmarks.md");
    judge("encodes", &encoded)?;
    judge("generates", &generated)
}

/// What the bench works with.
struct Bench<'a> {
    workspace: &'a Workspace,
    program: PathBuf,
    testkit: PathBuf,
    python: PathBuf,
    folder: PathBuf,
}

impl Bench<'_> {
    /// The checkpoint, the bundles of it and the inputs, as far as an earlier bench has not left them.
    fn make(&self) -> Result<()> {
        let folder = &self.folder;
        if !folder.join("clip.pt").exists() {
            say("draw", "a checkpoint of 593 million random weights");
            let mut draw = self.workspace.command(&self.testkit);
            children::run(draw.args(["released", "--size", "base", "--out"]).arg(folder))?;
        }
        let [import, quantise] = [
            "import --vid2seq vid2seq.pth --clip clip.pt --tokenizer spiece.model --out full",
            "quantize full --precision int8 --out int8",
        ];
        for (bundle, command) in [("full", import), ("int8", quantise)] {
            if !folder.join(bundle).exists() {
                say("run", &format!("eventide model {command}"));
                let mut make = self.workspace.command(&self.program);
                make.arg("model").args(command.split(' ')).current_dir(folder);
                children::output(&mut make)?;
            }
        }
        self.theirs::<()>("inputs", &[])
    }

    fn encoded(&self) -> Result<Vec<Row>> {
        let theirs: Answer = self.theirs("encode", &[])?;
        let ours = |bundle| self.ours(bundle, &["--part", "encode"], "pictures.safetensors");
        let (full, small) = (ours("full")?, ours("int8")?);
        let apart = distance(&full.features, &theirs.features);
        if apart.is_nan() || apart > FEATURE_TOLERANCE {
            let what = format!("features are {apart:.1e} of the largest apart");
            return Err(Error::Bench { what });
        }
        let far = distance(&small.features, &theirs.features);
        let agreement = |apart: f64| format!("features {apart:.0e} apart");
        Ok(vec![
            row("PyTorch 2.15.0, eager", theirs, String::new()),
            row("ours", full, agreement(apart)),
            row("ours, int8", small, agreement(far)),
        ])
    }

    fn generated(&self) -> Result<Vec<Row>> {
        let alone: Answer = self.theirs("generate", &["1"])?;
        let mut rows = Vec::new();
        for (name, part, windows) in [
            ("transformers 5.23.0, 16 windows in a batch", "generate", "16"),
            ("CTranslate2 4.8.5, one window in a batch", "ctranslate2", "1"),
            ("CTranslate2 4.8.5, 16 windows in a batch", "ctranslate2", "16"),
        ] {
            let answer = self.theirs(part, &[windows])?;
            let agreement = agreement(&answer, &alone);
            rows.push(row(name, answer, agreement));
        }
        let mut single: Option<Answer> = None;
        for (name, bundle, together) in [
            ("ours, one window a run", "full", "1"),
            ("ours, 4 windows a run", "full", "4"),
            ("ours, 8 windows a run", "full", "8"),
            ("ours, int8, one window a run", "int8", "1"),
        ] {
            let options = ["--part", "generate", "--together", together];
            let answer = self.ours(bundle, &options, "words.safetensors")?;
            if bundle == "full" {
                same(name, &answer, &alone)?;
            }
            let mut agreement = agreement(&answer, &alone);
            match &single {
                None => single = Some(answer.clone()),
                Some(single) if bundle == "full" => agreement += to_the_last_digit(&answer, single),
                Some(_) => {}
            }
            rows.push(row(name, answer, agreement));
        }
        let first = row("transformers 5.23.0, one window in a batch", alone, String::new());
        rows.insert(0, first);
        Ok(rows)
    }

    /// Windows of many lengths, alone and together.
    fn mixed(&self) -> Result<[Row; 2]> {
        let ours = |together| {
            let options = ["--part", "generate", "--together", together];
            self.ours("full", &options, "mixed.safetensors")
        };
        let (alone, together) = (ours("1")?, ours("8")?);
        if alone.rows != together.rows {
            let what = "windows of several lengths say something else together".to_owned();
            return Err(Error::Bench { what });
        }
        let agreement = "as alone to the last digit".to_owned();
        Ok([
            row("one window a run", alone, String::new()),
            row("8 windows a run", together, agreement),
        ])
    }

    /// What the script says of one of its parts.
    fn theirs<T: serde::de::DeserializeOwned>(&self, part: &str, more: &[&str]) -> Result<T> {
        say("run", &format!("bench_model.py {part} {}", more.join(" ")));
        let mut command = Command::new(&self.python);
        command.args(["-c", SCRIPT, part]).arg(&self.folder).arg(RUNS.to_string()).args(more);
        command.env("OMP_NUM_THREADS", "1").env("HF_HUB_OFFLINE", "1");
        let said = children::output(&mut command)?;
        serde_json::from_slice(&said).map_err(|source| Error::Answer { program: "Python", source })
    }

    /// What our program says of a bundle.
    fn ours(&self, bundle: &str, options: &[&str], inputs: &str) -> Result<Answer> {
        say("run", &format!("eventide-testkit timing {bundle} {}", options.join(" ")));
        let mut command = self.workspace.command(&self.testkit);
        command.args(["timing", "--runs", &RUNS.to_string()]).args(options);
        command.arg("--bundle").arg(self.folder.join(bundle));
        command.arg("--inputs").arg(self.folder.join(inputs));
        let said = children::output(&mut command)?;
        let program = "eventide-testkit";
        serde_json::from_slice(&said).map_err(|source| Error::Answer { program, source })
    }
}

fn row(name: &str, answer: Answer, agreement: String) -> Row {
    Row { name: name.to_owned(), answer, agreement }
}

/// How far the farthest two features are apart, of the largest of theirs. Not a number where they do not fit together.
fn distance(ours: &[Vec<f64>], theirs: &[Vec<f64>]) -> f64 {
    let flat = |features: &[Vec<f64>]| features.concat();
    let (ours, theirs) = (flat(ours), flat(theirs));
    if ours.len() != theirs.len() {
        return f64::NAN;
    }
    let largest = theirs.iter().map(|value| value.abs()).fold(0.0, f64::max);
    let apart = ours.iter().zip(&theirs).map(|(our, their)| (our - their).abs());
    apart.fold(0.0, f64::max) / largest
}

/// Sequences of full precision must be the same, and be as likely.
fn same(name: &str, ours: &Answer, theirs: &Answer) -> Result<()> {
    let apart = sums_apart(ours, theirs);
    if equal(ours, theirs) == theirs.rows.len() && apart <= SUM_TOLERANCE {
        return Ok(());
    }
    let what = format!("{name}: {}", agreement(ours, theirs));
    Err(Error::Bench { what })
}

fn equal(ours: &Answer, theirs: &Answer) -> usize {
    let both = ours.rows.iter().zip(&theirs.rows);
    both.filter(|(our, their)| our.tokens == their.tokens).count()
}

/// How far the sums of log probabilities of equal sequences are apart at most.
fn sums_apart(ours: &Answer, theirs: &Answer) -> f64 {
    let both = ours.rows.iter().zip(&theirs.rows);
    let equal = both.filter(|(our, their)| our.tokens == their.tokens);
    let apart = equal.filter_map(|(our, their)| Some((our.sum? - their.sum?).abs()));
    apart.fold(0.0, f64::max)
}

/// Whether windows that share a run are as likely as alone in every digit.
fn to_the_last_digit(together: &Answer, alone: &Answer) -> &'static str {
    if together.rows == alone.rows { ", as alone to the last digit" } else { ", other last digits" }
}

fn agreement(ours: &Answer, theirs: &Answer) -> String {
    let (equal, all) = (equal(ours, theirs), theirs.rows.len());
    let mut text = format!("{equal} of {all} sequences");
    if ours.rows.iter().any(|row| row.sum.is_some()) && equal > 0 {
        let _ = write!(text, ", sums {:.0e} apart", sums_apart(ours, theirs));
    }
    text
}

/// Ours of full precision is to be no slower than the best of theirs.
fn judge(does: &str, rows: &[Row]) -> Result<()> {
    let best = |is_ours: bool| {
        let rows = rows.iter().filter(|row| row.name.starts_with("ours") == is_ours);
        rows.filter(|row| !row.name.contains("int8"))
            .map(|row| median(&row.answer.seconds))
            .fold(f64::INFINITY, f64::min)
    };
    if best(true) <= best(false) {
        return Ok(());
    }
    let what = format!("ours {does} slower than the others, or the machine is too busy");
    Err(Error::Bench { what })
}

fn median(seconds: &[f64]) -> f64 {
    let mut seconds = seconds.to_vec();
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::INFINITY)
}

/// The shortest and the longest of some times, for so many things each, as things a second.
fn spread(things: f64, seconds: &[f64]) -> String {
    let least = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let most = seconds.iter().copied().fold(0.0, f64::max);
    format!("{:.2} to {:.2}", things / most, things / least)
}

fn markdown(profile: &str, limits: &Limits, encoded: &[Row], generated: &[Row]) -> String {
    let first = |rows: &[Row]| rows.first().map_or(0.0, |row| median(&row.answer.seconds));
    let (torch, transformers) = (first(encoded), first(generated));
    let mut text = format!(
        "| pictures through ViT-L/14, `{profile}` profile | pictures/s | least and most | of `PyTorch` | of the core's products | agreement |\n\
         |---|---|---|---|---|---|\n"
    );
    for Row { name, answer, agreement } in encoded {
        let speed = PICTURES / median(&answer.seconds);
        let (ratio, share) =
            (speed * torch / PICTURES, 100.0 * speed * PICTURE_FLOPS / limits.flops);
        let spread = spread(PICTURES, &answer.seconds);
        let _ = writeln!(
            text,
            "| {name} | {speed:.2} | {spread} | {ratio:.2} | {share:.0} % | {agreement} |"
        );
    }
    let step = 1000.0 * DECODER_BYTES / limits.bytes;
    let _ = write!(
        text,
        "\n| windows through T5-base | windows/s | least and most | of transformers | ms a step of a window | agreement |\n\
         |---|---|---|---|---|---|\n"
    );
    for Row { name, answer, agreement } in generated {
        let speed = WINDOWS / median(&answer.seconds);
        let (ratio, step) = (speed * transformers / WINDOWS, 1000.0 / speed / TOKENS);
        let spread = spread(WINDOWS, &answer.seconds);
        let _ = writeln!(
            text,
            "| {name} | {speed:.3} | {spread} | {ratio:.2} | {step:.1} | {agreement} |"
        );
    }
    let searches = generated.iter().map(|row| &row.answer.search_seconds);
    let search = searches.filter(|seconds| !seconds.is_empty()).map(|seconds| median(seconds));
    let search = 1000.0 * search.fold(f64::INFINITY, f64::min) / TOKENS;
    let _ = writeln!(
        text,
        "\nOne core multiplies {:.0} GFLOP/s and reads {:.1} GB/s, so that reading the decoder's weights in full precision takes \
         {step:.1} ms. The search itself takes {search:.2} ms a step of a window.",
        limits.flops / 1e9,
        limits.bytes / 1e9,
    );
    text
}

fn mixed_markdown(rows: &[Row]) -> String {
    let mut text =
        "\n| windows of 16 to 496 words, ours | windows/s | least and most | agreement |\n\
         |---|---|---|---|\n"
            .to_owned();
    for Row { name, answer, agreement } in rows {
        let speed = WINDOWS / median(&answer.seconds);
        let spread = spread(WINDOWS, &answer.seconds);
        let _ = writeln!(text, "| {name} | {speed:.3} | {spread} | {agreement} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn answer(tokens: &[&[i64]], sum: f64) -> Answer {
        let sequence = |tokens: &&[i64]| Sequence {
            tokens: tokens.to_vec(),
            sum: Some(sum),
            ..Sequence::default()
        };
        Answer { rows: tokens.iter().map(sequence).collect(), ..Answer::default() }
    }

    #[test]
    fn sequences_must_be_the_same_and_as_likely() {
        let theirs = answer(&[&[1, 2], &[3]], -4.0);
        same("ours", &answer(&[&[1, 2], &[3]], -4.001), &theirs).unwrap();
        same("ours", &answer(&[&[1, 2], &[4]], -4.0), &theirs).unwrap_err();
        same("ours", &answer(&[&[1, 2]], -4.0), &theirs).unwrap_err();
        same("ours", &answer(&[&[1, 2], &[3]], -4.1), &theirs).unwrap_err();
        assert_eq!(
            agreement(&answer(&[&[1], &[3]], -3.0), &theirs),
            "1 of 2 sequences, sums 1e0 apart"
        );
    }

    #[test]
    fn features_are_compared_by_the_largest() {
        let theirs = [vec![1.0, -4.0]];
        assert!((distance(&[vec![1.0, -3.0]], &theirs) - 0.25).abs() < f64::EPSILON);
        assert!(distance(&[vec![1.0]], &theirs).is_nan());
    }

    #[test]
    fn the_page_has_a_place_for_the_figures() {
        let workspace = Workspace::locate().unwrap();
        let page = fs::read_to_string(workspace.root().join("docs/benchmarks.md")).unwrap();
        assert!(MARKS.iter().all(|mark| page.matches(mark).count() == 1));
    }
}
