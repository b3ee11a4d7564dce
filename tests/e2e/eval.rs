//! Scores on the command line: the published figures from files, METEOR's own program included, tables as predictions,
//! gates, comparisons, reports, and what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use eventide_testkit::{Finished, tools};
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::trial::{LIMIT, Trial, eventide};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/golden/eval/made_up");

fn golden(name: &str) -> String {
    Path::new(GOLDEN).join(name).display().to_string()
}

fn expected() -> Value {
    serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap()
}

/// A folder, and the command that runs in it.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A program of shell commands.
    fn script(&self, name: &str, commands: &str) -> String {
        self.write(name, format!("#!/bin/sh\n{commands}\n"));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        self.path(name).display().to_string()
    }

    fn eval<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Finished {
        let program = eventide().arguments(["eval"]).arguments(arguments);
        program.in_folder(self.0.path()).run(LIMIT).unwrap()
    }

    /// Scores the golden predictions against the golden references.
    fn golden(&self, sets: &[&str], more: &[&str]) -> Finished {
        let predictions = golden("predictions.json");
        let sets: Vec<_> = sets.iter().map(|set| golden(set)).collect();
        let files = ["--predictions", &*predictions, "--references"].into_iter();
        self.eval(files.chain(sets.iter().map(|set| &**set)).chain(more.iter().copied()))
    }

    /// The same as JSON, which must succeed.
    fn report(&self, sets: &[&str], more: &[&str]) -> Value {
        let finished = self.golden(sets, &[more, &["--format", "json"]].concat());
        finished.assert_code(0);
        serde_json::from_str(&finished.stdout).unwrap()
    }
}

const BOTH: [&str; 2] = ["references_1.json", "references_2.json"];

#[track_caller]
fn close(found: &Value, expected: &Value, what: &str) {
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{what}: {value}"));
    assert!((number(found) - number(expected)).abs() < 1e-4, "{what}: {found}, not {expected}");
}

/// Holds a report to what densevid gives.
#[track_caller]
fn check_densevid(report: &Value, expected: &Value, meteor: bool) {
    let figures = &report["figures"];
    let average = &expected["average"];
    for (name, golden) in [("precision", "Precision"), ("recall", "Recall"), ("f1_of_means", "F1")]
    {
        close(&figures[name], &average[golden], name);
    }
    let mut captions = vec![("cider", "CIDEr"), ("rouge_l", "Rouge-L")];
    captions.extend([("bleu_1", "Bleu_1"), ("bleu_2", "Bleu_2"), ("bleu_3", "Bleu_3")]);
    captions.push(("bleu_4", "Bleu_4"));
    if meteor {
        captions.push(("meteor", "METEOR"));
    }
    let videos = report["per_video"].as_array().unwrap();
    assert_eq!(videos.len(), expected["per_video"].as_object().unwrap().len());
    for (name, golden) in captions {
        close(&figures[name], &average[golden], name);
        for threshold in ["0.3", "0.5", "0.7", "0.9"] {
            let name = format!("{name}@{threshold}");
            close(&figures[&name], &expected["per_tiou"][threshold][golden], &name);
            for video in videos {
                let id = video["video"].as_str().unwrap();
                let expected = &expected["per_video"][id][threshold][golden];
                close(&video["figures"][&name], expected, &format!("{name} of {id}"));
            }
        }
    }
}

#[test]
fn without_meteor_the_figures_are_the_published_ones_and_others_have_other_names() {
    let report = Desk::new().report(&BOTH, &[]);
    check_densevid(&report, &expected()["vc_multi"], false);
    let figures = report["figures"].as_object().unwrap();
    assert!(figures.contains_key("meteor_native") && figures.contains_key("soda_c_native"));
    assert!(!figures.contains_key("meteor") && !figures.contains_key("soda_c"));
    assert_eq!(report["left_out"]["without_prediction"], json!(["nopred01"]));
    let single = Desk::new().report(&BOTH[..1], &[]);
    check_densevid(&single, &expected()["vc_single"], false);
}

/// The jar and the Java of the tools.
fn meteor() -> [String; 4] {
    let tools = tools().unwrap();
    let path = |path: PathBuf| path.display().to_string();
    let (jar, java) = (path(tools.meteor().unwrap()), path(tools.java().unwrap()));
    ["--meteor-jar".to_owned(), jar, "--java".to_owned(), java]
}

