//! `cargo xtask bench speech`: `eventide transcribe` beside `faster-whisper`, with the same weights of Whisper base on the
//! same files: words that are wrong, and what they take.
//!
//! Both run as whole processes on one thread with the same beam, a voice detector and word times, in turn. What they take to
//! start is measured on a second of silence and taken off the processor time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::bench::measured;
use crate::bench_eval::record;
use crate::children;
use crate::corpus::SINTEL_CUES;
use crate::error::{Error, Result};
use crate::fetch::obtain;
use crate::narration::{BUNNY, EARTH, Script, speak};
use crate::parts;
use crate::python;
use crate::setup::{self, Scope};
use crate::workspace::{Workspace, copy, create_folder, say, write};

const SCRIPT: &str = include_str!("bench_speech.py");
/// What encloses our part of the page of benchmarks.
const MARKS: [&str; 2] = ["<!-- bench speech -->\n", "<!-- end of bench speech -->\n"];
/// How often each is timed. The medians count, for others may be at work on the machine.
const RUNS: usize = 3;

/// What is read aloud in `two_cities.wav`: Dickens, as far as it goes.
const TWO_CITIES: &str = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of \
    foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of light, it was the \
    season of darkness, it was the spring of hope, it was the winter of despair, we had everything before us, we had \
    nothing before us, we were all going direct to heaven, we were all going direct the other way. In short, the period \
    was so far like the present period, that some of its noisiest authorities insisted on its being received, for good or \
    for evil, in the superlative degree of comparison only.";
const BECKETT: &str = "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better.";

/// Something that is said.
struct Saying {
    name: &'static str,
    file: PathBuf,
    text: String,
}

/// A program: its name, and what it hears in some files.
type Side<'a> = (&'static str, &'a dyn Fn(&[&Path]) -> Result<Vec<String>>);

/// What one program made of all of it, run by run.
#[derive(Default)]
struct Heard {
    name: &'static str,
    /// Wrong words of each saying, of the last run.
    wrong: Vec<usize>,
    /// Processor time without what a start takes, processor time of a start, and time on the clock of all of it.
    seconds: [Vec<f64>; 3],
}

/// Runs the bench with the program built in `profile`, or with one that is there.
pub(crate) fn run(workspace: &Workspace, profile: &str, program: Option<PathBuf>) -> Result<()> {
    setup::run(workspace, Scope::Test)?;
    let folder = workspace.root().join("target/bench/speech");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
    }
    create_folder(&folder)?;
    let lock = workspace.lock()?;
    let python = python::environment(workspace, &parts::FASTER_WHISPER)?;
    let sayings = sayings(workspace, &folder)?;
    drop(lock);
    let silence = folder.join("silence.wav");
    let second = ["-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", "1"];
    let mut ffmpeg = Command::new(workspace.tools().join("ffmpeg"));
    children::output(ffmpeg.args(["-nostdin", "-v", "error"]).args(second).arg(&silence))?;
    let [program, testkit] = programs(workspace, profile, program)?;
    let bundle = folder.join("bundle");
    let mut make = workspace.command(&testkit);
    children::run(make.args(["whisper", "--size", "base", "--out"]).arg(&bundle))?;
    let weights = weights(workspace, &folder.join("weights"))?;

    let ours = |files: &[&Path]| ours(workspace.command(&program), &bundle, files);
    let theirs = |files: &[&Path]| theirs(&python, &weights, files);
    let sides: [Side<'_>; 2] =
        [("`eventide transcribe`", &ours), ("`faster-whisper` 1.2.1", &theirs)];
    let both = heard(sides, &sayings, &silence)?;

    let table = markdown(&sayings, &both);
    println!("\n{table}");
    record(&workspace.root().join("docs/benchmarks.md"), MARKS, &table)?;
    say("wrote", "docs/benchmarks.md");
    judge(&both)
}

/// The program, and what makes bundles of real weights.
pub(crate) fn programs(
    workspace: &Workspace,
    profile: &str,
    program: Option<PathBuf>,
) -> Result<[PathBuf; 2]> {
    if let Some(program) = program {
        let testkit = program.with_file_name("eventide-testkit");
        return Ok([program, testkit]);
    }
    say("build", &format!("eventide and eventide-testkit ({profile})"));
    Ok([workspace.build("eventide", profile)?, workspace.build("eventide-testkit", profile)?])
}