#[test]
fn with_meteor_every_figure_is_the_published_one() {
    let meteor = meteor();
    let meteor: Vec<&str> = meteor.iter().map(|argument| &**argument).collect();
    let (desk, expected) = (Desk::new(), expected());

    let multi = desk.report(&BOTH, &meteor);
    check_densevid(&multi, &expected["vc_multi"], true);
    let soda = &multi["figures"]["soda_c"];
    close(soda, &expected["soda_c"]["vc_average_f1"], "SODA_c");

    for (several_sets, key) in [("pooled", "pooled_files"), ("best-of-sets", "best_of_files")] {
        let report = desk.report(&BOTH, &[&meteor[..], &["--several-sets", several_sets]].concat());
        let golden = &expected["soda_c"][key]["average"];
        close(&report["figures"]["soda_c"], &golden["f1"], several_sets);
        close(&report["figures"]["soda_c_recall"], &golden["recall"], several_sets);
    }

    let scenic = desk.report(&BOTH, &[&meteor[..], &["--convention", "scenic"]].concat());
    let golden = &expected["sc"]["average"];
    for (name, golden) in [
        ("soda_c", &golden["SODA_c"]),
        ("cider", &golden["CIDER"]),
        ("meteor", &golden["METEOR"]),
        ("mean_of_f1", &golden["F1_Score"]),
        ("precision", &golden["Precision_Mean"]),
    ] {
        close(&scenic["figures"][name], golden, name);
    }

    let paragraph = desk.report(&BOTH, &[&meteor[..], &["--variant", "paragraph"]].concat());
    let golden = &expected["paragraph"];
    close(&paragraph["figures"]["cider"], &golden["CIDEr"], "CIDEr of paragraphs");
    close(&paragraph["figures"]["meteor"], &golden["METEOR"], "METEOR of paragraphs");
    assert_eq!(paragraph["without_events"], json!(["emptypred01"]));
}

#[test]
fn meteor_of_every_golden_pair_is_the_published_one() {
    let golden: Value = serde_json::from_slice(&fs::read(golden("pairs.json")).unwrap()).unwrap();
    let pairs = golden["pairs"].as_array().unwrap();
    let (mut predictions, mut sets) = (serde_json::Map::new(), Vec::new());
    for (index, pair) in pairs.iter().enumerate() {
        let video = format!("{index:03}");
        let event = json!({"sentence": pair["hypothesis"], "timestamp": [0, 1]});
        for (set, reference) in pair["references"].as_array().unwrap().iter().enumerate() {
            sets.resize(sets.len().max(set + 1), serde_json::Map::new());
            let reference = json!({"timestamps": [[0, 1]], "sentences": [reference]});
            sets[set].insert(video.clone(), reference);
        }
        predictions.insert(video, json!([event]));
    }
    let desk = Desk::new();
    desk.write("predictions.json", json!({ "results": predictions }).to_string());
    let names: Vec<_> = (0..sets.len()).map(|set| format!("{set}.json")).collect();
    for (name, set) in names.iter().zip(sets) {
        desk.write(name, Value::Object(set).to_string());
    }
    let meteor = meteor();
    let mut arguments = vec!["--predictions", "predictions.json", "--references"];
    arguments.extend(names.iter().chain(&meteor).map(|argument| &**argument));
    arguments.extend(["--variant", "clips", "--roles", "straight", "--format", "json"]);
    let finished = desk.eval(arguments);
    finished.assert_code(0);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    close(&report["figures"]["meteor"], &golden["corpus"]["METEOR"], "METEOR of all pairs");
    close(&report["figures"]["cider"], &golden["corpus"]["CIDEr"], "CIDEr of all pairs");
    for (video, pair) in report["per_video"].as_array().unwrap().iter().zip(pairs) {
        close(&video["figures"]["meteor"], &pair["score"], &pair["hypothesis"].to_string());
    }
}

/// Answers as METEOR does: 0.5 for everything.
const HALF: &str = "while read -r line; do case \"$line\" in \
    SCORE*) echo '1.0 2.0';; \
    EVAL*) bars=$(printf %s \"$line\" | tr -cd '|' | wc -c); n=$((bars / 3 + 1)); \
        while [ $n -gt 0 ]; do echo 0.5; n=$((n - 1)); done;; esac; done";

#[test]
fn a_meteor_that_dies_is_started_anew() {
    let desk = Desk::new();
    desk.write("meteor.jar", "");
    let dies = format!("if mkdir died 2>/dev/null; then read -r line; exit 3; fi\n{HALF}");
    let java = desk.script("java", &dies);
    let report = desk.report(&BOTH, &["--meteor-jar", "meteor.jar", "--java", &java]);
    assert!(desk.path("died").exists());
    // One of 16 videos has no prediction and scores 0.
    close(&report["figures"]["meteor"], &json!(0.5 * 15.0 / 16.0), "METEOR");
}

#[rstest]
#[case::silent("exec sleep 600", "did not answer within 300ms")]
#[case::gone("echo no such jar >&2; exit 1", "it ended early; it said: no such jar")]
#[case::strange("while read -r line; do echo Error: what; done", "it answered `Error: what`")]
fn a_meteor_that_gives_no_score_fails_the_command(#[case] java: &str, #[case] because: &str) {
    let desk = Desk::new();
    desk.write("meteor.jar", "");
    let java = desk.script("java", java);
    let more = ["--meteor-jar", "meteor.jar", "--java", &java, "--meteor-deadline", "300ms"];
    let finished = desk.golden(&BOTH, &more);
    finished.assert_code(1);
    assert!(finished.stderr.contains(because), "{}", finished.stderr);
    assert_eq!(finished.stdout, "");
}

#[test]
fn people_read_what_was_scored_and_what_was_left_out() {
    let finished = Desk::new().golden(&BOTH, &[]);
    finished.assert_code(0);
    for line in [
        "predictions.json (16 videos, 40 events)",
        "scored: 16 videos; left out: 1 without a prediction (nopred01); left out: 0 without a reference",
        "worst videos: emptypred01, ",
    ] {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.stdout);
    }
    assert!(finished.stdout.contains("cider") && finished.stdout.contains("195.17"));
}

#[test]
fn the_gate_lists_what_fell() {
    let desk = Desk::new();
    desk.report(&BOTH, &["--write-baseline", "baseline.json"]);
    let passed = desk.report(&BOTH, &["--gate", "baseline.json", "--tolerance", "0%"]);
    assert_eq!(passed["gate"]["passed"], true);

    let mut baseline: Value = serde_json::from_str(&desk.read("baseline.json")).unwrap();
    for (figure, factor) in [("cider", 1.04), ("recall", 1.06)] {
        let was = baseline["figures"][figure].as_f64().unwrap();
        baseline["figures"][figure] = json!(was * factor);
    }
    desk.write("harder.json", baseline.to_string());
    let fell = desk.golden(&BOTH, &["--gate", "harder.json", "--tolerance", "5%"]);
    fell.assert_code(1);
    assert!(fell.stderr.contains("recall fell from 77.43 to 73.05"), "{}", fell.stderr);
    assert!(!fell.stderr.contains("cider") && fell.stdout.contains("did not hold"));
    desk.report(&BOTH, &["--gate", "harder.json", "--tolerance", "0.07"]);

    // A report is a baseline too; one video fewer is a fall, though no figure is lower.
    let whole = desk.report(&BOTH, &["--unpredicted", "empty"]);
    desk.write("whole.json", whole.to_string());
    let fewer = desk.golden(&BOTH, &["--gate", "whole.json"]);
    fewer.assert_code(1);
    assert!(fewer.stderr.contains("1 video fewer scored"), "{}", fewer.stderr);
}

#[rstest]
#[case::variant(&["--variant", "paragraph"], "is of other figures")]
#[case::meteor(&[], "no figure of the baseline's: soda_c")]
fn a_gate_of_other_figures_is_refused(#[case] more: &[&str], #[case] because: &str) {
    let desk = Desk::new();
    let baseline = json!({
        "variant": "dense", "convention": "densevid", "sets": 2, "several_sets": "each-set", "roles": "swapped",
        "videos": 16, "figures": {"soda_c": 0.1}
    });
    desk.write("baseline.json", baseline.to_string());
    let finished = desk.golden(&BOTH, &[more, &["--gate", "baseline.json"]].concat());
    finished.assert_code(2);
    assert!(finished.stderr.contains(because), "{}", finished.stderr);
}