/// What our program hears in some files.
fn ours(mut program: Command, bundle: &Path, files: &[&Path]) -> Result<Vec<String>> {
    program.args(["transcribe", "--quiet", "--threads", "1", "--beams", "5", "--format", "json"]);
    program.arg("--model").arg(bundle).args(files);
    let answer = json(&children::output(&mut program)?, "eventide")?;
    let text = |file: &Value| {
        let sentences = file["sentences"].as_array().into_iter().flatten();
        sentences.filter_map(|said| said["text"].as_str()).collect::<Vec<_>>().join(" ")
    };
    Ok(answer.as_array().into_iter().flatten().map(text).collect())
}

/// What the other one hears.
fn theirs(python: &Path, weights: &Path, files: &[&Path]) -> Result<Vec<String>> {
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT]).arg(weights).args(files).env("OMP_NUM_THREADS", "1");
    let answer = json(&children::output(&mut command)?, "faster-whisper")?;
    let text = |text: &Value| text.as_str().unwrap_or_default().to_owned();
    Ok(answer.as_array().into_iter().flatten().map(text).collect())
}

/// Ours is to hear no worse, and to take no longer.
fn judge([our, their]: &[Heard; 2]) -> Result<()> {
    let wrong = |heard: &Heard| heard.wrong.iter().sum::<usize>();
    if wrong(our) > wrong(their) {
        let what = format!("{} words are wrong, theirs are {}", wrong(our), wrong(their));
        return Err(Error::Bench { what });
    }
    if our.median(0) > their.median(0) {
        let what = "slower than the other, or the machine is too busy".to_owned();
        return Err(Error::Bench { what });
    }
    Ok(())
}