#[test]
fn two_sets_of_predictions_stand_side_by_side_in_a_report() {
    let desk = Desk::new();
    let mut worse: Value =
        serde_json::from_slice(&fs::read(golden("predictions.json")).unwrap()).unwrap();
    for events in worse["results"].as_object_mut().unwrap().values_mut() {
        for event in events.as_array_mut().unwrap() {
            event["sentence"] = json!("<b>nothing</b> | of the *sort*");
            event["score"] = json!(-0.5);
        }
    }
    desk.write("worse.json", worse.to_string());
    let references = BOTH.map(golden);
    let good = golden("predictions.json");
    let finished = desk.eval([
        "--predictions",
        "worse.json",
        "--references",
        &references[0],
        &references[1],
        "--compare",
        &good,
        "--resamples",
        "200",
        "--seed",
        "7",
        "--report",
        "out/report",
    ]);
    finished.assert_code(0);
    assert!(finished.stdout.contains("compared over 16 videos"), "{}", finished.stdout);

    let report: Value = serde_json::from_str(&desk.read("out/report/report.json")).unwrap();
    let differences = report["comparison"]["comparison"]["figures"].as_array().unwrap();
    let of = |name| differences.iter().find(|each| each["figure"] == name).unwrap();
    assert!(of("cider")["interval"][1].as_f64().unwrap() < 0.0, "{:#}", of("cider"));
    assert_eq!(of("precision")["difference"], 0.0);
    assert_eq!(report["calibration"]["events"], 40);
    assert_eq!(report["worst"].as_array().unwrap().len(), 10);

    let page = desk.read("out/report/report.html");
    assert_eq!(page.matches("<svg").count(), 4, "one for each plot");
    assert!(!page.contains("<img") && !page.contains("<b>nothing"), "captions are text");
    assert!(page.contains("&lt;b&gt;nothing&lt;/b&gt; | of the *sort*"), "{page}");
    let markdown = desk.read("out/report/report.md");
    for plot in ["precision-recall", "scores", "events-a-video", "calibration"] {
        assert!(markdown.contains(&format!("]({plot}.svg)")), "{markdown}");
        assert!(desk.read(&format!("out/report/{plot}.svg")).contains("</svg>"));
    }
}

#[test]
fn chapter_titles_are_scored_as_given_spans() {
    let desk = Desk::new();
    let chapters = |labels: [&str; 3]| {
        let chapters: Vec<_> = [0, 30, 60]
            .iter()
            .zip(labels)
            .map(|(time, label)| json!({"time": time, "label": label}))
            .collect();
        json!({"v": {"duration": 90.0, "chapters": chapters}}).to_string()
    };
    desk.write("theirs.json", chapters(["Intro", "Making the dough at home", "Baking it"]));
    desk.write("ours.json", chapters(["Intro", "Making the dough today", "Eating"]));
    let clips = |predictions: &str, roles: &str| {
        let arguments = ["--predictions", predictions, "--references", "theirs.json"];
        let more = ["--variant", "clips", "--roles", roles, "--format", "json"];
        let finished = desk.eval(arguments.into_iter().chain(more));
        finished.assert_code(0);
        serde_json::from_str::<Value>(&finished.stdout).unwrap()
    };
    let figures = clips("theirs.json", "swapped")["figures"].clone();
    close(&figures["rouge_l"], &json!(1.0), "ROUGE-L of the references themselves");
    let swapped = clips("ours.json", "swapped")["figures"]["bleu_1"].as_f64().unwrap();
    let straight = clips("ours.json", "straight")["figures"]["bleu_1"].as_f64().unwrap();
    // Of 6 predicted words 4 are right; of 8 words of the references 4 are.
    assert!((straight - 4.0 / 6.0 * (1.0_f64 - 8.0 / 6.0).exp()).abs() < 1e-6, "{straight}");
    assert!((swapped - 0.5).abs() < 1e-6, "{swapped}");

    desk.write("clips.json", r#"{"results": {"v0": {"sentence": "Intro", "gt": "Intro"}}}"#);
    let arguments = ["--predictions", "clips.json", "--references", "clips.json"];
    let finished = desk.eval(arguments.into_iter().chain(["--variant", "clips"]));
    finished.assert_code(0);
}

#[rstest]
#[case::not_there("gone.json", "gone.json`")]
#[case::not_text("latin.json", "invalid utf-8")]
#[case::not_a_number("nan.json", "line 1")]
#[case::twice("twice.json", "video `a` is listed twice")]
#[case::another_form("other.json", "no events in a form that is known")]
#[case::nothing_in_common("elsewhere.json", "none of 1 predicted videos")]
#[case::other_spans("dense.json", "1 predictions for 2 given spans")]
fn what_cannot_be_scored_is_refused(#[case] predictions: &str, #[case] because: &str) {
    let desk = Desk::new();
    let event = r#"{"sentence": "x", "timestamp": [0, 1]}"#;
    desk.write("latin.json", b"{\"results\": {\"a\": [{\"sentence\": \"caf\xe9\"}]}}");
    desk.write("nan.json", r#"{"results": {"a": [{"sentence": "x", "timestamp": [NaN, 1]}]}}"#);
    desk.write("twice.json", format!(r#"{{"results": {{"a": [{event}], "a": []}}}}"#));
    desk.write("other.json", r#"{"a": {"start": [0], "text": ["x"]}}"#);
    desk.write("elsewhere.json", format!(r#"{{"results": {{"v_a": [{event}]}}}}"#));
    desk.write("dense.json", format!(r#"{{"results": {{"a": [{event}]}}}}"#));
    let references = r#"{"a": {"timestamps": [[0, 1], [1, 2]], "sentences": ["x", "y"]}}"#;
    desk.write("references.json", references);
    let arguments = ["--predictions", predictions, "--references", "references.json"];
    let finished = desk.eval(arguments.into_iter().chain(["--variant", "clips"]));
    finished.assert_code(2);
    assert!(finished.stderr.contains(because), "{}", finished.stderr);
    assert_eq!(finished.stdout, "");
}

#[test]
fn odd_events_are_scored_by_rule_and_counted() {
    let desk = Desk::new();
    let odd = r#"{"results": {"a": [
        {"sentence": "", "timestamp": [0, 5]}, {"sentence": "a dog", "timestamp": [9, 5]}
    ], "b": []}}"#;
    desk.write("odd.json", odd);
    let references = r#"{"a": {"timestamps": [[5, 9]], "sentences": ["a dog"]}, "c": {"timestamps": [], "sentences": []}}"#;
    desk.write("references.json", references);
    let finished = desk.eval(["--predictions", "odd.json", "--references", "references.json"]);
    finished.assert_code(0);
    for line in [
        "left out: 0 without a prediction; left out: 1 without a reference (b)",
        "reference entries without events, not used: 1",
        "spans that ended before they started, turned round: 1",
        "events without a caption, which match no word: 1",
    ] {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.stdout);
    }
}

/// What is predicted of a video is held against what each annotator says of it, as by one who copies it out for each.
#[test]
fn each_annotator_of_vitt_counts_as_a_video() {
    let desk = Desk::new();
    let events = |spans: &[[u32; 2]]| {
        let event = |span| json!({"sentence": "a dog barks", "timestamp": span});
        spans.iter().map(event).collect::<Vec<_>>()
    };
    let (one, other) = (events(&[[0, 5], [9, 12]]), events(&[[3, 7]]));
    let described = |spans: &[[u32; 2]]| json!({"duration": 20, "timestamps": spans, "sentences": vec!["the dog barks"; spans.len()]});
    let references = json!({
        "0_a_b": described(&[[0, 5]]),
        "1_a_b": described(&[[1, 6], [9, 14]]),
        "0_c": described(&[[2, 7]]),
        "0_unseen": described(&[[0, 1]]),
    });
    desk.write("vitt.json", references.to_string());
    let plain = json!({"results": {"a_b": one, "c": other}});
    desk.write("plain.json", plain.to_string());
    let copied = json!({"results": {"0_a_b": one, "1_a_b": one, "0_c": other}});
    desk.write("copied.json", copied.to_string());

    let files = |name: &'static str| {
        ["--predictions", name, "--references", "vitt.json", "--format", "json"]
    };
    let figures = |name, more: &[&'static str]| {
        let finished = desk.eval(files(name).into_iter().chain(more.iter().copied()));
        finished.assert_code(0);
        let report: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(report["left_out"]["without_prediction"], json!(["0_unseen"]));
        assert_eq!(report["left_out"]["without_reference"], json!([]));
        report["figures"].clone()
    };
    let by_annotation = figures("plain.json", &["--entries", "annotations"]);
    assert_eq!(by_annotation, figures("copied.json", &[]));
    assert_eq!(by_annotation, figures("copied.json", &["--entries", "annotations"]));
    assert!(by_annotation.as_object().is_some_and(|figures| !figures.is_empty()));

    let finished = desk.eval(files("plain.json"));
    finished.assert_code(2);
    assert!(finished.stderr.contains("--entries annotations"), "{}", finished.stderr);
}

#[test]
fn tables_are_predictions() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.add_narrated(2);
    fs::write(trial.corpus().join("bad.mp4"), "no video at all").unwrap();
    trial.indexed();
    let entry = |stem: &str| {
        json!({
            "duration": 5.0, "timestamps": [[0.0, 2.0], [3.0, 5.0]],
            "sentences": [format!("{stem} begins."), format!("{stem} ends.")]
        })
    };
    let references =
        json!({"talk-1": entry("talk-1"), "talk-2": entry("talk-2"), "bad": entry("bad")});
    fs::write(trial.folder().join("truth.json"), references.to_string()).unwrap();
    let eval = |place: &str, more: &[&str]| {
        let arguments = ["eval", "--predictions", place, "--references", "truth.json"];
        trial.program(arguments.into_iter().chain(more.iter().copied())).run(LIMIT).unwrap()
    };
    for place in ["lake", "lake/events"] {
        let finished = eval(place, &["--format", "json"]);
        finished.assert_code(0);
        let report: Value = serde_json::from_str(&finished.stdout).unwrap();
        close(&report["figures"]["f1_of_means"], &json!(1.0), "F1");
        close(&report["figures"]["soda_c_native"], &json!(1.0), "SODA");
        assert_eq!(report["predictions"]["unfinished"], 1, "{:#}", report["predictions"]);
        assert_eq!(report["left_out"]["without_prediction"], json!(["bad"]));
    }

    let unknown = eval("lake", &["--ids", "uri"]);
    unknown.assert_code(2);
    assert!(unknown.stderr.contains("--ids"), "{}", unknown.stderr);
    let nowhere = eval("puddle", &[]);
    nowhere.assert_code(2);
    assert!(nowhere.stderr.contains("nor are there tables at `puddle`"), "{}", nowhere.stderr);

    // Another folder with a video of the same name: by name alone the two cannot be told apart.
    fs::create_dir(trial.corpus().join("more")).unwrap();
    for name in ["talk-1.mp4", "talk-1.vtt"] {
        fs::copy(trial.corpus().join(name), trial.corpus().join("more").join(name)).unwrap();
    }
    trial.indexed();
    let twice = eval("lake", &[]);
    twice.assert_code(2);
    assert!(twice.stderr.contains("two videos of `lake` are called `talk-1`"), "{}", twice.stderr);
}

#[test]
fn synonyms_of_wordnet_make_a_measure_of_its_own() {
    let desk = Desk::new();
    fs::create_dir(desk.path("wordnet")).unwrap();
    let lines = |lines: &[&str]| lines.join("\n") + "\n";
    desk.write("wordnet/index.noun", lines(&["  1 A licence.", "box n 1 1 @ 1 0 00000100"]));
    desk.write(
        "wordnet/index.verb",
        lines(&["slice v 1 0 1 0 00000100", "cut v 1 0 1 0 00000100"]),
    );
    let refused = desk.golden(&["references_1.json"], &["--wordnet", "wordnet"]);
    refused.assert_code(2);
    assert!(refused.stderr.contains("index.adj") && refused.stderr.contains("wordnet-base"));
    for name in ["index.adj", "index.adv"] {
        desk.write(&format!("wordnet/{name}"), "");
    }
    let form = ["--wordnet", "wordnet", "--format", "json"];
    let scored = desk.golden(&["references_1.json"], &form);
    scored.assert_code(0);
    let report: Value = serde_json::from_str(&scored.stdout).unwrap();
    let figures = &report["figures"];
    assert!(figures["meteor_native_wordnet"].is_number(), "{figures}");
    assert!(figures["soda_c_native_wordnet"].is_number(), "{figures}");
    assert!(figures["meteor_native"].is_null() && figures["meteor"].is_null(), "{figures}");
}

#[test]
fn help_has_examples() {
    let finished = Desk::new().eval(["--help"]);
    finished.assert_code(0);
    assert!(finished.stdout.contains("eventide eval --predictions"), "{}", finished.stdout);
}