/// Times both programs in turn, so that what else the machine does is shared, and counts what is wrong.
fn heard(sides: [Side<'_>; 2], sayings: &[Saying], silence: &Path) -> Result<[Heard; 2]> {
    let files: Vec<&Path> = sayings.iter().map(|saying| saying.file.as_path()).collect();
    let mut both = sides.map(|(name, _)| Heard { name, ..Heard::default() });
    for run in 1..=RUNS {
        for (heard, (name, transcribe)) in both.iter_mut().zip(sides) {
            say("run", &format!("{name}, {run} of {RUNS}"));
            let (_, _, start) = measured(|| transcribe(&[silence]))?;
            let (texts, wall, cores) = measured(|| transcribe(&files))?;
            let times = [cores - start, start, wall.as_secs_f64()];
            heard.seconds.iter_mut().zip(times).for_each(|(seconds, time)| seconds.push(time));
            heard.wrong = wrong(name, sayings, &texts)?;
            if run == RUNS {
                sayings.iter().zip(&texts).for_each(|(of, text)| println!("{}: {text}", of.name));
            }
        }
    }
    Ok(both)
}

/// How many words of each saying are wrong.
fn wrong(name: &str, sayings: &[Saying], texts: &[String]) -> Result<Vec<usize>> {
    if texts.len() != sayings.len() {
        let what = format!("{name} heard {} of {} files", texts.len(), sayings.len());
        return Err(Error::Bench { what });
    }
    let both = sayings.iter().zip(texts);
    Ok(both.map(|(saying, text)| errors(text, &saying.text)).collect())
}

impl Heard {
    /// The median of one of the times.
    fn median(&self, of: usize) -> f64 {
        let mut seconds = self.seconds[of].clone();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or_default()
    }
}

fn json(output: &[u8], program: &'static str) -> Result<Value> {
    serde_json::from_slice(output).map_err(|source| Error::Answer { program, source })
}

/// The words of a text, as far as they sound.
fn words(text: &str) -> Vec<String> {
    let plain =
        |c: char| if c.is_alphanumeric() || c == '\'' { c.to_ascii_lowercase() } else { ' ' };
    let text: String = text.chars().map(plain).collect();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Words that have to be put in, left out or changed.
pub(crate) fn errors(found: &str, expected: &str) -> usize {
    strsim::generic_levenshtein(&words(found), &words(expected))
}

/// Recordings, narrations, and a film with music. The caller holds the cache's lock.
fn sayings(workspace: &Workspace, folder: &Path) -> Result<Vec<Saying>> {
    let recordings = workspace.tools().join("recordings");
    let film = folder.join("sintel.mp4");
    copy(&obtain(workspace, &parts::SINTEL)?.join(parts::SINTEL.takes[0].kept), &film)?;
    Ok(vec![
        Saying {
            name: "a page of Dickens, read",
            file: recordings.join("two_cities.wav"),
            text: TWO_CITIES.to_owned(),
        },
        Saying {
            name: "a few words of Beckett's, read",
            file: recordings.join("beckett.wav"),
            text: BECKETT.to_owned(),
        },
        narrated(workspace, folder, "a narration by Piper", BUNNY)?,
        narrated(workspace, folder, "another", EARTH)?,
        Saying {
            name: "the trailer of Sintel, with music",
            file: film,
            text: SINTEL_CUES.iter().map(|cue| cue.text).collect::<Vec<_>>().join(" "),
        },
    ])
}

/// A script, spoken at its moments into silence.
fn narrated(
    workspace: &Workspace,
    folder: &Path,
    name: &'static str,
    script: &Script,
) -> Result<Saying> {
    let narration = speak(workspace, script)?;
    let file = folder.join(format!("{}.wav", name.replace(' ', "-")));
    narration.over_silence(&workspace.tools().join("ffmpeg"), &file)?;
    let text: Vec<_> = script.iter().map(|(_, sentence)| *sentence).collect();
    Ok(Saying { name, file, text: text.join(" ") })
}

/// The weights as `faster-whisper` takes them, in one file.
fn weights(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    create_folder(folder)?;
    let parts = workspace.tools().join("whisper/base");
    let mut whole = Vec::new();
    for part in ["model.bin.part1", "model.bin.part2"] {
        let path = parts.join(part);
        whole.extend(fs::read(&path).map_err(Error::file("read", &path))?);
    }
    write(&folder.join("model.bin"), whole)?;
    for name in ["config.json", "tokenizer.json"] {
        copy(&parts.join(name), &folder.join(name))?;
    }
    let tokenizer = parts.join("tokenizer.json");
    let text = fs::read(&tokenizer).map_err(Error::file("read", &tokenizer))?;
    write(&folder.join("vocabulary.txt"), vocabulary(&json(&text, "the tokenizer")?))?;
    Ok(folder.to_owned())
}

/// The tokens of a tokenizer by their ids, one a line, and behind them Whisper's times from 0 to 30 s.
fn vocabulary(tokenizer: &Value) -> String {
    let words = tokenizer["model"]["vocab"].as_object().into_iter().flatten();
    let words = words.map(|(word, id)| (id.as_u64(), word.as_str()));
    let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
    let added =
        added.map(|token| (token["id"].as_u64(), token["content"].as_str().unwrap_or_default()));
    let tokens: BTreeMap<_, _> = words.chain(added).collect();
    let times = (0..=1500).map(|step| format!("<|{}.{:02}|>", step / 50, step % 50 * 2));
    let lines = tokens.into_values().map(str::to_owned).chain(times);
    lines.fold(String::new(), |text, line| text + &line + "\n")
}

fn markdown(sayings: &[Saying], both: &[Heard; 2]) -> String {
    let mut text = "| wrong words of |".to_owned();
    for saying in sayings {
        let _ = write!(text, " {} ({}) |", saying.name, words(&saying.text).len());
    }
    text += " all | core s | core s to start | wall s |\n|---|";
    text += &"---|".repeat(sayings.len() + 4);
    let all: usize = sayings.iter().map(|saying| words(&saying.text).len()).sum();
    for heard in both {
        let Heard { name, wrong, .. } = heard;
        let [core, start, wall] = [0, 1, 2].map(|of| heard.median(of));
        let sum: usize = wrong.iter().sum();
        let each: Vec<_> = wrong.iter().map(usize::to_string).collect();
        #[expect(clippy::cast_precision_loss, reason = "for a person to read")]
        let rate = 100.0 * sum as f64 / all as f64;
        let _ = write!(text, "\n| {name} | {} |", each.join(" | "));
        let _ = write!(text, " {sum} ({rate:.1} %) | {core:.1} | {start:.1} | {wall:.1} |");
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_by_their_ids_and_then_times() {
        let tokenizer = serde_json::json!({
            "model": { "vocab": { "b": 1, "a": 0 } },
            "added_tokens": [{ "id": 2, "content": "<|end|>" }],
        });
        let text = vocabulary(&tokenizer);
        assert!(text.starts_with("a\nb\n<|end|>\n<|0.00|>\n<|0.02|>\n"), "{text}");
        assert!(text.ends_with("<|29.98|>\n<|30.00|>\n") && text.lines().count() == 1504);
    }

    #[test]
    fn wrong_words_are_counted_whatever_their_signs() {
        assert_eq!(errors("Ever tried, ever failed!", "Ever tried. Ever failed."), 0);
        assert_eq!(errors("every tried failed better", "Ever tried. Ever failed."), 3);
        assert_eq!(errors("", "I'm searching"), 2);
    }
}
